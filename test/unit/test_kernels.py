"""The search in C: the same as with numpy, whatever the pattern, and clean under sanitizers."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from sparsecc import toolchain
from sparsecc.cover import kernels
from sparsecc.cover.biclique import bicliques
from sparsecc.cover.bound import cell_bounds
from sparsecc.cover.exchange import exchange
from sparsecc.cover.laws import Pattern
from sparsecc.cover.orders import greedy_panels, jaccard_groups, natural

Mask = NDArray[np.bool_]

EXAMPLES = settings(max_examples=60, deadline=None, derandomize=True)
WORK = 1 << 24


def pattern_of(mask: Mask) -> Pattern:
    rows, columns = np.nonzero(mask)
    indptr = np.searchsorted(rows, range(mask.shape[0] + 1)).astype(np.int64)
    return Pattern(mask.shape[0], mask.shape[1], indptr, columns.astype(np.int32))


@st.composite
def patterns(draw: st.DrawFn) -> Pattern:
    """Random, with rows and columns of very different fill, or many that are equal."""
    m, k = draw(st.integers(1, 60)), draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    mask = rng.random((m, k)) < draw(st.sampled_from([0.0, 0.05, 0.3, 1.0]))
    match draw(st.sampled_from(["even", "uneven", "equal"])):
        case "even":
            return pattern_of(mask)
        case "uneven":
            return pattern_of(mask & (rng.random((m, 1)) * rng.random((1, k)) < 0.3))
        case _:
            return pattern_of(mask[rng.integers(0, m, m)][:, rng.integers(0, k, k)])


def searches(pattern: Pattern, height: int, side: tuple[int, int], softness: float) -> list[Any]:
    """What every search that has a part in C finds."""
    cover = bicliques(pattern, 1, (side[0], 1, side[1]), seed=3).metaops
    orders = [greedy_panels(pattern, height, short_first=short) for short in (False, True)]
    orders.append(exchange(natural(pattern), pattern, height, (softness, 0.1, 0.0), WORK))
    orders += [part for distance in (0.3, 0.8) for part in jaccard_groups(pattern, distance, 2)]
    bounds = cell_bounds(pattern, (side[0], 1, side[1]))
    return [bounds, *(o.tolist() for o in orders), cover.table.tolist(), cover.index.tolist()]


@EXAMPLES
@given(
    patterns(),
    st.integers(1, 20),
    st.tuples(st.sampled_from([1, 3, 8, 16, 40]), st.sampled_from([1, 4, 16, 70])),
    st.sampled_from([0.0, 0.5, 0.9]),
)
def test_c_and_numpy_find_the_same(pattern: Pattern, height: int, side: tuple[int, int], softness: float):
    assert kernels.library() is not None
    found = searches(pattern, height, side, softness)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", lambda: None)
        assert searches(pattern, height, side, softness) == found


def test_both_find_the_same_on_a_matrix_of_many_panels():
    rng = np.random.default_rng(5)
    pattern = pattern_of(rng.random((500, 300)) < 0.1 * rng.random((500, 1)) + 0.02)
    found = searches(pattern, 16, (16, 16), 0.3)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(kernels, "library", lambda: None)
        assert searches(pattern, 16, (16, 16), 0.3) == found


@pytest.mark.parametrize("missing", ["compiler", "folder"])
def test_the_search_goes_on_without_c(missing: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if missing == "compiler":
        monkeypatch.setenv("CC", "no-such-compiler")
        monkeypatch.setenv("SPARSECC_CACHE", str(tmp_path))
    else:
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("SPARSECC_CACHE", str(tmp_path / "file"))
    for cached in (toolchain.search_library, kernels.library):
        cached.cache_clear()
    try:
        assert kernels.library() is None
        assert len(greedy_panels(pattern_of(np.eye(5, dtype=bool)), 2)) == 5
    finally:
        for cached in (toolchain.search_library, kernels.library):
            cached.cache_clear()


# Run in a process of its own, where the sanitizers' library is loaded first.
SANITIZED = """
import sys
from pathlib import Path
import numpy as np
from sparsecc.cover import kernels
kernels.search_library = lambda: Path(sys.argv[1])
sys.path.insert(0, sys.argv[2])
from test_kernels import pattern_of, searches
for seed, (m, k) in enumerate([(1, 1), (1, 40), (37, 1), (50, 33), (90, 160)]):
    rng = np.random.default_rng(seed)
    for density in (0.0, 0.2, 1.0):
        pattern = pattern_of(rng.random((m, k)) < density)
        searches(pattern, 1 + seed * 3, (1 + seed * 4, 16), 0.5)
assert kernels.library() is not None
"""


def test_no_sanitizer_complains(tmp_path: Path):
    compiler = toolchain.find_compiler()
    sanitizers = "-fsanitize=address,undefined"
    options = ["-std=c11", "-O1", "-g", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", sanitizers]
    sources = [str(path) for path in sorted(toolchain.SEARCH.glob("*.c"))]
    library = tmp_path / "libsearch.so"
    toolchain.call([*compiler, *options, "-o", str(library), *sources], tmp_path, "building")
    asked = [*compiler, "-print-file-name=libasan.so"]
    runtime = subprocess.run(asked, capture_output=True, text=True, check=True).stdout.strip()
    if not Path(runtime).is_file():
        pytest.skip(f"{compiler[0]} has no libasan.so that could be loaded first")
    environment = {
        **os.environ,
        "LD_PRELOAD": runtime,
        "ASAN_OPTIONS": "detect_leaks=0",
        "UBSAN_OPTIONS": "halt_on_error=1",
    }
    command = [sys.executable, "-c", SANITIZED, str(library), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
