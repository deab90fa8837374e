// RUN: DIAGNOSTICS

// What the parser and the verifiers refuse.

// CHECK: 2 elements do not make tensor<3xf32>
%a = nn.constant #nn.tensor<[1.0, 2.0], tensor<3xf32>> : tensor<3xf32>

// -----

// CHECK: the input has shape [8, 4], the weight [2, 5] takes 5 features
func.func @f(%x: tensor<8x4xf32>, %w: tensor<2x5xf32>) {
  %y = nn.linear %x, %w : (tensor<8x4xf32>, tensor<2x5xf32>) -> tensor<8x2xf32>
  func.return
}

// -----

// CHECK: result 0 has type tensor<8x3xf32>; its operands make it tensor<8x2xf32>
func.func @f(%x: tensor<8x4xf32>, %w: tensor<2x4xf32>) {
  %y = nn.linear %x, %w : (tensor<8x4xf32>, tensor<2x4xf32>) -> tensor<8x3xf32>
  func.return
}

// -----

// CHECK: the weight has 27 columns; 3 channels in 3 groups and the kernel [3, 3] make 9
func.func @f(%x: tensor<1x3x8x8xf32>, %w: tensor<6x27xf32>) {
  %y = nn.conv %x, %w {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 3 : i64} : (tensor<1x3x8x8xf32>, tensor<6x27xf32>) -> tensor<1x6x6x6xf32>
  func.return
}

// -----

// CHECK: shapes [2] and [3] do not broadcast
func.func @f(%x: tensor<2xf32>, %y: tensor<3xf32>) {
  %z = nn.add %x, %y : (tensor<2xf32>, tensor<3xf32>) -> tensor<3xf32>
  func.return
}

// -----

// CHECK: operands have element types f32, i8; needed one
func.func @f(%x: tensor<2xf32>, %y: tensor<2xi8>) {
  %z = nn.add %x, %y : (tensor<2xf32>, tensor<2xi8>) -> tensor<2xf32>
  func.return
}

// -----

// CHECK: operand tensor<?xf32> has a dynamic extent; only static shapes are supported
func.func @f(%x: tensor<?xf32>) {
  %z = nn.relu %x : (tensor<?xf32>) -> tensor<?xf32>
  func.return
}
