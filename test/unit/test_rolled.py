"""Loops of repeated statements: the same statements, run out; recurrent layers of many steps."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from sparsecc.codegen.network import model_c
from sparsecc.codegen.rolled import rolled
from sparsecc.importers.onnx_file import import_model
from sparsecc.network_compiler import compile_network

Array = NDArray[Any]
onnxruntime: Any = ort
onnx_library: Any = onnx


def unrolled(lines: list[str]) -> list[str]:
    """Runs the loops out."""
    out: list[str] = []
    body: list[str] | None = None
    count = 0
    for line in lines:
        if head := re.fullmatch(r"for \(int64_t t = 0; t < (\d+); t\+\+\) \{", line):
            body, count = [], int(head.group(1))
        elif line == "}":
            assert body is not None
            for t in range(count):
                out += [
                    re.sub(r"\((\d+ [+-] [\d* ]*t)\)", lambda m: str(_value(m, t)), each) for each in body
                ]
            body = None
        elif body is not None:
            body.append(line[4:])
        else:
            out.append(line)
    return out


def _value(found: re.Match[str], t: int) -> int:
    first, sign, *factor = found.group(1).split()
    by = int(factor[0]) if len(factor) == 3 else 1
    return int(first) + (by * t if sign == "+" else -by * t)


@given(
    st.lists(
        st.tuples(
            st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 9), st.integers(-3, 9)), max_size=4),
            st.integers(0, 12),
        ),
        max_size=4,
    )
)
def test_loops_run_out_are_the_statements(parts: list[tuple[list[tuple[str, int, int]], int]]):
    lines = [
        f'{name}1({40 + first + step * t}, 0x1.8p+0f, 2.5f, "at 7"); /* {t % 2} */'
        for body, count in parts
        for t in range(count)
        for name, first, step in body
    ]
    assert unrolled(rolled(lines)) == lines


def test_what_is_a_loop():
    lines = ["begin();", *(f"f(AT({100 - 8 * t}), {t}); /* x */" for t in range(9)), "end();"]
    body = "    f(AT((100 - 8 * t)), (0 + t)); /* x */"
    assert rolled(lines) == ["begin();", "for (int64_t t = 0; t < 9; t++) {", body, "}", "end();"]
    assert rolled(lines[:5]) == lines[:5]
    # Texts and names are no numbers.
    for texts in ([f'g("{t}");' for t in range(9)], [f"g{t}(h);" for t in range(9)], ["k(1.5f, 0x1p+3f);"]):
        assert rolled(texts) == texts
    squares = [f"f({t * t});" for t in range(9)]
    assert rolled(squares) == squares


def recurrent(kind: str, steps: int) -> tuple[Any, Array]:
    """Forwards and backwards, three rows at once."""
    gates, hidden, inputs, rng = {"LSTM": 4, "GRU": 3, "RNN": 1}[kind], 8, 5, np.random.default_rng(2)

    def weights(*shape: int) -> Array:
        return (rng.standard_normal(shape) * (rng.random(shape) < 0.5) * 0.5).astype(np.float32)

    held = {
        "w": weights(2, gates * hidden, inputs), "r": weights(2, gates * hidden, hidden),
        "b": weights(2, 2 * gates * hidden),
    }  # fmt: skip
    x = rng.standard_normal((steps, 3, inputs)).astype(np.float32)
    both: dict[str, Any] = {"hidden_size": hidden, "direction": "bidirectional"}
    graph = helper.make_graph(
        [helper.make_node(kind, ["x", "w", "r", "b"], ["y", "h"], **both)],
        "steps", [helper.make_tensor_value_info("x", TensorProto.FLOAT, x.shape)],
        [onnx_library.ValueInfoProto(name=n) for n in "yh"],
        [numpy_helper.from_array(v, n) for n, v in held.items()],
    )  # fmt: skip
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), x


@pytest.mark.parametrize(("kind", "target"), [("LSTM", "cpu"), ("GRU", "scalesim-ws16"), ("RNN", "cpu")])
def test_steps_of_recurrent_layers_are_loops(kind: str, target: str):
    sizes: list[int] = []
    for steps in (12, 48):
        proto, x = recurrent(kind, steps)
        module = import_model(proto, kind, Path())
        artifact = compile_network(
            module, target=target, inputs=[x], effort=0, confirm=False, plan=PLANS[target]
        )
        sizes.append(len(model_c(artifact.program())[0].split("model_infer")[-1]))
    assert sizes[1] < 1.1 * sizes[0] < 30000
    session = onnxruntime.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    for y, wanted in zip(artifact(x), session.run(None, {"x": x}), strict=True):
        np.testing.assert_allclose(y, wanted, rtol=1e-5, atol=1e-5)


PLANS = {"cpu": "csr", "scalesim-ws16": "dense"}
