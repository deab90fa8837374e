"""Matrices written in every format, and read again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort  # pyright: ignore[reportMissingTypeStubs]
import pytest
import scipy.io as scipy_io  # pyright: ignore[reportMissingTypeStubs]
import scipy.sparse as scipy_sparse  # pyright: ignore[reportMissingTypeStubs]
from safetensors import numpy as safetensors_numpy

from sparsecc.convert import LAYOUTS, save_matrix
from sparsecc.driver.cli import main
from sparsecc.errors import UserError
from sparsecc.importers import Matrix, load_matrix
from sparsecc.importers.matrix import build_from_dense, build_matrix

scipy_files: Any = scipy_io
sparse: Any = scipy_sparse
safetensors: Any = safetensors_numpy
onnxruntime: Any = ort

WITH_VALUES = ["m.mtx", "m.mtx.gz", "m.npz", "m.npy", "m.safetensors", "m.safetensors:fc.weight", "m.onnx:fc"]
LAYOUT_CASES = [(ending, layout) for ending, layouts in LAYOUTS.items() for layout in layouts]


def matrix_of(kind: Any, rows: int = 6, columns: int = 16, kept: int = 1) -> Matrix:
    """At most `kept` of every four elements of a row are nonzero."""
    rng = np.random.default_rng(3)
    dense = rng.uniform(-100, 100, (rows, columns)).astype(kind)
    order = rng.random((rows, columns // 4, 4)).argsort(2)
    dense[(order >= kept).reshape(rows, columns)] = 0
    return build_from_dense(dense, source="the matrix", name="matrix")


def assert_same(matrix: Matrix, again: Matrix) -> None:
    np.testing.assert_array_equal(again.dense(), matrix.dense())
    assert again.nnz == matrix.nnz


@pytest.mark.parametrize("kind", [np.int8, np.float16, np.float32, np.float64])
@pytest.mark.parametrize("target", WITH_VALUES)
def test_values_come_back(tmp_path: Path, target: str, kind: Any):
    matrix = matrix_of(kind)
    save_matrix(matrix, str(tmp_path / target))
    again = load_matrix(str(tmp_path / target))
    assert_same(matrix, again)
    if ".mtx" not in target:  # text has no types
        assert again.dtype == matrix.dtype


@pytest.mark.parametrize(("ending", "layout"), LAYOUT_CASES)
@pytest.mark.parametrize("kept", [0, 1, 2])
def test_layouts_come_back(tmp_path: Path, ending: str, layout: str, kept: int):
    matrix, target = matrix_of(np.float32, kept=kept), str(tmp_path / f"m{ending}")
    save_matrix(matrix, target, layout=layout)
    assert_same(matrix, load_matrix(target))


@pytest.mark.parametrize("target", ["m.smtx", "m.smtx.gz", "m.mtx", "m.npz"])
def test_positions_come_back(tmp_path: Path, target: str):
    entries = np.array([0, 0, 2]), np.array([1, 3, 0])
    matrix = build_matrix((3, 4), *entries, None, source="the matrix", name="matrix")
    save_matrix(matrix, str(tmp_path / target))
    assert_same(matrix, load_matrix(str(tmp_path / target)))


def test_others_read_what_was_written(tmp_path: Path):
    matrix = matrix_of(np.float32)
    for name in ("m.mtx", "m.npz", "m.npy", "m.safetensors", "m.onnx"):
        save_matrix(matrix, str(tmp_path / name))
    dense = matrix.dense()
    np.testing.assert_array_equal(scipy_files.mmread(tmp_path / "m.mtx").toarray().astype("f4"), dense)
    np.testing.assert_array_equal(sparse.load_npz(tmp_path / "m.npz").toarray(), dense)
    np.testing.assert_array_equal(np.load(tmp_path / "m.npy"), dense)
    np.testing.assert_array_equal(safetensors.load_file(tmp_path / "m.safetensors")["weight"], dense)
    x = np.random.default_rng(0).standard_normal((3, 16)).astype(np.float32)
    session = onnxruntime.InferenceSession(str(tmp_path / "m.onnx"), providers=["CPUExecutionProvider"])
    np.testing.assert_allclose(session.run(None, {"x": x})[0], x @ dense.T, rtol=1e-5, atol=1e-3)


def test_bitmasks_lie_as_compressed_tensors_writes_them(tmp_path: Path):
    """Worked out by hand: the first column is the lowest bit of the first byte."""
    dense = np.zeros((2, 12), np.float32)
    dense[0, [0, 9]], dense[1, 3] = [1.5, 2.5], 3.5
    matrix = build_from_dense(dense, source="the matrix", name="matrix")
    save_matrix(matrix, str(tmp_path / "m.safetensors:w"), layout="sparse-bitmask")
    found = safetensors.load_file(tmp_path / "m.safetensors")
    np.testing.assert_array_equal(found["w.bitmask"], [[1, 2], [8, 0]])
    np.testing.assert_array_equal(found["w.compressed"], [1.5, 2.5, 3.5])
    np.testing.assert_array_equal(found["w.row_offsets"], [0, 2])
    np.testing.assert_array_equal(found["w.shape"], [2, 12])


@pytest.mark.parametrize("command", ["analyze", "explain"])
def test_every_command_finds_the_matrix_behind_a_bitmask(
    command: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "m.safetensors"
    safetensors.save_file(bitmask() | {"v": np.eye(4, dtype=np.float32)}, path)
    assert main([command, str(path), "--target", "ascend910", "--effort", "0", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    rows = found["layers"] if command == "explain" else found["operators"]
    names = [(row["name"].rpartition(":")[2], row["shape"][:2], row["nnz"]) for row in rows]
    assert names == [("v", [4, 4], 4), ("w", [2, 12], 3)]


def bitmask(**changes: Any) -> dict[str, Any]:
    parts = {
        "shape": np.array([2, 12]), "bitmask": np.array([[1, 2], [8, 0]], np.uint8),
        "compressed": np.array([1.5, 2.5, 3.5], np.float32), "row_offsets": np.array([0, 2]),
    }  # fmt: skip
    return {f"w.{name}": value for name, value in (parts | changes).items() if value is not None}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"shape": np.array([2, 20])}, "a bitmask of uint8 [2, 2]"),
        ({"shape": np.array([2.0, 12.0])}, "a shape of float64"),
        ({"bitmask": np.array([[1, 2], [9, 0]], np.uint8)}, "3 values, but the bitmask has 4 bits set"),
        ({"bitmask": np.array([[1, 2], [0, 64]], np.uint8)}, "bits beyond the last column"),
        ({"row_offsets": np.array([0, 1])}, "row offsets that do not follow"),
        ({"compressed": None}, "a bitmask without w.compressed"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_contradictory_bitmasks(tmp_path: Path, changes: dict[str, Any], said: str):
    path = tmp_path / "m.safetensors"
    safetensors.save_file(bitmask(**changes), path)
    with pytest.raises(UserError) as caught:
        load_matrix(f"{path}:w")
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("target", "layout", "said"),
    [
        ("m.txt", None, "no known format by its ending"),
        ("m.smtx", None, "drop the values with --pattern"),
        ("m.npz", "linear", "there is no layout 'linear' of .npz files"),
        ("m.safetensors", "sparse-24-bitmask", "without the pattern 2:4"),
        ("none/m.npz", None, "cannot be written"),
    ],
)
def test_what_cannot_be_written(tmp_path: Path, target: str, layout: str | None, said: str):
    with pytest.raises(UserError) as caught:
        save_matrix(matrix_of(np.float32, kept=3), str(tmp_path / target), layout=layout)
    assert said in str(caught.value)


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, target = tmp_path / "m.npy", tmp_path / "m.onnx"
    np.save(source, matrix_of(np.float32).dense())
    assert main(["convert", str(source), f"{target}:fc", "--layout", "linear"]) == 0
    assert "6 x 16, 24 nonzeros, float32" in capsys.readouterr().out
    assert main(["convert", f"{target}:fc", str(tmp_path / "m.smtx"), "--pattern"]) == 0
    assert load_matrix(str(tmp_path / "m.smtx")).nnz == 24
