// RUN: sparsecc-opt %s -p 'xbar-schedule{any-n=true}' | filecheck %s
// RUN: sparsecc-opt %s -p 'xbar-schedule{any-n=true},convert-xbar-to-c' -t c | filecheck %s --check-prefix=C

// The number of positions is the last argument; panels and strides follow it, the arrays are written once.
// CHECK-LABEL: @program
// CHECK:      xbar.prog
// CHECK:      @main(%x: !tu.buffer<4x300xi8>, %y: !tu.buffer<3x300xi32>, %n: index)
// CHECK-NOT:  xbar.prog
// CHECK:      %panels = arith.divui
// CHECK-NEXT: scf.for %p = %c0 to %panels
// CHECK:      %columns = arith.minsi
// CHECK:      tu.ld %{{.*}} step %c4, %x[%column] stride %n rows %c4 cols %columns comment "rows of X"
// CHECK:      xbar.mvmg {{.*}} n %columns accumulate %c0
// CHECK:      tu.st %y[{{.*}}] stride %n

// C: int model_infer(ax_machine *m, int x, int y, int64_t n) {
// C: AX(ax_ld(m, {{.*}}, 4, x, column, n, 4, columns)); /* rows of X */
func.func @main(%x: tensor<4x300xi8>) -> tensor<3x300xi32> {
  %y = xbar.spmm %x, #sparse.weight<3x4xi8, [(0, 0, 1), (0, 1, 1), (0, 2, 1), (2, 3, -2)]> on "re2pim" array <128, 128> : tensor<4x300xi8> -> tensor<3x300xi32> {
    block 0 slice 0 adc 4 at 5[0, 0] : [0] += k[0, 1] levels [1, 1]
    block 1 slice 0 adc 3 at 6[0, 0] : [0, 2] += k[2:4] levels [1, 0, 0, -2]
  }
  func.return %y : tensor<3x300xi32>
}
