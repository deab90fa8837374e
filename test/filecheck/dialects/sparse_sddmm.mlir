// RUN: ROUNDTRIP
// RUN: sparsecc-opt %s --split-input-file | filecheck %s

// As recognised: one meta-op is the whole computing space.
// CHECK-LABEL: @whole
func.func @whole(%a: tensor<2x3xf32>, %b: tensor<3x4xf32>) -> tensor<2x4xf32> {
  // CHECK-NEXT: %c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32> {
  // CHECK-NEXT:   sparse.cover { // 1 meta-op
  // CHECK-NEXT:     [0:2, 0:4] += k[0:3]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  %c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xf32>, tensor<3x4xf32> -> tensor<2x4xf32> {
    sparse.cover {
      [0:2, 0:4] += k[0:3]
    }
  }
  func.return %c : tensor<2x4xf32>
}

// -----

// A group of meta-ops on the same rows: their positions differ. A plan, attributes, rows in a list.
// CHECK-LABEL: @group
func.func @group(%a: tensor<4x3xi8>, %b: tensor<3x4xi8>) -> tensor<4x4xi32> {
  // CHECK-NEXT: %c = sparse.sddmm %a, %b, #sparse.weight<4x4xi8, [(0, 0, 1), (1, 3, 1), (2, 1, 1)]> unit <2, 2, 2> plan "sparse" reason "few" attributes {head = 1 : i64} : tensor<4x3xi8>, tensor<3x4xi8> -> tensor<4x4xi32> {
  // CHECK-NEXT:   sparse.group { // 3 meta-ops
  // CHECK-NEXT:     [0:2, 0:2] += k[0:3]
  // CHECK-NEXT:     [0:2, 2:4] += k[0:3]
  // CHECK-NEXT:     [(2), 0:2] += k[0:3]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  %c = sparse.sddmm %a, %b, #sparse.weight<4x4xi8, [(0, 0, 1), (1, 3, 1), (2, 1, 1)]> unit <2, 2, 2> plan "sparse" reason "few" attributes {head = 1} : tensor<4x3xi8>, tensor<3x4xi8> -> tensor<4x4xi32> {
    sparse.group {
      [0:2, 0:2] += k[0:3]
      [0:2, 2:4] += k[0:3]
      [(2), 0:2] += k[0:3]
    }
  }
  func.return %c : tensor<4x4xi32>
}

// -----

// An empty mask: nothing to compute.
// CHECK-LABEL: @nothing
func.func @nothing(%a: tensor<2x3xf16>, %b: tensor<3x4xf16>) {
  // CHECK-NEXT: %c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<2x3xf16>, tensor<3x4xf16> -> tensor<2x4xf32> {
  // CHECK-NEXT: }
  %c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<2x3xf16>, tensor<3x4xf16> -> tensor<2x4xf32> {
  }
  func.return
}
