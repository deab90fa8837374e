"""sparse-reorder: orders of channels carried through networks; outputs stay, and so do all values but moved."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from test_propagate import body, features, images, tokens
from xdsl.context import Context
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, i64
from xdsl.ir import Operation

from sparsecc.dialects.nn_base import shape_of
from sparsecc.importers.onnx_file import import_model
from sparsecc.interpreters.sparse import run_module
from sparsecc.passes.sparse_reorder import Channels, SparseReorderPass

Array = NDArray[Any]
Rng = np.random.Generator


def random_orders(module: ModuleOp, rng: Rng) -> dict[Operation, list[int]]:
    """For some products an order of all rows that may change places."""
    found: dict[Operation, list[int]] = {}
    channels = Channels.of(body(module))
    ordered: set[int] = set()
    for op in channels.rules:
        axes = channels.axes(op)
        if axes is None or axes[0] not in channels.atoms.of:
            continue
        here = channels.atoms.of[axes[0]]
        exchange = np.arange(len(channels.atoms.block))
        for block in np.unique(channels.atoms.block[here]).tolist():
            members = np.flatnonzero(channels.atoms.block == block)
            if block >= 0 and block not in ordered:
                ordered.add(block)
                exchange[members] = rng.permutation(members)
        moved = channels.atoms.moved(exchange)
        if moved is not None and axes[0] in moved:
            found[op] = moved[axes[0]].tolist()
    return found


@pytest.mark.parametrize("make", [images, features, tokens])
@given(seed=st.integers(0, 2**32 - 1))
@settings(max_examples=40, deadline=None)
def test_outputs_stay(make: Callable[[Rng], onnx.ModelProto], seed: int):
    rng = np.random.default_rng(seed)
    module = import_model(make(rng), "model", Path())
    x = rng.standard_normal(shape_of(body(module).args[0])).astype(np.float32)
    before = run_module(module, x)
    for op, order in random_orders(module, rng).items():
        op.attributes["order"] = DenseArrayBase.from_list(i64, order)
    SparseReorderPass().apply(Context(), module)
    module.verify()
    for wanted, found in zip(before, run_module(module, x), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-5 * max(1.0, float(np.abs(wanted).max())))
