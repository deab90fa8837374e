// RUN: sparsecc-opt %s --split-input-file -p convert-sparse-to-tu --verify-diagnostics | filecheck %s

// Gathered columns on a systolic array: X is stationary, the rows of W stream. 20 positions are two tiles.
// CHECK: tu.constant @weights : 2x16xi8
// CHECK: tu.constant @gather : 2xi32 [1, 3]
// CHECK: func.func private @fetch(%x: !tu.buffer<4x20xi8>, %w: !tu.buffer<2x16xi8>, %g: !tu.buffer<2xi32>
// CHECK: tu.ld {{.*}} comment "weights of this step" : !tu.buffer<2x16xi8>
// CHECK: tu.ldg {{.*}} : !tu.buffer<4x20xi8>, !tu.buffer<2xi32>
// CHECK: func.func @main(%x: !tu.buffer<4x20xi8>, %y: !tu.buffer<2x20xi32>) attributes {tu.target = "gemmini16"
// CHECK: func.call @fetch
// CHECK: tu.pre
// CHECK: tu.mm
// CHECK: tu.st %y
// CHECK-NOT: sparse.spmm
func.func @main(%x: tensor<4x20xi8>) -> tensor<2x20xi32> {
  %y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 1, 5), (1, 3, -2)]> unit <16, 16, 16> : tensor<4x20xi8> -> tensor<2x20xi32> {
    sparse.group {
      [0:2, 0:20] += k[1, 3]
    }
  }
  func.return %y : tensor<2x20xi32>
}

// -----

// Listed rows: results are scattered, rows that nobody writes are filled with zeros.
// CHECK-LABEL: func.func @scattered
// CHECK: tu.fill
// CHECK: tu.sts %y
func.func @scattered(%x: tensor<4x4xi8>) -> tensor<40x4xi32> {
  %y = sparse.spmm %x, #sparse.weight<40x4xi8, [(3, 1, 5), (30, 3, -2)]> unit <16, 16, 16> : tensor<4x4xi8> -> tensor<40x4xi32> {
    sparse.group {
      [(3, 30), 0:4] += k[1, 3]
    }
  }
  func.return %y : tensor<40x4xi32>
}

// -----

// No nonzero: zeros are stored, nothing is loaded or multiplied.
// CHECK-LABEL: func.func @zeros
// CHECK-NOT: tu.ld
// CHECK: tu.fill
// CHECK-NOT: tu.mm
// CHECK: tu.st
func.func @zeros(%x: tensor<4x4xi8>) -> tensor<2x4xi32> {
  %y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <16, 16, 16> : tensor<4x4xi8> -> tensor<2x4xi32> {
    sparse.cover {
    }
  }
  func.return %y : tensor<2x4xi32>
}

// -----

// Two operators in one module: each function has its own tables.
// CHECK: tu.constant @weights
// CHECK: func.func @main(
// CHECK: tu.constant @fc2_weights
// CHECK: func.func private @fc2_fetch(
// CHECK: func.func @fc2(
func.func @main(%x: tensor<4x4xi8>) -> tensor<2x4xi32> {
  %y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 1, 5)]> unit <16, 16, 16> : tensor<4x4xi8> -> tensor<2x4xi32> {
    sparse.cover {
      [0:2, 0:4] += k[0:4]
    }
  }
  func.return %y : tensor<2x4xi32>
}
func.func @fc2(%x: tensor<4x4xi8>) -> tensor<2x4xi32> {
  %y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 1, 7)]> unit <16, 16, 16> : tensor<4x4xi8> -> tensor<2x4xi32> {
    sparse.cover {
      [0:2, 0:4] += k[0:4]
    }
  }
  func.return %y : tensor<2x4xi32>
}

// -----

// A module without functions is left alone.
// CHECK: tu.constant @alone : 1xi32 [7]
tu.constant @alone : 1xi32 [7]
