// RUN: sparsecc-opt %s --split-input-file -p convert-sparse-to-tu{target=nvidia-tc} --verify-diagnostics | filecheck %s

// 2:4 weights: the values kept, two rows of them, and one row of metadata; X comes in tiles of 32 rows.
// CHECK: tu.constant @kept_weights : 3x16xf16
// CHECK-LABEL: func.func @kept
// CHECK: tu.mv {{.*}} comment "weights"
// CHECK: tu.mv {{.*}} step %c32, {{.*}} step %c32 rows %c24 blocks %{{.*}} comment "a tile of X"
// CHECK: tu.spmma {{.*}} m %c2 n %{{.*}} k %c24 keep %c2 of %c4 accumulate %{{.*}} comment "2:4 values of W"
// CHECK-NOT: tu.mma
func.func @kept(%x: tensor<24x20xf16>) -> tensor<2x20xf32> {
  %y = sparse.spmm %x, #sparse.weight<2x24xf16, [(0, 0, 1.0), (0, 1, -2.0), (0, 4, 3.0), (0, 7, -4.0), (0, 16, 2.0), (1, 3, -7.0), (1, 23, -3.0)]> unit <16, 8, 16> plan "sparse" : tensor<24x20xf16> -> tensor<2x20xf32> {
    sparse.cover {
      [0:2, 0:20] += k[0:24]
    }
  }
  func.return %y : tensor<2x20xf32>
}

// -----

// The same as a dense plan is dense.
// CHECK-LABEL: func.func @dense
// CHECK-NOT: tu.spmma
// CHECK: tu.mma
func.func @dense(%x: tensor<24x20xf16>) -> tensor<2x20xf32> {
  %y = sparse.spmm %x, #sparse.weight<2x24xf16, [(0, 0, 1.0), (1, 23, -3.0)]> unit <16, 8, 16> plan "dense" : tensor<24x20xf16> -> tensor<2x20xf32> {
    sparse.cover {
      [0:2, 0:20] += k[0:24]
    }
  }
  func.return %y : tensor<2x20xf32>
}

// -----

// Three nonzeros in four columns: the tile stays as it is.
// CHECK-LABEL: func.func @broken
// CHECK-NOT: tu.spmma
// CHECK: tu.mma
func.func @broken(%x: tensor<24x20xf16>) -> tensor<2x20xf32> {
  %y = sparse.spmm %x, #sparse.weight<2x24xf16, [(0, 0, 1.0), (0, 1, 1.0), (0, 2, 1.0), (1, 23, -3.0)]> unit <16, 8, 16> plan "sparse" : tensor<24x20xf16> -> tensor<2x20xf32> {
    sparse.cover {
      [0:2, 0:20] += k[0:24]
    }
  }
  func.return %y : tensor<2x20xf32>
}

// -----

// Meta-ops that list the same rows differently: zeros are stored, then the blocks are added to them.
// CHECK-LABEL: func.func @added
// CHECK: tu.st {{.*}} comment "blocks are added to zeros"
// CHECK: tu.sts {{.*}} add %c1 comment "add the block"
func.func @added(%x: tensor<4x8xf16>) -> tensor<4x8xf32> {
  %y = sparse.spmm %x, #sparse.weight<4x4xf16, [(0, 0, 1.0), (2, 1, 2.0), (0, 2, 3.0), (3, 3, 4.0)]> unit <16, 8, 16> plan "sparse" : tensor<4x8xf16> -> tensor<4x8xf32> {
    sparse.cover {
      [(0, 2), 0:8] += k[0, 1]
      [(0, 3), 0:8] += k[2, 3]
    }
  }
  func.return %y : tensor<4x8xf32>
}
