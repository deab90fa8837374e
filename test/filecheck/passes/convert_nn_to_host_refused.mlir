// RUN: sparsecc-opt %s --split-input-file -p convert-nn-to-host{target=gemmini16} --verify-diagnostics | filecheck %s
// RUN: sparsecc-opt %s --split-input-file -p convert-nn-to-host{target=scalesim-ws16} --verify-diagnostics | filecheck %s --check-prefix FLOAT

// CHECK: target gemmini16 multiplies i8 only, and networks are not quantised yet
// FLOAT: node 'down' (quantize_linear): whole networks cannot be compiled with this operator yet
func.func @main(%x: tensor<4xf32>, %s: tensor<f32>, %z: tensor<i8>) -> tensor<4xi8> {
  %y = nn.quantize_linear %x, %s, %z {name = "down"} : (tensor<4xf32>, tensor<f32>, tensor<i8>) -> tensor<4xi8>
  func.return %y : tensor<4xi8>
}

// -----

// FLOAT: node 'conv' (conv): its weight is computed at run time; make it a constant of the model
func.func @main(%x: tensor<1x4x3x3xf32>, %w: tensor<2x4xf32>) -> tensor<1x2x3x3xf32> {
  %y = nn.conv %x, %w {kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x4x3x3xf32>, tensor<2x4xf32>) -> tensor<1x2x3x3xf32>
  func.return %y : tensor<1x2x3x3xf32>
}
