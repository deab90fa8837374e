// RUN: sparsecc-opt %s -p convert-linalg-to-sddmm --split-input-file --verify-diagnostics | filecheck %s

// linalg.mul with a mask, which may stand on either side. What only the product needed is gone.
// CHECK-LABEL: @mul
func.func @mul(%a: tensor<2x3xf32>, %b: tensor<3x4xf32>) -> tensor<2x4xf32> {
  // CHECK-NEXT: %c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1), (1, 3, 1)]> unit <16, 16, 16> : tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32> {
  // CHECK-NEXT:   sparse.cover { // 1 meta-op
  // CHECK-NEXT:     [0:2, 0:4] += k[0:3]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  // CHECK-NEXT: func.return %c
  %mask = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 1.0), (1, 3, 1.0)]> : tensor<2x4xf32>
  %init = arith.constant dense<0.0> : tensor<2x4xf32>
  %empty = tensor.empty() : tensor<2x4xf32>
  %p = linalg.matmul ins(%a, %b : tensor<2x3xf32>, tensor<3x4xf32>) outs(%init : tensor<2x4xf32>) -> tensor<2x4xf32>
  %c = linalg.mul ins(%mask, %p : tensor<2x4xf32>, tensor<2x4xf32>) outs(%empty : tensor<2x4xf32>) -> tensor<2x4xf32>
  func.return %c : tensor<2x4xf32>
}

// -----

// arith on tensors; all points kept.
// CHECK-LABEL: @arith
func.func @arith(%a: tensor<1x3xi8>, %b: tensor<3x2xi8>) -> tensor<1x2xi32> {
  // CHECK-NEXT: %c = sparse.sddmm %a, %b, #sparse.weight<1x2xi8, [(0, 0, 1), (0, 1, 1)]> unit <16, 16, 16> : tensor<1x3xi8>, tensor<3x2xi8> -> tensor<1x2xi32> {
  %mask = arith.constant dense<1> : tensor<1x2xi32>
  %init = arith.constant dense<0> : tensor<1x2xi32>
  %zero = arith.constant 0 : i32
  %p = linalg.quantized_matmul ins(%a, %b, %zero, %zero : tensor<1x3xi8>, tensor<3x2xi8>, i32, i32) outs(%init : tensor<1x2xi32>) -> tensor<1x2xi32>
  %c = arith.muli %p, %mask : tensor<1x2xi32>
  func.return %c : tensor<1x2xi32>
}

// -----

// A generic operation, as torch-mlir writes it.
// CHECK-LABEL: @generic
func.func @generic(%a: tensor<2x3xf32>, %b: tensor<3x2xf32>) -> tensor<2x2xf32> {
  // CHECK-NEXT: %c = sparse.sddmm %a, %b, #sparse.weight<2x2xi8, [(0, 1, 1)]> unit <16, 16, 16> : tensor<2x3xf32>, tensor<3x2xf32> -> tensor<2x2xf32> {
  %mask = arith.constant dense<[[0.0, 1.0], [0.0, 0.0]]> : tensor<2x2xf32>
  %init = arith.constant dense<0.0> : tensor<2x2xf32>
  %empty = tensor.empty() : tensor<2x2xf32>
  %p = linalg.matmul ins(%a, %b : tensor<2x3xf32>, tensor<3x2xf32>) outs(%init : tensor<2x2xf32>) -> tensor<2x2xf32>
  %c = linalg.generic {indexing_maps = [affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>, affine_map<(i, j) -> (i, j)>], iterator_types = ["parallel", "parallel"]} ins(%p, %mask : tensor<2x2xf32>, tensor<2x2xf32>) outs(%empty : tensor<2x2xf32>) {
  ^bb0(%x: f32, %y: f32, %z: f32):
    %w = arith.mulf %x, %y : f32
    linalg.yield %w : f32
  } -> tensor<2x2xf32>
  func.return %c : tensor<2x2xf32>
}

// -----

// Left alone: a scale, a product that something else uses, a product with a constant.
// CHECK-LABEL: @others
// CHECK-NOT: sparse.sddmm
func.func @others(%a: tensor<2x2xf32>, %b: tensor<2x2xf32>) -> (tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>) {
  %scale = arith.constant dense<0.125> : tensor<2x2xf32>
  %mask = arith.constant dense<[[0.0, 1.0], [0.0, 0.0]]> : tensor<2x2xf32>
  %init = arith.constant dense<0.0> : tensor<2x2xf32>
  %p = linalg.matmul ins(%a, %b : tensor<2x2xf32>, tensor<2x2xf32>) outs(%init : tensor<2x2xf32>) -> tensor<2x2xf32>
  %c = arith.mulf %p, %scale : tensor<2x2xf32>
  %q = linalg.matmul ins(%a, %b : tensor<2x2xf32>, tensor<2x2xf32>) outs(%init : tensor<2x2xf32>) -> tensor<2x2xf32>
  %d = arith.mulf %q, %mask : tensor<2x2xf32>
  %r = linalg.matmul ins(%scale, %b : tensor<2x2xf32>, tensor<2x2xf32>) outs(%init : tensor<2x2xf32>) -> tensor<2x2xf32>
  %e = arith.mulf %r, %mask : tensor<2x2xf32>
  func.return %c, %q, %d, %e : tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>, tensor<2x2xf32>
}

// -----

// CHECK: arith.mulf %c: multiplies by 2.5 at row 0, column 1; needed: a mask of 0 and 1, multiply by other numbers after it
func.func @not_a_mask(%a: tensor<2x2xf32>, %b: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %mask = arith.constant dense<[[0.0, 2.5], [1.0, 0.0]]> : tensor<2x2xf32>
  %init = arith.constant dense<0.0> : tensor<2x2xf32>
  %p = linalg.matmul ins(%a, %b : tensor<2x2xf32>, tensor<2x2xf32>) outs(%init : tensor<2x2xf32>) -> tensor<2x2xf32>
  %c = arith.mulf %p, %mask : tensor<2x2xf32>
  func.return %c : tensor<2x2xf32>
}

// -----

// CHECK: linalg.matmul %p: the initial value must be zero; fill it with 0 and add what it was to the result
func.func @init(%a: tensor<2x2xf32>, %b: tensor<2x2xf32>, %init: tensor<2x2xf32>) -> tensor<2x2xf32> {
  %mask = arith.constant dense<[[0.0, 1.0], [1.0, 0.0]]> : tensor<2x2xf32>
  %p = linalg.matmul ins(%a, %b : tensor<2x2xf32>, tensor<2x2xf32>) outs(%init : tensor<2x2xf32>) -> tensor<2x2xf32>
  %c = arith.mulf %p, %mask : tensor<2x2xf32>
  func.return %c : tensor<2x2xf32>
}
