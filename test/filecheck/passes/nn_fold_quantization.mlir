// RUN: sparsecc-opt %s --split-input-file -p nn-fold-bias,nn-fold-quantization | filecheck %s

// A product between quantisations: its bias is one of floats, the ReLU works on bytes.
// CHECK-LABEL: @product
// CHECK: %{{.*}} = nn.constant #nn.tensor<[4, -8], tensor<2xi32>> {name = "p"} : tensor<2xi32>
// CHECK-NEXT: %{{.*}} = nn.linear_integer %x, %w, %0, %1, %2 {name = "p"} : (tensor<1x2xi8>, tensor<2x2xi8>, tensor<i8>, tensor<i8>, tensor<2xi32>) -> tensor<1x2xi32>
// CHECK-NEXT: %{{.*}} = nn.constant #nn.tensor<[0.5], tensor<f32>> {name = "p"} : tensor<f32>
// CHECK-NEXT: %{{.*}} = nn.constant #nn.tensor<[0], tensor<i8>> {name = "p"} : tensor<i8>
// CHECK-NEXT: %{{.*}} = nn.requantize %3, %4, %5 {name = "p"} : (tensor<1x2xi32>, tensor<f32>, tensor<i8>) -> tensor<1x2xi8>
// CHECK-NEXT: %q = nn.relu %6 {name = "r"} : (tensor<1x2xi8>) -> tensor<1x2xi8>
// CHECK-NEXT: func.return %q
func.func @product(%x: tensor<1x2xi8>) -> tensor<1x2xi8> {
  %s = nn.constant #nn.tensor<[0.5], tensor<f32>> : tensor<f32>
  %z = nn.constant #nn.tensor<[0], tensor<i8>> : tensor<i8>
  %b = nn.constant #nn.tensor<[1.0, -2.0], tensor<2xf32>> : tensor<2xf32>
  %w = sparse.constant #sparse.weight<2x2xi8, [(0, 1, 5)]> : tensor<2x2xi8>
  %xr = nn.dequantize_linear %x, %s, %z : (tensor<1x2xi8>, tensor<f32>, tensor<i8>) -> tensor<1x2xf32>
  %wr = nn.dequantize_linear %w, %s, %z : (tensor<2x2xi8>, tensor<f32>, tensor<i8>) -> tensor<2x2xf32>
  %p = nn.linear %xr, %wr {name = "p"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %y = nn.add %p, %b : (tensor<1x2xf32>, tensor<2xf32>) -> tensor<1x2xf32>
  %r = nn.relu %y {name = "r"} : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %q = nn.quantize_linear %r, %s, %z : (tensor<1x2xf32>, tensor<f32>, tensor<i8>) -> tensor<1x2xi8>
  func.return %q : tensor<1x2xi8>
}

// -----

// What moves bytes works on them, and what is dequantised and quantised alike is what it was.
// CHECK-LABEL: @moved
// CHECK-NEXT: %{{.*}} = nn.reshape %x {shape = array<i64: 2, 1>} : (tensor<1x2xi8>) -> tensor<2x1xi8>
// CHECK-NEXT: func.return
func.func @moved(%x: tensor<1x2xi8>) -> tensor<2x1xi8> {
  %s = nn.constant #nn.tensor<[0.5], tensor<f32>> : tensor<f32>
  %z = nn.constant #nn.tensor<[3], tensor<i8>> : tensor<i8>
  %r = nn.dequantize_linear %x, %s, %z : (tensor<1x2xi8>, tensor<f32>, tensor<i8>) -> tensor<1x2xf32>
  %t = nn.reshape %r {shape = array<i64: 2, 1>} : (tensor<1x2xf32>) -> tensor<2x1xf32>
  %q = nn.quantize_linear %t, %s, %z : (tensor<2x1xf32>, tensor<f32>, tensor<i8>) -> tensor<2x1xi8>
  func.return %q : tensor<2x1xi8>
}
