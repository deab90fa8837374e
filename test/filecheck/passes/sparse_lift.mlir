// RUN: sparsecc-opt %s -p 'sparse-lift' --split-input-file --verify-diagnostics | filecheck %s --check-prefixes=KFIRST,REFUSED
// RUN: sparsecc-opt %s -p 'sparse-lift{order=m-first}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=MFIRST
// RUN: sparsecc-opt %s -p 'sparse-lift{order=square-first}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=SQUARE
// RUN: sparsecc-opt %s -p 'sparse-lift{max-gap=1 min-fill=0.5}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=GAP
// RUN: sparsecc-opt %s -p 'sparse-lift{order=up}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=ORDER
// RUN: sparsecc-opt %s -p 'sparse-lift{max-gap=-1}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=NEGATIVE
// RUN: sparsecc-opt %s -p 'sparse-lift{order=square-first max-gap=1}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=NOAXIS

// ORDER: sparse-lift: order 'up' is not one of k-first, m-first, square-first
// NEGATIVE: sparse-lift: max-gap -1 is negative
// NOAXIS: sparse-lift: order square-first takes no max-gap; use k-first or m-first, or max-gap=0

// Five cells that fuse to two or three, in three ways.
// KFIRST-LABEL: @fuses
// MFIRST-LABEL: @fuses
// SQUARE-LABEL: @fuses
func.func @fuses(%x: tensor<6x3xi8>) -> tensor<4x3xi32> {
  // KFIRST:      sparse.cover { // 2 meta-ops
  // KFIRST-NEXT:   [0:2, 0:3] += k[0:6]
  // KFIRST-NEXT:   [2:4, 0:3] += k[0:4]

  // MFIRST:      sparse.cover { // 2 meta-ops
  // MFIRST-NEXT:   [0:4, 0:3] += k[0:4]
  // MFIRST-NEXT:   [0:2, 0:3] += k[4:6]

  // SQUARE:      sparse.cover { // 2 meta-ops
  // SQUARE-NEXT:   [0:4, 0:3] += k[0:4]
  // SQUARE-NEXT:   [0:2, 0:3] += k[4:6]
  %y = sparse.spmm %x, #sparse.weight<4x6xi8, [(0, 0, 1), (0, 2, 1), (0, 4, 1), (2, 0, 1), (2, 2, 1)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[0:2]
      [0:2, 0:3] += k[2:4]
      [0:2, 0:3] += k[4:6]
      [2:4, 0:3] += k[0:2]
      [2:4, 0:3] += k[2:4]
    }
  }
  func.return %y : tensor<4x3xi32>
}

// -----

// A gap of one cell; two of the three cells are needed.
// KFIRST-LABEL: @gap
// GAP-LABEL: @gap
func.func @gap(%x: tensor<6x3xi8>) -> tensor<2x3xi32> {
  // KFIRST:   sparse.cover { // 2 meta-ops
  // GAP:      sparse.cover { // 1 meta-op
  // GAP-NEXT:   [0:2, 0:3] += k[0:6]
  %y = sparse.spmm %x, #sparse.weight<2x6xi8, [(0, 0, 1), (0, 4, 1)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<2x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[0:2]
      [0:2, 0:3] += k[4:6]
    }
  }
  func.return %y : tensor<2x3xi32>
}

// -----

// Nothing to be done: nothing adjacent, a dense plan.
// KFIRST-LABEL: @noop
func.func @noop(%x: tensor<4x3xi8>) {
  // KFIRST:      sparse.cover { // 2 meta-ops
  // KFIRST-NEXT:   [0:2, 0:3] += k[0:2]
  // KFIRST-NEXT:   [2:4, 0:3] += k[2:4]
  // KFIRST:      plan "dense"
  // KFIRST-NEXT: sparse.cover { // 1 meta-op
  %a = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 0, 1), (3, 3, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[0:2]
      [2:4, 0:3] += k[2:4]
    }
  }
  %b = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 2, 1)]> unit <2, 2, 2> plan "dense" : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:4, 0:3] += k[0:4]
    }
  }
  func.return
}

// -----

// REFUSED: sparse.spmm %y: is grouped already; run sparse-lift before sparse-group
func.func @grouped(%x: tensor<4x3xi8>) -> tensor<4x3xi32> {
  %y = sparse.spmm %x, #sparse.weight<4x4xi8, [(0, 2, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<4x3xi32> {
    sparse.group {
      [0:4, 0:3] += k[0:4]
    }
  }
  func.return %y : tensor<4x3xi32>
}
