// RUN: sparsecc-opt %s -p 'convert-sparse-to-cpu{target=arm-neon}' | filecheck %s
// RUN: sparsecc-opt %s -p 'convert-sparse-to-cpu{target=x86-avx2 kernel=csr},convert-cpu-to-c' | filecheck %s --check-prefix=CALL
// RUN: sparsecc-opt %s -p 'convert-sparse-to-cpu{target=x86-avx2 kernel=dense},convert-cpu-to-c' -t c | filecheck %s --check-prefix=C

// On another CPU a rule decides; no code is written for Arm.
// CHECK: %y = cpu.spmm "csr" {} for "arm-neon" %x, #sparse.weight<4x6xf32, [(0, 1, 0.5), (1, 3, -2.0), (3, 0, 1.0)]>
// CHECK-SAME: : tensor<6x8xf32> -> tensor<4x8xf32>

// CALL: cpu.kernel "model_kernel" "csr" {} for "x86-avx2" #sparse.weight<
// CALL: func.func @model_run(%x: !emitc.ptr<!emitc.opaque<"const float">>, %ldx: !emitc.opaque<"size_t">,
// CALL: emitc.call_opaque "sc_csr_call"(%x, %ldx, %y, %ldy, %n, %threads)

// C: #include "model.h"
// C: extern const sc_dense model_kernel; /* dense */
// C: int model_init(void) {
// C: int model_run(const float *x, size_t ldx, float *y, size_t ldy, size_t n, int threads) {
// C-NEXT: return sc_dense_call(&model_kernel, x, ldx, y, ldy, n, threads);
// C-NEXT: }
func.func @main(%x: tensor<6x8xf32>) -> tensor<4x8xf32> {
  %y = sparse.spmm %x, #sparse.weight<4x6xf32, [(0, 1, 0.5), (1, 3, -2.0), (3, 0, 1.0)]> unit <1, 8, 1> : tensor<6x8xf32> -> tensor<4x8xf32> {
    sparse.cover {
      [0:4, 0:8] += k[0:6]
    }
  }
  func.return %y : tensor<4x8xf32>
}
