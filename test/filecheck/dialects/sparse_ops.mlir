// RUN: ROUNDTRIP
// RUN: sparsecc-opt %s --split-input-file | filecheck %s

// A constant, small enough to be written out.
// CHECK-LABEL: @constant
func.func @constant() -> tensor<2x4xi8> {
  // CHECK-NEXT: %w = sparse.constant #sparse.weight<2x4xi8, [(0, 1, 5), (1, 3, -2)]> : tensor<2x4xi8>
  %w = sparse.constant #sparse.weight<2x4xi8, [(1, 3, -2), (0, 1, 5)]> : tensor<2x4xi8>
  func.return %w : tensor<2x4xi8>
}

// -----

// An operator as recognised: one meta-op is the whole computing space.
// CHECK-LABEL: @whole
func.func @whole(%x: tensor<4x3xf32>) -> tensor<2x3xf32> {
  // CHECK-NEXT: %y = sparse.spmm %x, #sparse.weight<2x4xf32, [(0, 1, 0.5)]> unit <2, 2, 2> : tensor<4x3xf32> -> tensor<2x3xf32> {
  // CHECK-NEXT:   sparse.cover { // 1 meta-op
  // CHECK-NEXT:     [0:2, 0:3] += k[0:4]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  %y = sparse.spmm %x, #sparse.weight<2x4xf32, [(0, 1, 0.5)]> unit <2, 2, 2> : tensor<4x3xf32> -> tensor<2x3xf32> {
    sparse.cover {
      [0:2, 0:3] += k[0:4]
    }
  }
  func.return %y : tensor<2x3xf32>
}

// -----

// Groups, gather maps on both axes, a plan with its reason, attributes.
// CHECK-LABEL: @groups
func.func @groups(%x: tensor<8x3xi8>) -> tensor<8x3xi32> {
  // CHECK-NEXT: %y = sparse.spmm %x, #sparse.weight<8x8xi8, [(0, 1, 5), (0, 6, 1), (1, 6, -2), (5, 3, 7), (7, 0, 1)]> unit <4, 4, 4> plan "sparse" reason "2.5 times \22faster\22" attributes {layer = "fc1"} : tensor<8x3xi8> -> tensor<8x3xi32> {
  // CHECK-NEXT:   sparse.group { // 2 meta-ops
  // CHECK-NEXT:     [0:4, 0:3] += k[0:4]
  // CHECK-NEXT:     [(5, 7), 0:3] += k[0, 3]
  // CHECK-NEXT:   } {balanced}
  // CHECK-NEXT:   sparse.group { // 1 meta-op
  // CHECK-NEXT:     [(0, 1), 0:3] += k[6]
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  %y = sparse.spmm %x, #sparse.weight<8x8xi8, [(0, 1, 5), (0, 6, 1), (1, 6, -2), (5, 3, 7), (7, 0, 1)]> unit <4, 4, 4> plan "sparse" reason "2.5 times \"faster\"" attributes {layer = "fc1"} : tensor<8x3xi8> -> tensor<8x3xi32> {
    sparse.group {
      [0:4, 0:3] += k[0:4]
      [(5, 7), 0:3] += k[0, 3]
    } {balanced}
    sparse.group {
      [(0, 1), 0:3] += k[6]
    }
  }
  func.return %y : tensor<8x3xi32>
}

// -----

// Nothing to compute: a cover without meta-ops, and a sequence without groups.
// CHECK-LABEL: @nothing
func.func @nothing(%x: tensor<4x3xf16>) {
  // CHECK-NEXT: %y = sparse.spmm %x, #sparse.weight<2x4xf16, []> unit <2, 2, 2> : tensor<4x3xf16> -> tensor<2x3xf32> {
  // CHECK-NEXT:   sparse.cover { // 0 meta-ops
  // CHECK-NEXT:   }
  // CHECK-NEXT: }
  %y = sparse.spmm %x, #sparse.weight<2x4xf16, []> unit <2, 2, 2> : tensor<4x3xf16> -> tensor<2x3xf32> {
    sparse.cover { }
  }
  // CHECK-NEXT: %z = sparse.spmm %x, #sparse.weight<2x4xf16, []> unit <2, 2, 2> : tensor<4x3xf16> -> tensor<2x3xf16> {
  // CHECK-NEXT: }
  %z = sparse.spmm %x, #sparse.weight<2x4xf16, []> unit <2, 2, 2> : tensor<4x3xf16> -> tensor<2x3xf16> {
  }
  func.return
}

// -----

// The dense plan needs no alignment and may hold zeros only.
// CHECK-LABEL: @dense
func.func @dense(%x: tensor<5x3xi8>) -> tensor<3x3xi32> {
  // CHECK-NEXT: %y = sparse.spmm %x, #sparse.weight<3x5xi8, []> unit <2, 2, 2> plan "dense" : tensor<5x3xi8> -> tensor<3x3xi32> {
  // CHECK-NEXT:   sparse.group { // 1 meta-op
  // CHECK-NEXT:     [0:3, 0:3] += k[0:5]
  %y = sparse.spmm %x, #sparse.weight<3x5xi8, []> unit <2, 2, 2> plan "dense" : tensor<5x3xi8> -> tensor<3x3xi32> {
    sparse.group {
      [0:3, 0:3] += k[0:5]
    }
  }
  func.return %y : tensor<3x3xi32>
}
