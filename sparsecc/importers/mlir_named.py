"""Named operations of `linalg` that xDSL does not have, so that their text can be read.

Only names, operands and windows matter to the reader; what the operations compute, its handlers say.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import ArrayAttr
from xdsl.dialects.linalg import Linalg
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.abstract_ops import ConvOperation, NamedOperation, PoolingOperation
from xdsl.dialects.linalg.attrs import IteratorTypeAttr
from xdsl.ir import Dialect, Region, SSAValue
from xdsl.ir.affine import AffineMap
from xdsl.irdl import irdl_op_definition


class _Unmapped(NamedOperation):
    """Without maps: nothing asks for them."""

    def get_default_indexing_maps(self) -> Sequence[AffineMap]:
        raise NotImplementedError(f"{self.name} is only read")

    def get_iterator_types(self) -> ArrayAttr[IteratorTypeAttr]:
        raise NotImplementedError(f"{self.name} is only read")


@irdl_op_definition
class BatchMatmulOp(_Unmapped):
    """[B, m, k] times [B, k, n]."""

    name = "linalg.batch_matmul"
    PRINT_ATTRS_IN_FRONT: ClassVar[bool] = True

    @classmethod
    def get_hidden_region(cls, inputs: Sequence[SSAValue], outputs: Sequence[SSAValue]) -> Region:
        return linalg.MatmulOp.get_hidden_region(inputs, outputs)


@irdl_op_definition
class PoolingNchwSumOp(_Unmapped, PoolingOperation):
    """The sum of each window."""

    name = "linalg.pooling_nchw_sum"

    @classmethod
    def get_hidden_region(cls, inputs: Sequence[SSAValue], outputs: Sequence[SSAValue]) -> Region:
        return linalg.PoolingNchwMaxOp.get_hidden_region(inputs, outputs)


@irdl_op_definition
class DepthwiseOp(_Unmapped, ConvOperation):
    """Each channel with its own window."""

    name = "linalg.depthwise_conv_2d_nchw_chw"


@irdl_op_definition
class Conv1DOp(_Unmapped, ConvOperation):
    """A convolution along one axis."""

    name = "linalg.conv_1d_ncw_fcw"


LINALG = Dialect(
    "linalg",
    [*Linalg.operations, BatchMatmulOp, Conv1DOp, DepthwiseOp, PoolingNchwSumOp],
    list(Linalg.attributes),
)
