// RUN: ROUNDTRIP
// RUN: sparsecc-opt %s --split-input-file | filecheck %s

// Tables and buffers: small tables of i32 are written out, everything else is a digest.
// CHECK: tu.constant @steps : 3xi32 [16, 16, -9]
// CHECK-NEXT: tu.constant @none : 0xi32 []
// CHECK-NEXT: tu.constant @square : 2x2xi32 [1, 2, 3, 4]
// CHECK-NEXT: tu.constant @weights : 41x16xi8 "00112233445566778899aabbccddeeff"
tu.constant @steps : 3xi32 [16, 16, -9]
tu.constant @none : 0xi32 []
tu.constant @square : 2x2xi32 [1, 2, 3, 4]
tu.constant @weights : 41x16xi8 "00112233445566778899aabbccddeeff"

// CHECK-LABEL: @tables
func.func @tables(%i: index) -> (index, !tu.buffer<41x16xi8>) {
  // CHECK-NEXT: %rows = tu.lookup @steps[%i]
  // CHECK-NEXT: %w = tu.buffer @weights : !tu.buffer<41x16xi8>
  %rows = tu.lookup @steps[%i]
  %w = tu.buffer @weights : !tu.buffer<41x16xi8>
  func.return %rows, %w : index, !tu.buffer<41x16xi8>
}

// -----

// Every instruction, with a comment and without.
// CHECK-LABEL: @instructions
func.func @instructions(%x: !tu.buffer<64x32xi8>, %y: !tu.buffer<48x32xi32>, %g: !tu.buffer<9xi32>, %i: index) {
  // CHECK-NEXT: %s = tu.address spad %i
  // CHECK-NEXT: %c = tu.address acc %i
  // CHECK-NEXT: %a = tu.address l0a %i
  // CHECK-NEXT: %b = tu.address l0b %i
  %s = tu.address spad %i
  %c = tu.address acc %i
  %a = tu.address l0a %i
  %b = tu.address l0b %i
  // CHECK-NEXT: tu.ld %s step %i, %x[%i] stride %i rows %i cols %i : !tu.buffer<64x32xi8>
  // CHECK-NEXT: tu.ld %s step %i, %x[%i] stride %i rows %i cols %i comment "rows of X" : !tu.buffer<64x32xi8>
  // CHECK-NEXT: tu.ldg %s step %i, %x[%i] stride %i by %g[%i] rows %i cols %i comment "gathered" : !tu.buffer<64x32xi8>, !tu.buffer<9xi32>
  // CHECK-NEXT: tu.st %y[%i] stride %i, %c step %i rows %i cols %i output %i : !tu.buffer<48x32xi32>
  // CHECK-NEXT: tu.sts %y[%i] stride %i by %g[%i], %c step %i rows %i cols %i output %i add %i : !tu.buffer<48x32xi32>, !tu.buffer<9xi32>
  tu.ld %s step %i, %x[%i] stride %i rows %i cols %i : !tu.buffer<64x32xi8>
  tu.ld %s step %i, %x[%i] stride %i rows %i cols %i comment "rows of X" : !tu.buffer<64x32xi8>
  tu.ldg %s step %i, %x[%i] stride %i by %g[%i] rows %i cols %i comment "gathered" : !tu.buffer<64x32xi8>, !tu.buffer<9xi32>
  tu.st %y[%i] stride %i, %c step %i rows %i cols %i output %i : !tu.buffer<48x32xi32>
  tu.sts %y[%i] stride %i by %g[%i], %c step %i rows %i cols %i output %i add %i : !tu.buffer<48x32xi32>, !tu.buffer<9xi32>
  // CHECK-NEXT: tu.mv %a step %i, %s step %i rows %i blocks %i comment "weights"
  // CHECK-NEXT: tu.fill %c rows %i value %i
  // CHECK-NEXT: tu.pre %s rows %i cols %i
  // CHECK-NEXT: tu.mm %c, %s rows %i accumulate %i {pipelined}
  // CHECK-NEXT: tu.mma %c step %i, %a step %i, %b step %i m %i n %i k %i accumulate %i
  // CHECK-NEXT: tu.spmma %c step %i, %a by %a, %b step %i m %i n %i k %i keep %i of %i accumulate %i
  // CHECK-NEXT: tu.fence
  // CHECK-NEXT: tu.fence comment "wait"
  tu.mv %a step %i, %s step %i rows %i blocks %i comment "weights"
  tu.fill %c rows %i value %i
  tu.pre %s rows %i cols %i
  tu.mm %c, %s rows %i accumulate %i {pipelined}
  tu.mma %c step %i, %a step %i, %b step %i m %i n %i k %i accumulate %i
  tu.spmma %c step %i, %a by %a, %b step %i m %i n %i k %i keep %i of %i accumulate %i
  tu.fence
  tu.fence comment "wait"
  func.return
}

// -----

// The generic form, too, is text of the dialect.
// CHECK: tu.constant @pair : 2xi32 "00000000000000000000000000000000"
"tu.constant"() <{sym_name = "pair", type = !tu.buffer<2xi32>, data = #tu.data<"00000000000000000000000000000000">}> : () -> ()
