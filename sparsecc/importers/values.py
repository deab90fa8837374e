"""Values of a network while it is imported, and the block of operations that they become."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects.builtin import NameLoc, StringAttr, UnknownLoc
from xdsl.ir import Block, Operation, SSAValue

from sparsecc.dialects.nn_base import ELEMENTS, ConstantOp, TensorAttr, type_of
from sparsecc.dialects.nn_quantized import DequantizeLinearOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.importers.constants import Constant, Dense, Quantized, Sparse, csr_of

Array = NDArray[Any]

# Element types of matrices that `sparse.constant` holds.
_MATRIX_ELEMENTS = ("i8", "i32", "f16", "bf16", "f32", "f64")


@dataclass(eq=False)
class Value:
    """What a name of the graph stands for: a constant, an SSA value, or both once the constant is built."""

    shape: tuple[int, ...]
    element: str
    constant: Constant | None = None
    ssa: SSAValue | None = None

    @staticmethod
    def of(constant: Constant) -> Value:
        return Value(constant.shape, constant.element, constant)

    @staticmethod
    def array(values: Array | Sequence[int] | float, element: str) -> Value:
        """The constant of these values."""
        return Value.of(Dense(np.asarray(values, _NUMPY[element]), element))

    @property
    def rank(self) -> int:
        return len(self.shape)


_NUMPY: dict[str, Any] = {
    "i1": np.bool_, "i8": np.int8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "ui8": np.uint8, "ui16": np.uint16, "ui32": np.uint32, "ui64": np.uint64,
    "f16": np.float16, "bf16": np.float32, "f32": np.float32, "f64": np.float64,
}  # fmt: skip


class Builder:
    """The block that operations are added to."""

    def __init__(self, block: Block):
        self.block = block

    def ssa(self, value: Value, name: str) -> SSAValue:
        """The value as an operand; a constant becomes an operation here."""
        if value.ssa is None:
            assert value.constant is not None
            value.ssa = self._constant(value.constant, name)
        return value.ssa

    def _constant(self, constant: Constant, name: str) -> SSAValue:
        if isinstance(constant, Quantized):
            integers = self._constant(constant.integers, name)
            return self._dequantized(constant, constant.zero, integers, name)
        if isinstance(constant, Sparse) and len(constant.shape) == 2 and constant.element in _MATRIX_ELEMENTS:
            return self.matrix(Value.of(constant), name)
        op = ConstantOp(TensorAttr.of(constant.array(), ELEMENTS[constant.element]))
        return self.add(op, name).results[0]

    def _dequantized(self, constant: Quantized, zero: Array, integers: SSAValue, name: str) -> SSAValue:
        operands = [
            self._constant(Dense(constant.scale, constant.element), name),
            self._constant(Dense(zero, str(type_of(integers).element_type)), name),
        ]
        op = DequantizeLinearOp.make(integers, *operands, axis=constant.axis)
        return self.add(op, name).results[0]

    def matrix(self, value: Value, name: str) -> SSAValue:
        """A value of two dimensions as the weight of a product: `sparse.constant` where it is constant."""
        constant = value.constant
        if isinstance(constant, Quantized):
            integers, zero = as_signed(constant.integers, constant.zero)
            return self._dequantized(constant, zero, self.matrix(Value.of(integers), name), name)
        if constant is None or constant.element not in _MATRIX_ELEMENTS:
            return self.ssa(value, name)
        rows, columns = constant.shape
        weight = WeightAttr.of((rows, columns), *csr_of(constant), ELEMENTS[constant.element])
        return self.add(MatrixOp(weight), name).results[0]

    def add(self, op: Operation, name: str) -> Operation:
        """Add an operation that comes from the node of this name."""
        if name:
            op.attributes["name"] = StringAttr(name)
            op.location = NameLoc(StringAttr(name), UnknownLoc())
        self.block.add_op(op)
        return op


def as_signed(integers: Constant, zero: Array) -> tuple[Constant, Array]:
    """Unsigned bytes and their zero point as signed ones of the same differences."""
    if integers.element != "ui8":
        return integers, zero
    shifted = (integers.array().astype(np.int16) - 128).astype(np.int8)
    return Dense(shifted, "i8"), (zero.astype(np.int16) - 128).astype(np.int8)
