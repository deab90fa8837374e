// RUN: sparsecc-opt %s -p convert-nn-to-host{target=scalesim-ws16} | filecheck %s
// RUN: sparsecc-opt %s -p convert-nn-to-host{target=scalesim-ws16} | sparsecc-opt | filecheck %s
// RUN: sparsecc-opt %s -p convert-nn-to-host{target=ascend910} | filecheck %s --check-prefix NARROW

// Activations lie features first: only the input and the output are brought into another order.
// CHECK-LABEL: func.func @main
// CHECK-NEXT:  host.call "host_copy_4"(%x) {walk = {{.*}}} {name = "mix", reorders = "the product needs its features outermost"} : (tensor<2x4x3x3xf32>) -> tensor<4x3x3x2xf32>
// CHECK-NEXT:  host.view %{{.*}} : tensor<4x3x3x2xf32> -> tensor<4x18xf32>
// CHECK-NEXT:  func.call @layer0(%{{.*}}) {name = "mix"} : (tensor<4x18xf32>) -> tensor<2x18xf32>
// CHECK-NEXT:  host.view
// CHECK-NEXT:  host.call "host_relu_f32"(%{{.*}}) {n = 36 : i64} {name = "act"}
// CHECK-NEXT:  host.view %{{.*}} {name = "flat"} : tensor<2x3x3x2xf32> -> tensor<18x2xf32>
// CHECK-NEXT:  func.call @layer1(%{{.*}}) {name = "fc"} : (tensor<18x2xf32>) -> tensor<3x2xf32>
// CHECK-NEXT:  host.call "host_copy_4"(%{{.*}}) {{.*}}reorders = "the output is in the layout of the model"
// CHECK-NEXT:  func.return
// CHECK:       func.func private @layer0(%x: tensor<4x18xf32>) -> tensor<2x18xf32>
// CHECK-NEXT:    sparse.constant #sparse.weight<2x4xf32, [(0, 1, 5.0), (1, 3, -2.0)]>
// CHECK:         linalg.matmul
// CHECK:       func.func private @layer1
// NARROW:      host.call "host_cast_f32_f16"
// NARROW-NEXT: host.view
// NARROW-NEXT: func.call @layer0(%{{.*}}) {name = "mix"} : (tensor<4x18xf16>) -> tensor<2x18xf32>
func.func @main(%x: tensor<2x4x3x3xf32>) -> tensor<2x3xf32> attributes {input_names = ["x"], output_names = ["y"]} {
  %w = sparse.constant #sparse.weight<2x4xf32, [(0, 1, 5), (1, 3, -2)]> : tensor<2x4xf32>
  %0 = nn.conv %x, %w {name = "mix", kernel = array<i64: 1, 1>, strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>, groups = 1 : i64} : (tensor<2x4x3x3xf32>, tensor<2x4xf32>) -> tensor<2x2x3x3xf32>
  %1 = nn.relu %0 {name = "act"} : (tensor<2x2x3x3xf32>) -> tensor<2x2x3x3xf32>
  %2 = nn.reshape %1 {name = "flat", shape = array<i64: 2, 18>} : (tensor<2x2x3x3xf32>) -> tensor<2x18xf32>
  %v = sparse.constant #sparse.weight<3x18xf32, [(0, 1, 5), (2, 17, 1)]> : tensor<3x18xf32>
  %3 = nn.linear %2, %v {name = "fc"} : (tensor<2x18xf32>, tensor<3x18xf32>) -> tensor<2x3xf32>
  func.return %3 : tensor<2x3xf32>
}
