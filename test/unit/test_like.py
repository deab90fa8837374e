"""Matrices compiled like the one they were pruned from; that they are never slower is in test_laws."""

import numpy as np
import pytest

import sparsecc
from sparsecc.errors import UserError


def pruned(seed: int, m: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    """An int8 matrix, and the same with some entries removed."""
    rng = np.random.default_rng(seed)
    dense = (rng.integers(1, 9, (m, k)) * (rng.random((m, k)) < 0.1)).astype(np.int8)
    return dense, (dense * (rng.random((m, k)) < 0.6)).astype(np.int8)


def test_values_are_those_of_the_pruned_matrix() -> None:
    before, after = pruned(5, 60, 70)
    x = np.random.default_rng(1).integers(-9, 9, (70, 20)).astype(np.int8)
    artifact = sparsecc.compile(after, n=20, like=before)
    assert np.array_equal(artifact(x), after.astype(np.int32) @ x)
    assert artifact.report.exact


def test_the_model_alone_keeps_the_law() -> None:
    before, after = pruned(7, 80, 90)
    earlier = sparsecc.compile(before, n=30, confirm=False)
    later = sparsecc.compile(after, n=30, confirm=False, like=earlier)
    assert later.predicted().predicted_cycles <= earlier.predicted().predicted_cycles


def test_what_is_no_earlier_matrix_is_refused() -> None:
    before, after = pruned(9, 40, 50)
    with pytest.raises(UserError, match=r"has shape 40 x 50, the matrix it is to be compiled like 40 x 49"):
        sparsecc.compile(after, n=8, like=before[:, :49])
    row, column = np.argwhere((before != 0) & (after == 0))[0]
    with pytest.raises(UserError, match=rf"the first at row {row}, column {column} \(counting from 0\)"):
        sparsecc.compile(before, n=8, like=after)
    with pytest.raises(UserError, match="leave it out for op sddmm"):
        sparsecc.compile(after, op="sddmm", like=before)
    with pytest.raises(UserError, match="targets with a tensor unit"):
        sparsecc.compile(after, target="isaac128", like=before)
