// RUN: sparsecc-opt %s --split-input-file --verify-diagnostics | filecheck %s

// CHECK: %y = cpu.spmm "line" {lanes = 16 : i64, height = 4 : i64, columns = 512 : i64, rows = "clustered",
// CHECK-SAME: panels = 1 : i64, batch = 2 : i64, pack = true} for "x86-avx512" %x,
// CHECK-SAME: #sparse.weight<4x6xf32, [(0, 1, 0.5), (1, 3, -2.0), (3, 0, 1.0)]> reason "measured"
func.func @main(%x: tensor<6x8xf32>) -> tensor<4x8xf32> {
  %y = cpu.spmm "line" {lanes = 16 : i64, height = 4 : i64, columns = 512 : i64, rows = "clustered", panels = 1 : i64, batch = 2 : i64, pack = true} for "x86-avx512" %x, #sparse.weight<4x6xf32, [(0, 1, 0.5), (1, 3, -2.0), (3, 0, 1.0)]> reason "measured" : tensor<6x8xf32> -> tensor<4x8xf32>
  func.return %y : tensor<4x8xf32>
}

// -----

// CHECK: %y = cpu.spmm "line"
// CHECK-SAME: pack = false, fetches = 8 : i64} for "x86-avx512" %x,
func.func @main(%x: tensor<6x8xf32>) -> tensor<4x8xf32> {
  %y = cpu.spmm "line" {lanes = 16 : i64, height = 4 : i64, columns = 512 : i64, rows = "natural", panels = 8 : i64, batch = 2 : i64, pack = false, fetches = 8 : i64} for "x86-avx512" %x, #sparse.weight<4x6xf32, [(0, 1, 0.5), (1, 3, -2.0), (3, 0, 1.0)]> : tensor<6x8xf32> -> tensor<4x8xf32>
  func.return %y : tensor<4x8xf32>
}

// -----

// CHECK: %y = cpu.spmm "vector" {sliced = true} for "x86-avx512" %x,
func.func @main(%x: tensor<6x1xf32>) -> tensor<4x1xf32> {
  %y = cpu.spmm "vector" {sliced = true} for "x86-avx512" %x, #sparse.weight<4x6xf32, [(0, 1, 0.5)]> : tensor<6x1xf32> -> tensor<4x1xf32>
  func.return %y : tensor<4x1xf32>
}

// -----

// CHECK: kernel 'lime' is not one of line, csr, vector, dense
func.func @main(%x: tensor<6x8xf32>) -> tensor<4x8xf32> {
  %y = cpu.spmm "lime" {} for "x86-avx512" %x, #sparse.weight<4x6xf32, [(0, 1, 0.5)]> : tensor<6x8xf32> -> tensor<4x8xf32>
  func.return %y : tensor<4x8xf32>
}

// -----

// CHECK: a weight of 4x6 does not take tensor<5x8xf32> to tensor<4x8xf32>
func.func @main(%x: tensor<5x8xf32>) -> tensor<4x8xf32> {
  %y = cpu.spmm "csr" {} for "x86-avx512" %x, #sparse.weight<4x6xf32, [(0, 1, 0.5)]> : tensor<5x8xf32> -> tensor<4x8xf32>
  func.return %y : tensor<4x8xf32>
}

// -----

// CHECK: cpu.spmm "csr" {} for "x86-avx512" %x, #sparse.weight<4x6xi8, [(0, 1, 5)]> : tensor<6x8xi8> -> tensor<4x8xi32>
func.func @main(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %y = cpu.spmm "csr" {} for "x86-avx512" %x, #sparse.weight<4x6xi8, [(0, 1, 5)]> : tensor<6x8xi8> -> tensor<4x8xi32>
  func.return %y : tensor<4x8xi32>
}

// -----

// CHECK: a weight of i8 takes i8 to i32, not tensor<6x8xi8> to tensor<4x8xi8>
func.func @main(%x: tensor<6x8xi8>) -> tensor<4x8xi8> {
  %y = cpu.spmm "csr" {} for "x86-avx512" %x, #sparse.weight<4x6xi8, [(0, 1, 5)]> : tensor<6x8xi8> -> tensor<4x8xi8>
  func.return %y : tensor<4x8xi8>
}

// -----

// CHECK: the weight is of f64; CPU kernels compute f32, i8, bf16, f16
func.func @main(%x: tensor<6x8xf64>) -> tensor<4x8xf64> {
  %y = cpu.spmm "csr" {} for "x86-avx512" %x, #sparse.weight<4x6xf64, [(0, 1, 5.0)]> : tensor<6x8xf64> -> tensor<4x8xf64>
  func.return %y : tensor<4x8xf64>
}

// -----

// CHECK: cpu.kernel "model_kernel" "csr" {} for "x86-avx512" #sparse.weight<4x6xi8, [(0, 1, 5)]> title "W x"
// CHECK-SAME: {scale = #nn.tensor<[0.5], tensor<f32>>, low = 0.000000e+00 : f32, result = "i8"}
cpu.kernel "model_kernel" "csr" {} for "x86-avx512" #sparse.weight<4x6xi8, [(0, 1, 5)]> title "W x" {scale = #nn.tensor<[0.5], tensor<f32>>, low = 0.0 : f32, result = "i8"}
