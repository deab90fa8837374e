"""Readers of matrix files: what they read, and that a bad file is a UserError and nothing else."""

import csv
import gzip
import io
import json
import lzma
import os
import re
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import scipy.sparse as sparse  # pyright: ignore[reportMissingTypeStubs]
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from sparsecc.errors import UserError
from sparsecc.importers import (
    Matrix,
    files,
    load_matrix,
    safetensors_file,
    scipy_npz,
    seeded_values,
)
from sparsecc.importers.matrix import VALUE_KINDS, ValueKind, make_csr

sp: Any = sparse  # scipy ships no types
DATA = Path(__file__).parents[2].parent / "shared" / "data"

# 3 x 4, with an empty row and an empty column.
DENSE = np.array([[0, 1.5, 0, -2], [0, 0, 0, 0], [3, 0, 0, 0.25]], np.float32)
SMTX = b"3, 4, 4\n0 2 2 4 \n1 3 0 3 \n"
MTX = (
    b"%%MatrixMarket matrix coordinate real general\n% a comment\n3 4 4\n1 2 1.5\n1 4 -2\n3 1 3\n3 4 2.5e-1\n"
)


def compressed(data: bytes) -> bytes:
    """gzip without the time of day: parametrised tests need the same name in every process."""
    return gzip.compress(data, mtime=0)


def assert_valid(matrix: Matrix) -> None:
    csr = matrix.csr
    rows, cols = matrix.shape
    assert rows >= 1
    assert cols >= 1
    assert csr.indptr.dtype == csr.indices.dtype == np.int32
    assert csr.indptr[0] == 0
    assert csr.indptr[-1] == csr.nnz == csr.indices.size == csr.data.size
    counts = np.diff(csr.indptr)
    assert counts.size == rows
    assert (counts >= 0).all()
    key = np.repeat(np.arange(rows), counts) * cols + csr.indices
    assert (np.diff(key) > 0).all(), "columns not sorted, or an entry twice"
    assert ((csr.indices >= 0) & (csr.indices < cols)).all()
    assert csr.data.all(), "a stored zero"
    assert np.isfinite(csr.data).all()
    assert csr.data.dtype.name == ("float32" if matrix.dtype == "bfloat16" else matrix.dtype)
    assert matrix.stored_zeros >= 0


def npy(array: Any, **options: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, **options)
    return stream.getvalue()


def npz(**arrays: Any) -> bytes:
    stream = io.BytesIO()
    np.savez(stream, **arrays)
    return stream.getvalue()


def saved(matrix: Any) -> bytes:
    stream = io.BytesIO()
    sp.save_npz(stream, matrix)
    return stream.getvalue()


def csr_npz(**changes: Any) -> bytes:
    matrix = sp.csr_array(DENSE)
    arrays: dict[str, Any] = {
        "format": b"csr",
        "shape": np.array(matrix.shape),
        "data": matrix.data,
        "indices": matrix.indices,
        "indptr": matrix.indptr,
    }
    arrays.update(changes)
    return npz(**{key: value for key, value in arrays.items() if value is not None})


def safetensors(tensors: dict[str, tuple[str, list[int], bytes]]) -> bytes:
    """A file with tensors (type, shape, bytes) that numpy may have no type for."""
    header: dict[str, object] = {}
    data = b""
    for name, (dtype, shape, raw) in tensors.items():
        offsets = [len(data), len(data) + len(raw)]
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": offsets}
        data += raw
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def pack(members: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w:xz") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return stream.getvalue()


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, bytes], str]:
    def write_file(name: str, data: bytes) -> str:
        path = tmp_path / name
        path.write_bytes(data)
        return str(path)

    return write_file


Write = Callable[[str, bytes], str]


# ---------------------------------------------------------------- what is read


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.mtx", MTX),
        ("m.mtx.gz", compressed(MTX)),
        ("m.MTX", MTX.replace(b"\n", b"\r\n")),
        ("m.npy", npy(DENSE)),
        ("m.npy", npy(np.asfortranarray(DENSE.astype(">f8")))),
        ("m.safetensors", save({"w": DENSE, "b": np.zeros(3, np.float32)})),
        *(
            (f"m.{kind.__name__}.npz", saved(kind(DENSE)))
            for kind in (
                *(sp.csr_array, sp.csc_array, sp.coo_array, sp.bsr_array, sp.dia_array),
                *(sp.csr_matrix, sp.csc_matrix, sp.coo_matrix, sp.bsr_matrix, sp.dia_matrix),
            )
        ),
    ],
)
def test_values_are_read(write: Write, name: str, data: bytes):
    source = write(name, data)
    matrix = load_matrix(source)
    assert_valid(matrix)
    assert np.array_equal(matrix.dense(), DENSE)
    assert not matrix.pattern_only
    assert matrix.source == source
    assert matrix.nnz == 4
    assert matrix.density == 4 / 12


def test_blocks_of_bsr(write: Write):
    dense = np.kron([[1, 0, 2], [0, 3, 0]], np.arange(1, 7).reshape(2, 3)).astype(np.int16)
    matrix = load_matrix(write("m.npz", saved(sp.bsr_array(dense, blocksize=(2, 3)))))
    assert_valid(matrix)
    assert np.array_equal(matrix.dense(), dense)
    assert matrix.dtype == "int16"


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("m.smtx", SMTX),
        ("m.smtx", b"3 4 4\n0 2 2 4\n1 3 0 3"),
        ("m.smtx", b"3,4,4\r\n0 2 2 4\r\n3 1 0 3\r\n\r\n"),
        ("m.smtx.gz", compressed(SMTX)),
        ("m.mtx", b"%%MatrixMarket matrix coordinate pattern general\n3 4 4\n1 2\n1 4\n3 1\n3 4\n"),
        ("m.npy", npy(DENSE != 0)),
        ("m.npz", saved(sp.csr_array(DENSE != 0))),
        ("m.safetensors", save({"w": DENSE != 0})),
    ],
)
def test_patterns_are_read_as_ones(write: Write, name: str, data: bytes):
    matrix = load_matrix(write(name, data))
    assert_valid(matrix)
    assert matrix.pattern_only
    assert matrix.dtype == "float32"
    assert np.array_equal(matrix.dense(), DENSE != 0)


def test_names(write: Write):
    assert load_matrix(write("conv1_0.54.mtx.gz", compressed(MTX))).name == "conv1_0.54"
    assert load_matrix(write("a.b.smtx", SMTX)).name == "a.b"
    assert load_matrix(write("net.safetensors", save({"x/w": DENSE})) + ":x/w").name == "net.x/w"
    packed = write("p.tar.xz", pack({"sub/a.smtx": SMTX}))
    assert load_matrix(f"{packed}::sub/a.smtx").name == "a"


def test_pack(write: Write):
    packed = write("p.tar.xz", pack({"a.smtx": b"1 1 0\n0 0\n\n", "b.smtx": SMTX}))
    for member in ("b", "b.smtx"):
        matrix = load_matrix(f"{packed}::{member}")
        assert_valid(matrix)
        assert matrix.nnz == 4
    assert load_matrix(f"{packed}::a").nnz == 0


@pytest.mark.parametrize("dtype", ["f2", "f4", "f8", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8"])
def test_numeric_type_is_kept(write: Write, dtype: str):
    dense = np.array([[0, 1, 2], [3, 0, 100]], dtype)
    coo = (dense[dense != 0], np.nonzero(dense))
    sources = [
        write("m.npy", npy(dense)),
        write("m.safetensors", save({"w": dense})),
        write("m.npz", npz(format=b"coo", shape=dense.shape, data=coo[0], row=coo[1][0], col=coo[1][1])),
    ]
    for source in sources:
        matrix = load_matrix(source)
        assert_valid(matrix)
        assert matrix.dtype == np.dtype(dtype).name
        assert np.array_equal(matrix.dense(), dense)


def test_bfloat16_is_widened(write: Write):
    halves = (DENSE.view(np.uint32) >> 16).astype("<u2")
    matrix = load_matrix(write("m.safetensors", safetensors({"w": ("BF16", [3, 4], halves.tobytes())})))
    assert_valid(matrix)
    assert matrix.dtype == "bfloat16"
    assert np.array_equal(matrix.dense(), DENSE)  # DENSE is exact in bfloat16


def test_one_of_several_tensors(write: Write):
    tensors = {"a": DENSE, "b:c": DENSE * 2, "v": np.ones(3, np.float32)}
    source = write("m.safetensors", save(tensors, {"note": "metadata is no tensor"}))
    assert np.array_equal(load_matrix(f"{source}:a").dense(), DENSE)
    assert np.array_equal(load_matrix(f"{source}:b:c").dense(), DENSE * 2)
    with pytest.raises(UserError, match=r"2 have 2 dimensions; name one as .*m.safetensors:NAME.*'a', 'b:c'"):
        load_matrix(source)


SQUARE = np.array([[1, 2, 4], [2, 0, 5], [4, 5, 6]])
SKEW = np.array([[0, -2, -4], [2, 0, -5], [4, 5, 0]])


@pytest.mark.parametrize(
    ("banner", "body", "dense"),
    [
        ("coordinate integer symmetric", "3 3 5\n1 1 1\n2 1 2\n3 1 4\n3 2 5\n3 3 6\n", SQUARE),
        ("coordinate real symmetric", "3 3 5\n1 1 1\n1 2 2\n1 3 4\n2 3 5\n3 3 6\n", SQUARE),
        ("coordinate real skew-symmetric", "3 3 3\n2 1 2\n3 1 4\n3 2 5\n", SKEW),
        ("COORDINATE Pattern Symmetric", "\n3 3 2\n\n2 1\n3 3\n", [[0, 1, 0], [1, 0, 0], [0, 0, 1]]),
        ("array integer general", "2 3\n1\n2\n3\n4\n5\n6\n", [[1, 3, 5], [2, 4, 6]]),
        ("array real symmetric", "3 3\n1\n2\n4\n0\n5\n6\n", SQUARE),
        ("array double skew-symmetric", "3 3\n2\n4\n5\n", SKEW),
        ("array integer skew-symmetric", "1 1\n", [[0]]),
    ],
)
def test_matrix_market_variants(write: Write, banner: str, body: str, dense: Any):
    matrix = load_matrix(write("m.mtx", f"%%MatrixMarket matrix {banner}\n%\n{body}".encode()))
    assert_valid(matrix)
    assert np.array_equal(matrix.dense(), dense)
    assert matrix.dtype == {"i": "int64"}.get(
        banner.split()[1][0], "float32" if "attern" in banner else "float64"
    )


def test_stored_zeros_are_counted(write: Write):
    header = b"%%MatrixMarket matrix coordinate real general\n2 2 3\n"
    matrix = load_matrix(write("m.mtx", header + b"1 1 0\n1 2 5\n2 2 -0.0\n"))
    assert_valid(matrix)
    assert (matrix.nnz, matrix.stored_zeros) == (1, 2)
    matrix = load_matrix(write("m.npz", csr_npz(data=np.array([1, 0, 2, 0], np.int8))))
    assert_valid(matrix)
    assert (matrix.nnz, matrix.stored_zeros) == (2, 2)
    matrix = load_matrix(write("m.npz", csr_npz(data=np.array([True, False, True, True]))))
    assert_valid(matrix)
    assert (matrix.nnz, matrix.stored_zeros, matrix.pattern_only) == (3, 1, True)
    assert load_matrix(write("m.npy", npy(DENSE))).stored_zeros == 0


def test_duplicates_of_values_are_added(write: Write):
    changes = {"indptr": [0, 3, 3, 5], "indices": [3, 1, 3, 0, 0]}
    matrix = load_matrix(write("m.npz", csr_npz(data=np.array([1, 2, 3, 4, -4], np.float16), **changes)))
    assert_valid(matrix)
    assert np.array_equal(matrix.dense(), [[0, 2, 0, 4], [0, 0, 0, 0], [0, 0, 0, 0]])
    assert matrix.dtype == "float16"
    assert matrix.stored_zeros == 1
    header = b"%%MatrixMarket matrix coordinate pattern general\n2 2 2\n"
    matrix = load_matrix(write("m.mtx", header + b"1 1\n1 1\n"))
    assert_valid(matrix)
    assert np.array_equal(matrix.dense(), [[1, 0], [0, 0]])
    with pytest.raises(UserError, match="sum overflows int8"):
        load_matrix(write("m.npz", csr_npz(data=np.array([100, 2, 100, 4, 5], np.int8), **changes)))
    with pytest.raises(UserError, match="sum overflows float16"):
        load_matrix(write("m.npz", csr_npz(data=np.array([6e4, 2, 6e4, 4, 5], np.float16), **changes)))


def test_room_after_the_last_entry_of_a_csr_is_ignored(write: Write):
    spare = {"data": np.append(sp.csr_array(DENSE).data, 9), "indices": [1, 3, 0, 3, 99]}
    assert np.array_equal(load_matrix(write("m.npz", csr_npz(**spare))).dense(), DENSE)


# ---------------------------------------------------------------- what is refused

BANNER = b"%%MatrixMarket matrix coordinate real general\n"
ARRAY = b"%%MatrixMarket matrix array real general\n"
HUGE = b"1000000000000"

BAD: list[tuple[str, bytes, str]] = [
    ("m.txt", b"", "no known matrix file by its ending"),
    ("smtx", SMTX, "no known matrix file by its ending"),
    # smtx
    ("m.smtx", b"", r"line 1: found 0 fields"),
    ("m.smtx", b"3, 4\n0\n\n", r"line 1: found 2 fields"),
    ("m.smtx", b"3, x, 4\n0\n\n", r"line 1: found 'x' as the number of columns"),
    ("m.smtx", b"3, -4, 4\n0\n\n", r"found '-4' as the number of columns"),
    ("m.smtx", b"3, 4, " + b"9" * 5000, r"as the number of entries"),
    ("m.smtx", b"0, 4, 0\n0\n\n", "found a matrix of 0 rows"),
    ("m.smtx", HUGE + b", 4, 0\n0\n\n", "at most 16777216 of each"),
    ("m.smtx", b"3, 4, 4\n0 2 4\n1 3 0 3", "line 2: found 3 row offsets, but 3 rows need 4"),
    ("m.smtx", b"3, 4, 4\n", "line 2: found 0 row offsets"),
    ("m.smtx", b"3, 4, 4\n0 2 2 5\n1 3 0 3", "from 0 to 5"),
    ("m.smtx", b"3, 4, 4\n1 2 2 4\n1 3 0 3", "from 1 to 4"),
    ("m.smtx", b"3, 4, 4\n0 3 2 4\n1 3 0 3", "found row offset 2 after 3"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 3 0", "line 3: found 3 column indices"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 3 0 4", "line 3: found column index 4"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 3 0 -1", "found column index -1"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 1 0 3", "found column 1 twice in row 0"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 3 0 2.0", "line 3, number 4: found '2.0'"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 3 0 0_3", "line 3, number 4: found '0_3'"),
    ("m.smtx", b"3, 4, 4\n0 2 2 4\n1 3 0 " + b"9" * 30, "line 3, number 4"),
    ("m.smtx", "3, 4, 4\n0 2 2 4\n1 3 0 \u0663".encode(), "line 3, number 4"),
    ("m.smtx", SMTX + b"7", "text after line 3"),
    ("m.smtx", b"3, 4, 4\n0 2 \xff 4\n1 3 0 3", "line 2: found byte 0xff at offset 12, which is not UTF-8"),
    ("m.smtx", compressed(SMTX), "gzip-compressed data.*rename it to m.smtx.gz"),
    ("m.smtx.gz", SMTX, "not gzip.*rename it to m.smtx"),
    ("m.smtx.gz", compressed(SMTX)[:-9], "damaged gzip data"),
    ("m.smtx.gz", compressed(SMTX)[:12] + b"garble" + compressed(SMTX)[18:], "damaged gzip data"),
    # Matrix Market
    ("m.mtx", b"", "begins with %%MatrixMarket"),
    ("m.mtx", b"3 4 4\n", "begins with %%MatrixMarket"),
    ("m.mtx", b"%%MatrixMarket matrix coordinate real\n", "line 1: .* a banner such as"),
    ("m.mtx", b"%%MatrixMarket vector coordinate real general\n", "a banner such as"),
    ("m.mtx", b"%%MatrixMarket matrix coordinate complex general\n", "found 'complex', but only real"),
    ("m.mtx", b"%%MatrixMarket matrix coordinate real hermitian\n", "found 'hermitian', but only general"),
    ("m.mtx", b"%%MatrixMarket matrix elemental real general\n", "found 'elemental', but only coordinate"),
    ("m.mtx", b"%%MatrixMarket matrix array pattern general\n", "a pattern has no values"),
    ("m.mtx", b"%%MatrixMarket matrix coordinate pattern skew-symmetric\n", "a pattern has no values"),
    ("m.mtx", BANNER, "line 3: found 0 fields as the size"),
    ("m.mtx", BANNER + b"% c\n3 4\n", "line 3: found 2 fields as the size"),
    ("m.mtx", BANNER + b"3 4 x\n", "line 2: found 'x' as the number of entries"),
    ("m.mtx", BANNER + b"0 4 0\n", "line 2: found a matrix of 0 rows"),
    ("m.mtx", BANNER + HUGE + b" " + HUGE + b" 0\n", "at most 16777216"),
    ("m.mtx", BANNER + b"3 4 " + HUGE + b"\n", "found 0 entries"),
    ("m.mtx", ARRAY + b"10000000 10000000\n1\n", "found 1 values, but the size line announces 1000"),
    ("m.mtx", BANNER + b"3 4 2\n1 1 1\n", "found 1 entries, but the size line announces 2"),
    ("m.mtx", BANNER + b"3 4 1\n1 1 1\n2 2 2\n", "found 2 entries"),
    ("m.mtx", BANNER + b"3 4 1\n1 1\n", "line 3: found 2 fields"),
    ("m.mtx", BANNER + b"3 4 1\n\n4 1 1\n", "line 4: found row 4, but it must be 1 to 3"),
    ("m.mtx", BANNER + b"3 4 1\n1 0 1\n", "line 3: found column 0, but it must be 1 to 4"),
    ("m.mtx", BANNER + b"3 4 1\n1 1.5 1\n", "line 3: found '1.5', but a whole number"),
    ("m.mtx", BANNER + b"3 4 1\n1 1 one\n", "line 3: found 'one', but a decimal number"),
    ("m.mtx", BANNER + b"3 4 1\n1 1 nan\n", "found the value nan at row 0, column 0"),
    ("m.mtx", BANNER + b"3 4 1\n1 2 1e999\n", "found the value inf at row 0, column 1"),
    ("m.mtx", BANNER.replace(b"real", b"integer") + b"3 4 1\n1 1 1.5\n", "found '1.5', but a whole number"),
    ("m.mtx", BANNER.replace(b"general", b"symmetric") + b"3 4 0\n", "it must be square"),
    (
        "m.mtx",
        BANNER.replace(b"general", b"symmetric") + b"2 2 2\n1 2 1\n2 1 1\n",
        "line 4: .*each pair once",
    ),
    ("m.mtx", BANNER.replace(b"general", b"skew-symmetric") + b"2 2 1\n2 2 1\n", "line 3: .*on the diagonal"),
    ("m.mtx", ARRAY + b"1 1\nx\n", "line 3: found 'x'"),
    ("m.mtx", BANNER + b"% \xe4\n3 4 0\n", "line 2: found byte 0xe4"),
    # npy
    ("m.npy", b"", "damaged .npy header"),
    ("m.npy", npy(DENSE)[:40], "damaged .npy header"),
    ("m.npy", b"PK" + npy(DENSE), "damaged .npy header"),
    ("m.npy", npy(DENSE)[:-1], "found 47 bytes of values, but the header promises 48"),
    ("m.npy", npy(DENSE) + b"0", "found 49 bytes of values"),
    ("m.npy", npy(np.ones(3)), "1 dimensions"),
    ("m.npy", npy(np.ones((1, 2, 3))), "3 dimensions"),
    ("m.npy", npy(np.ones((0, 3))), "a matrix of 0 rows"),
    ("m.npy", npy(np.ones((3, 3), complex)), "values of type complex128"),
    ("m.npy", npy(np.ones((3, 3), np.longdouble)), "values of type float128"),
    ("m.npy", npy(np.full((3, 3), "x")), "values of type <U1"),
    ("m.npy", npy(np.full((3, 3), None), allow_pickle=True), "Python objects"),
    ("m.npy", npy(np.array([[1, 2], [3, np.nan]])), "value nan at row 1, column 1"),
    ("m.npy", npy(np.array([[1, 2], [-np.inf, 3]], np.float16)), "value -inf at row 1, column 0"),
    ("m.npy", npy(DENSE).replace(b"(3, 4)", b"(3,-4)"), "no side may be negative"),
    ("m.npy", npy(DENSE).replace(b"(3, 4), }      ", b"(9999999, 99)} "), "the header promises 3959999604"),
    # npz
    ("m.npz", b"", "not a zip archive"),
    ("m.npz", npy(DENSE), "not a zip archive"),
    ("m.npz", csr_npz()[:-30], "damaged .npz archive"),
    ("m.npz", npz(a=DENSE), r"no array 'format' among 'a\.npy'"),
    ("m.npz", csr_npz(indptr=None), "no array 'indptr'"),
    ("m.npz", csr_npz(format=b"lil"), "found 'lil', but one of csr"),
    ("m.npz", csr_npz(format=np.array([1, 2])), "array 'format'"),
    ("m.npz", csr_npz(shape=[3, 4, 5]), "array of 3 dimensions"),
    ("m.npz", csr_npz(shape=[3.0, 4.0]), "type float64, but one dimension of integers"),
    ("m.npz", csr_npz(shape=[10**12, 4]), "at most 16777216"),
    ("m.npz", csr_npz(shape=[3, 3]), "array 'indices': found column index 3"),
    (
        "m.npz",
        csr_npz(indices=np.array([1, 2**63 + 1, 0, 3], np.uint64)),
        "array 'indices': found column index -",
    ),
    ("m.npz", csr_npz(format=b"csc"), "4 column offsets, but 4 columns need 5"),
    ("m.npz", csr_npz(indptr=[0, 2, 2]), "3 row offsets, but 3 rows need 4"),
    ("m.npz", csr_npz(indptr=[0, 2, 1, 4]), "row offset 1 after 2"),
    ("m.npz", csr_npz(indptr=[0, 2, 2, 5]), "found 5 entries"),
    ("m.npz", csr_npz(indptr=[1, 2, 2, 4]), "from 1 to 4"),
    ("m.npz", csr_npz(indptr=np.zeros(0, int)), "0 row offsets"),
    ("m.npz", csr_npz(data=np.ones((2, 2))), "array 'data': found 2 dimensions"),
    ("m.npz", csr_npz(data=np.ones(4, complex)), "values of type complex128"),
    ("m.npz", csr_npz(data=np.array([1, np.nan, 2, 3])), "value nan at row 0, column 3"),
    ("m.npz", csr_npz(format=b"bsr", data=np.ones((2, 2, 2))), "blocks of 2 x 2"),
    ("m.npz", csr_npz(format=b"bsr", data=np.ones((2, 0, 2))), "blocks of 0 x 2"),
    ("m.npz", csr_npz(format=b"coo", row=[0, 3], col=[0, 0], data=[1, 1]), "row index 3"),
    ("m.npz", csr_npz(format=b"coo", row=[0], col=[0, 0], data=[1, 1]), "1 rows, 2 columns and 2 values"),
    ("m.npz", csr_npz(format=b"dia", offsets=[0, 0], data=np.ones((2, 4))), "1 different offsets"),
    # safetensors
    ("m.safetensors", b"", "damaged .safetensors file"),
    ("m.safetensors", save({"w": DENSE})[:-4], "damaged .safetensors file"),
    ("m.safetensors", b"\xff" * 16, "damaged .safetensors file"),
    ("m.safetensors", save({"v": np.ones(3)}), "0 have 2 dimensions; the file holds no tensor of 2"),
    ("m.safetensors:u", save({"w": DENSE}), "no tensor 'u'; name one as .*'w'"),
    ("m.safetensors:v", save({"v": np.ones(3)}), "tensor 'v': found an array of 1 dimensions"),
    ("m.safetensors", save({"w": np.full((2, 2), np.inf)}), "value inf at row 0"),
    ("m.safetensors", save({"w": np.ones((2, 0))}), "a matrix of 2 rows and 0 columns"),
    ("m.safetensors", safetensors({"w": ("F8_E4M3", [2, 2], b"1234")}), "values of type F8_E4M3"),
    ("m.safetensors", safetensors({"w": ("F32", [10**12, 10**12], b"")}), "damaged .safetensors file"),
    ("m.safetensors", safetensors({"w": ("BF16", [1, 2], b"\x80\x7f\0\0")}), "value inf at row 0, column 0"),
    # packs
    ("p.tar.xz", pack({"a.smtx": SMTX}), "name one as .*p.tar.xz::NAME"),
    ("p.tar.xz::b", pack({"a.smtx": SMTX}), "no matrix file 'b' in this pack; it holds 'a.smtx'"),
    ("p.tar.xz::a", pack({}), "it holds nothing"),
    ("p.tar.xz::a", b"", "damaged xz data"),
    ("p.tar.xz::a", lzma.compress(b"no tar"), "damaged tar.xz pack"),
    ("p.tar.xz::a", pack({"a.smtx": SMTX})[:-20], "damaged xz data"),
    ("p.tar.xz::a", pack({"a.smtx": b"1 1"}), "p.tar.xz::a, line 1: found 2 fields"),
]


@pytest.mark.parametrize(("name", "data", "message"), BAD)
def test_bad_files(write: Write, tmp_path: Path, name: str, data: bytes, message: str):
    write(name.partition(":")[0], data)
    with pytest.raises(UserError) as caught:
        load_matrix(str(tmp_path / name))
    text = str(caught.value)
    assert re.search(message, text), text
    assert name.partition(":")[0] in text
    assert "\n" not in text
    assert text.isprintable()


def test_paths_that_are_no_file(tmp_path: Path):
    for source, message in [
        (tmp_path / "none.smtx", "no such file"),
        (tmp_path / "none.tar.xz::a", "no such file"),
        (tmp_path / "none.safetensors:w", "no such file"),
        (tmp_path, "found a directory"),
        ("/dev/null", "found a device"),
        ("", "found a directory"),
        ("a\0b.npy", "cannot be read"),
        ("x" * 5000 + ".npy", "cannot be read"),
        (tmp_path / "none.smtx" / "x.smtx", "no such file"),
    ]:
        with pytest.raises(UserError, match=message):
            load_matrix(str(source))


def refuse(*_arguments: object, **_options: object) -> None:
    raise PermissionError(13, "Permission denied")


@pytest.mark.parametrize("name", ["m.smtx", "m.mtx", "m.npz", "m.npy"])
def test_no_permission(write: Write, monkeypatch: pytest.MonkeyPatch, name: str):
    source = write(name, b"")
    monkeypatch.setattr(Path, "read_bytes", refuse)
    with pytest.raises(UserError, match=r"cannot be read .Permission denied"):
        load_matrix(source)


@pytest.mark.skipif(os.geteuid() == 0, reason="the superuser may read every file")
@pytest.mark.parametrize("name", ["m.smtx", "m.safetensors", "p.tar.xz"])
def test_no_permission_by_mode(write: Write, name: str):
    source = write(name, b"")
    os.chmod(source, 0)
    with pytest.raises(UserError, match="Permission denied"):
        load_matrix(source + ("::a" if "tar" in name else ""))


def test_too_large(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="found 1001 bytes, but at most 1000"):
        load_matrix(write("m.smtx", b" " * 1001))
    with pytest.raises(UserError, match="more than 1000 bytes after unpacking"):
        load_matrix(write("m.smtx.gz", compressed(b" " * 1001)))


def test_memory_runs_out(write: Write, monkeypatch: pytest.MonkeyPatch):
    def run_out(_path: Path) -> bytes:
        raise MemoryError

    source = write("m.npy", npy(DENSE))
    monkeypatch.setattr(Path, "read_bytes", run_out)
    with pytest.raises(UserError, match="does not fit into memory"):
        load_matrix(source)


def test_archive_member_too_large(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(scipy_npz, "MAX_BYTES", 150)
    with pytest.raises(UserError, match="array 'indptr': found 160 bytes, but at most 150"):
        load_matrix(write("m.npz", csr_npz(indptr=np.zeros(8, np.int32))))


def test_tensor_too_large(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(safetensors_file, "MAX_BYTES", 47)
    with pytest.raises(UserError, match="tensor 'w': found 48 bytes, but at most 47"):
        load_matrix(write("m.safetensors", save({"w": DENSE})))


def test_pack_too_large(write: Write, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(files, "MAX_BYTES", 1000)
    with pytest.raises(UserError, match="more than 1000 bytes after unpacking"):
        load_matrix(write("p.tar.xz", pack({"a.smtx": SMTX})) + "::a")


def test_encrypted_archive(write: Write):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("format.npy", npy(b"csr"))
    data = bytearray(stream.getvalue())
    data[6] |= 1
    data[data.rfind(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(UserError, match="encrypted"):
        load_matrix(write("m.npz", bytes(data)))


# ---------------------------------------------------------------- the real files


def real_matrices() -> list[dict[str, str]]:
    manifest = DATA / "manifest.csv"
    if not manifest.exists():
        return []
    with manifest.open(newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["kind"] == "matrix"]


@pytest.mark.skipif(not real_matrices(), reason=f"no real matrices in {DATA}")
def test_real_matrices():
    rows = real_matrices()
    assert len(rows) == 66
    for row in rows:
        matrix = load_matrix(str(DATA / row["file"]))
        assert_valid(matrix)
        assert (*matrix.shape, matrix.nnz) == (int(row["rows"]), int(row["cols"]), int(row["nnz"])), row[
            "file"
        ]
        assert matrix.pattern_only == (".smtx" in row["file"] or "jagmesh7" in row["file"])


@pytest.mark.skipif(not (DATA / "packs").exists(), reason=f"no packs in {DATA}")
def test_real_packs():
    for path in sorted((DATA / "packs").glob("*.tar.xz")):
        with tarfile.open(path) as archive:
            name = archive.getnames()[2]
        matrix = load_matrix(f"{path}::{name}")
        assert_valid(matrix)
        assert matrix.nnz > 0


# ---------------------------------------------------------------- made-up values


def pattern(rows: int, cols: int, seed: int = 0) -> Matrix:
    mask = np.random.default_rng(seed).random((rows, cols)) < 0.3
    coo = np.nonzero(mask)
    indptr = np.concatenate([[0], np.cumsum(mask.sum(axis=1))])
    csr = make_csr(np.ones(coo[0].size, np.float32), coo[1], indptr, (rows, cols))
    return Matrix(csr, "made", "made", pattern_only=True, stored_zeros=0, dtype="float32")


@pytest.mark.parametrize("kind", VALUE_KINDS)
def test_seeded_values(kind: ValueKind):
    ones = pattern(200, 300)
    matrix = seeded_values(ones, kind, 5)
    assert_valid(matrix)
    assert matrix.pattern_only
    assert matrix.dtype == {"i8": "int8", "f32": "float32", "f16": "float16", "bf16": "bfloat16"}[kind]
    assert np.array_equal(matrix.csr.indices, ones.csr.indices)
    assert np.array_equal(matrix.csr.data, seeded_values(ones, kind, 5).csr.data)
    assert not np.array_equal(matrix.csr.data, seeded_values(ones, kind, 6).csr.data)
    values = matrix.csr.data.astype(np.float64)
    if kind == "i8":
        assert set(values) == set(range(-127, 128)) - {0}
    else:
        assert abs(values.mean()) < 0.05
        assert abs(values.std() - 1) < 0.05
    if kind == "bf16":
        assert not (matrix.csr.data.view(np.uint32) & 0xFFFF).any()


def test_values_that_round_to_zero_are_drawn_again(monkeypatch: pytest.MonkeyPatch):
    class Small:
        """Draws that are too small for float16 the first time."""

        draws = 0

        def standard_normal(self, size: int) -> Any:
            self.draws += 1
            return np.full(size, 1e-9 if self.draws == 1 else 1.0)

    monkeypatch.setattr(np.random, "default_rng", lambda _seed: Small())  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
    csr = make_csr(np.ones(2, np.float32), np.array([0, 1]), np.array([0, 2]), (1, 2))
    ones = Matrix(csr, "made", "made", pattern_only=True, stored_zeros=0, dtype="float32")
    assert (seeded_values(ones, "f16", 0).csr.data == 1).all()


def test_seeded_values_refuses(write: Write):
    with pytest.raises(UserError, match="'i4' is unknown; use one of i8") as caught:
        seeded_values(pattern(2, 2), "i4", 0)  # pyright: ignore[reportArgumentType]
    assert caught.value.exit_code == 2
    with pytest.raises(UserError, match="seed -1 is negative"):
        load_matrix(write("m.smtx", SMTX), values="i8", seed=-1)


def test_values_at_loading(write: Write):
    source = write("m.smtx", SMTX)
    seeded = load_matrix(source, values="i8", seed=3)
    assert np.array_equal(seeded.dense(), seeded_values(load_matrix(source), "i8", 3).dense())
    assert np.array_equal(load_matrix(write("m.npy", npy(DENSE)), values="i8").dense(), DENSE)


# ---------------------------------------------------------------- fuzzing

SEEDS: dict[str, list[bytes]] = {
    "m.smtx": [SMTX],
    "m.smtx.gz": [compressed(SMTX)],
    "m.mtx": [
        MTX,
        b"%%MatrixMarket matrix array integer symmetric\n2 2\n1\n2\n3\n",
        b"%%MatrixMarket matrix coordinate real skew-symmetric\n3 3 2\n2 1 2.5\n3 1 -1e3\n",
    ],
    "m.mtx.gz": [compressed(MTX)],
    "m.npy": [npy(DENSE), npy(np.eye(3, dtype=np.int8))],
    "m.npz": [
        csr_npz(),
        saved(sp.bsr_array(np.eye(4, dtype=np.int8), blocksize=(2, 2))),
        *(saved(kind(DENSE)) for kind in (sp.csc_array, sp.coo_array, sp.dia_array)),
    ],
    "m.safetensors": [save({"w": DENSE}), save({"w": DENSE, "v": np.ones(2)})],
    "p.tar.xz": [pack({"a.smtx": SMTX})],
}

# Files close to valid ones are where the checks are needed: a few bytes replaced by others that such files
# are made of, a piece cut out or doubled, the end cut off.
LIKELY = st.sampled_from(
    [b"0", b"1", b"9", b"-", b".", b" ", b"\n", b"(", b"'", b"\0", b"\xff", b"e", b"%", b""]
)


@st.composite
def mutated(draw: st.DrawFn, name: str) -> bytes:
    data = draw(st.sampled_from(SEEDS[name]))
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data)))
        how = draw(st.sampled_from(["replace", "insert", "cut", "double", "truncate"]))
        end = at + draw(st.integers(1, 12))
        if how == "replace":
            data = data[:at] + draw(LIKELY | st.binary(max_size=3)) + data[at + 1 :]
        elif how == "insert":
            data = data[:at] + draw(LIKELY) + data[at:]
        elif how == "cut":
            data = data[:at] + data[end:]
        elif how == "double":
            data = data[:end] + data[at:]
        else:
            data = data[:at]
    return data


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


def assert_matrix_or_user_error(folder: Path, name: str, data: bytes) -> None:
    (folder / name).write_bytes(data)
    try:
        matrix = load_matrix(str(folder / name) + ("::a" if name == "p.tar.xz" else ""))
    except UserError:
        return
    assert_valid(matrix)


@pytest.mark.parametrize("name", SEEDS)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_mutated_files(folder: Path, name: str, data: st.DataObject):
    assert_matrix_or_user_error(folder, name, data.draw(mutated(name)))


# Checksums catch most bytes changed in an archive; wrong arrays in a sound archive need their own fuzzing.
INTEGERS = st.lists(st.integers(-1, 6) | st.sampled_from([2**31, -(2**63), 2**63 - 1]), max_size=6)


@given(
    layout=st.sampled_from([b"csr", b"csc", b"coo", b"bsr", b"dia", "csr", b"x"]),
    shape=st.tuples(st.integers(1, 5), st.integers(1, 5)) | INTEGERS,
    indices=st.fixed_dictionaries({key: INTEGERS for key in ("indptr", "indices", "row", "col", "offsets")}),
    data=st.lists(st.integers(-2, 2), max_size=6),
    dtype=st.sampled_from(["f2", "f4", "i1", ">i4", "u8", "?", "c8", "S1"]),
    cut=st.sampled_from([None, (-1, 1), (1, -1), (-1, 1, 1), (-1, 1, 2), (-1, 2, 1)]),
)
@settings(max_examples=400, deadline=None)
def test_arrays_of_npz(
    folder: Path,
    layout: Any,
    shape: Any,
    indices: dict[str, list[int]],
    data: list[int],
    dtype: str,
    cut: Any,
):
    values = np.array(data).astype(dtype)
    if cut is not None and values.size and values.size % np.prod(cut) == 0:
        values = values.reshape(cut)
    arrays = {key: np.array(value, np.int64) for key, value in indices.items()}
    archive = npz(format=layout, shape=np.array(shape, np.int64), data=values, **arrays)
    assert_matrix_or_user_error(folder, "m.npz", archive)


@pytest.mark.parametrize("name", SEEDS)
@given(data=st.binary(max_size=200), prefix=st.integers(0, 80))
@settings(max_examples=50, deadline=None)
def test_random_bytes(folder: Path, name: str, data: bytes, prefix: int):
    assert_matrix_or_user_error(folder, name, data)
    assert_matrix_or_user_error(folder, name, SEEDS[name][0][:prefix] + data)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("m.smtx", st.text("0123456789 ,-\n", max_size=60)),
        ("m.mtx", st.text("0123456789 .-e\n", max_size=60).map(lambda body: BANNER.decode() + body)),
        (
            "m.mtx",
            st.text("012 \n", max_size=60).map(
                lambda body: "%%MatrixMarket matrix array integer skew-symmetric\n" + body
            ),
        ),
    ],
)
@given(data=st.data())
@settings(max_examples=300, deadline=None)
def test_texts_of_numbers(folder: Path, name: str, text: st.SearchStrategy[str], data: st.DataObject):
    assert_matrix_or_user_error(folder, name, data.draw(text).encode())


@given(
    values=st.dictionaries(
        st.tuples(st.integers(0, 5), st.integers(0, 7)), st.integers(-9, 9).filter(bool), max_size=20
    ),
    layout=st.sampled_from(["csr_array", "csc_array", "coo_array", "bsr_array", "dia_array"]),
)
@settings(max_examples=100, deadline=None)
def test_all_formats_agree(folder: Path, values: dict[tuple[int, int], int], layout: str):
    dense = np.zeros((6, 8), np.float64)
    for place, value in values.items():
        dense[place] = value
    csr = sp.csr_array(dense)
    columns = " ".join(str(c) for c in csr.indices)
    offsets = " ".join(str(o) for o in csr.indptr)
    entries = "".join(f"{r + 1} {c + 1} {v}\n" for (r, c), v in values.items())
    (folder / "a.smtx").write_text(f"6, 8, {len(values)}\n{offsets}\n{columns}\n")
    (folder / "a.mtx").write_text(f"{BANNER.decode()}6 8 {len(values)}\n{entries}")
    (folder / "a.npy").write_bytes(npy(dense))
    (folder / "a.npz").write_bytes(saved(getattr(sp, layout)(dense)))
    (folder / "a.safetensors").write_bytes(save({"w": dense}))
    for name in ("a.mtx", "a.npy", "a.npz", "a.safetensors"):
        matrix = load_matrix(str(folder / name))
        assert_valid(matrix)
        assert np.array_equal(matrix.dense(), dense), name
    assert np.array_equal(load_matrix(str(folder / "a.smtx")).dense(), dense != 0)
