// RUN: sparsecc-opt %s --split-input-file -p convert-nn-to-host{target=gemmini16} --verify-diagnostics | filecheck %s
// RUN: sparsecc-opt %s --split-input-file -p convert-nn-to-host{target=scalesim-ws16} --verify-diagnostics | filecheck %s --check-prefix FLOAT

// FLOAT: node 'conv' (conv): its weight is computed at run time; make it a constant of the model
func.func @main(%x: tensor<1x4x3x3xf32>, %w: tensor<2x4xf32>) -> tensor<1x2x3x3xf32> {
  %y = nn.conv %x, %w {kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x4x3x3xf32>, tensor<2x4xf32>) -> tensor<1x2x3x3xf32>
  func.return %y : tensor<1x2x3x3xf32>
}

// -----

// FLOAT: node 'sums' (linear_integer): multiplies bytes, scalesim-ws16 is used with f32; choose --dtype i8
func.func @main(%x: tensor<1x2xi8>) -> tensor<1x2xi32> {
  %w = sparse.constant #sparse.weight<2x2xi8, [(0, 1, 5)]> : tensor<2x2xi8>
  %z = nn.constant #nn.tensor<[0], tensor<i8>> : tensor<i8>
  %y = nn.linear_integer %x, %w, %z, %z {name = "sums"} : (tensor<1x2xi8>, tensor<2x2xi8>, tensor<i8>, tensor<i8>) -> tensor<1x2xi32>
  func.return %y : tensor<1x2xi32>
}

// -----

// CHECK: node 'wide' (linear_integer): its weight less the zero point does not fit a byte; quantise it symmetrically
func.func @main(%x: tensor<1x2xi8>) -> tensor<1x2xi32> {
  %w = sparse.constant #sparse.weight<2x2xi8, [(0, 1, 100)]> : tensor<2x2xi8>
  %z = nn.constant #nn.tensor<[0], tensor<i8>> : tensor<i8>
  %m = nn.constant #nn.tensor<[-100], tensor<i8>> : tensor<i8>
  %y = nn.linear_integer %x, %w, %z, %m {name = "wide"} : (tensor<1x2xi8>, tensor<2x2xi8>, tensor<i8>, tensor<i8>) -> tensor<1x2xi32>
  func.return %y : tensor<1x2xi32>
}
