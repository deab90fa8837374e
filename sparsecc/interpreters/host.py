"""Runs the `host` dialect on numpy arrays: calls by the references of the operators, products in f64.

Narrow floats stay as exact as they came: what rounding them costs is in the error bounds instead
(`sparsecc.network.bounds`), which are carried along.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, func, tensor
from xdsl.dialects.builtin import ModuleOp
from xdsl.dialects.linalg import ops as linalg
from xdsl.ir import SSAValue
from xdsl.traits import SymbolTable

from sparsecc.dialects.host import CallOp, Tensor, ViewOp, elements_in, kind_of
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.dialects.sparse import ConstantOp as SparseConstantOp
from sparsecc.dialects.sparse import WeightAttr
from sparsecc.dialects.sparse_epilogue import EpilogueOp
from sparsecc.host.operator import HostOperator, Kind
from sparsecc.importers.matrix import make_csr
from sparsecc.network.bounds import CASTS, Bound, of_activation, of_call, of_epilogue, of_product

Array = NDArray[Any]

DTYPES: dict[str, Any] = {
    "b8": np.uint8, "i8": np.int8, "u8": np.uint8, "i16": np.int16, "i32": np.int32, "i64": np.int64,
    "f32": np.float32, "f16": np.float32, "bf16": np.float32,
}  # fmt: skip
"""How elements are held here."""


def in_model(function: func.FuncOp, inputs: Sequence[Array]) -> list[Array]:
    """Inputs as a function of `nn` operators takes them: conditions are bytes on the host, and bool there."""
    conditions = [kind_of(a) == "b8" for a in function.body.block.args]
    return [x.astype(np.bool_) if c else x for x, c in zip(inputs, conditions, strict=True)]


@dataclass(frozen=True, eq=False)
class Run:
    """Values of a function, flat, and how far a program may be from each."""

    values: dict[SSAValue, Array]
    errors: dict[SSAValue, Bound]
    brought: dict[SSAValue, Bound]
    """As `errors`, but 0 where the program starts again from the exact value."""
    restarts: Container[SSAValue]
    exact: bool = False
    """Whether calls of IEEE arithmetic on exact values are exact: what the program does, to the bit."""

    def put(self, value: SSAValue, array: Array, error: Bound) -> None:
        """The value, flat, and its bound."""
        self.values[value], self.errors[value] = array, error
        self.brought[value] = np.zeros(array.size, np.float32) if value in self.restarts else error

    def array(self, value: SSAValue) -> Array:
        """In the shape of its type."""
        return self.values[value].reshape(cast(Tensor, value.type).get_shape())


def weight_of(module: ModuleOp, call: func.CallOp) -> WeightAttr:
    """The constant of the product that a function is."""
    function = SymbolTable.lookup_symbol(module, call.callee)
    assert isinstance(function, func.FuncOp)
    return next(op.weight for op in function.walk() if isinstance(op, SparseConstantOp))


def run(
    module: ModuleOp,
    function: func.FuncOp,
    inputs: Sequence[Array],
    rounded_weights: bool = False,
    restarts: Container[SSAValue] = (),
    exact: bool = False,
) -> Run:
    """All values of a function; inputs in the shapes of its arguments.

    rounded_weights: the bounds hold for the weights that were rounded to the target's type, too. restarts:
    values that the program is given exactly once it has computed them, so that their errors end there. exact:
    errors are those against what the program computes, not against real numbers, as far as no function of
    libm and no product of floats is involved.
    """
    block = function.body.block
    found = Run({}, {}, {}, restarts, exact)
    for argument, array in zip(block.args, inputs, strict=True):
        held = np.ascontiguousarray(array, DTYPES[kind_of(argument)]).reshape(-1)
        found.put(argument, held, np.zeros(held.size, np.float32))
    for op in block.ops:
        match op:
            case ConstantOp():
                array = np.ascontiguousarray(op.value.array, DTYPES[kind_of(op.res)]).reshape(-1)
                found.put(op.res, array, np.zeros(array.size, np.float32))
            case tensor.EmptyOp():
                size = elements_in(op.tensor)
                found.put(op.tensor, np.zeros(size, DTYPES[kind_of(op.tensor)]), np.zeros(size, np.float32))
            case ViewOp():
                found.put(op.res, found.values[op.x], found.brought[op.x])
            case func.CallOp():
                _product(module, op, found, rounded_weights)
            case CallOp():
                _call(op, found)
            case func.ReturnOp():
                break
            case _:
                raise AssertionError(f"{op.name} in a function of the host")
    return found


def _product(module: ModuleOp, call: func.CallOp, found: Run, rounded: bool) -> None:
    """The function of a product: the product itself, and what is fused to it."""
    function = SymbolTable.lookup_symbol(module, call.callee)
    assert isinstance(function, func.FuncOp)
    for argument, value in zip(function.body.block.args, call.arguments, strict=True):
        found.put(argument, found.values[value], found.brought[value])
        found.brought[argument] = found.brought[value]
    weight = weight_of(module, call)
    for op in function.body.block.ops:
        match op:
            case CallOp():
                _call(op, found)
            case EpilogueOp():
                _epilogue(op, found, weight.shape[1])
            case linalg.MatmulOp() | linalg.QuantizedMatmulOp():
                x = next(v for v in op.inputs if not isinstance(v.owner, SparseConstantOp))
                _matmul(weight, x, op.results[0], found, rounded)
            case func.ReturnOp():
                value = op.operands[0]
                found.put(call.results[0], found.values[value], found.errors[value])
            case _:
                constants = SparseConstantOp | ConstantOp | arith.ConstantOp | tensor.EmptyOp | linalg.FillOp
                assert isinstance(op, constants)


def _matmul(weight: WeightAttr, x: SSAValue, y: SSAValue, found: Run, rounded: bool) -> None:
    pattern = weight.pattern
    csr: Any = make_csr(weight.data.astype(np.float64), pattern.indices, pattern.indptr, weight.shape)
    matrix, error = found.array(x), found.brought[x]
    product: Array = csr @ matrix.astype(np.float64)
    if kind_of(y) == "i32":
        # Exact, and what int32 does not hold wraps around.
        exact = error is not None and not error.any()
        sums = product.astype(np.int64).astype(np.int32).reshape(-1)
        found.put(y, sums, np.zeros(sums.size, np.float32) if exact else None)
        return
    narrow = CASTS.get(str(weight.element_type), (0.0, 0.0))[0] if rounded else 0.0
    bound: Bound = None
    if error is not None:
        bound = of_product(csr, matrix, error.reshape(matrix.shape), product, narrow).reshape(-1)
    found.put(y, product.astype(np.float32).reshape(-1), bound)


def _epilogue(op: EpilogueOp, found: Run, terms: int) -> None:
    epilogue, sums = op.epilogue, found.array(op.sums)
    if sums.dtype.kind == "i":
        error = found.brought[op.sums]
        if (activation := epilogue.activation) is not None and error is not None:
            before = replace(epilogue, activation=None).apply(sums).reshape(-1)
            error = of_activation(activation, before, epilogue.apply(sums).reshape(-1), error)
        found.put(op.res, epilogue.apply(sums).reshape(-1), error)
        return
    assert epilogue.scale is None, "floats are not scaled"
    residual = None if op.residual is None else found.array(op.residual).reshape(sums.shape)
    result = epilogue.apply(sums, residual)
    errors = [found.brought[v] for v in (op.sums, op.residual) if v is not None]
    bound: Bound = None
    if all(e is not None for e in errors):
        terms_added = np.zeros(sums.shape)
        if epilogue.bias is not None:
            terms_added += np.abs(epilogue.bias.astype(np.float64))[:, None]
        if residual is not None:
            terms_added += np.abs(residual.astype(np.float64))
        brought = sum((e.reshape(sums.shape) for e in errors if e is not None), np.zeros(sums.shape))
        bound = of_epilogue(sums, terms_added, brought, terms).reshape(-1)
        if epilogue.activation is not None:
            before = replace(epilogue, activation=None).apply(sums, residual).reshape(-1)
            bound = of_activation(epilogue.activation, before, result.reshape(-1), bound)
    found.put(op.res, result.reshape(-1), bound)


def _call(op: CallOp, found: Run) -> None:
    operator, size = op.declaration, elements_in(op.res)
    starts = iter(op.begins)
    values: list[Any] = []
    errors: list[Bound] = []
    result = np.zeros(size, DTYPES[kind_of(op.res)])
    whole: Bound = np.zeros(size, np.float32)
    if op.into is not None:
        result, kept = found.values[op.into].copy(), found.brought[op.into]
        whole = None if kept is None else kept.copy()
    for argument, value in zip(operator.arguments, op.values(), strict=True):
        if argument.kind is Kind.OUTPUT:
            values.append(result[op.result_begins :])
            errors.append(None)
        elif isinstance(value, SSAValue):
            start = next(starts)
            error = found.brought[value]
            values.append(found.values[value][start:])
            errors.append(None if error is None else error[start:])
        else:
            values.append(value)
            errors.append(None)
    narrow = {"f16", "bf16"} & {kind_of(v) for v in (op.res, *op.inputs)}
    if operator.name.startswith("host_cast_") and narrow:
        values[0][:] = values[1][: values[0].size]
    elif narrow:
        # Elements that are only moved, held in four bytes.
        from sparsecc.host.ops import OPERATORS

        OPERATORS[operator.name.removesuffix("_2") + "_4"].reference(*values)
    else:
        with np.errstate(all="ignore"):
            operator.reference(*values)
    bound = _exact(operator, values, errors, values[0]) if found.exact else None
    if bound is None:
        bound = of_call(operator, values, errors, values[0])
    if bound is None or whole is None:
        whole = None
    elif op.into is None:
        whole = bound
    else:
        # Elements that the call does not write keep their bounds.
        written = whole[op.result_begins :]
        np.maximum(written, bound, out=written)
    found.put(op.res, result, whole)


def _exact(operator: HostOperator, values: Sequence[Any], errors: Sequence[Bound], result: Array) -> Bound:
    """No error, of a call that computes the same everywhere; None for others."""
    given = [None if isinstance(v, np.ndarray) else v for v in values]
    inputs = [
        e
        for a, v, e in zip(operator.arguments, values, errors, strict=True)
        if a.kind is Kind.INPUT and v is not None
    ]
    same = operator.cost(*given).functions == 0 and "cast" not in operator.name
    if not same or any(e is None or e.any() for e in inputs):
        return None
    return np.zeros(result.size, np.float32)
