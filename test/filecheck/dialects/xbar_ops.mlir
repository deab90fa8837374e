// RUN: ROUNDTRIP
// RUN: sparsecc-opt %s --split-input-file | filecheck %s

// Blocks of weights, and slices with all that a tile can have.
// CHECK-LABEL: @tiles
func.func @tiles(%x: tensor<6x8xi8>) -> (tensor<4x8xi32>, tensor<4x8xi32>, tensor<4x8xi32>) {
  // CHECK:      %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 5), (2, 5, -3)]> on "sme128" array <128, 128> plan "sparse" reason "asked" : tensor<6x8xi8> -> tensor<4x8xi32> { // 2 tiles
  // CHECK-NEXT:   block 0 : [0:2] += k[0:2] levels [0, 0, 5, 0]
  // CHECK-NEXT:   block 1 : [2] += k[5] levels [-3]
  // CHECK-NEXT: }
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 5), (2, 5, -3)]> on "sme128" array <128, 128> plan "sparse" reason "asked" : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0, 1] += k[0:2] levels [0, 0, 5, 0]
    block 1 : [2] += k[5] levels [-3]
  }
  // CHECK:      block 0 slice 0 adc 3 at 7[1, 2] : [0] += k[1, twice 1] levels [1, 1]
  // CHECK-NEXT: block 1 slice 0 adc 2 at 8[0, 0] : [2:4] += k[5] levels [-1, 1]
  // CHECK-NEXT: block 2 slice 1 shl 1 adc 2 at 8[0, 0] as 1 : [1, 3] += k[0] levels [-1, 1]
  %b = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 3), (1, 0, -2), (2, 5, -1), (3, 0, 2), (3, 5, 1)]> on "sme128" array <128, 128> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 adc 3 at 7[1, 2] : [0] += k[1, twice 1] levels [1, 1]
    block 1 slice 0 adc 2 at 8[0, 0] : [2:4] += k[5] levels [-1, 1]
    block 2 slice 1 shl 1 adc 2 at 8[0, 0] as 1 : [1, 3] += k[0] levels [-1, 1]
  }
  // CHECK: block 0 slice 3 shl 6 zero 2 : [0, not 1] += k[1] levels [1, 3]
  %c = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, -64), (1, 1, 64)]> on "isaac128" array <128, 128> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 3 shl 6 zero 2 : [0, not 1] += k[1] levels [1, 3]
  }
  func.return %a, %b, %c : tensor<4x8xi32>, tensor<4x8xi32>, tensor<4x8xi32>
}

// -----

// Arrays of several shapes, numbered through.
// CHECK-LABEL: @shapes
func.func @shapes(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  // CHECK: on "re2pim" array <128, 128> as 1 of <128, 128>, 2 of <32, 32> plan "sparse" :
  // CHECK-NEXT: block 0 slice 0 adc 2 at 0[0, 0] : [0] += k[1] levels [1]
  // CHECK-NEXT: block 1 slice 0 adc 2 at 2[31, 31] : [1] += k[1] levels [-1]
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1), (1, 1, -1)]> on "re2pim" array <128, 128> as 1 of <128, 128>, 2 of <32, 32> plan "sparse" : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 adc 2 at 0[0, 0] : [0] += k[1] levels [1]
    block 1 slice 0 adc 2 at 2[31, 31] : [1] += k[1] levels [-1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// What int8 numbers stand for, and the offset of cells.
// CHECK-LABEL: @steps
func.func @steps(%x: tensor<6x8xi8>) -> tensor<2x8xi32> {
  // CHECK: attributes {sparse.quantization = #sparse.quantization<weights #nn.tensor<[0.5, 0.25], tensor<2xf32>> zero 0, inputs 0.1 zero 0, offset 128>} :
  %a = xbar.spmm %x, #sparse.weight<2x6xi8, [(0, 1, 5)]> on "isaac128" array <128, 128> attributes {sparse.quantization = #sparse.quantization<weights #nn.tensor<[0.5, 0.25], tensor<2xf32>> zero 0, inputs 0.1 zero 0, offset 128>} : tensor<6x8xi8> -> tensor<2x8xi32> {
    block 0 : [0] += k[1] levels [5]
  }
  func.return %a : tensor<2x8xi32>
}

// -----

// Every instruction.
// CHECK-LABEL: @instructions
func.func @instructions(%cells: !tu.buffer<64xi8>, %lists: !tu.buffer<9xi32>, %i: index) {
  // CHECK-NEXT: %in = tu.address spad %i
  // CHECK-NEXT: %out = tu.address acc %i
  %in = tu.address spad %i
  %out = tu.address acc %i
  // CHECK-NEXT: xbar.shape %i count %i rows %i cols %i
  xbar.shape %i count %i rows %i cols %i
  // CHECK-NEXT: xbar.prog %i at[%i, %i], %cells[%i] stride %i rows %i cols %i comment "levels" : !tu.buffer<64xi8>
  xbar.prog %i at[%i, %i], %cells[%i] stride %i rows %i cols %i comment "levels" : !tu.buffer<64xi8>
  // CHECK-NEXT: xbar.cfg %i is %i at[%i, %i] rows %i cols %i in %i out %i shl %i adc %i offset %i lists %lists[%i, %i, %i, %i] : !tu.buffer<9xi32>
  xbar.cfg %i is %i at[%i, %i] rows %i cols %i in %i out %i shl %i adc %i offset %i lists %lists[%i, %i, %i, %i] : !tu.buffer<9xi32>
  // CHECK-NEXT: xbar.done
  xbar.done
  // CHECK-NEXT: xbar.mvm %out step %i, %i, %in step %i n %i accumulate %i
  xbar.mvm %out step %i, %i, %in step %i n %i accumulate %i
  // CHECK-NEXT: xbar.mvmg %out step %i, %i count %i, %in step %i n %i accumulate %i
  xbar.mvmg %out step %i, %i count %i, %in step %i n %i accumulate %i
  func.return
}
