// RUN: sparsecc-opt %s -p 'convert-linalg-to-sparse{max-density=0.5}' --split-input-file --verify-diagnostics | filecheck %s

// A constant on the left: W X. What only the product needed is gone.
// CHECK-LABEL: @left
func.func @left(%x: tensor<4x3xf32>) -> tensor<2x3xf32> {
  // CHECK-NEXT: %y = sparse.spmm %x, #sparse.weight<2x4xf32, [(0, 1, 0.5)]> unit <16, 16, 16> : tensor<4x3xf32> -> tensor<2x3xf32> {
  // CHECK-NEXT:   sparse.cover { // 1 meta-op
  // CHECK-NEXT:     [0:2, 0:3] += k[0:4]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  // CHECK-NEXT: func.return %y
  %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<2x3xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<2x3xf32>) -> tensor<2x3xf32>
  %y = linalg.matmul ins(%w, %x : tensor<2x4xf32>, tensor<4x3xf32>) outs(%init : tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}

// -----

// A constant on the right: X W = (W^T X^T)^T.
// CHECK-LABEL: @right
func.func @right(%x: tensor<3x2xf32>) -> tensor<3x4xf32> {
  // CHECK-NEXT: [[E0:%\w+]] = tensor.empty() : tensor<2x3xf32>
  // CHECK-NEXT: [[XT:%\w+]] = linalg.transpose ins(%x:tensor<3x2xf32>) outs([[E0]]:tensor<2x3xf32>) permutation = [1, 0]
  // CHECK-NEXT: [[YT:%\w+]] = sparse.spmm [[XT]], #sparse.weight<4x2xf32, [(1, 0, 0.5), (3, 1, 2.0)]> unit <16, 16, 16> : tensor<2x3xf32> -> tensor<4x3xf32> {
  // CHECK-NEXT:   sparse.cover { // 1 meta-op
  // CHECK-NEXT:     [0:4, 0:3] += k[0:2]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  // CHECK-NEXT: [[E1:%\w+]] = tensor.empty() : tensor<3x4xf32>
  // CHECK-NEXT: %y = linalg.transpose ins([[YT]]:tensor<4x3xf32>) outs([[E1]]:tensor<3x4xf32>) permutation = [1, 0]
  // CHECK-NEXT: func.return %y
  %w = arith.constant dense<[[0.0, 0.5, 0.0, 0.0], [0.0, 0.0, 0.0, 2.0]]> : tensor<2x4xf32>
  %init = arith.constant dense<0.0> : tensor<3x4xf32>
  %y = linalg.matmul ins(%x, %w : tensor<3x2xf32>, tensor<2x4xf32>) outs(%init : tensor<3x4xf32>) -> tensor<3x4xf32>
  func.return %y : tensor<3x4xf32>
}

// -----

// i8 in both forms: the generic form of linalg.matmul, and linalg.quantized_matmul.
// CHECK-LABEL: @integers
func.func @integers(%x: tensor<2x3xi8>) -> (tensor<2x3xi32>, tensor<2x3xi32>) {
  // CHECK-NEXT: %a = sparse.spmm %x, #sparse.weight<2x2xi8, [(0, 1, -3)]> unit <16, 16, 16> : tensor<2x3xi8> -> tensor<2x3xi32>
  // CHECK: %b = sparse.spmm %x, #sparse.weight<2x2xi8, [(0, 1, -3)]> unit <16, 16, 16> : tensor<2x3xi8> -> tensor<2x3xi32>
  %w = sparse.constant #sparse.weight<2x2xi8, [(0, 1, -3)]> : tensor<2x2xi8>
  %init = arith.constant dense<0> : tensor<2x3xi32>
  %zero = arith.constant 0 : i32
  %a = "linalg.matmul"(%w, %x, %init) <{operandSegmentSizes = array<i32: 2, 1>}> ({
  ^bb0(%0: i8, %1: i8, %2: i32):
    %3 = arith.extsi %0 : i8 to i32
    %4 = arith.extsi %1 : i8 to i32
    %5 = arith.muli %3, %4 : i32
    %6 = arith.addi %2, %5 : i32
    linalg.yield %6 : i32
  }) : (tensor<2x2xi8>, tensor<2x3xi8>, tensor<2x3xi32>) -> tensor<2x3xi32>
  %b = linalg.quantized_matmul ins(%w, %x, %zero, %zero : tensor<2x2xi8>, tensor<2x3xi8>, i32, i32) outs(%init : tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %a, %b : tensor<2x3xi32>, tensor<2x3xi32>
}

// -----

// No constant operand.
// CHECK-LABEL: @no_constant
func.func @no_constant(%w: tensor<?x4xf32>, %x: tensor<4x3xf32>, %init: tensor<?x3xf32>) -> tensor<?x3xf32> {
  // CHECK-NEXT: %y = linalg.matmul
  %y = linalg.matmul ins(%w, %x : tensor<?x4xf32>, tensor<4x3xf32>) outs(%init : tensor<?x3xf32>) -> tensor<?x3xf32>
  func.return %y : tensor<?x3xf32>
}

// -----

// Too dense.
// CHECK-LABEL: @too_dense
func.func @too_dense(%x: tensor<1x3xf32>, %init: tensor<2x3xf32>) -> tensor<2x3xf32> {
  // CHECK: %y = linalg.matmul
  %w = arith.constant dense<1.0> : tensor<2x1xf32>
  %y = linalg.matmul ins(%w, %x : tensor<2x1xf32>, tensor<1x3xf32>) outs(%init : tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}

// -----

// CHECK: linalg.matmul %y: the initial value must be zero; fill it with 0 and add what it was to the result
func.func @init(%x: tensor<4x3xf32>, %init: tensor<2x3xf32>) -> tensor<2x3xf32> {
  %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
  %y = linalg.matmul ins(%w, %x : tensor<2x4xf32>, tensor<4x3xf32>) outs(%init : tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}

// -----

// CHECK: linalg.matmul %y: multiplies tensor<4x?xf32> into tensor<2x?xf32>; needed: static shapes
func.func @dynamic(%x: tensor<4x?xf32>, %init: tensor<2x?xf32>) -> tensor<2x?xf32> {
  %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
  %y = linalg.matmul ins(%w, %x : tensor<2x4xf32>, tensor<4x?xf32>) outs(%init : tensor<2x?xf32>) -> tensor<2x?xf32>
  func.return %y : tensor<2x?xf32>
}

// -----

// CHECK: linalg.matmul %y: has indexing maps; needed: a plain product, transpose the operands before it
func.func @maps(%x: tensor<3x4xf32>) -> tensor<2x3xf32> {
  %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 0.5)]> : tensor<2x4xf32>
  %init = arith.constant dense<0.0> : tensor<2x3xf32>
  %y = linalg.matmul {indexing_maps = [affine_map<(i, j, k) -> (i, k)>, affine_map<(i, j, k) -> (j, k)>, affine_map<(i, j, k) -> (i, j)>]} ins(%w, %x : tensor<2x4xf32>, tensor<3x4xf32>) outs(%init : tensor<2x3xf32>) -> tensor<2x3xf32>
  func.return %y : tensor<2x3xf32>
}

// -----

// CHECK: linalg.quantized_matmul %y: has zero points other than constant 0; subtract them before it
func.func @zero_points(%x: tensor<2x3xi8>) -> tensor<2x3xi32> {
  %w = sparse.constant #sparse.weight<2x2xi8, [(0, 1, -3)]> : tensor<2x2xi8>
  %init = arith.constant dense<0> : tensor<2x3xi32>
  %five = arith.constant 5 : i32
  %zero = arith.constant 0 : i32
  %y = linalg.quantized_matmul ins(%w, %x, %zero, %five : tensor<2x2xi8>, tensor<2x3xi8>, i32, i32) outs(%init : tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %y : tensor<2x3xi32>
}

// -----

// CHECK: linalg.matmul %y: multiplies i32 and i32 to i32; needed one of i8 x i8 -> i32, f16 x f16 -> f32,
func.func @element_type(%x: tensor<2x3xi32>) -> tensor<2x3xi32> {
  %w = sparse.constant #sparse.weight<2x2xi32, [(0, 1, -3)]> : tensor<2x2xi32>
  %init = arith.constant dense<0> : tensor<2x3xi32>
  %y = linalg.matmul ins(%w, %x : tensor<2x2xi32>, tensor<2x3xi32>) outs(%init : tensor<2x3xi32>) -> tensor<2x3xi32>
  func.return %y : tensor<2x3xi32>
}
