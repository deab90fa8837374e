"""Narrower value types: int8 per row, and rounding to float16, bfloat16 and float32."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sparsecc.errors import UserError
from sparsecc.importers.matrix import Array, Csr, make_csr, round_to_bf16
from sparsecc.quantize import FloatKind, cast, quantize_rows


def csr_of(dense: Any) -> Csr:
    dense = np.asarray(dense)
    rows, cols = np.nonzero(dense)
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=len(dense)))])
    return make_csr(dense[rows, cols], cols, indptr, dense.shape)


def dense_of(csr: Csr) -> Array:
    out = np.zeros(csr.shape, csr.data.dtype)
    for row in range(csr.shape[0]):
        part = slice(csr.indptr[row], csr.indptr[row + 1])
        out[row, csr.indices[part]] = csr.data[part]
    return out


# ---------------------------------------------------------------- int8


def test_rows_are_scaled_to_127():
    quantized, scales, zeroed = quantize_rows(csr_of([[0, 12.7, -0.1], [0, 0, 0], [1.1e-3, 0, -2e-3]]))
    assert quantized.data.dtype == np.int8
    assert scales.dtype == np.float32
    assert scales.tolist() == [np.float32(12.7 / 127), 1, np.float32(2e-3 / 127)]
    assert np.array_equal(dense_of(quantized), [[0, 127, -1], [0, 0, 0], [70, 0, -127]])
    assert zeroed == 0


def test_halves_go_to_even():
    steps = np.array([127, 0.5, 1.5, 2.5, -0.5, -1.5, -2.5])
    quantized, scales, zeroed = quantize_rows(csr_of([steps / 4]))
    assert scales.tolist() == [0.25]
    assert np.array_equal(dense_of(quantized), [[127, 0, 2, 2, 0, -2, -2]])
    assert zeroed == 2
    assert quantized.nnz == 5


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.uint8, np.float16, np.float32, np.float64])
def test_small_integers_are_kept(dtype: Any):
    dense = np.array([[1, 0, 127], [0, 3, 0], [0, 0, 0]]).astype(dtype)
    if dtype != np.uint8:
        dense[1, 2] = -127
    quantized, scales, zeroed = quantize_rows(csr_of(dense))
    assert np.array_equal(dense_of(quantized), dense)
    assert (scales == 1).all()
    assert zeroed == 0


def test_integers_beyond_127_are_scaled():
    quantized, scales, zeroed = quantize_rows(csr_of(np.array([[-128, 1], [0, 100]], np.int8)))
    assert np.array_equal(dense_of(quantized), [[-127, 1], [0, 127]])
    assert scales.tolist() == [np.float32(128 / 127), np.float32(100 / 127)]
    assert zeroed == 0


def test_empty_matrix():
    quantized, scales, zeroed = quantize_rows(csr_of(np.zeros((3, 2), np.float32)))
    assert (quantized.nnz, quantized.shape, zeroed) == (0, (3, 2), 0)
    assert scales.tolist() == [1, 1, 1]


def test_stored_zeros_are_dropped_but_not_counted():
    csr = make_csr(np.array([0.0, 0.3]), np.array([0, 1]), np.array([0, 2]), (1, 2))
    quantized, _, zeroed = quantize_rows(csr)
    assert quantized.indices.tolist() == [1]
    assert zeroed == 0


def test_scale_below_float32():
    quantized, scales, _ = quantize_rows(csr_of([[1e-43, 1e-45], [1e-300, 0]]))
    assert (scales > 0).all()
    assert np.isfinite(scales).all()
    assert (np.abs(quantized.data.astype(int)) <= 127).all()


def test_bad_values():
    with pytest.raises(UserError, match=r"value inf at row 1, column 0 .* is not finite .1 such"):
        quantize_rows(csr_of([[1, 0], [np.inf, 2]]))
    with pytest.raises(UserError, match=r"value nan at row 0, column 1"):
        cast(csr_of([[1, np.nan]]), "f32")
    with pytest.raises(UserError, match=r"row 1 .* magnitude 1e\+300"):
        quantize_rows(csr_of([[1, 0.5], [1e300, 2]]))


finite = st.floats(-1e30, 1e30)


@given(
    rows=st.lists(
        st.lists(finite | st.just(0.0) | st.integers(-127, 127), min_size=4, max_size=4),
        min_size=1,
        max_size=5,
    )
)
@settings(max_examples=200, deadline=None)
def test_quantized_values_are_near(rows: list[list[float]]):
    dense = np.array(rows, np.float64)
    quantized, scales, zeroed = quantize_rows(csr_of(dense))
    steps = dense_of(quantized).astype(np.float64)
    assert (np.abs(steps) <= 127).all()
    assert quantized.data.all()
    assert zeroed == np.count_nonzero(dense) - quantized.nnz
    # Half a step, and a little more as the scale is rounded to a float32. Scales that are subnormal as a
    # float32 are coarse, so the bound says nothing about them.
    step = scales[:, None].astype(np.float64)
    error = np.abs(steps * step - dense)
    assert ((error <= 0.5001 * step) | (step < 2.0**-126)).all()
    # The steps are integers in -127..127 themselves, which are kept.
    again, _, _ = quantize_rows(quantized)
    assert np.array_equal(dense_of(again), dense_of(quantized))


# ---------------------------------------------------------------- floats


@pytest.mark.parametrize(
    ("dtype", "value", "rounded"),
    [
        ("bf16", 1 + 2**-8, 1),  # half way: to even
        ("bf16", 1 + 3 * 2**-8, 1 + 2**-6),
        ("bf16", 1 + 2**-8 + 2**-40, 1 + 2**-7),  # through float32 it would be half way again
        ("bf16", -(1 + 2**-7), -(1 + 2**-7)),
        ("bf16", 2.0**-133, 2.0**-133),  # the smallest
        ("bf16", 1.5 * 2.0**-133, 2.0**-132),
        ("bf16", (2 - 2**-7) * 2.0**127, (2 - 2**-7) * 2.0**127),  # the largest
        ("f16", 1 + 2**-11, 1),
        ("f16", 65504, 65504),
        ("f16", 65519, 65504),
        ("f32", 1 + 2**-24, 1),
        ("f32", 16777217, 16777216),
    ],
)
def test_rounding(dtype: FloatKind, value: float, rounded: float):
    converted, zeroed = cast(csr_of([[0, value]]), dtype)
    assert converted.data.dtype == (np.float16 if dtype == "f16" else np.float32)
    assert converted.data.tolist() == [rounded]
    assert converted.indices.tolist() == [1]
    assert zeroed == 0


@pytest.mark.parametrize(("dtype", "value"), [("bf16", 2.0**-134), ("f16", 2.0**-25), ("f32", 2.0**-150)])
def test_too_small_values_are_counted(dtype: FloatKind, value: float):
    converted, zeroed = cast(csr_of([[value, 1, -value]]), dtype)
    assert dense_of(converted).tolist() == [[0, 1, 0]]
    assert zeroed == 2


@pytest.mark.parametrize(
    ("dtype", "value"), [("bf16", 3.4e38), ("f16", 65520), ("f32", 1e39), ("f32", -1e300), ("bf16", 1e308)]
)
def test_too_large_values(dtype: FloatKind, value: float):
    with pytest.raises(UserError, match=rf"at row 1, column 0 .* does not fit {dtype}, whose largest is"):
        cast(csr_of([[0, 1], [value, 0]]), dtype)


def test_unknown_type():
    with pytest.raises(UserError, match="'f8' is unknown; use one of f16, bf16, f32"):
        cast(csr_of([[1.0]]), "f8")  # pyright: ignore[reportArgumentType]


@given(st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), min_size=1, max_size=30))
@settings(max_examples=200, deadline=None)
def test_bf16_is_float32_with_the_lower_half_rounded_away(values: list[float]):
    single = np.array(values, np.float32)
    bits = single.view(np.uint32).astype(np.uint64)
    rounded = (bits + 0x7FFF + ((bits >> 16) & 1)) & 0xFFFF0000
    expected = rounded.astype(np.uint32).view(np.float32)
    with np.errstate(over="ignore"):
        assert np.array_equal(round_to_bf16(single).astype(np.float32), expected)


@given(st.lists(st.floats(-60000, 60000), min_size=1, max_size=30), st.sampled_from(["f16", "bf16", "f32"]))
@settings(max_examples=200, deadline=None)
def test_cast_twice_changes_nothing(values: list[float], dtype: FloatKind):
    source = csr_of([values])
    once, zeroed = cast(source, dtype)
    assert once.data.all()
    assert source.nnz == once.nnz + zeroed
    twice, more = cast(once, dtype)
    assert np.array_equal(once.data, twice.data)
    assert more == 0
