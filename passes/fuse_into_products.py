"""Moves what stands around the products of a network into their functions.

After `convert-nn-to-host` a product is a call of a private function. A bias that is added to its result, a
residual, and ReLU, limits or another activation become `sparse.epilogue` in that function; patches that only
the product reads (`host_im2col`) are made in it, so that a target which finds them by address never writes
them; so is a copy that only turns a matrix for the product, which a kernel does while it packs. Engines whose
kernels do all this ask for the pass; the order of what is computed is kept, so values are the same but for
roundings.

Sums of bytes take their bias, too, and one scale, or one per row: what rounds them to bytes, or makes them
floats. For units
whose stores do this (`stores`), what stores do not do stays where it is.

Leaves alone results with other uses, other element types than f32 and i32, functions that are called twice,
and whatever an epilogue does not compute in this order: bias, scale, residual, limits or activation.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import ClassVar, cast

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import FunctionType, ModuleOp, TensorType
from xdsl.ir import Operation, SSAValue
from xdsl.traits import SymbolTable

from sparsecc.codegen.stores import store_of
from sparsecc.dialects.host import CallOp, Tensor, ViewOp, elements_in, kind_of
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.dialects.sparse_epilogue import EpilogueOp
from sparsecc.epilogue import Epilogue
from sparsecc.host.walk import Walk, contiguous
from sparsecc.network.activations import activation_of
from sparsecc.passes.base import SparsePass


@dataclass(frozen=True)
class FuseIntoProductsPass(SparsePass):
    name = "fuse-into-products"
    summary: ClassVar = "moves biases, residuals, limits and patches into the functions of products"
    refuses: ClassVar = "nothing; what it cannot move stays where it is"
    option_help: ClassVar = {
        "patches": "whether patches of convolutions are moved, too",
        "limits": "whether limits other than those of ReLU are moved",
        "turned": "whether a matrix that is turned for the product alone is turned in its function",
        "activations": "which of those other than ReLU and limits are moved: none, exact (leaky ReLU) or all",
        "stores": "whether only what the stores of tensor units do is moved",
    }

    patches: bool = True
    limits: bool = True
    stores: bool = False
    turned: bool = False
    activations: str = "none"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        calls = [o for o in op.walk() if isinstance(o, func.CallOp)]
        for call in calls:
            function = SymbolTable.lookup_symbol(op, call.callee)
            alone = sum(c.callee == call.callee for c in calls) == 1
            if alone and isinstance(function, func.FuncOp) and kind_of(call.results[0]) in ("f32", "i32"):
                if self.patches:
                    _take_patches(call, function)
                if self.turned:
                    _take_turned(call, function)
                _take_epilogue(call, function, self)
        for unused in [o for o in op.walk(reverse=True) if isinstance(o, ConstantOp | ViewOp)]:
            if not list(unused.res.uses):
                unused.detach()
                unused.erase()


def _take_patches(call: func.CallOp, function: func.FuncOp) -> None:
    patches = call.arguments[0].owner
    if isinstance(patches, CallOp) and patches.operator.data.startswith("host_im2col_"):
        _take_copy(patches, call, function)


def _take_turned(call: func.CallOp, function: func.FuncOp) -> None:
    """A copy of X [N, K] to X [K, N]."""
    copy = call.arguments[0].owner
    if not isinstance(copy, CallOp) or copy.operator.data != "host_copy_4":
        return
    if any(isinstance(o, CallOp) for o in function.body.block.ops):
        # What is copied is the image of patches.
        return
    k, n = copy.res.type.get_shape()
    named = dict(zip((a.name for a in copy.declaration.arguments), copy.values(), strict=True))
    walk = Walk.from_table(cast("Sequence[int]", named["walk"]))
    if walk == Walk((k, n), ((n, 1), (1, k))):
        _take_copy(copy, call, function)


def _take_copy(patches: CallOp, call: func.CallOp, function: func.FuncOp) -> None:
    if patches.into is not None or patches.offsets is not None or len(list(patches.res.uses)) != 1:
        return
    block, image = function.body.block, patches.inputs[0]
    old = block.args[0]
    new = block.insert_arg(image.type, 0)
    new.name_hint = "image"
    inside = patches.clone({image: new})
    assert block.first_op is not None
    block.insert_op_before(inside, block.first_op)
    old.replace_all_uses_with(inside.res)
    block.erase_arg(old)
    call.operands[0] = image
    patches.detach()
    patches.erase()
    _retype(function)


def _retype(function: func.FuncOp) -> None:
    block = function.body.block
    results = cast(func.ReturnOp, block.last_op).operands
    function.properties["function_type"] = FunctionType.from_lists(block.arg_types, [o.type for o in results])


@dataclass(frozen=True, eq=False)
class _Found:
    """What may be fused: the epilogue so far, its residual, and the operators it stands for."""

    epilogue: Epilogue
    residual: SSAValue | None
    ops: tuple[Operation, ...]
    result: SSAValue


def _take_epilogue(call: func.CallOp, function: func.FuncOp, asked: FuseIntoProductsPass) -> None:
    accumulator = kind_of(call.results[0])
    found = _Found(Epilogue(accumulator), None, (), call.results[0])
    shape = cast(Tensor, call.results[0].type).get_shape()
    while (more := _next(found, shape, asked)) is not None:
        if asked.stores and store_of(more.epilogue, accumulator) is None:
            break
        found = more
    if found.epilogue.trivial:
        return
    block = function.body.block
    back = cast(func.ReturnOp, block.last_op)
    residual: SSAValue | None = None
    if found.residual is not None:
        residual = block.insert_arg(call.results[0].type, len(block.args))
        residual.name_hint = "residual"
    sums = back.operands[0]
    fused = EpilogueOp.of(sums, found.epilogue, residual)
    block.insert_op_before(fused, back)
    back.operands[0] = fused.res
    _retype(function)
    last, whole = found.ops[-1], call.parent_block()
    assert whole is not None
    operands = list(call.arguments)
    if found.residual is not None:
        flat = _flat(found.residual, call.results[0].type)
        if isinstance(flat, ViewOp):
            whole.insert_op_before(flat, last)
            operands.append(flat.res)
        else:
            operands.append(found.residual)
    new = func.CallOp(call.callee, operands, [fused.res.type])
    new.attributes.update(call.attributes)
    view = ViewOp(new.results[0], cast(Tensor, found.result.type).get_shape())
    whole.insert_ops_before([new, view], last)
    found.result.replace_all_uses_with(view.res)
    for op in reversed([call, *found.ops]):
        op.detach()
        op.erase()


def _flat(value: SSAValue, wanted: object) -> ViewOp | None:
    """A view of a value in the shape of the product; None where it has it."""
    assert isinstance(wanted, TensorType)
    return None if value.type == wanted else ViewOp(value, wanted.get_shape())


def _next(found: _Found, shape: Sequence[int], asked: FuseIntoProductsPass) -> _Found | None:
    """With the operator that alone uses the result, if an epilogue does that."""
    if found.epilogue.activation is not None:
        return None
    if asked.activations != "none" and found.epilogue.element == "f32" and not found.epilogue.limited:
        activated = activation_of(found.result, shape)
        if activated and (asked.activations == "all" or activated.activation.name == "leaky_relu"):
            epilogue = replace(found.epilogue, activation=activated.activation)
            return _Found(epilogue, found.residual, (*found.ops, *activated.ops), activated.result)
    users = [use.operation for use in found.result.uses]
    if len(users) != 1:
        return None
    op, ops, epilogue = users[0], (*found.ops, users[0]), found.epilogue
    if isinstance(op, ViewOp):
        return replace(found, ops=ops, result=op.res)
    if not isinstance(op, CallOp) or op.into is not None or op.offsets is not None or epilogue.limited:
        return None
    named = dict(zip((a.name for a in op.declaration.arguments), op.values(), strict=True))
    if (more := _of_integers(op, named, epilogue, shape[0])) is not None:
        return _Found(more, None, ops, op.res)
    match op.operator.data:
        case "host_relu_f32":
            return _Found(replace(epilogue, low=0.0), found.residual, ops, op.res)
        case "host_clip_f32" if asked.limits:
            low, high = cast(float, named["low"]), cast(float, named["high"])
            if not low <= high:
                return None
            return _Found(replace(epilogue, low=low, high=high), found.residual, ops, op.res)
        case "host_add_f32" | "host_add_i32" if epilogue.scale is None:
            pass
        case _:
            return None
    walk = Walk.from_table(cast("Sequence[int]", named["walk"]))
    arrays = list(op.inputs)
    if len(set(arrays)) < 2 or elements_in(op.res) != math.prod(shape):
        return None
    mine = arrays.index(found.result)
    other = arrays[1 - mine]
    steps = contiguous(walk.extents)
    if walk.strides[0] != steps or walk.strides[1 + mine] != steps:
        return None
    owner = _constant(other)
    if owner is not None:
        if epilogue.bias is not None or found.residual is not None:
            return None
        kind = np.int32 if op.operator.data == "host_add_i32" else np.float32
        flat = np.ascontiguousarray(owner.value.array, kind).reshape(-1)
        # A whole matrix of constants is no bias.
        whole = walk.view(2 - mine, flat).reshape(shape)
        if not (whole == whole[:, :1]).all():
            return None
        bias = np.ascontiguousarray(whole[:, 0])
        return _Found(replace(epilogue, bias=bias), found.residual, ops, op.res)
    if found.residual is not None or walk.strides[2 - mine] != steps or epilogue.element != "f32":
        return None
    return _Found(replace(epilogue, residual=True), other, ops, op.res)


def _of_integers(op: CallOp, named: Mapping[str, object], epilogue: Epilogue, rows: int) -> Epilogue | None:
    """The epilogue with an operator that scales sums in i32, or a ReLU of the bytes they become."""
    operator = op.operator.data
    if operator == "host_relu_i8" and epilogue.element == "i8" and not epilogue.zero:
        return replace(epilogue, low=0.0)
    requantized = operator.startswith("host_requantize_")
    if epilogue.element != "i32" or not (requantized or operator == "host_dequantize_i32"):
        return None
    scale = _constant(cast(SSAValue, named["multiplier" if requantized else "scale"]))
    if scale is None or (not requantized and named["zero"] is not None):
        return None
    # One scale in all, or one for each row.
    array = np.ascontiguousarray(scale.value.array, np.float32).reshape(-1)
    if array.size > 1 and (named["outer"], named["axis"], array.size) != (1, rows, rows):
        return None
    element = operator.removeprefix("host_requantize_").replace("u8", "ui8") if requantized else "f32"
    zero = cast(int, named["zero"]) if requantized else 0
    return replace(epilogue, element=element, scale=array if array.size > 1 else array.reshape(()), zero=zero)


def _constant(value: SSAValue) -> ConstantOp | None:
    owner = value.owner
    while isinstance(owner, ViewOp):
        owner = owner.x.owner
    return owner if isinstance(owner, ConstantOp) else None
