// RUN: sparsecc-opt %s --split-input-file -p convert-sparse-to-tu{target=ascend910} --verify-diagnostics | filecheck %s

// CHECK: sparse.spmm %y: i8 to i32 is not a type pair of target ascend910; it has f16:f32, bf16:f32
func.func @main(%x: tensor<4x4xi8>) -> tensor<2x4xi32> {
  %y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <16, 16, 16> : tensor<4x4xi8> -> tensor<2x4xi32> {
    sparse.cover {
    }
  }
  func.return %y : tensor<2x4xi32>
}

// -----

// CHECK: @main: arith.addf has no instructions on a tensor unit
func.func @main(%x: tensor<4x4xf16>) -> tensor<4x4xf16> {
  %y = arith.addf %x, %x : tensor<4x4xf16>
  func.return %y : tensor<4x4xf16>
}

// -----

// CHECK: @main: found 0 sparse products; this pipeline takes functions that are one sparse.spmm or sparse.sddmm of the function's arguments
func.func @main(%x: tensor<4x4xf16>) -> tensor<4x4xf16> {
  func.return %x : tensor<4x4xf16>
}
