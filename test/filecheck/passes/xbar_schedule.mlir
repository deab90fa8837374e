// RUN: sparsecc-opt %s --split-input-file -p xbar-schedule | filecheck %s
// RUN: sparsecc-opt %s --split-input-file -p xbar-schedule,convert-xbar-to-c -t c | filecheck %s --check-prefix=C

// Different arrays: all blocks at once; row 1 of Y, which none writes, is zeros: it has a line of its own and is
// stored first.
// CHECK:      tu.constant @store_from : 3xi32 [16, 0, 1]
// CHECK-NEXT: tu.constant @store_to : 3xi32 [1, 0, 2]
// CHECK-LABEL: @program
// CHECK:      xbar.prog %array at[%c0, %c0], %cells[%cells_1] stride %columns rows %c2 cols %columns
// CHECK:      xbar.cfg %t_1 is %array_1 at[%c0, %c0] rows %c2 cols %columns_1 in %in out %c0 shl %c0 adc %adc offset %c0 lists %lists[%m1, %m1, %m1, %m1]
// CHECK:      xbar.done
// CHECK:      @main
// CHECK:      tu.ld %0 step %c4, %x[%c0] stride %c8 rows %c4 cols %c8 comment "rows of X"
// CHECK:      tu.fill
// CHECK:      xbar.mvmg %1 step %c17, %c0 count %c2, %0 step %c4 n %c8 accumulate %c0
// CHECK:      scf.for %s = %c0 to %c3
// CHECK:      tu.st %y[%3] stride %c8, %4 step %c17 rows %c1 cols %c8 output %c0

// C: int model_program(ax_machine *m) {
// C: AX(ax_xb_prog(m, write_array[t], 0, 2, 0, columns, cells2, write_cells[t], columns)); /* levels of a tile */
// C: AX(ax_xb_done(m)); /* what follows is inference */
// C: int model_infer(ax_machine *m, int x, int y) {
// C: AX(ax_xb_mvmg(m, 0, 2, v, 4, AX_ACC(0), 17, 8, 0)); /* the first of each array at once */
func.func @main(%x: tensor<4x8xi8>) -> tensor<3x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<3x4xi8, [(0, 0, 1), (0, 1, 1), (0, 2, 1), (2, 3, -2)]> on "re2pim" array <128, 128> : tensor<4x8xi8> -> tensor<3x8xi32> {
    block 0 slice 0 adc 4 at 5[0, 0] : [0] += k[0, 1] levels [1, 1]
    block 1 slice 0 adc 3 at 6[0, 0] : [0, 2] += k[2:4] levels [1, 0, 0, -2]
  }
  func.return %y : tensor<3x8xi32>
}

// -----

// One array: one after the other; each is the first with its output, so nothing needs to begin at 0.
// CHECK-LABEL: @program
// CHECK:      @main
// CHECK-NOT:  tu.fill
// CHECK:      xbar.mvmg %1 step %c2, %c0 count %c1, %0 step %c2 n %c8 accumulate %c0
// CHECK-NEXT: xbar.mvm %1 step %c2, %c1, %0 step %c2 n %c8 accumulate %c0
func.func @main(%x: tensor<2x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x2xi8, [(0, 0, 1), (1, 1, 1)]> on "re2pim" array <128, 128> : tensor<2x8xi8> -> tensor<2x8xi32> {
    block 0 slice 0 adc 2 at 5[0, 0] : [0] += k[0] levels [1]
    block 1 slice 0 adc 2 at 5[0, 0] as 0 : [1] += k[1] levels [1]
  }
  func.return %y : tensor<2x8xi32>
}

// -----

// One array: the second block adds to one output and is the first with the other, which begins at 0.
// CHECK-LABEL: @program
// CHECK:      @main
// CHECK:      tu.fill %{{.*}} rows %c1 value %c0 comment "sums that begin at 0"
// CHECK:      xbar.mvmg %1 step %c2, %c0 count %c1, %0 step %c2 n %c8 accumulate %c0
// CHECK-NEXT: xbar.mvm %1 step %c2, %c1, %0 step %c2 n %c8 accumulate %c1
func.func @main(%x: tensor<2x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x2xi8, [(0, 0, 1), (0, 1, 1), (1, 1, 1)]> on "re2pim" array <128, 128> : tensor<2x8xi8> -> tensor<2x8xi32> {
    block 0 slice 0 adc 2 at 5[0, 0] : [0] += k[0] levels [1]
    block 1 slice 0 adc 2 at 5[1, 0] : [0:2] += k[1] levels [1, 1]
  }
  func.return %y : tensor<2x8xi32>
}

// -----

// Arrays of two shapes: each is given to its arrays.
// CHECK-LABEL: @program
// CHECK:      xbar.shape %c0 count %c1 rows %c128 cols %c128 comment "arrays of this shape"
// CHECK-NEXT: xbar.shape %c1 count %c2 rows %c32 cols %c32 comment "arrays of this shape"
// C: AX(ax_xb_shape(m, 1, 2, 32, 32)); /* arrays of this shape */
func.func @main(%x: tensor<2x8xi8>) -> tensor<2x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<2x2xi8, [(0, 0, 1), (1, 1, 1)]> on "re2pim" array <128, 128> as 1 of <128, 128>, 2 of <32, 32> : tensor<2x8xi8> -> tensor<2x8xi32> {
    block 0 slice 0 adc 2 at 0[0, 0] : [0] += k[0] levels [1]
    block 1 slice 0 adc 2 at 2[0, 0] : [1] += k[1] levels [1]
  }
  func.return %y : tensor<2x8xi32>
}
