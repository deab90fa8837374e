"""Memristor crossbars: a product as a table of tiles, and the instructions of the arrays.

`xbar.spmm` computes C[M,N] = W[M,K] X[K,N] for a constant W whose parts lie in the cells of arrays. Its body
is one table of tiles (`sparsecc.crossbar.tiles`): before they are sliced, a tile holds weights; after, the
levels of one bit slice. Each pass of the family refines the table; the interpreter gives the same after each.

```mlir
%y = xbar.spmm %x, #sparse.weight<2x4xi8, [(0, 1, 5), (1, 3, -2)]> on "sme128" array <128, 128> :
    tensor<4x8xi8> -> tensor<2x8xi32> { // 2 tiles
  block 0 slice 0 adc 2 at 0[0, 0] : [0] += k[1] levels [1]
  block 0 slice 1 shl 1 adc 2 at 1[0, 0] : [1] += k[3] levels [-1]
}
```
Where arrays have several shapes, `array <128, 128> as 3 of <128, 128>, 9 of <64, 32>` tells that arrays 0
to 2 have the first and 3 to 11 the second; the shape before is what none is larger than.

What a tile says is told in `sparsecc.dialects.xbar_tiles`. Large tables are printed as a digest and live in a
blob beside the module.

The other operations are instructions, in functions of loops over tables as in the dialect `tu`.
"""

from __future__ import annotations

from xdsl.ir import Dialect

from sparsecc.dialects.xbar_instructions import CfgOp, CrossbarOp, DoneOp, MvmgOp, MvmOp, ProgOp, ShapeOp
from sparsecc.dialects.xbar_product import SpmmOp
from sparsecc.dialects.xbar_tiles import TilesAttr, is_large, tile_text, tiles_blob

__all__ = [
    "CfgOp",
    "CrossbarOp",
    "DoneOp",
    "MvmOp",
    "MvmgOp",
    "ProgOp",
    "ShapeOp",
    "SpmmOp",
    "TilesAttr",
    "Xbar",
    "is_large",
    "tile_text",
    "tiles_blob",
]

Xbar = Dialect("xbar", [CfgOp, DoneOp, MvmOp, MvmgOp, ProgOp, ShapeOp, SpmmOp], [TilesAttr])
