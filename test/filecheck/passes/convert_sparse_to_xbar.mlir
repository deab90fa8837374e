// RUN: sparsecc-opt %s -p 'convert-sparse-to-xbar{target=sme128 pack=no}' --split-input-file | filecheck %s
// RUN: sparsecc-opt %s -p 'convert-sparse-to-xbar{target=sme128 pack=yes}' --split-input-file | filecheck %s --check-prefix=PACK

// Each meta-op is a block without its empty lines; packed, both share an array and the word line of input 2.
// CHECK-LABEL: @blocks
// PACK-LABEL: @blocks
func.func @blocks(%x: tensor<4x8xi8>) -> tensor<3x8xi32> {
  // CHECK:      xbar.spmm %x, #sparse.weight<3x4xi8, [(0, 0, 5), (0, 2, 7), (2, 2, -1)]> on "sme128" array <128, 128> plan "sparse" reason "asked" : tensor<4x8xi8> -> tensor<3x8xi32> { // 2 tiles
  // CHECK-NEXT:   block 0 : [0] += k[0, 2] levels [5, 7]
  // CHECK-NEXT:   block 1 : [2] += k[2] levels [-1]
  // PACK:      { // 1 tile
  // PACK-NEXT:   block 0 : [0, 2] += k[0, 2] levels [5, 0, 7, -1]
  %y = sparse.spmm %x, #sparse.weight<3x4xi8, [(0, 0, 5), (0, 2, 7), (2, 2, -1)]> unit <1, 1, 1> plan "sparse" reason "asked" : tensor<4x8xi8> -> tensor<3x8xi32> {
    sparse.cover {
      [0:2, 0:8] += k[0, 1, 2]
      [2:3, 0:8] += k[2]
    }
  }
  func.return %y : tensor<3x8xi32>
}

// -----

// A dense plan is the whole grid, with its zeros.
// CHECK-LABEL: @dense
func.func @dense(%x: tensor<2x8xi8>) -> tensor<2x8xi32> {
  // CHECK: block 0 : [0:2] += k[0:2] levels [0, 0, 5, 0]
  %y = sparse.spmm %x, #sparse.weight<2x2xi8, [(0, 1, 5)]> unit <1, 1, 1> plan "dense" : tensor<2x8xi8> -> tensor<2x8xi32> {
    sparse.cover {
      [0:2, 0:8] += k[0:2]
    }
  }
  func.return %y : tensor<2x8xi32>
}
