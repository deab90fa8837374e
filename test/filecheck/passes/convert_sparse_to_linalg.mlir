// RUN: sparsecc-opt %s -p 'convert-sparse-to-linalg{max-meta-ops=2}' --split-input-file --verify-diagnostics | filecheck %s

// Ranges are sliced, lists gathered; rows of the result go back run by run.
// CHECK-LABEL: @slices
func.func @slices(%x: tensor<6x3xi8>) -> tensor<6x3xi32> {
  // CHECK-NEXT: [[ZERO:%\w+]] = arith.constant 0 : i32
  // CHECK-NEXT: [[EMPTY:%\w+]] = tensor.empty() : tensor<6x3xi32>
  // CHECK-NEXT: [[C0:%\w+]] = linalg.fill ins([[ZERO]] : i32) outs([[EMPTY]] : tensor<6x3xi32>) -> tensor<6x3xi32>
  // CHECK-NEXT: [[W0:%\w+]] = arith.constant dense<{{\[\[1, 0\], \[0, 2\]\]}}> : tensor<2x2xi8>
  // CHECK-NEXT: [[X0:%\w+]] = tensor.extract_slice %x[0, 0] [2, 3] [1, 1] : tensor<6x3xi8> to tensor<2x3xi8>
  // CHECK-NEXT: [[P0:%\w+]] = tensor.extract_slice [[C0]][0, 0] [2, 3] [1, 1] : tensor<6x3xi32> to tensor<2x3xi32>
  // CHECK-NEXT: [[S0:%\w+]] = linalg.quantized_matmul ins([[W0]], [[X0]], [[ZERO]], [[ZERO]] : tensor<2x2xi8>, tensor<2x3xi8>, i32, i32) outs([[P0]] : tensor<2x3xi32>) -> tensor<2x3xi32>
  // CHECK-NEXT: [[C1:%\w+]] = tensor.insert_slice [[S0]] into [[C0]][0, 0] [2, 3] [1, 1]
  // CHECK-NEXT: [[W1:%\w+]] = arith.constant
  // CHECK-NEXT: [[KS:%\w+]] = arith.constant dense<[2, 5]> : tensor<2xindex>
  // CHECK-NEXT: [[EX:%\w+]] = tensor.empty() : tensor<2x3xi8>
  // CHECK-NEXT: [[X1:%\w+]] = linalg.generic {{.*}} ins([[KS]] : tensor<2xindex>) outs([[EX]] : tensor<2x3xi8>) {
  // CHECK-NEXT: ^{{\w+}}([[K:%\w+]]: index, {{%\w+}}: i8):
  // CHECK-NEXT:   [[N:%\w+]] = linalg.index 1 : index
  // CHECK-NEXT:   [[V:%\w+]] = tensor.extract %x{{\[}}[[K]], [[N]]{{\]}} : tensor<6x3xi8>
  // CHECK-NEXT:   linalg.yield [[V]] : i8
  // CHECK-NEXT: } -> tensor<2x3xi8>
  // CHECK:      [[S1:%\w+]] = linalg.quantized_matmul
  // CHECK-NEXT: [[T0:%\w+]] = tensor.extract_slice [[S1]][0, 0] [2, 3] [1, 1] : tensor<3x3xi32> to tensor<2x3xi32>
  // CHECK-NEXT: [[C2:%\w+]] = tensor.insert_slice [[T0]] into [[C1]][2, 0] [2, 3] [1, 1]
  // CHECK-NEXT: [[T1:%\w+]] = tensor.extract_slice [[S1]][2, 0] [1, 3] [1, 1] : tensor<3x3xi32> to tensor<1x3xi32>
  // CHECK-NEXT: %y = tensor.insert_slice [[T1]] into [[C2]][5, 0] [1, 3] [1, 1]
  // CHECK-NEXT: func.return %y
  %y = sparse.spmm %x, #sparse.weight<6x6xi8, [(0, 0, 1), (1, 1, 2), (2, 2, 3), (3, 5, 4), (5, 5, 5)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<6x3xi32> {
    sparse.group {
      [0:2, 0:3] += k[0:2]
      [(2, 3, 5), 0:3] += k[2, 5]
    }
  }
  func.return %y : tensor<6x3xi32>
}

// -----

// The dense plan is one product. Narrow floats are widened before, and the sum is rounded once.
// CHECK-LABEL: @dense
func.func @dense(%x: tensor<2x3xf16>) -> tensor<1x3xf16> {
  // CHECK:      [[C:%\w+]] = linalg.fill
  // CHECK-NEXT: [[X:%\w+]] = arith.extf %x : tensor<2x3xf16> to tensor<2x3xf32>
  // CHECK-NEXT: [[W:%\w+]] = arith.constant {{.*}} : tensor<1x2xf32>
  // CHECK-NEXT: [[S:%\w+]] = linalg.matmul ins([[W]], [[X]] : tensor<1x2xf32>, tensor<2x3xf32>) outs([[C]] : tensor<1x3xf32>) -> tensor<1x3xf32>
  // CHECK-NEXT: %y = arith.truncf [[S]] : tensor<1x3xf32> to tensor<1x3xf16>
  %y = sparse.spmm %x, #sparse.weight<1x2xf16, [(0, 1, 0.5)]> unit <2, 2, 2> plan "dense" : tensor<2x3xf16> -> tensor<1x3xf16> {
    sparse.cover {
      [0:1, 0:3] += k[0:2]
    }
  }
  func.return %y : tensor<1x3xf16>
}

// -----

// Nothing to compute: zeros. No spmm: nothing to be done.
// CHECK-LABEL: @zeros
func.func @zeros(%x: tensor<2x3xf32>) -> tensor<1x3xf32> {
  // CHECK:      %y = linalg.fill
  // CHECK-NEXT: func.return %y
  %y = sparse.spmm %x, #sparse.weight<1x2xf32, []> unit <2, 2, 2> : tensor<2x3xf32> -> tensor<1x3xf32> {
  }
  func.return %y : tensor<1x3xf32>
}

// CHECK-LABEL: @noop
func.func @noop(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // CHECK-NEXT: func.return %x
  func.return %x : tensor<2x3xf32>
}

// -----

// CHECK: sparse.spmm %y: has 3 meta-ops, more than max-meta-ops=2; lift them, raise the limit, or keep them in tables with convert-sparse-to-tu
func.func @many(%x: tensor<6x3xi8>) -> tensor<2x3xi32> {
  %y = sparse.spmm %x, #sparse.weight<2x6xi8, [(0, 0, 1), (0, 2, 1), (0, 4, 1)]> unit <2, 2, 2> : tensor<6x3xi8> -> tensor<2x3xi32> {
    sparse.cover {
      [0:2, 0:3] += k[0:2]
      [0:2, 0:3] += k[2:4]
      [0:2, 0:3] += k[4:6]
    }
  }
  func.return %y : tensor<2x3xi32>
}
