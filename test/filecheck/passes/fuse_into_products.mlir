// RUN: sparsecc-opt %s -p 'fuse-into-products{patches=false stores=true}' | filecheck %s

// Stores do the bias, one scale and the ReLU; the scale per row of the second product stays on the host.
// CHECK-LABEL: func.func @main
// CHECK: %{{.*}} = func.call @one(%x) : (tensor<4x3xi8>) -> tensor<2x3xi8>
func.func @main(%x: tensor<4x3xi8>) -> (tensor<2x3xi8>, tensor<2x3xi8>) {
  %b = nn.constant #nn.tensor<[7, -2], tensor<2xi32>> : tensor<2xi32>
  %s = nn.constant #nn.tensor<[0.5], tensor<1xf32>> : tensor<1xf32>
  %t = nn.constant #nn.tensor<[0.5, 0.25], tensor<2xf32>> : tensor<2xf32>
  %0 = func.call @one(%x) : (tensor<4x3xi8>) -> tensor<2x3xi32>
  %1 = host.call "host_add_i32"(%0, %b) {walk = array<i64: 2, 2, 3, 3, 1, 3, 1, 1, 0>} : (tensor<2x3xi32>, tensor<2xi32>) -> tensor<2x3xi32>
  %2 = host.call "host_requantize_i8"(%1, %s) {outer = 1 : i64, axis = 1 : i64, inner = 6 : i64, zero = 0 : i64} : (tensor<2x3xi32>, tensor<1xf32>) -> tensor<2x3xi8>
  %3 = host.call "host_relu_i8"(%2) {n = 6 : i64} : (tensor<2x3xi8>) -> tensor<2x3xi8>
  // CHECK: %{{.*}} = func.call @two(%x) : (tensor<4x3xi8>) -> tensor<2x3xi32>
  // CHECK: host.call "host_requantize_i8"
  %4 = func.call @two(%x) : (tensor<4x3xi8>) -> tensor<2x3xi32>
  %5 = host.call "host_add_i32"(%4, %b) {walk = array<i64: 2, 2, 3, 3, 1, 3, 1, 1, 0>} : (tensor<2x3xi32>, tensor<2xi32>) -> tensor<2x3xi32>
  %6 = host.call "host_requantize_i8"(%5, %t) {outer = 1 : i64, axis = 2 : i64, inner = 3 : i64, zero = 0 : i64} : (tensor<2x3xi32>, tensor<2xf32>) -> tensor<2x3xi8>
  func.return %3, %6 : tensor<2x3xi8>, tensor<2x3xi8>
}

// CHECK-LABEL: func.func private @one(%x: tensor<4x3xi8>) -> tensor<2x3xi8>
// CHECK: sparse.epilogue %y bias #nn.tensor<[7, -2], tensor<2xi32>> scale #nn.tensor<[0.5], tensor<f32>> low 0.000000e+00 : f32 : tensor<2x3xi32> -> tensor<2x3xi8>
func.func private @one(%x: tensor<4x3xi8>) -> tensor<2x3xi32> {
  %w = sparse.constant #sparse.weight<2x4xi8, [(0, 1, 5)]> : tensor<2x4xi8>
  %z = arith.constant 0 : i32
  %e = tensor.empty() : tensor<2x3xi32>
  %f = linalg.fill ins(%z : i32) outs(%e : tensor<2x3xi32>) -> tensor<2x3xi32>
  %y = linalg.quantized_matmul ins(%w, %x, %z, %z : tensor<2x4xi8>, tensor<4x3xi8>, i32, i32) outs(%f : tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %y : tensor<2x3xi32>
}

// CHECK-LABEL: func.func private @two(%x: tensor<4x3xi8>) -> tensor<2x3xi32>
// CHECK: sparse.epilogue %y bias #nn.tensor<[7, -2], tensor<2xi32>> : tensor<2x3xi32> -> tensor<2x3xi32>
func.func private @two(%x: tensor<4x3xi8>) -> tensor<2x3xi32> {
  %w = sparse.constant #sparse.weight<2x4xi8, [(0, 1, 5)]> : tensor<2x4xi8>
  %z = arith.constant 0 : i32
  %e = tensor.empty() : tensor<2x3xi32>
  %f = linalg.fill ins(%z : i32) outs(%e : tensor<2x3xi32>) -> tensor<2x3xi32>
  %y = linalg.quantized_matmul ins(%w, %x, %z, %z : tensor<2x4xi8>, tensor<4x3xi8>, i32, i32) outs(%f : tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %y : tensor<2x3xi32>
}
