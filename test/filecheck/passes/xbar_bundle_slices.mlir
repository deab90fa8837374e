// RUN: sparsecc-opt %s --split-input-file -p 'xbar-slice-bits,xbar-drop-empty-slices,xbar-bundle-slices' | filecheck %s --check-prefix=BUNDLE
// RUN: sparsecc-opt %s --split-input-file -p 'xbar-slice-bits,xbar-drop-empty-slices,xbar-bundle-slices' | sparsecc-opt --split-input-file -p 'xbar-fit-adc,xbar-place' | filecheck %s --check-prefix=PLACE

// Slices of one block on the word lines of both: one driver for each.
// BUNDLE-LABEL: @offset
// BUNDLE:      { // 4 tiles
// BUNDLE-NEXT:   block 0 slice 0 bundle 0 : [0:2] += k[0:2] levels [1, 0, 0, 2]
// BUNDLE-NEXT:   block 0 slice 1 shl 2 bundle 0 : [0:2] += k[0:2] levels [1, 0, 0, 1]
// BUNDLE-NEXT:   block 0 slice 2 shl 4 bundle 0 : [1] += k[0:2] levels [0, 1]
// BUNDLE-NEXT:   block 0 slice 3 shl 6 zero 2 bundle 0 : [not 1] += k[0:2] levels [2, 3]

// They stand side by side; bit lines that need other bits are tiles of their own.
// PLACE-LABEL: @offset
// PLACE:      { // 5 tiles
// PLACE:      block 0 slice 0 adc 1 at 0[0, 0] bundle 0 : [0] +=
// PLACE-NEXT: block 0 slice 0 adc 2 at 0[0, 1] bundle 0 : [1] +=
// PLACE-NEXT: block 0 slice 1 shl 2 adc 1 at 0[0, 2] bundle 0 : [0:2] +=
// PLACE-NEXT: block 0 slice 2 shl 4 adc 1 at 0[0, 4] bundle 0 : [1] +=
// PLACE-NEXT: block 0 slice 3 shl 6 zero 2 adc 1 at 0[0, 5] bundle 0 : [not 1] +=
func.func @offset(%x: tensor<2x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x2xi8, [(0, 0, 5), (1, 1, 86)]> on "isaac128" array <128, 128> : tensor<2x8xi8> -> tensor<2x8xi32> {
    block 0 : [0:2] += k[0:2] levels [5, 0, 0, 86]
  }
  func.return %y : tensor<2x8xi32>
}
