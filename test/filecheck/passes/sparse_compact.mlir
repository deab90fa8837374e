// RUN: sparsecc-opt %s -p 'sparse-compact{mode=none}' --split-input-file | filecheck %s --check-prefix=NONE
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=global}' --split-input-file | filecheck %s --check-prefix=GLOBAL
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=window window=1}' --split-input-file | filecheck %s --check-prefix=WINDOW
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=dense}' --split-input-file | filecheck %s --check-prefix=DENSE
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=best}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=MODE
// RUN: sparsecc-opt %s -p 'sparse-compact{mode=window window=0}' --split-input-file --verify-diagnostics | filecheck %s --check-prefix=HEIGHT

// MODE: sparse-compact: mode 'best' is not one of auto, none, global, window, dense
// HEIGHT: sparse-compact: window 0 needs at least one row

// NONE-LABEL: @compacts
// GLOBAL-LABEL: @compacts
// WINDOW-LABEL: @compacts
// DENSE-LABEL: @compacts
func.func @compacts(%x: tensor<6x3xi8>) -> tensor<4x3xi32> {
  // NONE-NEXT: plan "sparse" reason "mode none was asked for"
  // NONE-NEXT: sparse.cover { // 1 meta-op
  // NONE-NEXT:   [0:4, 0:3] += k[0:6]

  // GLOBAL-NEXT: plan "sparse" reason "mode global was asked for"
  // GLOBAL-NEXT: sparse.cover { // 1 meta-op
  // GLOBAL-NEXT:   [(0, 3), 0:3] += k[2:6]

  // WINDOW-NEXT: plan "sparse" reason "mode window was asked for, 1 rows each"
  // WINDOW-NEXT: sparse.cover { // 2 meta-ops
  // WINDOW-NEXT:   [(0), 0:3] += k[2:4]
  // WINDOW-NEXT:   [(3), 0:3] += k[3, 4, 5]

  // DENSE-NEXT: plan "dense" reason "mode dense was asked for"
  // DENSE-NEXT: sparse.cover { // 1 meta-op
  // DENSE-NEXT:   [0:4, 0:3] += k[0:6]
  %y = sparse.spmm %x, #sparse.weight<4x6xi8, [(0, 2, 1), (0, 3, 1), (3, 3, 1), (3, 4, 1), (3, 5, 1)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:4, 0:3] += k[0:6]
    }
  }
  func.return %y : tensor<4x3xi32>
}

// -----

// Without nonzeros: nothing to compute, unless the dense plan was asked for.
// NONE-LABEL: @zero
// WINDOW-LABEL: @zero
// DENSE-LABEL: @zero
func.func @zero(%x: tensor<6x3xi8>) -> tensor<4x3xi32> {
  // NONE-NEXT: plan "sparse" reason "the weight has no nonzero"
  // NONE-NEXT: sparse.cover { // 0 meta-ops
  // WINDOW-NEXT: plan "sparse" reason "the weight has no nonzero"
  // WINDOW-NEXT: sparse.cover { // 0 meta-ops
  // DENSE-NEXT: plan "dense"
  // DENSE-NEXT: sparse.cover { // 1 meta-op
  %y = sparse.spmm %x, #sparse.weight<4x6xi8, []> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:4, 0:3] += k[0:6]
    }
  }
  func.return %y : tensor<4x3xi32>
}

// -----

// Has a plan; compacted; grouped.
// GLOBAL-LABEL: @noop
func.func @noop(%x: tensor<6x3xi8>) {
  // GLOBAL-NEXT: plan "sparse" : tensor
  // GLOBAL-NEXT: sparse.cover { // 1 meta-op
  // GLOBAL-NEXT:   [0:4, 0:3] += k[0:6]
  // GLOBAL:        [0:2, 0:3] += k[0:2]
  // GLOBAL:      sparse.group { // 1 meta-op
  // GLOBAL-NEXT:   [0:4, 0:3] += k[0:6]
  %a = sparse.spmm %x, #sparse.weight<4x6xi8, [(0, 0, 1)]> unit <2, 2, 2> plan "sparse" : tensor<6x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:4, 0:3] += k[0:6]
    }
  }
  %b = sparse.spmm %x, #sparse.weight<4x6xi8, [(0, 0, 1)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<4x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[0:2]
    }
  }
  %c = sparse.spmm %x, #sparse.weight<4x6xi8, [(0, 0, 1)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<4x3xi32> {
    sparse.group {
      [0:4, 0:3] += k[0:6]
    }
  }
  func.return
}
