// RUN: sparsecc-opt %s --split-input-file -p xbar-slice-bits | filecheck %s --check-prefix=SLICE
// RUN: sparsecc-opt %s --split-input-file -p xbar-slice-bits,xbar-drop-empty-slices | filecheck %s --check-prefix=DROP
// RUN: sparsecc-opt %s --split-input-file -p 'xbar-slice-bits,xbar-drop-empty-slices,xbar-squeeze-out{always=true}' | filecheck %s --check-prefix=SQUEEZE
// RUN: sparsecc-opt %s --split-input-file -p xbar-slice-bits,xbar-drop-empty-slices,xbar-recode | filecheck %s --check-prefix=RECODE
// RUN: sparsecc-opt %s --split-input-file -p 'xbar-slice-bits,xbar-drop-empty-slices,xbar-share-blocks{times=2}' | filecheck %s --check-prefix=SHARE
// RUN: sparsecc-opt %s --split-input-file -p xbar-slice-bits,xbar-drop-empty-slices,xbar-fit-adc | filecheck %s --check-prefix=ADC
// RUN: sparsecc-opt %s --split-input-file -p 'xbar-slice-bits,xbar-drop-empty-slices,xbar-place{arrays=8}' | filecheck %s --check-prefix=PLACE
// RUN: sparsecc-opt %s --split-input-file -p 'xbar-slice-bits,xbar-drop-empty-slices,xbar-place{arrays=1}' | filecheck %s --check-prefix=ONE
// RUN: sparsecc-opt %s --split-input-file -p xbar-slice-bits,xbar-drop-empty-slices,xbar-place | filecheck %s --check-prefix=MIX

// 2-bit cells: 64 = 1 << 6; -6 = -(2 + (1 << 2)); 5 = 1 + (1 << 2).
// SLICE-LABEL: @small
// SLICE:      block 0 slice 0 : [0:2] += k[1:3] levels [0, -2, 1, 0]
// SLICE-NEXT: block 0 slice 1 shl 2 : [0:2] += k[1:3] levels [0, -1, 1, 0]
// SLICE-NEXT: block 0 slice 2 shl 4 : [0:2] += k[1:3] levels [0, 0, 0, 0]
// SLICE-NEXT: block 0 slice 3 shl 6 : [0:2] += k[1:3] levels [1, 0, 0, 0]

// The empty slice and the empty lines of the others are gone.
// DROP-LABEL: @small
// DROP:      { // 3 tiles
// DROP-NEXT:   block 0 slice 0 : [0:2] += k[1:3] levels [0, -2, 1, 0]
// DROP-NEXT:   block 0 slice 1 shl 2 : [0:2] += k[1:3] levels [0, -1, 1, 0]
// DROP-NEXT:   block 0 slice 3 shl 6 : [0] += k[1] levels [1]

// 64 and -6 are even: input 1 moves whole, its weights halved to 32 and -3.
// SQUEEZE-LABEL: @small
// SQUEEZE:      { // 3 tiles
// SQUEEZE-NEXT:   block 0 slice 0 : [0:2] += k[2, twice 1] levels [1, 0, 0, -3]
// SQUEEZE-NEXT:   block 0 slice 1 shl 2 : [0] += k[2] levels [1]
// SQUEEZE-NEXT:   block 0 slice 2 shl 4 : [0] += k[twice 1] levels [2]

// SHARE-LABEL: @small
// SHARE-NOT: as

// Sums of magnitudes 1 and 2, 1 and 1, and 1 need 2 and 3, 2, and 2 bits.
// ADC-LABEL: @small
// ADC:      block 0 slice 0 adc 2 bundle 0 : [0] +=
// ADC-NEXT: block 0 slice 0 adc 3 bundle 0 : [1] +=
// ADC-NEXT: block 0 slice 1 shl 2 adc 2 :
// ADC-NEXT: block 0 slice 3 shl 6 adc 2 :

// PLACE-LABEL: @small
// PLACE:      block 0 slice 0 at 0[0, 0] :
// PLACE-NEXT: block 0 slice 1 shl 2 at 1[0, 0] :
// PLACE-NEXT: block 0 slice 3 shl 6 at 2[0, 0] :

// MIX-LABEL: @small
// MIX:      array <128, 128> as 3 of <32, 32>
// MIX-NEXT: block 0 slice 0 at 0[0, 0] :
// MIX-NEXT: block 0 slice 1 shl 2 at 1[0, 0] :
// MIX-NEXT: block 0 slice 3 shl 6 at 2[0, 0] :

// ONE-LABEL: @small
// ONE:      block 0 slice 0 at 0[0, 0] :
// ONE-NEXT: block 0 slice 1 shl 2 at 0[0, 2] :
// ONE-NEXT: block 0 slice 3 shl 6 at 0[0, 4] :
func.func @small(%x: tensor<4x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x4xi8, [(0, 1, 64), (0, 2, 5), (1, 1, -6)]> on "re2pim" array <128, 128> : tensor<4x8xi8> -> tensor<2x8xi32> {
    block 0 : [0:2] += k[1:3] levels [64, -6, 5, 0]
  }
  func.return %y : tensor<2x8xi32>
}

// -----

// Two blocks with equal cells.
// SHARE-LABEL: @equal
// SHARE:      block 0 slice 0 : [0] += k[0:2] levels [1, 2]
// SHARE-NEXT: block 1 slice 0 as 0 : [1] += k[2:4] levels [1, 2]
// SHARE-NEXT: block 2 slice 0 : [2] += k[4:6] levels [1, 2]
func.func @equal(%x: tensor<6x8xi8>) -> tensor<3x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<3x6xi8, [(0, 0, 1), (0, 1, 2), (1, 2, 1), (1, 3, 2), (2, 4, 1), (2, 5, 2)]> on "re2pim" array <128, 128> : tensor<6x8xi8> -> tensor<3x8xi32> {
    block 0 : [0] += k[0:2] levels [1, 2]
    block 1 : [1] += k[2:4] levels [1, 2]
    block 2 : [2] += k[4:6] levels [1, 2]
  }
  func.return %y : tensor<3x8xi32>
}

// -----

// Offset: 128 + 3 and 128 - 3 = 125; a zero is 128, which is 2 in the top slice.
// SLICE-LABEL: @offset
// SLICE:      block 0 slice 0 : [not 0, 1] += k[0] levels [3, 1]
// SLICE-NEXT: block 0 slice 1 shl 2 : [0, not 1] += k[0] levels [0, 3]
// SLICE-NEXT: block 0 slice 2 shl 4 : [0, not 1] += k[0] levels [0, 3]
// SLICE-NEXT: block 0 slice 3 shl 6 zero 2 :

// Either sign has a bit line whose level for nothing is an empty cell; flipped, a level of 3 is one of 0.
// RECODE-LABEL: @offset
// RECODE:      { // 2 tiles
// RECODE-NEXT: block 0 slice 0 : [not 0] += k[0] levels [3]
// RECODE-NEXT: block 0 slice 0 zero 3 : [1] += k[0] levels [0]
func.func @offset(%x: tensor<1x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x1xi8, [(0, 0, 3), (1, 0, -3)]> on "isaac128" array <128, 128> : tensor<1x8xi8> -> tensor<2x8xi32> {
    block 0 : [0:2] += k[0] levels [3, -3]
  }
  func.return %y : tensor<2x8xi32>
}

// -----

// A dense plan keeps its zeros and its bits.
// ADC-LABEL: @dense
// ADC:      { // 4 tiles
// ADC-NEXT:   block 0 slice 0 : [0:2] += k[0] levels [3, 0]
func.func @dense(%x: tensor<1x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x1xi8, [(0, 0, 3)]> on "re2pim" array <128, 128> plan "dense" : tensor<1x8xi8> -> tensor<2x8xi32> {
    block 0 : [0:2] += k[0] levels [3, 0]
  }
  func.return %y : tensor<2x8xi32>
}
