// RUN: sparsecc-opt %s --split-input-file -p xbar-fit-adc --verify-diagnostics | filecheck %s
// RUN: sparsecc-opt %s --split-input-file -p xbar-schedule --verify-diagnostics | filecheck %s --check-prefix=SCHEDULE
// RUN: sparsecc-opt %s --split-input-file -p convert-sparse-to-xbar{target=gemmini16} --verify-diagnostics | filecheck %s --check-prefix=TARGET

// CHECK: xbar.spmm %y: its tiles are blocks of weights; xbar-fit-adc needs bit slices; run xbar-slice-bits before
// SCHEDULE: xbar.spmm %y: its tiles have no places; run xbar-slice-bits and xbar-place before
// TARGET: target gemmini16 has no crossbars; name one of family 'crossbar', such as isaac128
func.func @main(%x: tensor<1x8xi8>) -> tensor<1x8xi32> {
  %y = xbar.spmm %x, #sparse.weight<1x1xi8, [(0, 0, 3)]> on "re2pim" array <128, 128> : tensor<1x8xi8> -> tensor<1x8xi32> {
    block 0 : [0] += k[0] levels [3]
  }
  func.return %y : tensor<1x8xi32>
}
