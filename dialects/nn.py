"""The `nn` dialect: whole networks, one operation per tensor operator, as ONNX defines them.

```mlir
func.func @main(%x: tensor<8x784xf32>) -> tensor<8x10xf32> {
  %w = sparse.constant #sparse.weight<"9fb4fec942986d07bd144662926f9e26", 10x784xf32, nnz 220> : tensor<10x784xf32>
  %b = nn.constant #nn.tensor<[0.5, ...], tensor<10xf32>> : tensor<10xf32>
  %0 = nn.linear %x, %w, %b {name = "ip1"} : (tensor<8x784xf32>, tensor<10x784xf32>, tensor<10xf32>) -> tensor<8x10xf32>
  %y = nn.relu %0 {name = "relu1"} : (tensor<8x10xf32>) -> tensor<8x10xf32>
  func.return %y : tensor<8x10xf32>
}
```
Tensors are ranked and static; layouts are those of ONNX (N, channels, spatial). Weights of `nn.linear`,
`nn.conv` and recurrent layers are matrices whose rows make the outputs, `sparse.constant` where they are
constant, perhaps through `nn.dequantize_linear`. Every value is rounded to its element type; what is added in
which order, `sparsecc.nn.arithmetic` says.
"""  # noqa: E501

from __future__ import annotations

from xdsl.ir import Dialect

from sparsecc.dialects import (
    nn_elementwise,
    nn_layout,
    nn_products,
    nn_quantized,
    nn_recurrent,
    nn_reductions,
)
from sparsecc.dialects.nn_base import ConstantOp, NnOp, TensorAttr

__all__ = ["ConstantOp", "Nn", "NnOp", "TensorAttr"]

Nn = Dialect(
    "nn",
    [
        ConstantOp,
        *nn_elementwise.OPERATIONS,
        *nn_layout.OPERATIONS,
        *nn_products.OPERATIONS,
        *nn_quantized.OPERATIONS,
        *nn_recurrent.OPERATIONS,
        *nn_reductions.OPERATIONS,
    ],
    [TensorAttr],
)
