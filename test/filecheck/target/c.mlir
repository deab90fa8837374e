// RUN: sparsecc-opt %s -p convert-tu-to-c -t c | filecheck %s

// CHECK: /* A layer.
// CHECK: #include "target.h"
// CHECK: _Static_assert(AX_ROWS == 16 && AX_COLS == 16, "made for gemmini16");
// CHECK-NEXT: _Static_assert(AX_SPAD_ROWS >= 100 && AX_ACC_ROWS >= 10, "made for gemmini16");
// CHECK: static const int32_t rows[2] = {3, 1};
// CHECK-NEXT: extern AX_DATA int8_t weights[64]; /* 4 x 16 */
tu.constant @rows : 2xi32 [3, 1]
tu.constant @weights : 4x16xi8 "00112233445566778899aabbccddeeff"

// Values used once become part of the expression, with brackets where C needs them; others get names.
// CHECK: static int fetch(ax_machine *m, int w, int64_t s) {
// CHECK-NEXT:   const int64_t next = s + 1;
// CHECK-NEXT:   AX(ax_ld(m, AX_SPAD(next * 16), 0, w, 0, 16, (int64_t)rows[s] - (next - 2), 16)); /* weights */
// CHECK-NEXT:   if (s < 1) {
// CHECK-NEXT:     AX(ax_fill(m, AX_ACC(s < 1 ? next : 0), AX_MIN(next, 5), 0));
// CHECK-NEXT:   } else {
// CHECK-NEXT:     AX(ax_fence(m));
// CHECK-NEXT:   }
// CHECK-NEXT:   return 0;
// CHECK-NEXT: }
func.func private @fetch(%w: !tu.buffer<4x16xi8>, %s: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c5 = arith.constant 5 : index
  %c16 = arith.constant 16 : index
  %next = arith.addi %s, %c1 : index
  %slot = arith.muli %next, %c16 : index
  %less = arith.subi %next, %c2 : index
  %count = tu.lookup @rows[%s]
  %rows = arith.subi %count, %less : index
  %0 = tu.address spad %slot
  tu.ld %0 step %c0, %w[%c0] stride %c16 rows %rows cols %c16 comment "weights" : !tu.buffer<4x16xi8>
  %first = arith.cmpi slt, %s, %c1 : index
  scf.if %first {
    %again = arith.cmpi slt, %s, %c1 : index
    %row = arith.select %again, %next, %c0 : index
    %small = arith.minsi %next, %c5 : index
    %1 = tu.address acc %row
    tu.fill %1 rows %small value %c0
  } else {
    tu.fence
  }
  func.return
}

// The entry is called model_infer; words of C are no names.
// CHECK: int model_infer(ax_machine *m, int int2) {
// CHECK-NEXT:   const int w = ax_buffer(m, "weights", (void *)(uintptr_t)weights, 64, AX_I8);
// CHECK-NEXT:   for (int64_t s = 0; s < 2; s++) {
// CHECK-NEXT:     AX(fetch(m, w, s));
// CHECK-NEXT:   }
// CHECK-NEXT:   const uint32_t acc = AX_ACC(0);
// CHECK-NEXT:   for (int64_t s2 = 0; s2 < 8; s2 += 2) {
// CHECK-NEXT:     AX(ax_st(m, int2, s2, 4, acc, 1, 1, 1, 0));
// CHECK-NEXT:   }
// CHECK-NEXT:   return 0;
// CHECK-NEXT: }
func.func @main(%int: !tu.buffer<4x4xi8>) attributes {tu.target = "gemmini16", tu.needs = [16 : i64, 16 : i64, 100 : i64, 10 : i64], tu.title = "A layer."} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %c4 = arith.constant 4 : index
  %c8 = arith.constant 8 : index
  %w = tu.buffer @weights : !tu.buffer<4x16xi8>
  scf.for %s = %c0 to %c2 step %c1 {
    func.call @fetch(%w, %s) : (!tu.buffer<4x16xi8>, index) -> ()
  }
  %acc = tu.address acc %c0
  scf.for %s = %c0 to %c8 step %c2 {
    tu.st %int[%s] stride %c4, %acc step %c1 rows %c1 cols %c1 output %c0 : !tu.buffer<4x4xi8>
  }
  func.return
}
