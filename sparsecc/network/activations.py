"""Finds the activation that follows a value in a network of host calls: one call, or several together.

Several are x times a gate (SiLU from a sigmoid, hard swish), a slope for each row below 0 (PReLU), and GELU
as exporters write it, x (erf(x / sqrt 2) + 1) / 2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from xdsl.ir import Operation, SSAValue

from sparsecc.dialects.host import CallOp, ViewOp, elements_in
from sparsecc.dialects.nn_base import ConstantOp
from sparsecc.epilogue import ACTIVATIONS, Activation
from sparsecc.host.walk import Walk, contiguous

_GATES = {"sigmoid": "silu", "hard_sigmoid": "hard_swish"}


@dataclass(frozen=True)
class Found:
    """An activation, and all operations that it stands for, users after what they use."""

    activation: Activation
    ops: tuple[Operation, ...]
    result: SSAValue


@dataclass(frozen=True)
class _Use:
    call: CallOp
    views: tuple[ViewOp, ...]
    value: SSAValue
    """As the call takes it."""

    @property
    def name(self) -> str:
        return self.call.operator.data


def activation_of(value: SSAValue, shape: Sequence[int]) -> Found | None:
    """What alone uses a value in f32 of this shape [M, N]; None where it is no activation."""
    uses = _uses(value)
    if uses is None:
        return None
    match len(uses):
        case 1:
            return _single(uses[0])
        case 2:
            return _gated(uses) or _gelu(uses)
        case 3:
            return _sloped(uses, shape)
        case _:
            return None


def _uses(value: SSAValue) -> list[_Use] | None:
    """All calls that use a value, through views; None where something else does, or not in this way."""
    found: list[_Use] = []
    for use in value.uses:
        op = use.operation
        if isinstance(op, ViewOp):
            more = _uses(op.res)
            if more is None:
                return None
            found += [_Use(u.call, (op, *u.views), u.value) for u in more]
        elif isinstance(op, CallOp) and op.into is None and op.offsets is None:
            if not any(u.call is op for u in found):
                found.append(_Use(op, (), value))
        else:
            return None
    return found


def _only_use(value: SSAValue) -> _Use | None:
    uses = _uses(value)
    return uses[0] if uses and len(uses) == 1 else None


def _numbers(call: CallOp) -> tuple[float, ...]:
    """Those that a function of one operand takes besides the count."""
    named = zip(call.declaration.arguments, call.values(), strict=True)
    return tuple(float(np.float32(cast(float, v))) for a, v in named if a.name in ("alpha", "beta"))


def _name(call: CallOp) -> str:
    return call.operator.data.removeprefix("host_").removesuffix("_f32")


def _activation(call: CallOp) -> Activation | None:
    if not call.operator.data.endswith("_f32") or _name(call) not in ACTIVATIONS:
        return None
    found = Activation(_name(call), _numbers(call))
    return None if found.broken() else found


def _single(use: _Use) -> Found | None:
    activation = _activation(use.call)
    return activation and Found(activation, (*use.views, use.call), use.call.res)


def _elementwise(call: CallOp, *operands: SSAValue) -> bool:
    """Whether a call takes these values, and walks over them and its result in their order."""
    walk = _walk(call)
    if walk is None or any(o not in call.inputs for o in operands):
        return False
    steps = contiguous(walk.extents)
    places = [0, *(1 + list(call.inputs).index(o) for o in operands)]
    sizes = {elements_in(call.res), math.prod(walk.extents), *(elements_in(o) for o in operands)}
    return len(sizes) == 1 and all(walk.strides[p] == steps for p in places)


def _walk(call: CallOp) -> Walk | None:
    named = dict(zip((a.name for a in call.declaration.arguments), call.values(), strict=True))
    return Walk.from_table(cast("Sequence[int]", named["walk"])) if "walk" in named else None


def _constant(value: SSAValue) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]] | None:
    owner = value.owner
    while isinstance(owner, ViewOp):
        owner = owner.x.owner
    if not isinstance(owner, ConstantOp):
        return None
    return np.ascontiguousarray(owner.value.array, np.float32).reshape(-1)


def _number(call: CallOp, beside: SSAValue) -> float | None:
    """The one number that a call of two operands takes beside a value."""
    others = [v for v in call.inputs if v is not beside]
    found = _constant(others[0]) if len(others) == 1 else None
    return float(found[0]) if found is not None and found.size == 1 else None


def _gated(uses: Sequence[_Use]) -> Found | None:
    """x f(x)."""
    for gate, product in (uses, uses[::-1]):
        activation = _activation(gate.call)
        if activation is None or activation.name not in _GATES or product.name != "host_mul_f32":
            continue
        after = _only_use(gate.call.res)
        if after and after.call is product.call and _elementwise(product.call, product.value, after.value):
            whole = Activation(_GATES[activation.name], activation.numbers)
            ops = (*gate.views, *product.views, gate.call, *after.views, product.call)
            return Found(whole, tuple(dict.fromkeys(ops)), product.call.res)
    return None


def _sloped(uses: Sequence[_Use], shape: Sequence[int]) -> Found | None:
    """x < 0 ? slope x : x, one slope for each row."""
    by_name = {use.name: use for use in uses}
    if set(by_name) != {"host_less_f32", "host_mul_f32", "host_where_4"}:
        return None
    less, product, where = (by_name[name] for name in ("host_less_f32", "host_mul_f32", "host_where_4"))
    condition, scaled = _only_use(less.call.res), _only_use(product.call.res)
    if not (condition and scaled and condition.call is scaled.call is where.call):
        return None
    order = list(where.call.inputs)
    if order != [condition.value, scaled.value, where.value] or not _elementwise(where.call, *order):
        return None
    zero_on_the_right = less.call.inputs[0] is less.value and _number(less.call, less.value) == 0.0
    if not (zero_on_the_right and _elementwise(less.call, less.value)):
        return None
    walk, mine = _walk(product.call), list(product.call.inputs).index(product.value)
    slopes = _constant(product.call.inputs[1 - mine])
    if walk is None or slopes is None or not _elementwise(product.call, product.value):
        return None
    each = walk.view(2 - mine, slopes).reshape(shape)
    if not (each == each[:, :1]).all():
        return None
    views = (*less.views, *product.views, *where.views)
    ops = (*views, less.call, *condition.views, product.call, *scaled.views)
    activation = Activation("leaky_relu", slopes=tuple(map(float, each[:, 0])))
    return Found(activation, (*dict.fromkeys(ops), where.call), where.call.res)


def _gelu(uses: Sequence[_Use]) -> Found | None:
    """x (erf(x / sqrt 2) + 1) / 2, halved before or after."""
    for inner, outer in (uses, uses[::-1]):
        by = _number(inner.call, inner.value)
        scaled = {"host_div_f32": math.sqrt(2), "host_mul_f32": math.sqrt(0.5)}.get(inner.name)
        on_the_left = inner.call.inputs[0] is inner.value or inner.name == "host_mul_f32"
        if by is None or scaled is None or not on_the_left or not math.isclose(by, scaled, rel_tol=1e-6):
            continue
        erf = _only_use(inner.call.res)
        raised = _only_use(erf.call.res) if erf and erf.name == "host_erf_f32" else None
        if not erf or not raised or raised.name != "host_add_f32" or _number(raised.call, raised.value) != 1:
            continue
        after = _only_use(raised.call.res)
        if not after or after.name != "host_mul_f32" or outer.name != "host_mul_f32":
            continue
        chain = (*inner.views, inner.call, *erf.views, erf.call, *raised.views, raised.call, *after.views)
        if after.call is outer.call:
            # (x (1 + erf)) / 2
            halved = _only_use(outer.call.res)
            last = halved and halved.name == "host_mul_f32" and _number(halved.call, halved.value) == 0.5
            if not halved or not last or not _elementwise(outer.call, outer.value, after.value):
                continue
            ops, result = (*outer.views, *chain, outer.call, *halved.views, halved.call), halved.call
            checked = [(halved.call, halved.value)]
        elif _number(outer.call, outer.value) == 0.5:
            # (x / 2) (1 + erf)
            half = _only_use(outer.call.res)
            if half is None or half.call is not after.call:
                continue
            if not _elementwise(after.call, half.value, after.value):
                continue
            ops, result = (*outer.views, outer.call, *half.views, *chain, after.call), after.call
            checked = [(outer.call, outer.value)]
        else:
            continue
        checked += [(inner.call, inner.value), (raised.call, raised.value)]
        if all(_elementwise(call, value) for call, value in checked):
            return Found(Activation("gelu"), tuple(dict.fromkeys(ops)), result.res)
    return None
