// RUN: DIAGNOSTICS

// CHECK: the tiles do not hold the weight at row 2, column 5 as it is
func.func @missing(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 5), (2, 5, -3)]> on "sme128" array <128, 128> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[1] levels [5]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: tile 0 is 3 x 1; an array is 2 x 2
func.func @large(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 5)]> on "sme128" array <2, 2> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[0:3] levels [0, 5, 0]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: tiles 0 and 1 both use cells of array 3
func.func @overlap(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1), (1, 1, 1)]> on "sme128" array <2, 2> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 at 3[0, 0] : [0] += k[1] levels [1]
    block 1 slice 0 at 3[0, 0] : [1] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: tile 1 uses the cells of 1, which has none of its own
func.func @image(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1), (1, 1, 1)]> on "sme128" array <2, 2> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 : [0] += k[1] levels [1]
    block 1 slice 0 as 1 : [1] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: tile 0 has an output outside 0..3
func.func @outside(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, []> on "sme128" array <2, 2> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [4] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: W is 4x6xi8, X tensor<6x8xi8>, the result tensor<4x8xf32>; needed: W 4x6xi8, X 6xNxi8 and result 4xNxi32
func.func @types(%x: tensor<6x8xi8>) -> tensor<4x8xf32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, []> on "sme128" array <2, 2> : tensor<6x8xi8> -> tensor<4x8xf32> { }
  func.return %a : tensor<4x8xf32>
}

// -----

// CHECK: a tile of 2 inputs and 1 outputs has 2 levels of int8, found 1
func.func @levels(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, []> on "sme128" array <2, 2> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[1:3] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: tile 0 takes word lines 32:33 and bit lines 0:1 of array 1, which has 32 x 32
func.func @outside(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "re2pim" array <64, 64> as 1 of <64, 64>, 2 of <32, 32> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 at 1[32, 0] : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: 2 arrays are 128 x 32; none may be larger than 64 x 64
func.func @larger(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "re2pim" array <64, 64> as 2 of <128, 32> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 at 1[31, 31] : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: a tile lies in array 3; there are 3
func.func @beyond(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "re2pim" array <64, 64> as 1 of <64, 64>, 2 of <32, 32> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 at 3[0, 0] : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: arrays of several shapes are listed as (arrays, word lines, bit lines), all at least 1
func.func @none(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "re2pim" array <64, 64> as 0 of <64, 64> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 at 1[31, 31] : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: arrays have several shapes, and tiles no places; xbar-place gives both
func.func @unplaced(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "re2pim" array <64, 64> as 1 of <64, 64> : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 slice 0 adc 2 : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: the quantization has 3 scales of weights; the product has 4 rows
func.func @few_scales(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "isaac128" array <64, 64> attributes {sparse.quantization = #sparse.quantization<weights #nn.tensor<[0.5, 0.25, 1.0], tensor<3xf32>> zero 0, inputs 0.1 zero 0, offset 128>} : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: a scale of weights is not a finite number above 0
func.func @negative(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "isaac128" array <64, 64> attributes {sparse.quantization = #sparse.quantization<weights #nn.tensor<[0.5, -0.25, 1.0, 1.0], tensor<4xf32>> zero 0, inputs 0.1 zero 0, offset 128>} : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: a scale of inputs is not a finite number above 0
func.func @nothing(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "isaac128" array <64, 64> attributes {sparse.quantization = #sparse.quantization<weights #nn.tensor<[0.5, 0.25, 1.0, 1.0], tensor<4xf32>> zero 0, inputs 0.0 zero 0, offset 128>} : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}

// -----

// CHECK: the zero point of inputs is 3; int8 is symmetric here: 0
func.func @zero(%x: tensor<6x8xi8>) -> tensor<4x8xi32> {
  %a = xbar.spmm %x, #sparse.weight<4x6xi8, [(0, 1, 1)]> on "isaac128" array <64, 64> attributes {sparse.quantization = #sparse.quantization<weights #nn.tensor<[0.5, 0.25, 1.0, 1.0], tensor<4xf32>> zero 0, inputs 0.1 zero 3, offset 128>} : tensor<6x8xi8> -> tensor<4x8xi32> {
    block 0 : [0] += k[1] levels [1]
  }
  func.return %a : tensor<4x8xi32>
}
