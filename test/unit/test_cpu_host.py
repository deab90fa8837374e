"""What is compiled of the host's operators for a network on a CPU, and when it is compiled again."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

import pytest

from sparsecc.cpu.build import linked, objects
from sparsecc.host.ops import OPERATORS
from sparsecc.network.cpu_host import host_object, host_objects, operators_in
from sparsecc.target import CpuTarget, load_target


def chip(in_type: str = "f32") -> CpuTarget:
    target = load_target("cpu")
    assert isinstance(target, CpuTarget)
    target = target.with_type(in_type)
    if target.missing:
        pytest.skip(f"this CPU lacks instructions for {in_type}")
    return target


def stems(target: CpuTarget, *operators: str) -> set[str]:
    return {path.name.rpartition("-")[0] for path in host_objects(target, operators)}


def test_every_operator_comes_with_all_that_it_calls():
    """Each shared object is loaded with all its names resolved, from the files for one operator alone."""
    target = chip()
    one_of = {tuple(host_objects(target, [name])): name for name in OPERATORS}
    for name in one_of.values():
        ctypes.CDLL(str(host_object(target, name)), mode=os.RTLD_NOW)
    for name in OPERATORS:
        library = ctypes.CDLL(str(host_object(target, one_of[tuple(host_objects(target, [name]))])))
        assert hasattr(library, name), name


def test_files_that_are_not_needed_are_not_compiled():
    target = chip()
    assert stems(target, "host_im2col_4", "host_max_pool_f32") == {"window"}
    assert stems(target, "host_depthwise_q_i8") == {"depthwise_bytes", "depthwise", "quantise"}
    assert stems(target) == set()
    assert operators_in(["host_add_f32(y, host_address);", "host_copy_4x()"]) == {"host_add_f32"}


def test_types_share_what_sums_no_products():
    floats, bytes_ = (set(host_objects(chip(name), OPERATORS)) for name in ("f32", "i8"))
    alone = {path.name.rpartition("-")[0] for path in bytes_ - floats}
    assert alone == {"depthwise", "matmul", "reduce", "sparse"}


def test_a_change_compiles_what_it_touches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("SPARSECC_CACHE", str(tmp_path / "cache"))
    (tmp_path / "n.h").write_text("enum { N = 2 };\n")
    for name in "ab":
        (tmp_path / f"{name}.c").write_text(f'#include "n.h"\nint {name}(void) {{ return N; }}\n')

    def built() -> list[Path]:
        return objects([(tmp_path / f"{name}.c", ["-fPIC"]) for name in "ab"], "building")

    def returned(name: str) -> int:
        return getattr(ctypes.CDLL(str(linked("ab", built(), [], "linking"))), name)()

    first = built()
    assert built() == first
    assert (returned("a"), returned("b")) == (2, 2)
    (tmp_path / "a.c").write_text('#include "n.h"\nint a(void) { return N + 1; }\n')
    second = built()
    assert (second[0] != first[0], second[1]) == (True, first[1])
    assert (returned("a"), returned("b")) == (3, 2)
    (tmp_path / "n.h").write_text("enum { N = 7 };\n")
    assert not set(built()) & {*first, *second}
    assert (returned("a"), returned("b")) == (8, 7)
