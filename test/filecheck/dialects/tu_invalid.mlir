// RUN: DIAGNOSTICS

// What the parser refuses.

// CHECK: element type i7 is not one of i8, i32, f16, bf16, f32, f64
tu.constant @t : 3xi7 [1, 2, 3]

// -----

// CHECK: needed 3 elements as the type says, found 2
tu.constant @t : 3xi32 [1, 2]

// -----

// CHECK: 3000000000 is not an element of type i32
tu.constant @t : 1xi32 [3000000000]

// -----

// CHECK: only constants of i32 are written out; found elements of f32
tu.constant @t : 1xf32 [1]

// -----

// CHECK: Expected `spad`, `acc`, `l0a`, or `l0b`.
%i = "test.op"() : () -> index
%a = tu.address dram %i

// -----

// What the verifiers refuse.

func.func @f(%i: index) {
  // CHECK: @rows does not name a tu.constant
  %r = tu.lookup @rows[%i]
  func.return
}

// -----

tu.constant @weights : 2x2xi8 "00112233445566778899aabbccddeeff"
func.func @f(%i: index) {
  // CHECK: @weights holds 2x2xi8; a table holds one row of i32
  %r = tu.lookup @weights[%i]
  func.return
}

// -----

func.func @f() {
  // CHECK: @f does not name a tu.constant
  %r = tu.buffer @f : !tu.buffer<2x2xi8>
  func.return
}

// -----

tu.constant @weights : 2x2xi8 "00112233445566778899aabbccddeeff"
func.func @f() {
  // CHECK: @weights holds 2x2xi8, the buffer says 2x3xi8
  %r = tu.buffer @weights : !tu.buffer<2x3xi8>
  func.return
}

// -----

func.func @f(%x: !tu.buffer<64x32xi8>, %i: index) {
  // CHECK: operand 'b' at position 0 does not verify
  "tu.pre"(%i, %i, %i) : (index, index, index) -> ()
  func.return
}
