// RUN: sparsecc-opt %s -p sparse-propagate --split-input-file | filecheck %s
// RUN: sparsecc-opt %s -p sparse-propagate{exact=true} --split-input-file | filecheck %s --check-prefix EXACT
// RUN: sparsecc-opt %s -p sparse-propagate{report=true} --split-input-file | filecheck %s --check-prefix REPORT

// Row 1 of fc1 makes relu(0.5) for every input: a constant, which moves into the bias of fc2. Row 2 is not needed.
// EXACT-LABEL: @constant
// The constant 0.5 stays in column 1; where it alone makes a row, the row is known and keeps its bits.
// EXACT:  nn.constant #nn.tensor<[0.0, -1.0], tensor<2xf32>> : tensor<2xf32>
// EXACT-NEXT: #sparse.weight<2x2xf32, [(0, 0, 1.0), (0, 1, 4.0)]>
// REPORT-LABEL: @constant
// REPORT: name = "fc1", propagated = {rows = 3 : i64, rows_left = 1 : i64, rows_not_needed = 1 : i64, columns = 2 : i64, columns_left = 2 : i64, columns_known = 0 : i64, entries = 2 : i64, entries_left = 1 : i64, previous = [], next = ["fc2"]}
// REPORT: name = "fc2", propagated = {rows = 2 : i64, rows_left = 2 : i64, rows_not_needed = 0 : i64, columns = 3 : i64, columns_left = 1 : i64, columns_known = 1 : i64, entries = 3 : i64, entries_left = 1 : i64, previous = ["fc1"], next = []}
// CHECK-LABEL: @constant
// CHECK-NEXT:  %w1 = sparse.constant #sparse.weight<1x2xf32, [(0, 0, 2.0)]> : tensor<1x2xf32>
// CHECK-NEXT:  %0 = nn.constant #nn.tensor<[1.0], tensor<1xf32>> : tensor<1xf32>
// CHECK-NEXT:  %1 = nn.linear %x, %w1, %0 {name = "fc1"} : (tensor<2x2xf32>, tensor<1x2xf32>, tensor<1xf32>) -> tensor<2x1xf32>
// CHECK-NEXT:  %2 = nn.relu %1 : (tensor<2x1xf32>) -> tensor<2x1xf32>
// CHECK-NEXT:  %3 = nn.constant #nn.tensor<[2.0, -1.0], tensor<2xf32>> : tensor<2xf32>
// CHECK-NEXT:  %w2 = sparse.constant #sparse.weight<2x1xf32, [(0, 0, 1.0)]> : tensor<2x1xf32>
// CHECK-NEXT:  %4 = nn.linear %2, %w2, %3 {name = "fc2"} : (tensor<2x1xf32>, tensor<2x1xf32>, tensor<2xf32>) -> tensor<2x2xf32>
// CHECK-NEXT:  func.return %4 : tensor<2x2xf32>
func.func @constant(%x: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %w1 = sparse.constant #sparse.weight<3x2xf32, [(0, 0, 2.0), (2, 1, 3.0)]> : tensor<3x2xf32>
  %b1 = nn.constant #nn.tensor<[1.0, 0.5, 0.25], tensor<3xf32>> : tensor<3xf32>
  %0 = nn.linear %x, %w1, %b1 {name = "fc1"} : (tensor<2x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<2x3xf32>
  %1 = nn.relu %0 : (tensor<2x3xf32>) -> tensor<2x3xf32>
  %w2 = sparse.constant #sparse.weight<2x3xf32, [(0, 0, 1.0), (0, 1, 4.0), (1, 1, -2.0)]> : tensor<2x3xf32>
  %2 = nn.linear %1, %w2 {name = "fc2"} : (tensor<2x3xf32>, tensor<2x3xf32>) -> tensor<2x2xf32>
  func.return %2 : tensor<2x2xf32>
}

// -----

// A zero channel passes a padded convolution, another constant does not: the border is different.
// CHECK-LABEL: @padding
// CHECK-NEXT:  %w1 = sparse.constant #sparse.weight<2x1xf32, [(0, 0, 2.0)]> : tensor<2x1xf32>
// CHECK-NEXT:  %b1 = nn.constant #nn.tensor<[1.0, 0.5], tensor<2xf32>> : tensor<2xf32>
// CHECK-NEXT:  %0 = nn.conv %x, %w1, %b1 {name = "conv1", kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x1x3x3xf32>, tensor<2x1xf32>, tensor<2xf32>) -> tensor<1x2x3x3xf32>
// CHECK-NEXT:  %w2 = sparse.constant #sparse.weight<1x18xf32, [(0, 4, 1.0), (0, 9, 1.0)]> : tensor<1x18xf32>
// CHECK-NEXT:  %1 = nn.conv %0, %w2 {name = "conv2", kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x2x3x3xf32>, tensor<1x18xf32>) -> tensor<1x1x3x3xf32>
// CHECK-NEXT:  func.return %1 : tensor<1x1x3x3xf32>
func.func @padding(%x: tensor<1x1x3x3xf32>) -> tensor<1x1x3x3xf32> {
  %w1 = sparse.constant #sparse.weight<3x1xf32, [(0, 0, 2.0)]> : tensor<3x1xf32>
  %b1 = nn.constant #nn.tensor<[1.0, 0.0, 0.5], tensor<3xf32>> : tensor<3xf32>
  %0 = nn.conv %x, %w1, %b1 {name = "conv1", kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x1x3x3xf32>, tensor<3x1xf32>, tensor<3xf32>) -> tensor<1x3x3x3xf32>
  %w2 = sparse.constant #sparse.weight<1x27xf32, [(0, 4, 1.0), (0, 9, 1.0), (0, 13, 1.0), (0, 18, 1.0)]> : tensor<1x27xf32>
  %1 = nn.conv %0, %w2 {name = "conv2", kernel = array<i64: 3, 3>, strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<1x3x3x3xf32>, tensor<1x27xf32>) -> tensor<1x1x3x3xf32>
  func.return %1 : tensor<1x1x3x3xf32>
}

// -----

// A residual: what is zero in one branch is needed of the other; the branch computes nothing there.
// CHECK-LABEL: @residual
// CHECK-NEXT:  %w1 = sparse.constant #sparse.weight<2x3xf32, [(0, 0, 1.0)]> : tensor<2x3xf32>
// CHECK-NEXT:  %0 = nn.linear %x, %w1 {name = "fc1"} : (tensor<1x3xf32>, tensor<2x3xf32>) -> tensor<1x2xf32>
// CHECK-NEXT:  %w2 = sparse.constant #sparse.weight<2x3xf32, [(0, 1, 2.0), (1, 2, 3.0)]> : tensor<2x3xf32>
// CHECK-NEXT:  %1 = nn.linear %x, %w2 {name = "fc2"} : (tensor<1x3xf32>, tensor<2x3xf32>) -> tensor<1x2xf32>
// CHECK-NEXT:  %2 = nn.add %0, %1 : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x2xf32>
// CHECK-NEXT:  %w3 = sparse.constant #sparse.weight<2x2xf32, [(0, 0, 1.0), (1, 1, 1.0)]> : tensor<2x2xf32>
// CHECK-NEXT:  %3 = nn.linear %2, %w3 {name = "fc3"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
// CHECK-NEXT:  func.return %3 : tensor<1x2xf32>
func.func @residual(%x: tensor<1x3xf32>) -> tensor<1x2xf32> {
  %w1 = sparse.constant #sparse.weight<3x3xf32, [(0, 0, 1.0), (2, 0, 5.0)]> : tensor<3x3xf32>
  %0 = nn.linear %x, %w1 {name = "fc1"} : (tensor<1x3xf32>, tensor<3x3xf32>) -> tensor<1x3xf32>
  %w2 = sparse.constant #sparse.weight<3x3xf32, [(0, 1, 2.0), (1, 2, 3.0), (2, 2, 6.0)]> : tensor<3x3xf32>
  %1 = nn.linear %x, %w2 {name = "fc2"} : (tensor<1x3xf32>, tensor<3x3xf32>) -> tensor<1x3xf32>
  %2 = nn.add %0, %1 : (tensor<1x3xf32>, tensor<1x3xf32>) -> tensor<1x3xf32>
  %w3 = sparse.constant #sparse.weight<2x3xf32, [(0, 0, 1.0), (1, 1, 1.0)]> : tensor<2x3xf32>
  %3 = nn.linear %2, %w3 {name = "fc3"} : (tensor<1x3xf32>, tensor<2x3xf32>) -> tensor<1x2xf32>
  func.return %3 : tensor<1x2xf32>
}

// -----

// A branch of a concatenation that nothing needs goes; so does a layer of which only zeros come.
// REPORT: func.func @branches{{.*}} attributes {propagated_away = ["fc3", "fc2"]}
// CHECK-LABEL: @branches
// CHECK-NEXT:  %w1 = sparse.constant #sparse.weight<2x2xf32, [(0, 0, 1.0), (1, 1, 2.0)]> : tensor<2x2xf32>
// CHECK-NEXT:  %0 = nn.linear %x, %w1 {name = "fc1"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
// CHECK-NEXT:  %w4 = sparse.constant #sparse.weight<1x2xf32, [(0, 0, 1.0), (0, 1, 1.0)]> : tensor<1x2xf32>
// CHECK-NEXT:  %1 = nn.linear %0, %w4 {name = "fc4"} : (tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x1xf32>
// CHECK-NEXT:  func.return %1 : tensor<1x1xf32>
func.func @branches(%x: tensor<1x2xf32>) -> tensor<1x1xf32> {
  %w1 = sparse.constant #sparse.weight<2x2xf32, [(0, 0, 1.0), (1, 1, 2.0)]> : tensor<2x2xf32>
  %0 = nn.linear %x, %w1 {name = "fc1"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %w2 = sparse.constant #sparse.weight<2x2xf32, [(0, 0, 3.0), (1, 0, 4.0)]> : tensor<2x2xf32>
  %1 = nn.linear %x, %w2 {name = "fc2"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %w3 = sparse.constant #sparse.weight<2x2xf32, []> : tensor<2x2xf32>
  %2 = nn.linear %x, %w3 {name = "fc3"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  %3 = nn.concat %0, %1, %2 {axis = 1 : i64} : (tensor<1x2xf32>, tensor<1x2xf32>, tensor<1x2xf32>) -> tensor<1x6xf32>
  %w4 = sparse.constant #sparse.weight<1x6xf32, [(0, 0, 1.0), (0, 1, 1.0), (0, 5, 7.0)]> : tensor<1x6xf32>
  %4 = nn.linear %3, %w4 {name = "fc4"} : (tensor<1x6xf32>, tensor<1x6xf32>) -> tensor<1x1xf32>
  func.return %4 : tensor<1x1xf32>
}

// -----

// Unit 1 of the GRU stays 0 (its new gate has no entries, no bias, and no state), and nothing reads unit 2: one is left.
// Input 1 is the constant 0.5 and moves into the bias of w; nothing reads input 2. The state of unit 0 is in no
// new gate, so its reset gate is not needed.
// EXACT-LABEL: @gru
// EXACT: %y, %y_h = nn.gru %0, %w, %r, %1, %h {{.*}} : (tensor<2x1x2xf32>, tensor<3x2xf32>, tensor<3x1xf32>, tensor<6xf32>, tensor<1x1xf32>) -> (tensor<2x1x1xf32>, tensor<1x1xf32>)
// REPORT-LABEL: @gru
// REPORT: name = "gru", {{.*}}propagated = {rows = 9 : i64, rows_left = 3 : i64, rows_not_needed = 2 : i64, columns = 3 : i64, columns_left = 1 : i64, columns_known = 1 : i64, entries = 9 : i64, entries_left = 2 : i64, previous = ["fc1"], next = ["fc2"]}
// CHECK-LABEL: @gru
// CHECK-NEXT:  %w1 = sparse.constant #sparse.weight<1x2xf32, [(0, 0, 2.0)]> : tensor<1x2xf32>
// CHECK-NEXT:  %b1 = nn.constant #nn.tensor<[0.0], tensor<1xf32>> : tensor<1xf32>
// CHECK-NEXT:  %0 = nn.linear %x, %w1, %b1 {name = "fc1"} : (tensor<2x1x2xf32>, tensor<1x2xf32>, tensor<1xf32>) -> tensor<2x1x1xf32>
// CHECK-NEXT:  %w = sparse.constant #sparse.weight<3x1xf32, [(0, 0, 1.0), (2, 0, 3.0)]> : tensor<3x1xf32>
// CHECK-NEXT:  %r = sparse.constant #sparse.weight<3x1xf32, []> : tensor<3x1xf32>
// CHECK-NEXT:  %1 = nn.constant #nn.tensor<[1.0, 0.0, 3.0, 1.0, 0.0, 1.0], tensor<6xf32>> : tensor<6xf32>
// CHECK-NEXT:  %h = nn.constant #nn.tensor<[0.0], tensor<1x1xf32>> : tensor<1x1xf32>
// CHECK-NEXT:  %y, %y_h = nn.gru %0, %w, %r, %1, %h {name = "gru", activations = ["sigmoid", "tanh"], clip = 0.000000e+00 : f32, linear_before_reset = false, reverse = false} : (tensor<2x1x1xf32>, tensor<3x1xf32>, tensor<3x1xf32>, tensor<6xf32>, tensor<1x1xf32>) -> (tensor<2x1x1xf32>, tensor<1x1xf32>)
// CHECK-NEXT:  %w2 = sparse.constant #sparse.weight<1x1xf32, [(0, 0, 1.0)]> : tensor<1x1xf32>
// CHECK-NEXT:  %2 = nn.linear %y, %w2 {name = "fc2"} : (tensor<2x1x1xf32>, tensor<1x1xf32>) -> tensor<2x1x1xf32>
// CHECK-NEXT:  func.return %2 : tensor<2x1x1xf32>
func.func @gru(%x: tensor<2x1x2xf32>) -> tensor<2x1x1xf32> {
  %w1 = sparse.constant #sparse.weight<3x2xf32, [(0, 0, 2.0), (2, 1, 3.0)]> : tensor<3x2xf32>
  %b1 = nn.constant #nn.tensor<[0.0, 0.5, 0.0], tensor<3xf32>> : tensor<3xf32>
  %0 = nn.linear %x, %w1, %b1 {name = "fc1"} : (tensor<2x1x2xf32>, tensor<3x2xf32>, tensor<3xf32>) -> tensor<2x1x3xf32>
  %w = sparse.constant #sparse.weight<9x3xf32, [(0, 0, 1.0), (1, 0, 2.0), (6, 0, 3.0), (6, 1, 4.0), (8, 0, 5.0)]> : tensor<9x3xf32>
  %r = sparse.constant #sparse.weight<9x3xf32, [(0, 1, 1.0), (3, 0, 2.0), (5, 1, 3.0), (8, 0, 4.0)]> : tensor<9x3xf32>
  %b = nn.constant #nn.tensor<[1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 0.0, 1.0], tensor<18xf32>> : tensor<18xf32>
  %h = nn.constant #nn.tensor<[0.0, 0.0, 0.0], tensor<1x3xf32>> : tensor<1x3xf32>
  %y, %y_h = nn.gru %0, %w, %r, %b, %h {name = "gru", activations = ["sigmoid", "tanh"], clip = 0.0 : f32, linear_before_reset = false, reverse = false} : (tensor<2x1x3xf32>, tensor<9x3xf32>, tensor<9x3xf32>, tensor<18xf32>, tensor<1x3xf32>) -> (tensor<2x1x3xf32>, tensor<1x3xf32>)
  %w2 = sparse.constant #sparse.weight<1x3xf32, [(0, 0, 1.0), (0, 1, 2.0)]> : tensor<1x3xf32>
  %1 = nn.linear %y, %w2 {name = "fc2"} : (tensor<2x1x3xf32>, tensor<1x3xf32>) -> tensor<2x1x1xf32>
  func.return %1 : tensor<2x1x1xf32>
}
