// RUN: sparsecc-opt %s -p sparse-group --split-input-file | filecheck %s

// Two meta-ops on the first rows: two groups; the third meta-op goes to the first.
// CHECK-LABEL: @groups
func.func @groups(%x: tensor<4x3xi8>) -> tensor<4x3xi32> {
  // CHECK:      sparse.group { // 2 meta-ops
  // CHECK-NEXT:   [0:2, 0:3] += k[0:2]
  // CHECK-NEXT:   [2:4, 0:3] += k[0:2]
  // CHECK-NEXT: }
  // CHECK-NEXT: sparse.group { // 1 meta-op
  // CHECK-NEXT:   [0:2, 0:3] += k[2:4]
  // CHECK-NEXT: }
  %y = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 0, 1), (0, 2, 1), (2, 0, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[2:4]
      [2:4, 0:3] += k[0:2]
      [0:2, 0:3] += k[0:2]
    }
  }
  func.return %y : tensor<4x3xi32>
}

// -----

// A dense plan is one group; nothing to compute is none.
// CHECK-LABEL: @dense
func.func @dense(%x: tensor<4x3xi8>) {
  // CHECK:      sparse.group { // 1 meta-op
  // CHECK-NEXT:   [0:4, 0:3] += k[0:4]
  // CHECK-NEXT: }
  // CHECK:      %b = sparse.spmm
  // CHECK-NEXT: }
  %a = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 2, 1)]> unit <2, 2, 2> plan "dense" : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:4, 0:3] += k[0:4]
    }
  }
  %b = sparse.spmm %x, #sparse.weight<4x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover { }
  }
  func.return
}

// -----

// Nothing to be done: grouped already, even if fewer groups would do.
// CHECK-LABEL: @noop
func.func @noop(%x: tensor<4x3xi8>) -> tensor<4x3xi32> {
  // CHECK:      sparse.group { // 1 meta-op
  // CHECK-NEXT:   [2:4, 0:3] += k[0:2]
  // CHECK-NEXT: }
  // CHECK-NEXT: sparse.group { // 1 meta-op
  // CHECK-NEXT:   [0:2, 0:3] += k[0:2]
  %y = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 0, 1), (2, 0, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.group {
      [2:4, 0:3] += k[0:2]
    }
    sparse.group {
      [0:2, 0:3] += k[0:2]
    }
  }
  func.return %y : tensor<4x3xi32>
}
