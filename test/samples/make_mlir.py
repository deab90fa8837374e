"""Writes digits_head.mlir: the last layer of the digit classifier with a ReLU, as torch-mlir prints it.

Needs the packages onnx and torch-mlir; run it with the Python that has them.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

import onnx
from onnx import TensorProto, helper, numpy_helper
from safetensors.numpy import load_file  # pyright: ignore[reportUnknownVariableType]

HERE = Path(__file__).resolve().parent
WEIGHTS = HERE.parents[1] / "examples" / "digits" / "digits_unstructured.safetensors"
PASSES = ("--torch-onnx-to-torch-backend-pipeline", "--torch-backend-to-linalg-on-tensors-backend-pipeline")


def main() -> None:
    tensors = load_file(WEIGHTS)
    graph = helper.make_graph(
        [
            helper.make_node("Gemm", ["x", "fc3.weight", "fc3.bias"], ["scores"], transB=1),
            helper.make_node("Relu", ["scores"], ["y"]),
        ],
        "main", [helper.make_tensor_value_info("x", TensorProto.FLOAT, [8, 128])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [8, 10])],
        [numpy_helper.from_array(tensors[name], name) for name in ("fc3.weight", "fc3.bias")],
    )  # fmt: skip
    tools = Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as folder:
        model, torch = Path(folder) / "model.onnx", Path(folder) / "torch.mlir"
        proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
        onnx.save(proto, model)  # pyright: ignore[reportUnknownMemberType]
        subprocess.run([tools / "torch-mlir-import-onnx", model, "-o", torch], check=True)
        subprocess.run(
            [tools / "torch-mlir-opt", *PASSES, torch, "-o", HERE / "digits_head.mlir"], check=True
        )


if __name__ == "__main__":
    main()
