// RUN: sparsecc-opt %s -p 'convert-sparse-to-cpu{target=x86-avx2 kernel=csr}' | filecheck %s
// RUN: sparsecc-opt %s -p 'convert-sparse-to-cpu{target=x86-avx2 kernel=csr},convert-cpu-to-c' -t c | filecheck %s --check-prefix=C

// The epilogue stays behind the product until C is written, where both are one call.
// CHECK: %c = cpu.spmm "csr" {} for "x86-avx2" %x, #sparse.weight<4x6xi8, [(0, 1, 5), (1, 3, -2), (3, 0, 1)]>
// CHECK-SAME: : tensor<6x8xi8> -> tensor<4x8xi32>
// CHECK: sparse.epilogue %c scale #nn.tensor<[0.5], tensor<f32>> low 0.000000e+00 : f32 : tensor<4x8xi32> -> tensor<4x8xi8>

// C: extern const sc_words model_kernel; /* csr */
// C: int model_run(const int8_t *x, size_t ldx, int8_t *y, size_t ldy, size_t n, int threads) {
// C-NEXT: return sc_words_call(&model_kernel, x, ldx, y, ldy, n, threads);
// C-NEXT: }
func.func @main(%x: tensor<6x8xi8>) -> tensor<4x8xi8> {
  %c = sparse.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 5), (1, 3, -2), (3, 0, 1)]> unit <1, 8, 1> : tensor<6x8xi8> -> tensor<4x8xi32> {
    sparse.cover {
      [0:4, 0:8] += k[0:6]
    }
  }
  %y = sparse.epilogue %c scale #nn.tensor<[0.5], tensor<f32>> low 0.0 : f32 : tensor<4x8xi32> -> tensor<4x8xi8>
  func.return %y : tensor<4x8xi8>
}
