"""Puts quantisation around products of floats with constant weights, by ranges that a calibration recorded.

What comes into `nn.conv` and `nn.linear`, and into sums that are rounded to int8 themselves, is rounded to
int8 where it is made (behind pooling, reshaping, concatenation), their weights become int8 behind
`nn.dequantize_linear`, their biases i32: the QDQ form, which `nn-fold-quantization` makes products of
integers. Values that are dequantised already are left as they are. Weights are symmetric, with one scale per
output or one in all (`scales`); other values are symmetric, too, or have zero points (`symmetric`).

Refuses values without a recorded, finite range (`sparsecc.calibration.record_ranges`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp, StringAttr, f32, i8, i32
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.rewriter import InsertPoint, Rewriter
from xdsl.utils.exceptions import PassFailedException

from sparsecc.calibration import recorded_range
from sparsecc.dialects.nn_base import ConstantOp, TensorAttr, element_of
from sparsecc.dialects.nn_elementwise import AddOp, ReluOp
from sparsecc.dialects.nn_layout import ConcatOp, ReshapeOp, SliceOp, TransposeOp
from sparsecc.dialects.nn_products import ConvOp, LinearOp
from sparsecc.dialects.nn_quantized import DequantizeLinearOp, QuantizeLinearOp
from sparsecc.dialects.nn_reductions import MaxPoolOp
from sparsecc.dialects.sparse import ConstantOp as MatrixOp
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.importers.matrix import make_csr
from sparsecc.nn import quantization
from sparsecc.nn.quantization import Affine
from sparsecc.passes.base import SparsePass, refuse

Product = ConvOp | LinearOp
SCALES = ("auto", "channel", "tensor")
# They move elements or choose some: what comes out has the scale of what goes in.
MOVING = (ConcatOp, MaxPoolOp, ReshapeOp, SliceOp, TransposeOp)


@dataclass(frozen=True)
class NnQuantizePass(SparsePass):
    name = "nn-quantize"
    summary: ClassVar = "puts int8 around products of floats: nn.conv -> quantize, dequantize, nn.conv"
    refuses: ClassVar = "values of which no calibration recorded a finite range"
    option_help: ClassVar = {
        "scales": "of weights: one per output (channel), one in all (tensor), or auto: one in all where sums "
        "are rounded to bytes, which the store of a unit does, one per output elsewhere",
        "symmetric": "whether zero points are 0",
    }

    scales: str = "auto"
    symmetric: bool = True

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        if self.scales not in SCALES:
            raise PassFailedException(
                f"{self.name}: scales {self.scales!r} are not one of {', '.join(SCALES)}"
            )
        for function in [f for f in op.ops if isinstance(f, func.FuncOp)]:
            products = [p for p in function.walk() if isinstance(p, Product) and _is_float(p)]
            self._activations([p.x for p in products])
            sums = [add for add in function.walk() if isinstance(add, AddOp) and _is_sum(add)]
            for add in reversed(sums):
                if _is_rounded(add.res):
                    self._activations(add.operands)
            for product in products:
                self._parameters(product)

    def _activations(self, values: Iterable[SSAValue]) -> None:
        """Round values where they are made; what meets in a concatenation has one scale."""
        groups: list[set[SSAValue]] = []
        for value in values:
            origins = set(_origins(value))
            for group in [g for g in groups if g & origins]:
                groups.remove(group)
                origins |= group
            groups.append(origins)
        for group in groups:
            open_values = [v for v in group if not isinstance(v.owner, DequantizeLinearOp)]
            ranges = [_range(v) for v in open_values]
            if ranges:
                low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
                affine = quantization.activation(low, high, self.symmetric)
                for value in sorted(open_values, key=_place):
                    _round(value, affine)

    def _parameters(self, op: Product) -> None:
        """Weight and bias as integers behind dequantisation."""
        source = op.x.owner
        while isinstance(source, MOVING):
            source = source.operands[0].owner
        assert isinstance(source, DequantizeLinearOp)
        x_scale = _constant(source.scale)
        assert x_scale is not None
        if isinstance(matrix := op.w.owner, MatrixOp):
            weight = matrix.weight
            csr = make_csr(
                weight.data.astype(np.float32), weight.pattern.indices, weight.pattern.indptr, weight.shape
            )
            channels = self.scales == "channel" or (self.scales == "auto" and not _is_rounded(op.res))
            quantized, scale, _ = quantization.weight(csr, channels)
            held = MatrixOp(
                WeightAttr.of(weight.shape, quantized.indptr, quantized.indices, quantized.data, i8)
            )
            self._replace(op, 1, held, scale, i8)
        else:
            assert isinstance(matrix, DequantizeLinearOp)
            found = _constant(matrix.scale)
            assert found is not None
            scale = found
        if op.b is not None and isinstance(bias := op.b.owner, ConstantOp):
            both = np.asarray(x_scale * scale, np.float32)
            integers = quantization.bias(np.asarray(bias.value.array), both)
            self._replace(op, 2, ConstantOp(TensorAttr.of(integers, i32)), both, i32)

    def _replace(
        self, op: Product, operand: int, held: MatrixOp | ConstantOp, scale: NDArray[Any], element: Attribute
    ) -> None:
        """An operand that is these integers, dequantised."""
        constants = [
            ConstantOp(TensorAttr.of(scale, f32)),
            ConstantOp(TensorAttr.of(np.zeros(scale.shape, np.int32), element)),
        ]
        axis = 0 if scale.ndim else None
        real = DequantizeLinearOp.make(held.res, *(c.res for c in constants), axis=axis)
        _insert([held, *constants, real], InsertPoint.before(op), op)
        op.operands[operand] = real.res


def _is_float(op: Product) -> bool:
    """Whether the weight of a product of f32 is constant, perhaps dequantised, and so is its bias."""
    weight = op.w.owner
    if isinstance(weight, DequantizeLinearOp):
        weight = weight.x.owner
    held = op.b is None or isinstance(op.b.owner, ConstantOp | DequantizeLinearOp)
    return element_of(op.x) == "f32" and isinstance(weight, MatrixOp) and held


def _constant(value: SSAValue) -> NDArray[Any] | None:
    return value.owner.value.array if isinstance(value.owner, ConstantOp) else None


def _is_sum(op: AddOp) -> bool:
    """Whether two computed values of f32 and of one shape are added."""
    alike = op.x.type == op.y.type and element_of(op.x) == "f32"
    return alike and not any(isinstance(o.owner, ConstantOp | MatrixOp) for o in op.operands)


def _is_rounded(value: SSAValue) -> bool:
    """Whether all that uses a value, behind ReLU, rounds it to bytes."""
    users = [use.operation for use in value.uses]
    if len(users) == 1 and isinstance(users[0], ReluOp):
        users = [use.operation for use in users[0].res.uses]
    return bool(users) and all(isinstance(user, QuantizeLinearOp) for user in users)


def _origins(value: SSAValue) -> list[SSAValue]:
    """The values whose elements these are."""
    if isinstance(value.owner, ConcatOp):
        return [o for part in value.owner.operands for o in _origins(part)]
    return _origins(value.owner.operands[0]) if isinstance(value.owner, MOVING) else [value]


def _place(value: SSAValue) -> tuple[int, int]:
    """Where a value is made; values of a block, or of one operator, in their order."""
    owner = value.owner
    if isinstance(owner, Block):
        return -1, value.index  # pyright: ignore[reportAttributeAccessIssue, reportUnknownVariableType, reportUnknownMemberType]
    block = owner.parent
    assert block is not None
    return block.get_operation_index(owner), [r is value for r in owner.results].index(True)


def _range(value: SSAValue) -> tuple[float, float]:
    if (found := recorded_range(value)) is not None:
        if isinstance(value.owner, Operation) and not np.isfinite(found).all():
            name = _name(value.owner).data
            problem = f"calibration gives {name} values from {found[0]} to {found[1]}; needed finite numbers"
            refuse(value.owner, problem)
        return found
    if isinstance(value.owner, Operation):
        refuse(value.owner, "has no recorded range; calibrate the network with inputs first")
    raise AssertionError("a function's inputs have ranges when its operators do")


def _round(value: SSAValue, affine: Affine) -> None:
    """Quantise and dequantise a value for all that use it."""
    constants = [
        ConstantOp(TensorAttr.of(np.asarray(affine.scale), f32)),
        ConstantOp(TensorAttr.of(np.asarray(affine.zero), i8)),
    ]
    scale, zero = (c.res for c in constants)
    integers = QuantizeLinearOp.make(value, scale, zero)
    real = DequantizeLinearOp.make(integers.res, scale, zero)
    value.replace_uses_with_if(real.res, lambda use: use.operation is not integers)
    if isinstance(owner := value.owner, Block):
        _insert([*constants, integers, real], InsertPoint.at_start(owner), None)
    else:
        _insert([*constants, integers, real], InsertPoint.after(owner), owner)


def _insert(ops: list[Operation], where: InsertPoint, of: Operation | None) -> None:
    """Insert operations that belong to a node."""
    for op in ops:
        op.attributes["name"] = StringAttr("input") if of is None else _name(of)
        if of is not None:
            op.location = of.location
    Rewriter.insert_op(ops, where)


def _name(op: Operation) -> StringAttr:
    found = op.attributes.get("name")
    return found if isinstance(found, StringAttr) else StringAttr(op.name)
