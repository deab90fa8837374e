// RUN: ROUNDTRIP
// RUN: sparsecc-opt %s --split-input-file | filecheck %s

// Everything: what comes first is computed first.
// CHECK-LABEL: @all
func.func @all(%c: tensor<2x3xi32>, %r: tensor<2x3xf32>) -> tensor<2x3xi8> {
  // CHECK-NEXT: %y = sparse.epilogue %c bias #nn.tensor<[7, -2], tensor<2xi32>> scale #nn.tensor<[0.5, 0.25], tensor<2xf32>> residual %r : tensor<2x3xf32> low 0.000000e+00 : f32 high 6.000000e+00 : f32 zero -128 : i32 : tensor<2x3xi32> -> tensor<2x3xi8>
  %y = sparse.epilogue %c bias #nn.tensor<[7, -2], tensor<2xi32>> scale #nn.tensor<[0.5, 0.25], tensor<2xf32>> residual %r : tensor<2x3xf32> low 0.0 : f32 high 6.0 : f32 zero -128 : i32 : tensor<2x3xi32> -> tensor<2x3xi8>
  func.return %y : tensor<2x3xi8>
}

// -----

// A ReLU of floats.
// CHECK-LABEL: @relu
func.func @relu(%c: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // CHECK-NEXT: %y = sparse.epilogue %c low 0.000000e+00 : f32 : tensor<2x3xf32> -> tensor<2x3xf32>
  %y = sparse.epilogue %c low 0.0 : f32 : tensor<2x3xf32> -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}
