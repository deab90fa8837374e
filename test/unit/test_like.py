"""Law 6, more zeros never cost more: for matrices compiled like the one they were pruned from."""

import numpy as np
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

import sparsecc
from sparsecc.errors import UserError

TARGETS = ("gemmini16", "gemmini16x", "ascend910", "tpu128", "nvidia-tc")
KINDS = ("unstructured", "block", "rows", "columns")


def pruned(seed: int, m: int, k: int, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """An int8 matrix, and the same with some entries, rows or columns removed."""
    rng = np.random.default_rng(seed)
    mask = rng.random((m, k)) < rng.choice([0.03, 0.1, 0.4, 1.0])
    if kind == "block":
        mask &= np.kron(rng.random((-(-m // 16), -(-k // 16))) < 0.4, np.ones((16, 16)))[:m, :k] > 0
    dense = rng.integers(1, 9, (m, k)).astype(np.int8) * mask
    keep = rng.random((m, k)) < rng.choice([0.2, 0.6, 0.95])
    if kind == "rows":
        keep = np.broadcast_to(rng.random((m, 1)) < 0.6, (m, k))
    elif kind == "columns":
        keep = np.broadcast_to(rng.random((1, k)) < 0.6, (m, k))
    return dense, (dense * keep).astype(np.int8)


@settings(max_examples=6, deadline=None, derandomize=True, phases=[Phase.generate])
@given(
    st.integers(0, 1 << 20), st.integers(1, 90), st.integers(1, 120), st.sampled_from(KINDS),
    st.sampled_from(TARGETS), st.integers(1, 70), st.integers(0, 1),
)  # fmt: skip
def test_more_zeros_never_cost_more(
    seed: int, m: int, k: int, kind: str, target: str, n: int, effort: int
) -> None:
    keeps_the_law(seed, m, k, kind, target, n, effort)


@pytest.mark.parametrize("effort", [2, 3])
def test_more_zeros_never_cost_more_at_high_efforts(effort: int) -> None:
    keeps_the_law(effort, 40, 50, "unstructured", "gemmini16", 20, effort)


def keeps_the_law(seed: int, m: int, k: int, kind: str, target: str, n: int, effort: int) -> None:
    """Compile a matrix, then the pruned one like it, then that one again like what came out."""
    before, after = pruned(seed, m, k, kind)
    if target in ("ascend910", "nvidia-tc"):
        before, after = before.astype(np.float32), after.astype(np.float32)
    earlier = sparsecc.compile(before, target=target, n=n, effort=effort)
    later = sparsecc.compile(after, target=target, n=n, effort=effort, like=earlier)
    assert later.timing.cycles <= earlier.timing.cycles
    # Once more from there, and from the matrix itself.
    again = sparsecc.compile(after, target=target, n=n, effort=effort, like=later)
    assert again.timing.cycles <= later.timing.cycles
    assert later.operator.weight.nnz == np.count_nonzero(after)


def test_values_are_those_of_the_pruned_matrix() -> None:
    before, after = pruned(5, 60, 70, "unstructured")
    x = np.random.default_rng(1).integers(-9, 9, (70, 20)).astype(np.int8)
    artifact = sparsecc.compile(after, n=20, like=before)
    assert np.array_equal(artifact(x), after.astype(np.int32) @ x)
    assert artifact.report.exact


def test_the_model_alone_keeps_the_law() -> None:
    before, after = pruned(7, 80, 90, "unstructured")
    earlier = sparsecc.compile(before, n=30, confirm=False)
    later = sparsecc.compile(after, n=30, confirm=False, like=earlier)
    assert later.predicted().predicted_cycles <= earlier.predicted().predicted_cycles


def test_what_is_no_earlier_matrix_is_refused() -> None:
    before, after = pruned(9, 40, 50, "unstructured")
    with pytest.raises(UserError, match=r"has shape 40 x 50, the matrix it is to be compiled like 40 x 49"):
        sparsecc.compile(after, n=8, like=before[:, :49])
    row, column = np.argwhere((before != 0) & (after == 0))[0]
    with pytest.raises(UserError, match=rf"the first at row {row}, column {column} \(counting from 0\)"):
        sparsecc.compile(before, n=8, like=after)
    with pytest.raises(UserError, match="leave it out for op sddmm"):
        sparsecc.compile(after, op="sddmm", like=before)
    with pytest.raises(UserError, match="targets with a tensor unit"):
        sparsecc.compile(after, target="isaac128", like=before)
