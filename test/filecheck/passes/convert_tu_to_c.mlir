// RUN: sparsecc-opt %s --split-input-file -p convert-tu-to-c --verify-diagnostics | filecheck %s

// Instructions become checked calls, tables memory, addresses macros; every function gets the machine.
// CHECK: tu.constant @rows : 2xi32 [3, 1]
// CHECK: func.func private @fetch(%m: !emitc.ptr<!emitc.opaque<"ax_machine">>, %w: i32, %s: index) -> i32 {
// CHECK: memref.get_global @rows : memref<2xi32>
// CHECK-NEXT: memref.load
// CHECK-NEXT: %rows{{.*}} = arith.index_cast
// CHECK-NEXT: %{{.*}} = emitc.call_opaque "AX_SPAD"(%s) : (index) -> !emitc.opaque<"uint32_t">
// CHECK-NEXT: %{{.*}} = emitc.call_opaque "ax_ld"(%m, %{{.*}}, %c0, %w, %c0, %c16, %rows{{.*}}, %c16)
// CHECK-NEXT: emitc.call_opaque "AX"(%{{.*}}) {comment = "weights"} : (i32) -> ()
// CHECK-NEXT: %{{.*}} = arith.constant 0 : i32
// CHECK-NEXT: func.return %{{.*}} : i32
// CHECK: func.func @model_infer(%m: !emitc.ptr<!emitc.opaque<"ax_machine">>, %x: i32) -> i32 {
// CHECK: emitc.call_opaque "ax_buffer"(%m) {args = [0 : index, "weights", #emitc.opaque<"(void *)(uintptr_t)weights">, 64 : i32, #emitc.opaque<"AX_I8">]}
// CHECK: scf.for
// CHECK-NEXT: func.call @fetch(%m, %w, %s)
// CHECK-NEXT: emitc.call_opaque "AX"
tu.constant @rows : 2xi32 [3, 1]
tu.constant @weights : 4x16xi8 "00112233445566778899aabbccddeeff"
func.func private @fetch(%w: !tu.buffer<4x16xi8>, %s: index) {
  %c0 = arith.constant 0 : index
  %c16 = arith.constant 16 : index
  %rows = tu.lookup @rows[%s]
  %0 = tu.address spad %s
  tu.ld %0 step %c0, %w[%c0] stride %c16 rows %rows cols %c16 comment "weights" : !tu.buffer<4x16xi8>
  func.return
}
func.func @main(%x: !tu.buffer<4x4xi8>) {
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

// Nothing to convert.
// CHECK: tu.constant @alone : 1xi32 [7]
// CHECK-NOT: emitc
tu.constant @alone : 1xi32 [7]

// -----

// CHECK: tensor.empty %t: has no form in C; lower it to tu, func, scf or arith first
func.func @main() {
  %t = tensor.empty() : tensor<2xf32>
  func.return
}
