"""The sparse dialect: constructors, verifiers, text, and the blobs beside it."""

from __future__ import annotations

import math
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import test
from xdsl.dialects.builtin import Builtin, ModuleOp, TensorType, bf16, f16, f32, f64, i8, i32
from xdsl.ir import Attribute, TypeAttribute
from xdsl.parser import Parser
from xdsl.utils.exceptions import ParseError, VerifyException
from xdsl.utils.test_value import create_ssa_value

from sparsecc.blobs import Blob, add_search_folder
from sparsecc.cover.laws import Pattern
from sparsecc.cover.metaops import MetaOps
from sparsecc.dialects.sparse import (
    PRINTED_ENTRIES,
    PRINTED_METAOPS,
    ConstantOp,
    CoverOp,
    GroupOp,
    MetaOpsAttr,
    Sparse,
    SpmmOp,
    UnitAttr,
    WeightAttr,
    metaop_text,
    metaops_blob,
    numpy_type,
)
from sparsecc.elements import array_of, elements_of, round_to
from sparsecc.errors import UserError

ROOT = Path(__file__).parents[2]
UNIT = UnitAttr(2, 2, 2)


def weight_of(dense: NDArray[Any], element_type: TypeAttribute = i8) -> WeightAttr:
    """The weight of a matrix given element by element."""
    rows, columns = np.nonzero(dense)
    indptr = np.searchsorted(rows, range(dense.shape[0] + 1)).astype(np.int64)
    return WeightAttr.of(
        (dense.shape[0], dense.shape[1]), indptr, columns, dense[rows, columns], element_type
    )


def spmm_of(dense: NDArray[Any], n: int, *body: CoverOp | GroupOp) -> SpmmOp:
    x = create_ssa_value(TensorType(i8, [dense.shape[1], n]))
    whole = CoverOp(MetaOps.whole(dense.shape[0], n, dense.shape[1]))
    result_type = TensorType(i32, [dense.shape[0], n])
    return SpmmOp(x, weight_of(dense), UNIT, result_type, body or [whole])


def parse(text: str) -> ModuleOp:
    ctx = Context()
    for dialect in (Builtin, Sparse, test.Test):
        ctx.load_dialect(dialect)
    return Parser(ctx, text).parse_module()


def round_trip(attribute: Attribute) -> Attribute:
    """The attribute printed and parsed."""
    module = ModuleOp([test.TestOp(attributes={"a": attribute})])
    parsed = parse(str(module)).body.block.first_op
    assert parsed is not None
    return parsed.attributes["a"]


# Constructors and accessors.


def test_weight():
    dense = np.array([[0, 5, 0, 0], [0, 0, 0, -2]], np.int8)
    weight = weight_of(dense)
    assert weight.shape == (2, 4)
    assert weight.nnz.data == 2
    assert weight.tensor_type == TensorType(i8, [2, 4])
    assert weight.pattern.indices.tolist() == [1, 3]
    assert weight.data.tolist() == [5, -2]
    assert np.array_equal(weight.dense(), dense)
    assert weight == weight_of(dense.copy())
    assert weight != weight_of(dense * 2)


def test_spmm():
    dense = np.zeros((4, 6), np.int8)
    dense[1, 2] = dense[3, 5] = 1
    op = spmm_of(dense, 3)
    op.verify()
    assert op.positions == 3
    assert op.is_whole
    assert not op.is_grouped
    assert not op.is_dense
    parts = [[(range(2), range(3), range(2, 4))], [([3], range(3), [5])]]
    grouped = op.with_body([GroupOp(MetaOps.of(part)) for part in parts])
    grouped.verify()
    assert grouped.is_grouped
    assert not grouped.is_whole
    assert grouped.cover() == MetaOps.of([*parts[0], *parts[1]])


def test_verifiers():
    dense = np.eye(4, dtype=np.int8)
    with pytest.raises(VerifyException, match="no meta-op holds the nonzero at row 2, column 2"):
        spmm_of(dense, 3, CoverOp(MetaOps.whole(2, 3, 4))).verify()
    with pytest.raises(VerifyException, match="both write row 0; put them into different groups"):
        GroupOp(MetaOps.of([(range(2), range(3), range(2)), ([0], range(3), [3])])).verify()
    with pytest.raises(VerifyException, match=r"unit \(0, 2, 2\) needs positive extents"):
        UnitAttr(0, 2, 2)
    constant = ConstantOp(weight_of(dense))
    constant.verify()
    wrong = ConstantOp.create(properties=constant.properties, result_types=[TensorType(i8, [4, 5])])
    with pytest.raises(VerifyException, match="the weight is tensor<4x4xi8>, the result tensor<4x5xi8>"):
        wrong.verify()
    with pytest.raises(VerifyException, match="element type tensor<1xi32> is not one of i8, i32, f16"):
        numpy_type(TensorType(i32, [1]))


# Text.


@pytest.mark.parametrize("element_type", [i8, i32, f16, bf16, f32, f64])
def test_small_weights_round_trip_in_every_type(element_type: TypeAttribute):
    numbers = np.array([[1e-5, 1.5e-3, -3e4, 0.1, 7, 100, 1e-7, 2**-14]])
    if element_type in (i8, i32):
        numbers = np.array([[1, -128, 127, 0, 3]])
    weight = weight_of(round_to(numbers, element_type), element_type)
    assert weight.is_written_out
    again = round_trip(weight)
    assert again == weight
    assert isinstance(again, WeightAttr)
    assert np.array_equal(again.dense(), weight.dense())


@pytest.mark.parametrize("value", [math.inf, math.nan])
def test_numbers_that_text_cannot_hold_go_to_a_blob(value: float):
    weight = weight_of(np.array([[value]], np.float32), f32)
    assert not weight.is_written_out
    assert round_trip(weight) == weight


def test_large_weights_are_a_digest():
    many = weight_of(np.ones((1, PRINTED_ENTRIES + 1), np.int8))
    assert (
        str(many)
        == f'#sparse.weight<"{many.digest.data}", 1x{PRINTED_ENTRIES + 1}xi8, nnz {PRINTED_ENTRIES + 1}>'
    )
    assert round_trip(many) == many


@pytest.mark.parametrize("number", ["0.5", "300", "-129"])
def test_entries_that_the_type_does_not_hold(number: str):
    with pytest.raises(ParseError, match=r"entry \(0, 1\) is .*, which i8 does not hold"):
        parse(f'"test.op"() {{w = #sparse.weight<2x4xi8, [(0, 1, {number})]>}} : () -> ()')


def test_entries_that_round_to_zero():
    with pytest.raises(ParseError, match=r"entry \(0, 1\) is zero"):
        parse('"test.op"() {w = #sparse.weight<2x4xf16, [(0, 1, 1.0e-12)]>} : () -> ()')


def test_metaops_round_trip():
    metaops = MetaOps.of([(range(2, 4), range(3), [7, 1]), ([4, 0], range(3), range(0, 2))])
    assert metaop_text(metaops, 0) == "[2:4, 0:3] += k[7, 1]"
    assert metaop_text(metaops, 1) == "[(4, 0), 0:3] += k[0:2]"
    for table in (metaops, MetaOps.of([]), MetaOps.of([(range(1), range(2**31 - 1), range(1))])):
        assert round_trip(MetaOpsAttr(table)) == MetaOpsAttr(table)


def test_a_digest_that_says_another_count():
    table = MetaOps.of([([i], range(1), range(1)) for i in range(PRINTED_METAOPS + 1)])
    text = str(ModuleOp([CoverOp(table)]))
    assert f'"{metaops_blob(table).digest}", {len(table)} meta_ops' in text
    with pytest.raises(ParseError, match="holds 65 meta-ops, the text says 66"):
        parse(text.replace("65 meta_ops", "66 meta_ops"))


def test_many_metaops_are_text_of_a_line(record_property: Any):
    count = 100_000
    rows = np.arange(count, dtype=np.int32)
    table = np.zeros((count, 8), np.int32)
    table[:, 0], table[:, [1, 3, 5]], table[:, [6, 7]] = rows, 1, -1
    data = np.ones(count, np.int8)
    weight = WeightAttr.of((count, 1), np.arange(count + 1), np.zeros(count, np.int32), data, i8)
    x = create_ssa_value(TensorType(i8, [1, 1]))
    x.name_hint = "x"
    body = [GroupOp(MetaOps(table, np.zeros(0, np.int32)))]
    op = SpmmOp(x, weight, UnitAttr(1, 1, 1), TensorType(i32, [count, 1]), body)
    start = time.process_time()
    text = str(op)
    again = parse('%x = "test.op"() : () -> tensor<1x1xi8>\n' + text)
    again.verify()
    seconds = time.process_time() - start
    record_property("seconds", seconds)
    assert len(text) < 500
    assert str(again.body.block.last_op) == text
    assert seconds < 3


# Blobs.


def test_blobs_are_their_content():
    blob = Blob.of(a=np.arange(3), b=np.ones((2, 2)))
    assert Blob.of(b=np.ones((2, 2)), a=np.arange(3)) is blob
    assert blob == Blob.named(blob.digest)
    assert blob != Blob.of(a=np.arange(3).astype(np.int32), b=np.ones((2, 2)))
    assert blob != Blob.of(a=np.arange(3).reshape(3, 1), b=np.ones((2, 2)))
    assert not blob.arrays["a"].flags.writeable


def fresh_process(code: str, folder: Path | None = None) -> str:
    """What the code prints in a process of its own; the folder is where blobs are looked for."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    environment.pop("SPARSECC_BLOBS", None)
    if folder is not None:
        environment["SPARSECC_BLOBS"] = str(folder)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout + done.stderr


READ = """
from xdsl.context import Context
from xdsl.dialects.builtin import Builtin
from xdsl.parser import Parser
from sparsecc.dialects.sparse import Sparse
from sparsecc.errors import UserError
ctx = Context()
ctx.load_dialect(Builtin)
ctx.load_dialect(Sparse)
op = Parser(ctx, {text!r}).parse_module().body.block.first_op
try:
    print(op.weight.dense().sum())
except UserError as error:
    print(error)
"""


def test_a_saved_blob_is_read_in_another_process(tmp_path: Path):
    dense = np.random.default_rng(0).integers(1, 100, (9, 11)).astype(np.int8)
    weight = weight_of(dense)
    code = READ.format(text=str(ConstantOp(weight)))
    missing = fresh_process(code)
    assert f"blob {weight.digest.data} not found in blobs; name its folder with --blobs DIR" in missing
    weight.blob.save(tmp_path / "new")
    weight.blob.save(tmp_path / "new")
    assert fresh_process(code, tmp_path / "new").strip() == str(dense.sum())

    path = tmp_path / "new" / f"{weight.digest.data}.npz"
    with np.load(path) as stored:
        arrays = {name: stored[name] for name in stored.files}
    arrays["data"] = arrays["data"] + np.int8(1)
    np.savez(path, **arrays)
    assert f"{path}: the content does not match its name" in fresh_process(code, tmp_path / "new")
    path.write_bytes(b"not a zip file")
    assert f"{path}: not a readable blob" in fresh_process(code, tmp_path / "new")


def test_search_folders(tmp_path: Path):
    blob = Blob.of(only_here=np.arange(4))
    blob.save(tmp_path)
    digest = blob.digest
    del blob
    absent = Blob.named(digest)
    assert not absent.is_loaded
    with pytest.raises(UserError, match=f"blob {digest} not found"):
        _ = absent.arrays
    add_search_folder(tmp_path)
    assert absent.arrays["only_here"].tolist() == [0, 1, 2, 3]


# Elements.


@pytest.mark.parametrize("element_type", [i8, i32, f16, bf16, f32, f64])
def test_elements_round_trip(element_type: TypeAttribute):
    array = round_to(np.array([[1, -2, 3], [0, 5, 0.1]]), element_type)
    assert np.array_equal(array_of(elements_of(array, element_type)), array)


def test_splat_elements():
    module = parse('"test.op"() {e = dense<3> : tensor<2x4xi32>} : () -> ()')
    op = module.body.block.first_op
    assert op is not None
    elements: Any = op.attributes["e"]
    assert np.array_equal(array_of(elements), np.full((2, 4), 3))


def test_bf16_rounds_to_nearest_even():
    above, half, three_halves = 1 + 2.0**-8 + 2.0**-12, 1 + 2.0**-8, 1 + 3 * 2.0**-8
    rounded = round_to(np.array([above, half, three_halves, math.inf, math.nan]), bf16)
    assert rounded[:4].tolist() == [1 + 2.0**-7, 1.0, 1 + 2.0**-6, math.inf]
    assert np.isnan(rounded[4])


def test_pattern_of_an_empty_weight():
    weight = weight_of(np.zeros((3, 2), np.int8))
    assert isinstance(weight.pattern, Pattern)
    assert weight.pattern.nnz == 0
    assert not weight.dense().any()
