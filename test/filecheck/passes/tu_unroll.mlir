// RUN: sparsecc-opt %s --split-input-file -p tu-unroll | filecheck %s
// RUN: sparsecc-opt %s --split-input-file -p tu-unroll{limit=1} | filecheck %s --check-prefix=LIMIT

// Loops, branches, calls and tables become instructions with constant operands; what nobody uses goes.
// CHECK-NOT: tu.constant @rows
// CHECK: tu.constant @weights : 4x16xi8
// CHECK-NOT: func.func private
// CHECK: func.func @main(%x: !tu.buffer<4x4xi8>) attributes {layer = "fc1"} {
// CHECK-NOT: scf.for
// CHECK: %w = tu.buffer @weights
// CHECK-NEXT: tu.ld %{{.*}} step %c0, %w[%c0] stride %c16 rows %c3 cols %c16 comment "weights" : !tu.buffer<4x16xi8>
// CHECK-NEXT: %{{.*}} = tu.address acc %c1
// CHECK-NEXT: tu.fill %{{.*}} rows %c1 value %c0
// CHECK: tu.ld %{{.*}} step %c0, %w[%c0] stride %c16 rows %c1 cols %c16 comment "weights" : !tu.buffer<4x16xi8>
// CHECK-NEXT: func.return
// LIMIT: tu.constant @rows : 2xi32 [3, 1]
// LIMIT: func.func private @fetch
// LIMIT: scf.for
tu.constant @rows : 2xi32 [3, 1]
tu.constant @weights : 4x16xi8 "00112233445566778899aabbccddeeff"
func.func private @fetch(%w: !tu.buffer<4x16xi8>, %s: index) {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c16 = arith.constant 16 : index
  %rows = tu.lookup @rows[%s]
  %0 = tu.address spad %s
  tu.ld %0 step %c0, %w[%c0] stride %c16 rows %rows cols %c16 comment "weights" : !tu.buffer<4x16xi8>
  %first = arith.cmpi slt, %s, %c1 : index
  scf.if %first {
    %1 = tu.address acc %c1
    tu.fill %1 rows %c1 value %c0
  }
  func.return
}
func.func @main(%x: !tu.buffer<4x4xi8>) attributes {layer = "fc1"} {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %c2 = arith.constant 2 : index
  %w = tu.buffer @weights : !tu.buffer<4x16xi8>
  scf.for %s = %c0 to %c2 step %c1 {
    func.call @fetch(%w, %s) : (!tu.buffer<4x16xi8>, index) -> ()
  }
  func.return
}

// -----

// Of two functions only the small one is written out; the other keeps what it uses.
// CHECK: tu.constant @rows : 1xi32 [300]
// CHECK: func.func private @wait
// CHECK: func.func @large
// CHECK: tu.lookup @rows
// CHECK: func.call @wait
// CHECK: func.func @small
// CHECK-NEXT: tu.fence
// CHECK-NEXT: func.return
tu.constant @rows : 1xi32 [300]
func.func private @wait() {
  tu.fence
  func.return
}
func.func @large() {
  %c0 = arith.constant 0 : index
  %c1 = arith.constant 1 : index
  %end = tu.lookup @rows[%c0]
  scf.for %s = %c0 to %end step %c1 {
    func.call @wait() : () -> ()
  }
  func.return
}
func.func @small() {
  func.call @wait() : () -> ()
  func.return
}
