// RUN: sparsecc-opt %s --split-input-file -p nn-widen-floats | filecheck %s

// CHECK-LABEL: func.func @main(%x: tensor<1x2xf32>, %i: tensor<1xi64>) -> (tensor<1x1xf32>, tensor<1xi64>)
// CHECK-NEXT: sparse.constant #sparse.weight<1x2xf32, [(0, 0, 0.5), (0, 1, -2.0)]> : tensor<1x2xf32>
// CHECK-NEXT: nn.constant #nn.tensor<[0.25], tensor<1xf32>> : tensor<1xf32>
// CHECK-NEXT: nn.linear %x, %{{.*}}, %{{.*}} : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xf32>) -> tensor<1x1xf32>
// CHECK-NEXT: func.return %{{.*}}, %i
func.func @main(%x: tensor<1x2xf16>, %i: tensor<1xi64>) -> (tensor<1x1xf32>, tensor<1xi64>) {
  %w = sparse.constant #sparse.weight<1x2xf16, [(0, 0, 0.5), (0, 1, -2.0)]> : tensor<1x2xf16>
  %b = nn.constant #nn.tensor<[0.25], tensor<1xf16>> : tensor<1xf16>
  %y = nn.linear %x, %w, %b : (tensor<1x2xf16>, tensor<1x2xf16>, tensor<1xf16>) -> tensor<1x1xf16>
  %z = nn.cast %y {element_type = f32} : (tensor<1x1xf16>) -> tensor<1x1xf32>
  func.return %z, %i : tensor<1x1xf32>, tensor<1xi64>
}

// -----

// A cast to integers stays, and so does f64.
// CHECK: nn.cast %x {element_type = i32} : (tensor<2xf32>) -> tensor<2xi32>
// CHECK: nn.neg %d : (tensor<2xf64>) -> tensor<2xf64>
func.func @main(%x: tensor<2xbf16>, %d: tensor<2xf64>) -> (tensor<2xi32>, tensor<2xf64>) {
  %y = nn.cast %x {element_type = i32} : (tensor<2xbf16>) -> tensor<2xi32>
  %z = nn.neg %d : (tensor<2xf64>) -> tensor<2xf64>
  func.return %y, %z : tensor<2xi32>, tensor<2xf64>
}
