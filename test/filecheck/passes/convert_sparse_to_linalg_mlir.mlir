// The Meta-DFG is valid MLIR and bufferizes there.
// REQUIRES: mlir-opt-19
// RUN: sparsecc-opt %s -p convert-sparse-to-linalg | mlir-opt-19 --one-shot-bufferize=bufferize-function-boundaries --convert-linalg-to-loops | filecheck %s

// CHECK-LABEL: @main
// CHECK: arith.extsi
// CHECK: arith.muli
// CHECK-NOT: linalg
func.func @main(%x: tensor<6x3xi8>) -> tensor<6x3xi32> {
  %y = sparse.spmm %x, #sparse.weight<6x6xi8, [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 5, 4), (5, 5, 5)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<6x3xi32> {
    sparse.group {
      [0:2, 0:3] += k[0:2]
      [(2, 3, 5), 0:3] += k[2, 5]
    }
  }
  func.return %y : tensor<6x3xi32>
}
