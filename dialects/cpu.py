"""The machine level of CPUs: which kernel computes a product, and how it is cut.

`cpu.spmm` is a product whose kernel is chosen; `cpu.kernel` holds the matrix in that kernel's layout for the
C functions of the module. Parameters name a variant (`sparsecc.cpu.variant`); from them and the pattern all
tables and all code follow, so none of them is in the text.

```mlir
%y = cpu.spmm "line" {lanes = 16 : i64, height = 28 : i64, ...} for "x86-avx512" %x,
    #sparse.weight<"9fb4fec942986d07bd144662926f9e26", 512x512xf32, nnz 26220>
    reason "..." : tensor<512x128xf32> -> tensor<512x128xf32>
```
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from xdsl.dialects.builtin import (
    BoolAttr,
    DenseArrayBase,
    DictionaryAttr,
    FloatAttr,
    IntegerAttr,
    StringAttr,
    TensorType,
    UnitAttr,
    f32,
    i32,
    i64,
)
from xdsl.ir import Attribute, Dialect, SSAValue
from xdsl.irdl import (
    IRDLOperation,
    ParsePropInAttrDict,
    irdl_op_definition,
    operand_def,
    opt_prop_def,
    prop_def,
    result_def,
    traits_def,
)
from xdsl.traits import Pure, SymbolOpInterface
from xdsl.utils.exceptions import VerifyException
from xdsl.utils.hints import isa

from sparsecc.cpu.variant import Variant
from sparsecc.dialects.nn_base import TensorAttr
from sparsecc.dialects.sparse_attributes import WeightAttr
from sparsecc.dialects.sparse_epilogue import EpilogueOp, computed
from sparsecc.epilogue import Epilogue


def parameters_attribute(variant: Variant) -> DictionaryAttr:
    """The parameters of a variant as an attribute."""
    found: dict[str, Attribute] = {}
    for name, value in variant.parameters().items():
        match value:
            case bool():
                found[name] = BoolAttr.from_bool(value)
            case int():
                found[name] = IntegerAttr(value, i64)
            case str():
                found[name] = StringAttr(value)
    return DictionaryAttr(found)


def _plain(parameters: Mapping[str, Attribute]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in parameters.items():
        match value:
            case IntegerAttr(type=kind) if str(kind) == "i1":
                found[name] = bool(value.value.data)
            case IntegerAttr():
                found[name] = value.value.data
            case StringAttr():
                found[name] = value.data
            case _:
                raise VerifyException(
                    f"parameter {name} is {value}, needed a number, a truth value or a string"
                )
    return found


FOLLOWS = ("bias", "scale", "low", "high", "zero", "activation", "numbers", "slopes")

# The type of sums of products of each type that there are kernels for.
SUMS: Mapping[str, Attribute] = {"f32": f32, "i8": i32, "bf16": f32, "f16": f32}


class _KernelHolder(IRDLOperation):
    """What the operations have in common: a matrix, a kernel, its parameters."""

    weight = prop_def(WeightAttr)
    kernel = prop_def(StringAttr)
    parameters = prop_def(DictionaryAttr)
    target = prop_def(StringAttr)

    @property
    def variant(self) -> Variant:
        """The kernel and its parameters. Raises VerifyException for what is none."""
        try:
            return Variant.of(self.kernel.data, _plain(self.parameters.data))
        except (TypeError, ValueError) as e:
            raise VerifyException(str(e)) from e

    def verify_(self) -> None:
        _ = self.variant
        if str(self.weight.element_type) not in SUMS:
            raise VerifyException(
                f"the weight is of {self.weight.element_type}; CPU kernels compute {', '.join(SUMS)}"
            )


@irdl_op_definition
class SpmmOp(_KernelHolder):
    """y = W x, by a kernel of the CPU."""

    name = "cpu.spmm"
    x = operand_def(TensorType)
    reason = opt_prop_def(StringAttr)
    res = result_def(TensorType)
    traits = traits_def(Pure())
    assembly_format = (
        "$kernel $parameters `for` $target $x `,` qualified($weight) (`reason` $reason^)? attr-dict "
        "`:` type($x) `->` type($res)"
    )

    def __init__(
        self, x: SSAValue, weight: WeightAttr, variant: Variant, target: str, reason: str, result: Attribute
    ):
        super().__init__(
            operands=[x],
            properties={
                "weight": weight,
                "kernel": StringAttr(variant.kind),
                "parameters": parameters_attribute(variant),
                "target": StringAttr(target),
                "reason": StringAttr(reason),
            },
            result_types=[result],
        )

    def verify_(self) -> None:
        super().verify_()
        (m, k), x, y = self.weight.shape, self.x.type, self.res.type
        assert isa(x, TensorType)
        assert isa(y, TensorType)
        if len(x.get_shape()) != 2 or tuple(y.get_shape()) != (m, x.get_shape()[1]) or x.get_shape()[0] != k:
            raise VerifyException(f"a weight of {m}x{k} does not take {x} to {y}")
        element, sums = self.weight.element_type, SUMS[str(self.weight.element_type)]
        if x.element_type != element or y.element_type != sums:
            raise VerifyException(f"a weight of {element} takes {element} to {sums}, not {x} to {y}")


@irdl_op_definition
class KernelOp(_KernelHolder):
    """A matrix in the layout of its kernel, and the kernel's code where it is made for the matrix."""

    name = "cpu.kernel"
    sym_name = prop_def(StringAttr)
    title = prop_def(StringAttr)
    # What follows the sums, as sparse.epilogue has it, and the type of the result.
    bias = opt_prop_def(TensorAttr)
    scale = opt_prop_def(TensorAttr)
    low = opt_prop_def(FloatAttr)
    high = opt_prop_def(FloatAttr)
    zero = opt_prop_def(IntegerAttr)
    activation = opt_prop_def(StringAttr)
    numbers = opt_prop_def(DenseArrayBase)
    slopes = opt_prop_def(TensorAttr)
    # Whether calls bring a matrix that is added.
    residual = opt_prop_def(UnitAttr)
    result = opt_prop_def(StringAttr)
    irdl_options = (ParsePropInAttrDict(),)
    traits = traits_def(SymbolOpInterface())
    assembly_format = (
        "$sym_name $kernel $parameters `for` $target qualified($weight) `title` $title attr-dict"
    )

    @property
    def epilogue(self) -> Epilogue | None:
        """What follows the sums; None: nothing."""
        if self.result is None:
            return None
        return computed(self.properties, self.result.data, self.residual is not None)

    def __init__(
        self,
        name: str,
        op: SpmmOp,
        title: str,
        variant: Variant | None = None,
        follows: EpilogueOp | None = None,
    ):
        chosen = variant or op.variant
        more: dict[str, Attribute] = {}
        if follows is not None:
            more = {key: follows.properties[key] for key in FOLLOWS if key in follows.properties}
            more["result"] = StringAttr(follows.epilogue.element)
            if follows.residual is not None:
                more["residual"] = UnitAttr()
        super().__init__(
            properties=more
            | {
                "sym_name": StringAttr(name),
                "weight": op.weight,
                "kernel": StringAttr(chosen.kind),
                "parameters": parameters_attribute(chosen),
                "target": op.target,
                "title": StringAttr(title),
            }
        )


Cpu = Dialect("cpu", [SpmmOp, KernelOp])
