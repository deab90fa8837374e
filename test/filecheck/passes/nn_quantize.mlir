// RUN: sparsecc-opt %s --split-input-file -p nn-quantize{scales=tensor} --verify-diagnostics | filecheck %s

// The recorded range of x is that of 127 steps of 0.5; the weight has 127 steps of its own.
// CHECK-LABEL: @main
// CHECK: nn.constant #nn.tensor<[0.5], tensor<f32>> {name = "input"}
// CHECK: nn.quantize_linear %x
// CHECK: %{{.*}} = sparse.constant #sparse.weight<1x2xi8, [(0, 0, 127), (0, 1, -64)]>
// CHECK: %{{.*}} = nn.constant #nn.tensor<[8], tensor<1xi32>> {name = "p"}
func.func @main(%x: tensor<1x2xf32>) -> tensor<1x1xf32> attributes {input_ranges = [array<f32: -63.5, 20.0>]} {
  %w = sparse.constant #sparse.weight<1x2xf32, [(0, 0, 31.75), (0, 1, -16.0)]> : tensor<1x2xf32>
  %b = nn.constant #nn.tensor<[1.0], tensor<1xf32>> : tensor<1xf32>
  %y = nn.linear %x, %w, %b {name = "p"} : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1xf32>) -> tensor<1x1xf32>
  func.return %y : tensor<1x1xf32>
}

// -----

// CHECK: nn.relu %r: has no recorded range; calibrate the network with inputs first
func.func @main(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w = sparse.constant #sparse.weight<1x2xf32, [(0, 0, 1.0)]> : tensor<1x2xf32>
  %r = nn.relu %x : (tensor<1x2xf32>) -> tensor<1x2xf32>
  %y = nn.linear %r, %w : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
  func.return %y : tensor<1x1xf32>
}
