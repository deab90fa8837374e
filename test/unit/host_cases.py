"""Arguments for every operator of the host, and the C library called by its declarations."""

from __future__ import annotations

import ctypes
import math
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from sparsecc.host.operator import Argument, HostOperator, Kind, Product, Record, Window
from sparsecc.host.recurrent import Activation
from sparsecc.host.walk import Walk, broadcast_strides, contiguous
from sparsecc.nn.shapes import window_extents
from sparsecc.toolchain import find_compiler, host_library

Array = NDArray[Any]
Values = dict[str, Any]
Pick = Callable[[int, int], int]
"""A whole number between two, both included."""

DTYPES: dict[str, Any] = {
    "i8": np.int8, "u8": np.uint8, "b8": np.uint8, "i16": np.int16, "f16": np.float16, "bf16": np.uint16,
    "i32": np.int32, "i64": np.int64, "f32": np.float32,
    "any1": np.uint8, "any2": np.uint16, "any4": np.uint32, "any8": np.uint64,
}  # fmt: skip
NUMBERS = {
    "i64": ctypes.c_int64, "i32": ctypes.c_int32, "u32": ctypes.c_uint32, "u64": ctypes.c_uint64,
    "f32": ctypes.c_float,
}  # fmt: skip
# Ties of rounding to whole numbers (also by a scale of a quarter), f16 and bf16 among them.
SPECIAL = [
    0.0, -0.0, math.inf, -math.inf, math.nan, 0.5, -0.5, 1.5, 2.5, 0.125, 0.375, -0.625, 1e-40, 257.0, 259.0,
    2049.0, 2051.0, -2049.0, 2.0**-25, 3 * 2.0**-25, 65519.0, 65520.0, 3e9, -129.0,
]  # fmt: skip


def installed(folder: Path) -> ctypes.CDLL:
    """The library as users have it, made shared in this folder."""
    subprocess.run([os.environ.get("AR", "ar"), "x", host_library()], cwd=folder, check=True)
    shared, parts = folder / "libhost.so", [str(path) for path in folder.glob("*.o")]
    subprocess.run([*find_compiler(), "-shared", *parts, "-lm", "-o", str(shared)], check=True)
    return ctypes.CDLL(str(shared))


SANITIZERS = ["-g", "-O0", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]


def run_sanitized(script: str, build: Callable[[], Path]) -> None:
    """Run a script on the library that gcc builds with SANITIZERS; it must print "ran".

    Python runs with the sanitizer's allocator, so the ends of all arrays are guarded.
    """
    if not shutil.which("gcc"):
        pytest.skip("no gcc, whose sanitizers can be loaded into Python")
    found = subprocess.run(
        ["gcc", "-print-file-name=libasan.so"], check=True, capture_output=True, text=True
    ).stdout.strip()
    if not os.path.isabs(found):
        pytest.skip("gcc has no libasan.so")
    here = Path(script).resolve()
    done = subprocess.run(
        [sys.executable, str(here), str(build())],
        env={
            **os.environ,
            "LD_PRELOAD": found,
            "ASAN_OPTIONS": "detect_leaks=0",
            "PYTHONMALLOC": "malloc",
            "PYTHONPATH": os.pathsep.join([str(here.parent), str(here.parents[2])]),
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert done.stdout == "ran\n"


def bind(library: ctypes.CDLL, op: HostOperator) -> Callable[[Sequence[Any]], int | None]:
    """The C function of an operator, for arguments as its reference takes them."""
    function = library[op.name]
    function.restype = ctypes.c_int64 if op.returns == "int64_t" else None

    def call(values: Sequence[Any]) -> int | None:
        kept: list[Array] = []  # until the call returns

        def passed(argument: Argument, value: Any) -> Any:
            if value is None:
                return ctypes.c_void_p(None)
            if argument.kind is Kind.NUMBER:
                return NUMBERS[argument.type](value)
            if isinstance(value, Record):
                value = np.array(value.numbers(), np.int64)
            elif argument.kind is Kind.TABLE:
                value = np.array(value, DTYPES[argument.type])
            kept.append(value)
            return ctypes.c_void_p(value.ctypes.data)

        return function(*(passed(a, v) for a, v in zip(op.arguments, values, strict=True)))

    return call


class Draw:
    """Random arguments: sizes from `pick`, elements from a generator."""

    def __init__(self, pick: Pick, seed: int):
        self.pick = pick
        self.random = np.random.default_rng(seed)

    def array(self, kind: str, count: int) -> Array:
        """Elements of all magnitudes, special ones of floats among them."""
        dtype = np.dtype(DTYPES[kind])
        if kind == "b8":
            return self.random.integers(0, 2, count).astype(dtype)
        if kind in ("f32", "f16"):
            with np.errstate(over="ignore"):
                return self.floats(count, special=0.2).astype(dtype)
        info = np.iinfo(dtype)
        wide = self.random.integers(info.min, info.max, count, dtype, endpoint=True)
        return np.where(self.random.random(count) < 0.3, wide % np.asarray(4, dtype), wide)

    def floats(self, count: int, special: float = 0.0) -> NDArray[np.float32]:
        values = self.random.normal(0, 1, count) * 10.0 ** self.random.integers(-2, 3, count)
        chosen = self.random.choice(SPECIAL, count)
        with np.errstate(over="ignore"):
            return np.where(self.random.random(count) < special, chosen, values).astype(np.float32)

    def scale(self) -> float:
        return float(np.float32(self.random.uniform(0.004, 0.2)))

    def zero(self, kind: str) -> int:
        info = np.iinfo(DTYPES[kind])
        return int(self.random.integers(info.min, info.max, endpoint=True))


def _elements(op: HostOperator, d: Draw, sizes: dict[str, int], finite: bool = False) -> Values:
    """Arrays of these sizes by name; outputs hold what was there before."""
    found: Values = {}
    for a in op.arguments:
        if a.name in sizes and a.kind in (Kind.OUTPUT, Kind.INPUT):
            plain = finite and a.type == "f32"
            found[a.name] = d.floats(sizes[a.name]) if plain else d.array(a.type, sizes[a.name])
    return found


def _flat(op: HostOperator, d: Draw) -> Values:
    n = d.pick(0, 70)
    numbers = {"alpha": 0.3, "beta": 0.5, "low": -1.25, "high": 6.0}
    return {**_elements(op, d, {"y": n + 2, "x": n}), "n": n, **numbers}


def random_walk(d: Draw, operands: int, same: Sequence[int] = ()) -> Walk:
    """A result in a larger array, operands that are broadcast, or strided and with axes exchanged."""
    shape = [d.pick(1, 5) for _ in range(d.pick(1, 4))]
    wide = [e + d.pick(0, 2) for e in shape]
    strides = [contiguous(wide)]
    for o in range(1, operands):
        if o in same:
            strides.append(strides[0])
        elif d.pick(0, 2):
            kept = [e if d.pick(0, 3) else 1 for e in shape]
            strides.append(broadcast_strides(kept, shape))
        else:
            order: list[int] = d.random.permutation(len(shape)).tolist()
            steps = contiguous([wide[i] for i in order])
            strides.append(tuple(steps[order.index(i)] for i in range(len(shape))))
    if d.pick(0, 5) == 0:
        shape[d.pick(0, len(shape) - 1)] = 0
    return Walk.of(shape, *strides)


def reach(walk: Walk, operand: int) -> int:
    """How many elements of an operand there must be."""
    pairs = zip(walk.extents, walk.strides[operand], strict=True)
    return 1 + sum(max(0, e - 1) * s for e, s in pairs)


def _walked(op: HostOperator, d: Draw) -> Values:
    names = [a.name for a in op.arguments if a.kind in (Kind.OUTPUT, Kind.INPUT)]
    walk = random_walk(d, len(names))
    sizes = {name: reach(walk, o) for o, name in enumerate(names)}
    values = {**_elements(op, d, sizes), "walk": walk.table()}
    for name in ("a", "b", "y"):
        values |= {f"{name}_scale": d.scale(), f"{name}_zero": d.zero("i8" if "i8" in op.name else "u8")}
    return values


def _axis(op: HostOperator, d: Draw) -> Values:
    outer, axis, inner = d.pick(0, 3), d.pick(1, 9), d.pick(0, 3) * d.pick(0, 40) + 1
    count = outer * axis * inner
    summed = not re.search("max|min", op.name)
    sizes = {
        "y": count,
        "x": count,
        **dict.fromkeys(("scale", "bias", "mean", "variance", "multiplier"), axis),
    }
    sizes["zero"] = axis
    values = _elements(op, d, sizes, finite=summed and "quantize" not in op.name)
    for name in ("variance", "multiplier", *(["scale"] if "quantize" in op.name else [])):
        if name in values:
            values[name] = np.abs(values[name]) + np.float32(0.01)
    if "quantize" in op.name and "scale" in values:
        values["scale"][:: d.pick(1, 3)] = 0.25
    if "requantize" in op.name:
        values |= {"multiplier": values["multiplier"] * np.float32(1e-7), "zero": d.zero(op.name[-2:])}
        if d.pick(0, 1):  # ties
            values["multiplier"][:] = 0.5
            values["x"] = values["x"] % 300
    for a in op.arguments:
        if a.optional and d.pick(0, 2) == 0:
            values[a.name] = None
    if "_q_" in op.name:
        for name in ("x", "y"):
            values |= {f"{name}_scale": d.scale(), f"{name}_zero": d.zero(op.name[-2:])}
    return {**values, "outer": outer, "axis": axis, "inner": inner, "last": d.pick(0, 1), "epsilon": 1e-5}


def random_window(d: Draw, outer: int) -> Window:
    """Windows of which some may lie in the padding or beyond it; at times only some rows of results."""
    extents = (d.pick(1, 9), d.pick(1, 9))
    while True:
        kernel = (d.pick(1, min(4, extents[0] + 1)), d.pick(1, min(4, extents[1] + 1)))
        strides, dilations = (d.pick(1, 3), d.pick(1, 3)), (d.pick(1, 2), d.pick(1, 2))
        pads = tuple(d.pick(0, k) for k in (*kernel, *kernel))
        spans = [(k - 1) * e + 1 for k, e in zip(kernel, dilations, strict=True)]
        rooms = [extents[i] + pads[i] + pads[2 + i] - spans[i] for i in range(2)]
        if min(rooms) >= 0:
            break
    out = window_extents(extents, kernel, strides, pads, dilations, bool(d.pick(0, 1)))
    first = d.pick(0, out[0] - 1) if d.pick(0, 3) == 0 else 0
    return Window(
        outer, *extents, d.pick(0, 2) * d.pick(0, 33) + 1, out[0] - first, out[1],
        *kernel, *strides, *dilations, pads[0] - first * strides[0], pads[1], pads[2], pads[3],
    )  # fmt: skip


def _pool(op: HostOperator, d: Draw) -> Values:
    w = random_window(d, d.pick(1, 3))
    values = _elements(op, d, {"y": w.results, "x": w.elements}, finite="average" in op.name)
    for name in ("x", "y"):
        values |= {f"{name}_scale": d.scale(), f"{name}_zero": d.zero("u8" if "u8" in op.name else "i8")}
    # Rows of a part have no padding of their own below; averages are tested whole.
    padding = int(w.pad_top >= 0 and d.pick(0, 1))
    return {**values, "window": w, "count_padding": padding}


def _im2col(op: HostOperator, d: Draw) -> Values:
    w = random_window(d, d.pick(1, 3))
    every = w.outer * w.kernel
    listed = d.pick(0, 1)
    rows = sorted(d.random.choice(every, d.pick(0, every), replace=False).tolist()) if listed else None
    count = every if rows is None else len(rows)
    sizes = {"y": every * w.out_height * w.out_width * w.inner, "x": w.elements}
    fill = d.pick(0, 200)
    return {**_elements(op, d, sizes), "window": w, "rows": rows, "count": count, "fill": fill}


def _depthwise(op: HostOperator, d: Draw) -> Values:
    of_x, multiplier, images = d.pick(1, 3), d.pick(1, 2), d.pick(1, 2)
    channels = of_x * multiplier
    w = random_window(d, channels * images)
    sizes = {"y": w.results, "x": w.elements // multiplier, "bias": channels}
    values = _elements(op, d, sizes, finite=True)
    exact = "f32" not in op.name
    weight = d.random.integers(-255, 256, channels * w.kernel).astype(np.int16)
    values["weight"] = weight if exact else d.floats(weight.size)
    values["weight"][d.random.random(weight.size) < 0.3] = 0
    if "_q_" in op.name:
        values["weight"] = weight.astype(np.int8).astype(np.int16)
        count = channels if d.pick(0, 1) else 1
        scale = np.abs(d.floats(count)).astype(np.float32) * np.float32(1e-3)
        values |= {"scale": np.where(scale > 0, scale, np.float32(0.01)), "scales": count}
        values["y_zero"] = d.zero(op.name[-2:])
    values["bias"] = None if d.pick(0, 2) == 0 else values["bias"]
    x_zero = d.zero(op.name[-2:]) if exact else 0
    return {**values, "window": w, "channels": channels, "multiplier": multiplier, "x_zero": x_zero}


def _remap(op: HostOperator, d: Draw) -> Values:
    outer, height, width, inner = d.pick(1, 3), d.pick(1, 6), d.pick(1, 6), d.pick(1, 4)
    rows = d.random.integers(-1, height, d.pick(0, 7)).tolist() if d.pick(0, 3) else None
    columns = d.random.integers(-1, width, d.pick(0, 7)).tolist() if d.pick(0, 3) else None
    out = (height if rows is None else len(rows), width if columns is None else len(columns))
    values = _elements(op, d, {"y": outer * math.prod(out) * inner + 1, "x": outer * height * width * inner})
    extents = {"outer": outer, "height": height, "width": width, "inner": inner}
    maps = {"rows": rows, "columns": columns, "fill": d.pick(0, 255)}
    return {**values, **extents, "out_height": out[0], "out_width": out[1], **maps}


def _gather(op: HostOperator, d: Draw) -> Values:
    outer, axis, inner, count = d.pick(0, 3), d.pick(1, 9), d.pick(1, 4), d.pick(0, 9)
    slack = int(d.pick(0, 4) == 0)  # at times an index may be outside
    indices = d.random.integers(-axis - slack, axis + slack, count)
    values = _elements(op, d, {"y": outer * count * inner, "x": outer * axis * inner})
    values["indices"] = indices.astype(DTYPES[op.name[-3:]])
    return {**values, "outer": outer, "axis": axis, "inner": inner, "count": count}


def random_product(d: Draw, deep: int = 3) -> tuple[Product, Walk]:
    """Operands that may be transposed, contiguous, batch first or batch last; one may be shared."""
    m, n = d.pick(1, 7), d.pick(1, 19)
    k = (d.pick(0, 9), d.pick(1, 3), 300 + d.pick(0, 9))[min(d.pick(0, deep), 2)]
    batch = [d.pick(1, 3), d.pick(1, 5)]
    last = d.pick(0, 1)

    def place(rows: int, columns: int) -> tuple[tuple[int, int], tuple[int, int]]:
        across = d.pick(0, 1)
        shape = [columns, rows] if across else [rows, columns]
        steps = contiguous([*shape, *batch] if last else [*batch, *shape])
        row, column = steps[:2] if last else steps[2:]
        return ((column, row) if across else (row, column)), (steps[2:] if last else steps[:2])  # pyright: ignore[reportReturnType]

    (y, y_batch), (a, a_batch), (b, b_batch) = place(m, n), place(m, k), place(k, n)
    shared = d.pick(0, 3)
    a_batch = (0, 0) if shared == 1 else a_batch
    b_batch = (0, 0) if shared == 2 else b_batch
    steps = (d.pick(0, 1), d.pick(0, 1))
    return Product(m, n, k, *y, *a, *b, *steps), Walk.of(batch, y_batch, a_batch, b_batch)


def _matmul(op: HostOperator, d: Draw) -> Values:
    p, walk = random_product(d)
    tail = [(p.m, p.y_row, p.n, p.y_col), (p.m, p.a_row, p.k, p.a_col), (p.k, p.b_row, p.n, p.b_col)]
    sizes = {
        name: reach(walk, o) + max(0, e - 1) * s + max(0, f - 1) * t
        for o, (name, (e, s, f, t)) in enumerate(zip(("y", "a", "b"), tail, strict=True))
    }
    sizes |= {"a_zero": p.m, "b_zero": p.n}
    values = _elements(op, d, sizes, finite=True)
    for name in ("a_zero", "b_zero"):
        if d.pick(0, 2) == 0:
            values[name] = None
    return {**values, "product": p, "batch": walk.table()}


def _pattern(d: Draw, m: int, n: int) -> tuple[list[int], list[int]]:
    mask = d.random.random((m, n)) < 0.4
    return [0, *np.cumsum(mask.sum(1)).tolist()], np.nonzero(mask)[1].tolist()


def _spmm(op: HostOperator, d: Draw) -> Values:
    m, k, n = d.pick(1, 6), d.pick(1, 8), d.pick(1, 3) * d.pick(1, 40)
    first, column = _pattern(d, m, k)
    y_pitch, x_pitch = n + d.pick(0, 3), n + d.pick(0, 3)
    sizes = {"y": m * y_pitch, "x": k * x_pitch, "bias": m, "values": max(1, len(column))}
    values = _elements(op, d, sizes, finite=True)
    if "f32" not in op.name:
        values["values"] = (values["values"] % 256).astype(np.int16)
    values["bias"] = None if d.pick(0, 2) == 0 else values["bias"]
    extents = {"m": m, "n": n, "y_pitch": y_pitch, "x_pitch": x_pitch}
    return {**values, "row_first": first, "column": column, **extents, "x_zero": d.pick(0, 100)}


def _sddmm(op: HostOperator, d: Draw) -> Values:
    m, n, k = d.pick(1, 6), d.pick(1, 6), d.pick(0, 8)
    first, column = _pattern(d, m, n)
    a, b = ((k, 1) if d.pick(0, 1) else (1, m)), ((n, 1) if d.pick(0, 1) else (1, k))
    sizes = {"values": max(1, len(column)), "a": max(1, m * k), "b": max(1, k * n)}
    product = Product(m, n, k, 0, 0, *a, *b)
    return {**_elements(op, d, sizes, finite=True), "row_first": first, "column": column, "product": product}


def _csr_softmax(op: HostOperator, d: Draw) -> Values:
    outer, m, inner = d.pick(1, 3), d.pick(1, 5), d.pick(1, 4)
    first, column = _pattern(d, m, 7)
    count = max(1, outer * len(column) * inner)
    values = _elements(op, d, {"y": count, "x": count}, finite=True)
    return {**values, "row_first": first, "outer": outer, "m": m, "inner": inner, "scale": 0.125}


def _lookup(op: HostOperator, d: Draw) -> Values:
    n = d.pick(0, 70)
    return {**_elements(op, d, {"y": n + 1, "x": n, "table": 256}), "n": n}


def _dynamic(op: HostOperator, d: Draw) -> Values:
    n = d.pick(0, 70)
    values = _elements(op, d, {"y": n, "scale": 1, "zero": 1, "x": n}, finite=True)
    return {**values, "x": values["x"] * np.float32(d.pick(0, 3) - 1), "n": n}


def _recurrent(op: HostOperator, d: Draw) -> Values:
    outer, hidden, inner = d.pick(1, 3), d.pick(1, 5), d.pick(1, 5)
    size, gates = outer * hidden * inner, 4 if "lstm" in op.name else 3
    of_r = {"host_gru_kept_f32": 2, "host_gru_update_f32": 2}.get(op.name, gates)
    states = dict.fromkeys(("h", "c", "c_before", "h_before", "of_kept", "kept"), size)
    values = _elements(op, d, {**states, "x": gates * size, "r": of_r * size, "peephole": 3 * hidden}, True)
    values = {name: np.clip(a, -8, 8) for name, a in values.items()}
    if "peephole" in values and d.pick(0, 1):
        values["peephole"] = None
    chosen = {name: d.pick(0, len(Activation) - 1) for name in ("f", "g", "final")}
    extents = {"outer": outer, "hidden": hidden, "inner": inner}
    return {**values, **extents, **chosen, "limit": (0.0, 0.75)[d.pick(0, 1)], "input_forget": d.pick(0, 1)}


_BUILDERS: list[tuple[str, Callable[[HostOperator, Draw], Values]]] = [
    ("lookup", _lookup), ("dynamic", _dynamic), ("csr_softmax", _csr_softmax), ("sddmm", _sddmm),
    ("spmm", _spmm), ("matmul", _matmul), ("gather", _gather), ("remap", _remap), ("depthwise", _depthwise),
    ("im2col", _im2col), ("pool", _pool), ("lstm|gru", _recurrent),
]  # fmt: skip


def case(op: HostOperator, d: Draw) -> list[Any]:
    """Arguments of an operator, in its order."""
    names = {a.name for a in op.arguments}
    build = next((b for pattern, b in _BUILDERS if re.search(pattern, op.name)), None)
    if build is None:
        build = _walked if "walk" in names else _axis if "axis" in names else _flat
    values = build(op, d)
    return [values[a.name] for a in op.arguments]


def copied(values: Sequence[Any]) -> list[Any]:
    """The same arguments, with arrays of their own."""
    return [v.copy() if isinstance(v, np.ndarray) else v for v in values]


def outputs(op: HostOperator, values: Sequence[Any]) -> list[Array]:
    """The arrays that a call wrote."""
    return [v for a, v in zip(op.arguments, values, strict=True) if a.kind is Kind.OUTPUT]


def assert_same(op: HostOperator, found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Every element of the outputs equal; where libm is called, within its last digits."""
    functions = op.name.split("_")[1] in INEXACT
    for have, need in zip(outputs(op, found), outputs(op, wanted), strict=True):
        if functions and need.dtype == np.float32:
            np.testing.assert_allclose(have, need, rtol=2.0**-22, atol=2.0**-40, err_msg=op.name)
        else:
            np.testing.assert_array_equal(have, need, op.name)


# Softmax and recurrent steps carry a difference in the last place of a function on.
INEXACT = (
    "exp", "log", "erf", "sin", "cos", "tanh", "sigmoid", "silu", "gelu", "softplus", "elu", "pow",
    "softmax", "csr", "lstm", "gru",
)  # fmt: skip
