"""Runs modules of the model level, the Sparse IR and the Meta-DFG on numpy arrays.

Values have the accumulator's arithmetic: i8 products are summed up in i32, which wraps around; f16 and bf16
products in f32. A product of the Sparse IR is computed group by group and meta-op by meta-op, so that a wrong
cover gives wrong values.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import arith, func, tensor
from xdsl.dialects.builtin import DenseIntOrFPElementsAttr, FloatAttr, IntegerAttr, ModuleOp, TensorType
from xdsl.dialects.linalg import ops as linalg
from xdsl.dialects.linalg.attrs import IteratorType
from xdsl.ir import Attribute, Block, Operation, SSAValue
from xdsl.ir.affine import AffineDimExpr, AffineMap
from xdsl.traits import SymbolTable
from xdsl.utils.hints import isa

from sparsecc.cover.cells import blocks
from sparsecc.dialects.sparse import ConstantOp, EpilogueOp, SddmmOp, SpmmOp
from sparsecc.elements import array_of, round_to, stored
from sparsecc.errors import UserError

Array = NDArray[Any]

_ACCUMULATORS = {"i8": np.int32, "f16": np.float32, "bf16": np.float32, "f32": np.float32, "f64": np.float64}


@dataclass
class Frame:
    """What is known while a block runs."""

    module: ModuleOp
    values: dict[SSAValue, Array] = field(default_factory=dict[SSAValue, Array])
    space: tuple[int, ...] = ()
    """Extents of the loops of the `linalg.generic` whose body runs."""

    def __getitem__(self, value: SSAValue) -> Array:
        return self.values[value]

    def all(self, values: Sequence[SSAValue]) -> list[Array]:
        return [self.values[value] for value in values]


Handler = Callable[[Any, Frame], Sequence[Array]]


def run_module(module: ModuleOp, *inputs: Array, function: str = "main") -> tuple[Array, ...]:
    """What the function returns for these inputs. Raises UserError for an operation that is not known."""
    return tuple(np.asarray(result, order="C") for result in _call(module, function, inputs))


def _call(module: ModuleOp, name: str, inputs: Sequence[Array]) -> tuple[Array, ...]:
    function = SymbolTable.lookup_symbol(module, name)
    if not isinstance(function, func.FuncOp):
        known = ", ".join(f.sym_name.data for f in module.ops if isinstance(f, func.FuncOp))
        raise UserError(f"the module has no function {name!r}; it has {known or 'none'}")
    arguments = function.body.block.args
    if len(inputs) != len(arguments):
        raise UserError(f"function {name!r} takes {len(arguments)} inputs, found {len(inputs)}")
    arrays = [_input(name, i, a, arg.type) for i, (a, arg) in enumerate(zip(inputs, arguments, strict=True))]
    # Integers wrap around and floats overflow as on the accelerator, without a word.
    with np.errstate(all="ignore"):
        return _run(function.body.block, Frame(module, dict(zip(arguments, arrays, strict=True))))


def _input(function: str, number: int, array: Array, wanted: Attribute) -> Array:
    """The input in the argument's type. Raises UserError when it has another shape or kind."""
    shape = wanted.get_shape() if isa(wanted, TensorType) else ()
    element_type = _element_type(wanted)
    kind = np.float32 if str(element_type) == "bf16" else stored(element_type)
    if array.shape != shape or not np.can_cast(array.dtype, kind, "same_kind"):
        found = f"{array.dtype} {'x'.join(map(str, array.shape))}"
        raise UserError(f"input {number} of function {function!r} is {found}; needed: {wanted}")
    return round_to(array, element_type)


def _run(block: Block, frame: Frame) -> tuple[Array, ...]:
    """Runs the operations up to the terminator; returns its operands."""
    for op in block.ops:
        if isinstance(op, func.ReturnOp | linalg.YieldOp):
            return tuple(frame.all(op.operands))
        if (handler := HANDLERS.get(type(op)) or _network_handler(op) or _cpu_handler(op)) is None:
            raise UserError(
                f"{op.name} cannot be interpreted; lower it to linalg, tensor, arith or sparse first"
            )
        results = handler(op, frame)
        frame.values.update(zip(op.results, results, strict=True))
    raise UserError("the function has no func.return; the module was not verified")


def _cpu_handler(op: Operation) -> Handler | None:
    """How to run a product of the `cpu` dialect."""
    if op.name != "cpu.spmm":
        return None
    from sparsecc.interpreters.cpu import handle  # the kernels' layouts, which others do not need

    return lambda op, frame: handle(op, *frame.all(op.operands))


def _network_handler(op: Operation) -> Handler | None:
    """How to run an operator of the `nn` dialect."""
    if not op.name.startswith("nn."):
        return None
    from sparsecc.interpreters.nn import evaluate  # many modules, which products alone do not need

    return lambda op, frame: evaluate(op, frame.values)


def _element_type(value_type: Attribute) -> Attribute:
    return value_type.element_type if isa(value_type, TensorType) else value_type


def _product(a: Array, b: Array, accumulator: np.dtype[Any]) -> Array:
    """a b in the accumulator's type."""
    if a.dtype == b.dtype == np.int8:
        # Exact in f64, which BLAS multiplies much faster than numpy does integers; the last step wraps
        # around.
        return (a.astype(np.float64) @ b.astype(np.float64)).astype(np.int64).astype(accumulator)
    return a.astype(accumulator) @ b.astype(accumulator)


def _spmm(op: SpmmOp, frame: Frame) -> list[Array]:
    """W X, meta-op by meta-op."""
    x, weight, cover = frame[op.x], op.weight, op.cover()
    accumulator = np.dtype(_ACCUMULATORS[str(weight.element_type)])
    result = np.zeros(op.res.type.get_shape(), accumulator)
    for i, block in enumerate(blocks(cover, weight.pattern, weight.data)):
        result[np.asarray(cover.rows(i))] += _product(block, x[np.asarray(cover.columns(i))], accumulator)
    return [round_to(result, op.res.type.element_type)]


def _sddmm(op: SddmmOp, frame: Frame) -> list[Array]:
    """The points of A B that the mask keeps, meta-op by meta-op; 0 elsewhere."""
    a, b, cover, pattern = frame[op.a], frame[op.b], op.cover(), op.weight.pattern
    accumulator = np.dtype(_ACCUMULATORS[str(op.element_type)])
    computed = np.zeros(op.res.type.get_shape(), accumulator)
    for i in range(len(cover)):
        rows, positions, columns = (
            np.asarray(cover.rows(i)),
            np.asarray(cover.positions(i)),
            np.asarray(cover.columns(i)),
        )
        left, right = a[np.ix_(rows, columns)], b[np.ix_(columns, positions)]
        computed[np.ix_(rows, positions)] += _product(left, right, accumulator)
    result = np.zeros_like(computed)
    points = pattern.row_of(), pattern.indices
    result[points] = computed[points]
    return [round_to(result, op.res.type.element_type)]


def _epilogue(op: EpilogueOp, frame: Frame) -> list[Array]:
    residual = None if op.residual is None else frame[op.residual]
    return [op.epilogue.apply(frame[op.sums], residual)]


def _constant(op: arith.ConstantOp, frame: Frame) -> list[Array]:
    match op.value:
        case IntegerAttr(value=number) | FloatAttr(value=number):
            return [round_to(np.asarray(number.data), op.result.type)]
        case elements if isa(elements, DenseIntOrFPElementsAttr):
            return [array_of(elements)]
        case other:
            raise UserError(f"arith.constant {other} cannot be interpreted; dense elements and numbers can")


def _sparse_constant(op: ConstantOp, frame: Frame) -> list[Array]:
    return [op.weight.dense()]


def _empty(op: tensor.EmptyOp, frame: Frame) -> list[Array]:
    """Ones: what reads an uninitialised tensor gives values that are wrong, and the same each time."""
    result_type = op.tensor.type
    return [round_to(np.ones(result_type.get_shape()), result_type.element_type)]


def _window(offsets: Sequence[int], sizes: Sequence[int], strides: Sequence[int]) -> tuple[slice, ...]:
    return tuple(slice(o, o + n * s, s) for o, n, s in zip(offsets, sizes, strides, strict=True))


def _static_window(op: tensor.ExtractSliceOp | tensor.InsertSliceOp) -> tuple[slice, ...]:
    lists = [op.static_offsets, op.static_sizes, op.static_strides]
    offsets, sizes, strides = ([int(v) for v in values.get_values()] for values in lists)
    if op.offsets or op.sizes or op.strides:
        raise UserError(f"{op.name} with dynamic offsets, sizes or strides cannot be interpreted")
    return _window(offsets, sizes, strides)


def _extract_slice(op: tensor.ExtractSliceOp, frame: Frame) -> list[Array]:
    return [frame[op.source][_static_window(op)].reshape(op.result.type.get_shape())]


def _insert_slice(op: tensor.InsertSliceOp, frame: Frame) -> list[Array]:
    result = frame[op.dest].copy()
    window = _static_window(op)
    result[window] = frame[op.source].reshape(result[window].shape)
    return [result]


def _extract(op: tensor.ExtractOp, frame: Frame) -> list[Array]:
    return [frame[op.tensor][tuple(frame.all(op.indices))]]


def _fill(op: linalg.FillOp, frame: Frame) -> list[Array]:
    init = frame[op.outputs[0]]
    return [np.full(init.shape, frame[op.inputs[0]], init.dtype)]


def _matmul(op: linalg.MatmulOp, frame: Frame) -> list[Array]:
    a, b = frame.all(op.inputs)
    init = frame[op.outputs[0]]
    return [round_to(init + _product(a, b, init.dtype), _element_type(op.res[0].type))]


def _quantized_matmul(op: linalg.QuantizedMatmulOp, frame: Frame) -> list[Array]:
    a, b, a_zero, b_zero = frame.all(op.inputs)
    init = frame[op.outputs[0]]
    if not a_zero and not b_zero:
        return [init + _product(a, b, init.dtype)]
    return [init + (a.astype(init.dtype) - a_zero) @ (b.astype(init.dtype) - b_zero)]


def _transpose(op: linalg.TransposeOp, frame: Frame) -> list[Array]:
    return [frame[op.inputs[0]].transpose([int(d) for d in op.permutation.get_values()])]


def _generic(op: linalg.GenericOp, frame: Frame) -> list[Array]:
    """Parallel loops, all at once: the body runs on arrays that have the extents of the loops."""
    maps = [attribute.data for attribute in op.indexing_maps]
    dimensions = maps[0].num_dims
    outputs = frame.all(op.outputs)
    parallel = all(iterator.data == IteratorType.PARALLEL for iterator in op.iterator_types)
    identity = AffineMap.identity(dimensions)
    if not parallel or any(m != identity for m in maps[len(op.inputs) :]):
        raise UserError(f"{op.name} cannot be interpreted unless its loops are parallel and write in order")
    space = outputs[0].shape
    arguments: list[Array] = []
    for array, indexing_map in zip(frame.all((*op.inputs, *op.outputs)), maps, strict=True):
        loops = [e.position for e in indexing_map.results if isinstance(e, AffineDimExpr)]
        if len(loops) != len(indexing_map.results):
            raise UserError(f"{op.name} cannot be interpreted with the indexing map {indexing_map}")
        ordered = array.transpose(np.argsort(loops))
        spread = ordered.reshape([space[d] if d in loops else 1 for d in range(dimensions)])
        arguments.append(np.broadcast_to(spread, space))
    inside = dict(zip(op.body.block.args, arguments, strict=True))
    results = _run(op.body.block, Frame(frame.module, frame.values | inside, space))
    return [np.broadcast_to(result, space) for result in results]


def _loop_index(op: linalg.IndexOp, frame: Frame) -> list[Array]:
    return [np.indices(frame.space)[op.dim.value.data]]


def _widen(op: arith.ExtFOp | arith.ExtSIOp | arith.TruncFOp, frame: Frame) -> list[Array]:
    return [round_to(frame[op.input], _element_type(op.result.type))]


def _func_call(op: func.CallOp, frame: Frame) -> tuple[Array, ...]:
    return _call(frame.module, op.callee.string_value(), frame.all(op.arguments))


def _elementwise(function: Callable[[Array, Array], Array]) -> Handler:
    """A handler for an operation on two operands; linalg's have a third, which they overwrite."""

    def handler(op: Operation, frame: Frame) -> list[Array]:
        result = function(frame[op.operands[0]], frame[op.operands[1]])
        return [round_to(np.asarray(result), _element_type(op.results[0].type))]

    return handler


HANDLERS: dict[type[Operation], Handler] = {
    ConstantOp: _sparse_constant,
    EpilogueOp: _epilogue,
    SddmmOp: _sddmm,
    SpmmOp: _spmm,
    arith.AddfOp: _elementwise(np.add),
    arith.AddiOp: _elementwise(np.add),
    arith.ConstantOp: _constant,
    arith.ExtFOp: _widen,
    arith.ExtSIOp: _widen,
    arith.MaximumfOp: _elementwise(np.maximum),
    arith.MaxSIOp: _elementwise(np.maximum),
    arith.MinimumfOp: _elementwise(np.minimum),
    arith.MinSIOp: _elementwise(np.minimum),
    arith.MulfOp: _elementwise(np.multiply),
    arith.MuliOp: _elementwise(np.multiply),
    arith.SubfOp: _elementwise(np.subtract),
    arith.SubiOp: _elementwise(np.subtract),
    arith.TruncFOp: _widen,
    func.CallOp: _func_call,
    linalg.AddOp: _elementwise(np.add),
    linalg.FillOp: _fill,
    linalg.GenericOp: _generic,
    linalg.IndexOp: _loop_index,
    linalg.MatmulOp: _matmul,
    linalg.MaxOp: _elementwise(np.maximum),
    linalg.MinOp: _elementwise(np.minimum),
    linalg.MulOp: _elementwise(np.multiply),
    linalg.QuantizedMatmulOp: _quantized_matmul,
    linalg.SubOp: _elementwise(np.subtract),
    linalg.TransposeOp: _transpose,
    tensor.EmptyOp: _empty,
    tensor.ExtractOp: _extract,
    tensor.ExtractSliceOp: _extract_slice,
    tensor.InsertSliceOp: _insert_slice,
}
