// RUN: DIAGNOSTICS

// What the parser refuses.

// CHECK: a weight has 2 dimensions (rows, columns), found 3
%w = sparse.constant #sparse.weight<2x4x4xi8, []> : tensor<2x4x4xi8>

// -----

// CHECK: entry (2, 1) is outside the 2x4 weight
%w = sparse.constant #sparse.weight<2x4xi8, [(2, 1, 5)]> : tensor<2x4xi8>

// -----

// CHECK: entry (1, 1) is zero; leave it out
%w = sparse.constant #sparse.weight<2x4xi8, [(1, 1, 0)]> : tensor<2x4xi8>

// -----

// CHECK: an entry stands twice
%w = sparse.constant #sparse.weight<2x4xi8, [(1, 1, 5), (1, 1, 6)]> : tensor<2x4xi8>

// -----

// CHECK: element type i7 is not one of i8, i32, f16, bf16, f32, f64
%w = sparse.constant #sparse.weight<2x4xi7, [(1, 1, 5)]> : tensor<2x4xi7>

// -----

// CHECK: entry (1, 1) is 300, which i8 does not hold
%w = sparse.constant #sparse.weight<2x4xi8, [(1, 1, 300)]> : tensor<2x4xi8>

// -----

// CHECK: a unit has 3 extents (m, n, k), found 2
"test.op"() {unit = #sparse.unit<16, 16>} : () -> ()

// -----

// CHECK: unit (16, 0, 16) needs positive extents
"test.op"() {unit = #sparse.unit<16, 0, 16>} : () -> ()

// -----

// CHECK: range 4:4 is empty
"test.op"() {metaops = #sparse.metaops<[4:4, 0:3] += k[0:4]>} : () -> ()

// -----

// CHECK: positions must be a range first:end
"test.op"() {metaops = #sparse.metaops<[0:4, 3] += k[0:4]>} : () -> ()

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: expected a #sparse.weight attribute
%y = sparse.spmm %x, 5 unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> { }

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: expected a tensor type
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> i32 { }

// -----

// What the verifiers refuse.

// CHECK: the weight is tensor<2x4xi8>, the result tensor<2x5xi8>
%w = sparse.constant #sparse.weight<2x4xi8, [(1, 1, 5)]> : tensor<2x5xi8>

// -----

%x = "test.op"() : () -> tensor<5x3xi8>
// CHECK: W is 2x4, X 5x3, the result 2x3; needed: X 4xN and result 2xN
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<5x3xi8> -> tensor<2x3xi32> { }

// -----

%x = "test.op"() : () -> tensor<4x3xf32>
// CHECK: W holds i8, X f32; they must agree
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xf32> -> tensor<2x3xi32> { }

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: X holds i8, the result i8; needed: result i32
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi8> { }

// -----

%x = "test.op"() : () -> tensor<4x3xi32>
// CHECK: X holds i32, the result i32; needed: X of i8, f16, bf16, f32, f64
%y = sparse.spmm %x, #sparse.weight<2x4xi32, []> unit <2, 2, 2> : tensor<4x3xi32> -> tensor<2x3xi32> { }

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: plan 'maybe' is not one of dense, sparse
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> plan "maybe" : tensor<4x3xi8> -> tensor<2x3xi32> { }

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: the body holds test.op; only sparse.cover and sparse.group may stand there
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  "test.op"() : () -> ()
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: the body mixes sparse.cover and sparse.group, or has several covers; needed: one cover, or groups
%y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 0, 1), (1, 3, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[0:2]
  }
  sparse.group {
    [0:2, 0:3] += k[2:4]
  }
}

// -----

// Law 2: one group, one writer for each output.
// CHECK: meta-ops 0 [0:2, 0:3] += k[0:2] and 1 [(1), 0:3] += k[3] of one group both write row 1; put them into different groups
sparse.group {
  [0:2, 0:3] += k[0:2]
  [(1), 0:3] += k[3]
}

// -----

// Law 1: an exact cover.
%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 0 has row 2, outside 0..1
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:4, 0:3] += k[0:4]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 0 has column 4, outside 0..3
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[1, 4]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 0 lists column 1 twice
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[1, 2, 1]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 0 has positions 0:2; a meta-op of an SpMM needs all of 0:3
%y = sparse.spmm %x, #sparse.weight<2x4xi8, []> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:2] += k[0:4]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-ops 0 and 1 both hold point (row 0, column 2)
%y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 0, 1), (1, 2, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[0:4]
    [0:2, 0:3] += k[2, 3]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: no meta-op holds the nonzero at row 1, column 2
%y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 0, 1), (1, 2, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[0:2]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 1 owns no nonzero
%y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 0, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[0:2]
    [0:2, 0:3] += k[2:4]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 0 has columns 0:3, not aligned to the unit's 2 (edge at 4)
%y = sparse.spmm %x, #sparse.weight<2x4xi8, [(0, 0, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [0:2, 0:3] += k[0:3]
  }
}

// -----

%x = "test.op"() : () -> tensor<4x3xi8>
// CHECK: meta-op 0 has rows 1:2, not aligned to the unit's 2 (edge at 2)
%y = sparse.spmm %x, #sparse.weight<2x4xi8, [(1, 0, 1)]> unit <2, 2, 2> : tensor<4x3xi8> -> tensor<2x3xi32> {
  sparse.cover {
    [1:2, 0:3] += k[0:2]
  }
}
