// RUN: sparsecc-opt %s -p sparse-reorder --split-input-file --verify-diagnostics | filecheck %s

// Rows and bias of fc1, rows of its neighbour in the sum, the scale per channel, and columns of fc2.
// CHECK-LABEL: @residual
// CHECK-NEXT:  %w1 = sparse.constant #sparse.weight<3x2xf32, [(0, 1, 3.0), (1, 0, 1.0), (2, 0, 2.0)]> : tensor<3x2xf32>
// CHECK-NEXT:  %b1 = nn.constant #nn.tensor<[30.0, 10.0, 20.0], tensor<3xf32>> : tensor<3xf32>
// CHECK-NEXT:  %0 = nn.linear %x, %w1, %b1 {name = "fc1"}
// CHECK-NEXT:  %w2 = sparse.constant #sparse.weight<3x2xf32, [(0, 1, 6.0), (1, 0, 4.0), (2, 0, 5.0)]> : tensor<3x2xf32>
// CHECK-NEXT:  %1 = nn.linear %x, %w2 {name = "beside"}
// CHECK-NEXT:  %2 = nn.add %0, %1
// CHECK-NEXT:  %s = nn.constant #nn.tensor<[0.75, 0.25, 0.5], tensor<3xf32>> : tensor<3xf32>
// CHECK-NEXT:  %3 = nn.mul %2, %s
// CHECK-NEXT:  %w3 = sparse.constant #sparse.weight<2x3xf32, [(0, 0, 9.0), (0, 1, 7.0), (1, 2, 8.0)]> : tensor<2x3xf32>
// CHECK-NEXT:  %4 = nn.linear %3, %w3 {name = "fc2"}
func.func @residual(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %w1 = sparse.constant #sparse.weight<3x2xf32, [(0, 0, 1.0), (1, 0, 2.0), (2, 1, 3.0)]> : tensor<3x2xf32>
  %b1 = nn.constant #nn.tensor<[10.0, 20.0, 30.0], tensor<3xf32>> : tensor<3xf32>
  %0 = nn.linear %x, %w1, %b1 {name = "fc1", order = array<i64: 2, 0, 1>} : (tensor<2x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %w2 = sparse.constant #sparse.weight<3x2xf32, [(0, 0, 4.0), (1, 0, 5.0), (2, 1, 6.0)]> : tensor<3x2xf32>
  %1 = nn.linear %x, %w2 {name = "beside"} : (tensor<2x2xf32>, tensor<3x2xf32>) -> tensor<2x3xf32>
  %2 = nn.add %0, %1 : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x3xf32>
  %s = nn.constant #nn.tensor<[0.25, 0.5, 0.75], tensor<3xf32>> : tensor<3xf32>
  %3 = nn.mul %2, %s : (tensor<2x3xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %w3 = sparse.constant #sparse.weight<2x3xf32, [(0, 0, 7.0), (1, 1, 8.0), (0, 2, 9.0)]> : tensor<2x3xf32>
  %4 = nn.linear %3, %w3 {name = "fc2"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x2xf32>
  func.return %4 : tensor<2x2xf32>
}

// -----

// All columns of a channel move together through a convolution.
// CHECK-LABEL: @taps
// CHECK:       %w1 = sparse.constant #sparse.weight<2x1xf32, [(0, 0, 2.0), (1, 0, 1.0)]> : tensor<2x1xf32>
// CHECK:       %w2 = sparse.constant #sparse.weight<1x4xf32, [(0, 1, 6.0), (0, 2, 3.0)]> : tensor<1x4xf32>
func.func @taps(%x: tensor<1x1x3xf32>) -> tensor<1x1x2xf32> {
  %w1 = sparse.constant #sparse.weight<2x1xf32, [(0, 0, 1.0), (1, 0, 2.0)]> : tensor<2x1xf32>
  %0 = nn.conv %x, %w1 {order = array<i64: 1, 0>, kernel = array<i64: 1>, strides = array<i64: 1>, pads = array<i64: 0, 0>, dilations = array<i64: 1>, groups = 1 : i64} : (tensor<1x1x3xf32>, tensor<2x1xf32>) -> tensor<1x2x3xf32>
  %w2 = sparse.constant #sparse.weight<1x4xf32, [(0, 0, 3.0), (0, 3, 6.0)]> : tensor<1x4xf32>
  %1 = nn.conv %0, %w2 {kernel = array<i64: 2>, strides = array<i64: 1>, pads = array<i64: 0, 0>, dilations = array<i64: 1>, groups = 1 : i64} : (tensor<1x2x3xf32>, tensor<1x4xf32>) -> tensor<1x1x2xf32>
  func.return %1 : tensor<1x1x2xf32>
}

// -----

// The output of the network keeps its order.
// CHECK: something that uses its outputs does not take another order; leave the order out
func.func @output(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %w = sparse.constant #sparse.weight<2x2xf32, [(0, 0, 1.0)]> : tensor<2x2xf32>
  %0 = nn.linear %x, %w {order = array<i64: 1, 0>} : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  func.return %0 : tensor<2x2xf32>
}

// -----

// CHECK: order is no permutation of its 2 rows; give array<i64: ...> of each row once
func.func @twice(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %w = sparse.constant #sparse.weight<2x2xf32, [(0, 0, 1.0)]> : tensor<2x2xf32>
  %0 = nn.linear %x, %w {order = array<i64: 1, 1>} : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  func.return %0 : tensor<2x2xf32>
}

// -----

// CHECK: has an order, but no constant weight with rows to order; take the attribute away
func.func @sum(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %0 = nn.add %x, %x {order = array<i64: 1, 0>} : (tensor<2x2xf32>, tensor<2x2xf32>) -> tensor<2x2xf32>
  func.return %0 : tensor<2x2xf32>
}
