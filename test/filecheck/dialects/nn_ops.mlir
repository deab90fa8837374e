// RUN: ROUNDTRIP
// RUN: sparsecc-opt %s --split-input-file | filecheck %s

// Small constants are written out.
// CHECK-LABEL: @constants
func.func @constants() -> (tensor<2xf32>, tensor<i1>, tensor<0xi64>) {
  // CHECK-NEXT: %a = nn.constant #nn.tensor<[1.5, -2.0], tensor<2xf32>> : tensor<2xf32>
  %a = nn.constant #nn.tensor<[1.5, -2.0], tensor<2xf32>> : tensor<2xf32>
  // CHECK-NEXT: %b = nn.constant #nn.tensor<[1], tensor<i1>> : tensor<i1>
  %b = nn.constant #nn.tensor<[1], tensor<i1>> : tensor<i1>
  // CHECK-NEXT: %c = nn.constant #nn.tensor<[], tensor<0xi64>> : tensor<0xi64>
  %c = nn.constant #nn.tensor<[], tensor<0xi64>> : tensor<0xi64>
  func.return %a, %b, %c : tensor<2xf32>, tensor<i1>, tensor<0xi64>
}

// -----

// A layer: the weight is a matrix, whose rows make the outputs; nodes keep their names.
// CHECK-LABEL: @layer
func.func @layer(%x: tensor<8x4xf32>, %b: tensor<2xf32>) -> tensor<8x2xf32> {
  // CHECK-NEXT: %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
  %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
  // CHECK-NEXT: %0 = nn.linear %x, %w, %b {name = "fc1"} : (tensor<8x4xf32>, tensor<2x4xf32>, tensor<2xf32>) -> tensor<8x2xf32>
  %0 = nn.linear %x, %w, %b {name = "fc1"} : (tensor<8x4xf32>, tensor<2x4xf32>, tensor<2xf32>) -> tensor<8x2xf32>
  // CHECK-NEXT: %y = nn.relu %0 : (tensor<8x2xf32>) -> tensor<8x2xf32>
  %y = nn.relu %0 : (tensor<8x2xf32>) -> tensor<8x2xf32>
  func.return %y : tensor<8x2xf32>
}

// -----

// A convolution without a bias: columns of the weight run over channels, then the kernel.
// CHECK-LABEL: @conv
func.func @conv(%x: tensor<1x3x8x8xf32>, %w: tensor<4x27xf32>) -> tensor<1x4x8x8xf32> {
  // CHECK-NEXT: %y = nn.conv %x, %w {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x3x8x8xf32>, tensor<4x27xf32>) -> tensor<1x4x8x8xf32>
  %y = nn.conv %x, %w {kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x3x8x8xf32>, tensor<4x27xf32>) -> tensor<1x4x8x8xf32>
  func.return %y : tensor<1x4x8x8xf32>
}

// -----

// Any number of operands, properties of several kinds.
// CHECK-LABEL: @others
func.func @others(%x: tensor<2x3xf32>, %scale: tensor<f32>, %zero: tensor<ui8>) -> tensor<4x3xui8> {
  // CHECK-NEXT: %0 = nn.concat %x, %x {axis = 0 : i64} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  %0 = nn.concat %x, %x {axis = 0 : i64} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<4x3xf32>
  // CHECK-NEXT: %1 = nn.softmax %0 {axis = 1 : i64, logarithm = false} : (tensor<4x3xf32>) -> tensor<4x3xf32>
  %1 = nn.softmax %0 {axis = 1 : i64, logarithm = false} : (tensor<4x3xf32>) -> tensor<4x3xf32>
  // CHECK-NEXT: %y = nn.quantize_linear %1, %scale, %zero : (tensor<4x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<4x3xui8>
  %y = nn.quantize_linear %1, %scale, %zero : (tensor<4x3xf32>, tensor<f32>, tensor<ui8>) -> tensor<4x3xui8>
  func.return %y : tensor<4x3xui8>
}
