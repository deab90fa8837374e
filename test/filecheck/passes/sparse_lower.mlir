// RUN: sparsecc-opt %s -p sparse-lower --split-input-file --verify-diagnostics | filecheck %s

// Cells of the unit, cut at the edge; those without a nonzero are refused.
// CHECK-LABEL: @splits
func.func @splits(%x: tensor<5x3xi8>) -> tensor<3x3xi32> {
  // CHECK:      sparse.cover { // 3 meta-ops
  // CHECK-NEXT:   [0:2, 0:3] += k[0:2]
  // CHECK-NEXT:   [0:2, 0:3] += k[4:5]
  // CHECK-NEXT:   [2:3, 0:3] += k[2:4]
  // CHECK-NEXT: }
  %y = sparse.spmm %x, #sparse.weight<3x5xi8, [(0, 1, 1), (1, 4, 2), (2, 3, 3)]> unit <2, 2, 2> : tensor<5x3xi8> -> tensor<3x3xi32> {
    sparse.cover {
      [0:3, 0:3] += k[0:5]
    }
  }
  func.return %y : tensor<3x3xi32>
}

// -----

// A gathered meta-op splits along its gather maps.
// CHECK-LABEL: @gathered
func.func @gathered(%x: tensor<8x3xi8>) -> tensor<8x3xi32> {
  // CHECK:      sparse.cover { // 2 meta-ops
  // CHECK-NEXT:   [(0, 5), 0:3] += k[1, 6]
  // CHECK-NEXT:   [(7), 0:3] += k[7]
  // CHECK-NEXT: }
  %y = sparse.spmm %x, #sparse.weight<8x8xi8, [(0, 1, 1), (5, 6, 2), (7, 7, 3)]> unit <2, 2, 2> : tensor<8x3xi8> -> tensor<8x3xi32> {
    sparse.cover {
      [(0, 5, 7), 0:3] += k[1, 6, 7]
    }
  }
  func.return %y : tensor<8x3xi32>
}

// -----

// Nothing to be done: unit cells, a dense plan, nothing at all.
// CHECK-LABEL: @noop
func.func @noop(%x: tensor<4x3xi8>) {
  // CHECK:      sparse.cover { // 1 meta-op
  // CHECK-NEXT:   [0:2, 0:3] += k[2:4]
  // CHECK:      plan "dense"
  // CHECK-NEXT: sparse.cover { // 1 meta-op
  // CHECK-NEXT:   [0:4, 0:3] += k[0:4]
  // CHECK:      sparse.cover { // 0 meta-ops
  %a = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 2, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[2:4]
    }
  }
  %b = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 2, 1)]> unit <2, 2, 2> plan "dense" : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:4, 0:3] += k[0:4]
    }
  }
  %c = sparse.spmm %x, #sparse.weight<4x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover { }
  }
  func.return
}

// -----

// CHECK: sparse.spmm %y: is grouped already; run sparse-lower before sparse-group
func.func @grouped(%x: tensor<4x3xi8>) -> tensor<4x3xi32> {
  %y = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 2, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.group {
      [0:4, 0:3] += k[0:4]
    }
  }
  func.return %y : tensor<4x3xi32>
}
