"""What all tests share: where built simulators are kept, and how goldens are written again."""

from __future__ import annotations

import os
from collections.abc import Generator

import pytest
from hypothesis import settings

# Property tests try the same cases on every machine, however slow; HYPOTHESIS_SEED=random explores others.
settings.register_profile("same", deadline=None, derandomize=os.environ.get("HYPOTHESIS_SEED") != "random")
settings.load_profile("same")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-goldens", action="store_true", help="write test/goldens again instead of comparing"
    )


@pytest.fixture(scope="session", autouse=True)
def simulator_cache(tmp_path_factory: pytest.TempPathFactory) -> Generator[None]:
    """The simulator is built once for all tests, and the user's cache stays as it is."""
    if "SPARSECC_CACHE" in os.environ:
        yield
        return
    base = tmp_path_factory.getbasetemp()
    # The workers of one run of pytest-xdist share it, in the folder that theirs lie in.
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "cache"
    os.environ["SPARSECC_CACHE"] = str(folder)
    yield
    del os.environ["SPARSECC_CACHE"]
