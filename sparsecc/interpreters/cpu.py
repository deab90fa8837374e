"""Runs products of the CPU's machine level in numpy, from the arrays that the kernels read."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from sparsecc.cpu.arrays import (
    SLICE_ROWS,
    VECTOR_COLUMNS,
    VECTOR_ROWS,
    csr_arrays,
    dense_array,
    line_arrays,
    sliced_arrays,
    vector_arrays,
)
from sparsecc.cpu.line import make_plan
from sparsecc.cpu.pairs import PAIR_COLUMNS, THERE, Shared, paired_arrays
from sparsecc.cpu.rounds import SIX, blocks_of_step, round_arrays
from sparsecc.cpu.variant import Variant, row_order
from sparsecc.cpu.words import Element, as_words
from sparsecc.dialects.cpu import SpmmOp
from sparsecc.importers.matrix import Csr, make_csr

Array = NDArray[Any]
# Rows of any whole number: the layout is the same for each.
DENSE_ROWS = 6


def handle(op: SpmmOp, x: Array) -> tuple[Array]:
    """What a `cpu.spmm` returns."""
    pattern = op.weight.pattern
    w = make_csr(op.weight.data, pattern.indices, pattern.indptr, op.weight.shape)
    element = str(op.weight.element_type)
    if element == "f32":
        return (spmm(w, op.variant, x),)
    return (narrow(w, op.variant, x, cast(Element, element)),)


# Elements of a word, where the instructions take the most of them.
DEPTH: dict[Element, int] = {"i8": 4, "bf16": 2, "f16": 1}


def narrow(w: Csr, variant: Variant, x: Array, element: Element) -> Array:
    """W x [M, N] of a narrow type, in int32 (which wraps) or float32, from words in the variant's layout."""
    words = as_words(w, element, DEPTH[element])
    stored = replace(words, csr=_stored(words.csr, variant)).matrix()
    found = stored.toarray()
    dense = np.pad(found, ((0, 0), (0, w.shape[1] - found.shape[1])))
    if element == "i8":
        return (dense.astype(np.int64) @ x.astype(np.int64)).astype(np.int32)
    return dense.astype(np.float32) @ x.astype(np.float32)


def _stored(w: Csr, variant: Variant) -> Csr:
    """A matrix of words as the variant's layout has it."""
    match variant.kind:
        case "line":
            return _line(w, variant)
        case "csr":
            return _csr(w)
        case "vector":
            return _vector(w)
        case "dense":
            panels = dense_array(w, DENSE_ROWS)
            rows = panels.transpose(0, 2, 1).reshape(-1, w.shape[1])[: w.shape[0]]
            at, columns = np.nonzero(np.ascontiguousarray(rows).view(np.uint32))
            return _matrix(w, at, columns, rows[at, columns])


def spmm(w: Csr, variant: Variant, x: Array) -> Array:
    """W x [M, N], in float32, where each nonzero is taken from where the variant puts it."""
    match variant.kind:
        case "line":
            return _line(w, variant) @ x
        case "csr":
            return _csr(w, variant.by_rows) @ x
        case "vector":
            if variant.rounds:
                return _rounds(w) @ x
            if variant.pairs:
                return _paired(w, variant.pairs) @ x
            return (_sliced(w) if variant.sliced else _vector(w)) @ x
        case "dense":
            panels = dense_array(w, DENSE_ROWS)
            rows = panels.transpose(0, 2, 1).reshape(-1, w.shape[1])
            return rows[: w.shape[0]] @ x


def _matrix(w: Csr, rows: Array, columns: Array, values: Array) -> Csr:
    """The matrix of these entries, in any order."""
    order = np.lexsort((columns, rows))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=w.shape[0]))])
    return make_csr(values[order], columns[order], indptr, w.shape)


def _line(w: Csr, variant: Variant) -> Csr:
    plan = make_plan(w, variant.height, variant.columns, row_order(w, variant))
    arrays = line_arrays(plan, w.data, None)
    chunk = np.repeat(np.arange(len(plan.ends) - 1), np.diff(plan.ends))
    block, group = chunk // plan.groups, chunk % plan.groups
    rows = plan.rows[block, group * plan.height + plan.slot]
    return _matrix(w, rows, block * plan.width + plan.column, arrays.values[: plan.nnz])


def _csr(w: Csr, by_rows: bool = False) -> Csr:
    a = csr_arrays(w, by_rows=by_rows)
    sizes = np.diff(a.begin, axis=1)
    rows = np.repeat(a.rows.reshape(-1), sizes.reshape(-1))
    block = np.repeat(np.arange(a.blocks), sizes.sum(1))
    columns = block * a.width + a.entries["column"].astype(np.int64)
    return _matrix(w, rows, columns, a.entries["value"])


def _vector(w: Csr) -> Csr:
    a = vector_arrays(w)
    tile = np.repeat(np.arange(len(a.places)), np.repeat(a.stretches["steps"], a.stretches["tiles"]))
    slab = np.repeat(np.arange(len(a.slabs) - 1), np.diff(a.slabs["tile"]))
    group = a.slabs["group"][slab] + a.places["group"]
    step, lane = np.nonzero(a.masks[:, None] >> np.arange(VECTOR_ROWS) & 1)
    rows = a.rows[group[tile[step]] * VECTOR_ROWS + lane]
    columns = a.places["tile"][tile[step]].astype(np.int64) * VECTOR_COLUMNS + a.columns[step, lane]
    return _matrix(w, rows, columns, a.values[step, lane])


def _sliced(w: Csr) -> Csr:
    a = sliced_arrays(w)
    slices = np.repeat(a.stretches["steps"], a.stretches["tiles"])
    at = np.repeat(np.arange(len(slices)), slices)
    step, lane = np.nonzero(a.masks[:, None] >> np.arange(SLICE_ROWS) & 1)
    rows = a.rows[at[step] * SLICE_ROWS + lane]
    return _matrix(w, rows, a.columns[step, lane].astype(np.int64), a.values[step, lane])


def _paired(w: Csr, shared: Shared) -> Csr:
    a = paired_arrays(w, shared)
    steps = np.repeat(a.stretches["steps"], a.stretches["tiles"])
    at = np.repeat(np.arange(len(steps)), steps)
    step, lane = np.nonzero(a.columns & THERE)
    second, column = np.divmod(a.columns[step, lane] % THERE, PAIR_COLUMNS)
    columns = a.pairs[step // shared, second].astype(np.int64) + column
    return _matrix(w, a.rows[at[step] * VECTOR_ROWS + lane], columns, a.values[step, lane])


def _rounds(w: Csr) -> Csr:
    a = round_arrays(w)
    steps = a.steps.reshape(-1).astype(np.int64)
    run = np.repeat(np.arange(len(steps)), steps)
    left = np.cumsum(steps)[run] - 1 - np.arange(len(run))
    six = np.cumsum(-(-steps // SIX))[run] - 1 - left // SIX
    picks = a.picks[six].astype(np.int64) >> (5 * (left % SIX))[:, None] & 31
    at, lane = np.nonzero(picks != 15)
    second, column = np.divmod(picks[at, lane], 16)
    block = blocks_of_step(int(steps.max(initial=0)))[left[at], second]
    chunk, group = np.divmod(run[at], a.steps.shape[1])
    rows = [a.rows[group * VECTOR_ROWS + lane], a.single_rows]
    columns = [chunk * a.columns + a.starts[block] + column, a.single_columns.astype(np.int64)]
    values = [a.values[at, lane], a.singles]
    return _matrix(w, np.concatenate(rows), np.concatenate(columns), np.concatenate(values))
