// RUN: DIAGNOSTICS

// CHECK: the mask is 2x4, A 2x3, B 5x4, the result 2x4; needed: A 2xK, B Kx4 and result 2x4
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<5x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<2x3xi8>, tensor<5x4xi8> -> tensor<2x4xi32> { }

// -----

// CHECK: A holds i8, B f32; they must agree
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xf32>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xf32> -> tensor<2x4xi32> { }

// -----

// CHECK: the mask holds something other than the i8 number 1; needed: 1 at each point to compute
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 2)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> { }

// -----

// CHECK: the mask holds something other than the i8 number 1; needed: 1 at each point to compute
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi32, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> { }

// -----

// CHECK: A holds i8, the result i8; needed: result i32
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi8> { }

// -----

// Law 1 on the plane of the mask, and all of k.
// CHECK: meta-op 0 has 0:2 of k; a meta-op of an SDDMM needs all of 0:3
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 0:4] += k[0:2]
  }
}

// -----

// CHECK: meta-op 0 has a list of k; a meta-op of an SDDMM needs all of 0:3
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 0:4] += k[0, 1, 2]
  }
}

// -----

// CHECK: meta-op 0 has column 4, outside 0..3
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 2:6] += k[0:3]
  }
}

// -----

// CHECK: no meta-op holds the nonzero at row 0, column 1
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1), (0, 2, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 2:4] += k[0:3]
  }
}

// -----

// CHECK: meta-ops 0 and 1 both hold point (row 0, column 1)
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1), (0, 2, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 0:2] += k[0:3]
    [0:2, 1:4] += k[0:3]
  }
}

// -----

// CHECK: meta-op 1 owns no nonzero
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 0:2] += k[0:3]
    [0:2, 2:4] += k[0:3]
  }
}

// -----

// CHECK: meta-op 0 has columns 1:2, not aligned to the unit's 2 (edge at 4)
%a, %b = "test.op"() : () -> (tensor<2x3xi8>, tensor<3x4xi8>)
%c = sparse.sddmm %a, %b, #sparse.weight<2x4xi8, [(0, 1, 1)]> unit <2, 2, 2> : tensor<2x3xi8>, tensor<3x4xi8> -> tensor<2x4xi32> {
  sparse.cover {
    [0:2, 1:2] += k[0:3]
  }
}

// -----

// Law 2: one group, one writer for each output.
// CHECK: meta-ops 0 [0:2, 0:3] += k[0:3] and 1 [1:3, 2:4] += k[0:3] of one group both write row 1; put them into different groups
sparse.group {
  [0:2, 0:3] += k[0:3]
  [1:3, 2:4] += k[0:3]
}
