// RUN: DIAGNOSTICS

// What the verifiers of the host dialect refuse.

// CHECK: the host has no operator 'host_sing_f32'
func.func @f(%x: tensor<4xf32>) {
  %y = host.call "host_sing_f32"(%x) {n = 4 : i64} : (tensor<4xf32>) -> tensor<4xf32>
  func.return
}

// -----

// CHECK: host_relu_f32 takes the arguments n; found none
func.func @f(%x: tensor<4xf32>) {
  %y = host.call "host_relu_f32"(%x) {} : (tensor<4xf32>) -> tensor<4xf32>
  func.return
}

// -----

// CHECK: host_relu_f32 reads 1 arrays, found 2
func.func @f(%x: tensor<4xf32>) {
  %y = host.call "host_relu_f32"(%x, %x) {n = 4 : i64} : (tensor<4xf32>, tensor<4xf32>) -> tensor<4xf32>
  func.return
}

// -----

// CHECK: host_relu_f32: x is tensor<4xi32>; needed f32
func.func @f(%x: tensor<4xi32>) {
  %y = host.call "host_relu_f32"(%x) {n = 4 : i64} : (tensor<4xi32>) -> tensor<4xf32>
  func.return
}

// -----

// CHECK: writes into tensor<8xf32>, but the result is tensor<4xf32>
func.func @f(%x: tensor<4xf32>, %o: tensor<8xf32>) {
  %y = host.call "host_relu_f32"(%x) into %o {n = 4 : i64} : (tensor<4xf32>) into tensor<8xf32> -> tensor<4xf32>
  func.return
}

// -----

// CHECK: tensor<4xf32> and tensor<5xf32> are not the same memory
func.func @f(%x: tensor<4xf32>) {
  %y = host.view %x : tensor<4xf32> -> tensor<5xf32>
  func.return
}
