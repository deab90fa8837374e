"""Operators of the `nn` dialect that work element by element; two or more operands broadcast as in numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from xdsl.dialects.builtin import FloatAttr, IntegerAttr, TensorType
from xdsl.ir import TypeAttribute
from xdsl.irdl import irdl_op_definition, operand_def, opt_prop_def, prop_def, result_def

from sparsecc.dialects.nn_base import (
    ELEMENTS,
    FLOATS,
    NnOp,
    Tensor,
    flag,
    need_element,
    need_same_elements,
    shape_of,
    tensor_type,
    type_of,
)
from sparsecc.nn import shapes

_INTEGERS = tuple(e for e in ELEMENTS if e not in (*FLOATS, "i1"))
NUMBERS = (*_INTEGERS, *FLOATS)


class UnaryOp(NnOp):
    """One operand, the result of the same type."""

    x = operand_def(TensorType)
    res = result_def(TensorType)

    ELEMENT_TYPES: ClassVar[tuple[str, ...]] = FLOATS

    def infer(self) -> Sequence[Tensor]:
        need_element(self.x, self.ELEMENT_TYPES)
        shape_of(self.x)
        return [type_of(self.x)]


class BinaryOp(NnOp):
    """Two operands of one element type; COMPARES says that the result is of i1."""

    x = operand_def(TensorType)
    y = operand_def(TensorType)
    res = result_def(TensorType)

    ELEMENT_TYPES: ClassVar[tuple[str, ...]] = NUMBERS
    COMPARES: ClassVar[bool] = False

    def infer(self) -> Sequence[Tensor]:
        need_same_elements(self.x, self.y)
        need_element(self.x, self.ELEMENT_TYPES)
        shape = shapes.broadcast(shape_of(self.x), shape_of(self.y))
        return [tensor_type(shape, ELEMENTS["i1"] if self.COMPARES else type_of(self.x).element_type)]


@irdl_op_definition
class AbsOp(UnaryOp):
    """|x|; integers wrap around."""

    name = "nn.abs"
    ELEMENT_TYPES: ClassVar = NUMBERS


@irdl_op_definition
class CeilOp(UnaryOp):
    """The next whole number up."""

    name = "nn.ceil"


@irdl_op_definition
class CosOp(UnaryOp):
    """Cosine of x in radians."""

    name = "nn.cos"


@irdl_op_definition
class ErfOp(UnaryOp):
    """The error function."""

    name = "nn.erf"


@irdl_op_definition
class ExpOp(UnaryOp):
    """e to the power of x."""

    name = "nn.exp"


@irdl_op_definition
class FloorOp(UnaryOp):
    """The next whole number down."""

    name = "nn.floor"


@irdl_op_definition
class LogOp(UnaryOp):
    """Natural logarithm."""

    name = "nn.log"


@irdl_op_definition
class NegOp(UnaryOp):
    """-x."""

    name = "nn.neg"
    ELEMENT_TYPES: ClassVar = NUMBERS


@irdl_op_definition
class NotOp(UnaryOp):
    """Logical not."""

    name = "nn.not"
    ELEMENT_TYPES: ClassVar = ("i1",)


@irdl_op_definition
class ReciprocalOp(UnaryOp):
    """1 / x."""

    name = "nn.reciprocal"


@irdl_op_definition
class ReluOp(UnaryOp):
    """max(x, 0)."""

    name = "nn.relu"
    ELEMENT_TYPES: ClassVar = NUMBERS


@irdl_op_definition
class RoundOp(UnaryOp):
    """To the nearest whole number, ties to even."""

    name = "nn.round"


@irdl_op_definition
class SigmoidOp(UnaryOp):
    """1 / (1 + exp(-x))."""

    name = "nn.sigmoid"


@irdl_op_definition
class SignOp(UnaryOp):
    """-1, 0 or 1."""

    name = "nn.sign"
    ELEMENT_TYPES: ClassVar = NUMBERS


@irdl_op_definition
class SiluOp(UnaryOp):
    """x sigmoid(x)."""

    name = "nn.silu"


@irdl_op_definition
class SinOp(UnaryOp):
    """Sine of x in radians."""

    name = "nn.sin"


@irdl_op_definition
class SoftplusOp(UnaryOp):
    """log(1 + exp(x))."""

    name = "nn.softplus"


@irdl_op_definition
class SoftsignOp(UnaryOp):
    """x / (1 + |x|)."""

    name = "nn.softsign"


@irdl_op_definition
class SqrtOp(UnaryOp):
    """Square root."""

    name = "nn.sqrt"


@irdl_op_definition
class TanhOp(UnaryOp):
    """Hyperbolic tangent."""

    name = "nn.tanh"


@irdl_op_definition
class AddOp(BinaryOp):
    """x + y."""

    name = "nn.add"


@irdl_op_definition
class AndOp(BinaryOp):
    """Logical and."""

    name = "nn.and"
    ELEMENT_TYPES: ClassVar = ("i1",)


@irdl_op_definition
class DivOp(BinaryOp):
    """x / y; integers are rounded towards zero, and x / 0 is 0."""

    name = "nn.div"


@irdl_op_definition
class EqualOp(BinaryOp):
    """x == y."""

    name = "nn.equal"
    ELEMENT_TYPES: ClassVar = ("i1", *NUMBERS)
    COMPARES: ClassVar = True


@irdl_op_definition
class GreaterOp(BinaryOp):
    """x > y."""

    name = "nn.greater"
    COMPARES: ClassVar = True


@irdl_op_definition
class LessOp(BinaryOp):
    """x < y."""

    name = "nn.less"
    COMPARES: ClassVar = True


@irdl_op_definition
class MaxOp(BinaryOp):
    """The larger one; NaN if either is."""

    name = "nn.max"


@irdl_op_definition
class MinOp(BinaryOp):
    """The smaller one; NaN if either is."""

    name = "nn.min"


@irdl_op_definition
class MulOp(BinaryOp):
    """x y."""

    name = "nn.mul"


@irdl_op_definition
class OrOp(BinaryOp):
    """Logical or."""

    name = "nn.or"
    ELEMENT_TYPES: ClassVar = ("i1",)


@irdl_op_definition
class PowOp(BinaryOp):
    """x to the power of y."""

    name = "nn.pow"


@irdl_op_definition
class SubOp(BinaryOp):
    """x - y."""

    name = "nn.sub"


@irdl_op_definition
class XorOp(BinaryOp):
    """Exclusive or."""

    name = "nn.xor"
    ELEMENT_TYPES: ClassVar = ("i1",)


@irdl_op_definition
class CastOp(NnOp):
    """x in another element type: floats to integers towards zero, integers wrap around, nonzero is true."""

    name = "nn.cast"
    x = operand_def(TensorType)
    element_type = prop_def(TypeAttribute)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        if str(self.element_type) not in ELEMENTS:
            raise shapes.ShapeError(f"no tensor has elements of type {self.element_type}")
        return [tensor_type(shape_of(self.x), self.element_type)]


@irdl_op_definition
class ClipOp(UnaryOp):
    """min(max(x, low), high); a bound that is left out does not limit."""

    name = "nn.clip"
    low = opt_prop_def(FloatAttr)
    high = opt_prop_def(FloatAttr)


@irdl_op_definition
class EluOp(UnaryOp):
    """x where positive, alpha (exp(x) - 1) elsewhere."""

    name = "nn.elu"
    alpha = prop_def(FloatAttr)


@irdl_op_definition
class GeluOp(UnaryOp):
    """x Phi(x): with the error function, or approximated by tanh."""

    name = "nn.gelu"
    approximate = prop_def(IntegerAttr)

    @property
    def is_approximate(self) -> bool:
        return flag(self.approximate)


@irdl_op_definition
class HardSigmoidOp(UnaryOp):
    """min(max(alpha x + beta, 0), 1)."""

    name = "nn.hard_sigmoid"
    alpha = prop_def(FloatAttr)
    beta = prop_def(FloatAttr)


@irdl_op_definition
class LeakyReluOp(UnaryOp):
    """x where positive, alpha x elsewhere."""

    name = "nn.leaky_relu"
    alpha = prop_def(FloatAttr)


@irdl_op_definition
class ModOp(BinaryOp):
    """The rest of x / y: of the sign of x with `truncated` (C's fmod), of the sign of y without."""

    name = "nn.mod"
    truncated = prop_def(IntegerAttr)


@irdl_op_definition
class WhereOp(NnOp):
    """x where the condition holds, y elsewhere."""

    name = "nn.where"
    condition = operand_def(TensorType)
    x = operand_def(TensorType)
    y = operand_def(TensorType)
    res = result_def(TensorType)

    def infer(self) -> Sequence[Tensor]:
        need_element(self.condition, ("i1",), "the condition")
        need_same_elements(self.x, self.y)
        shape = shapes.broadcast(*map(shape_of, (self.condition, self.x, self.y)))
        return [tensor_type(shape, type_of(self.x).element_type)]


OPERATIONS = [
    AbsOp,
    AddOp,
    AndOp,
    CastOp,
    CeilOp,
    ClipOp,
    CosOp,
    DivOp,
    EluOp,
    EqualOp,
    ErfOp,
    ExpOp,
    FloorOp,
    GeluOp,
    GreaterOp,
    HardSigmoidOp,
    LeakyReluOp,
    LessOp,
    LogOp,
    MaxOp,
    MinOp,
    ModOp,
    MulOp,
    NegOp,
    NotOp,
    OrOp,
    PowOp,
    ReciprocalOp,
    ReluOp,
    RoundOp,
    SigmoidOp,
    SignOp,
    SiluOp,
    SinOp,
    SoftplusOp,
    SoftsignOp,
    SqrtOp,
    SubOp,
    TanhOp,
    WhereOp,
    XorOp,
]
