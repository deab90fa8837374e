"""sparsecc-opt: printing, statistics, reproducers, and errors that a user can read."""

import io
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from xdsl.context import Context
from xdsl.dialects import arith, func
from xdsl.dialects.builtin import ModuleOp, StringAttr
from xdsl.passes import ModulePass
from xdsl.utils.exceptions import PassFailedException

from sparsecc import universe
from sparsecc.blobs import Blob
from sparsecc.driver.opt import SparseccOptMain, excerpt, main, run

WEIGHT = Blob.of(data=np.arange(5))
MODULE = """\
func.func @f(%x : i32) -> i32 {
  %unused = arith.constant 1 : i32
  %a = arith.constant 2 : i32
  %b = arith.constant 2 : i32
  %c = arith.addi %a, %b : i32
  func.return %c : i32
}
"""


@dataclass(frozen=True)
class CrashPass(ModulePass):
    """Crashes after it has changed the module, so that the reproducer must hold the module before it."""

    name = "test-crash"
    depth: int = 1

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for constant in [o for o in op.walk() if isinstance(o, arith.ConstantOp)]:
            constant.detach()
        raise IndexError(f"nothing at depth {self.depth}")


@dataclass(frozen=True)
class BreakPass(ModulePass):
    """Leaves a module that does not verify."""

    name = "test-break"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        for constant in [o for o in op.walk() if isinstance(o, func.ReturnOp)]:
            constant.detach()


@dataclass(frozen=True)
class RefusePass(ModulePass):
    """Refuses every module."""

    name = "test-refuse"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        raise PassFailedException("test-refuse takes no module at all")


@dataclass(frozen=True)
class WeightPass(ModulePass):
    """Makes the module refer to weights that are in memory only."""

    name = "test-weight"

    def apply(self, ctx: Context, op: ModuleOp) -> None:
        op.attributes["weight"] = StringAttr(WEIGHT.digest)


class Tool(SparseccOptMain):
    """sparsecc-opt with the passes above."""

    def register_all_passes(self):
        super().register_all_passes()
        self.register_pass("test-crash", lambda: CrashPass)
        self.register_pass("test-break", lambda: BreakPass)
        self.register_pass("test-refuse", lambda: RefusePass)
        self.register_pass("test-weight", lambda: WeightPass)


@pytest.fixture
def source(tmp_path: Path) -> str:
    path = tmp_path / "input.mlir"
    path.write_text(MODULE)
    return str(path)


def fails(args: Sequence[str], code: int, capsys: pytest.CaptureFixture[str]) -> str:
    """Runs the tool, which must fail with this exit code and one message; returns the message."""
    assert run(Tool, args) == code
    out, err = capsys.readouterr()
    assert err.startswith("error: ")
    assert "Traceback" not in out + err
    return err


def test_prints_the_module(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([source, "-p", "canonicalize,cse"]) == 0
    out, err = capsys.readouterr()
    assert "%unused" not in out
    assert out.count("arith.constant") == 1
    assert err == ""


def test_dash_is_stdin_and_stdout(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(MODULE.encode())))
    assert main(["-", "-o", "-", "-p", "cse"]) == 0
    assert "func.func @f" in capsys.readouterr().out


def test_print_ir_after(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([source, "-p", "canonicalize,cse", "--print-ir-after", "cse"]) == 0
    out, err = capsys.readouterr()
    assert err.startswith("// -----// IR after cse //----- //\nbuiltin.module {")
    assert "canonicalize" not in err
    assert err.partition("\n")[2].strip() == out.strip()

    assert main([source, "-p", "canonicalize,cse", "--print-ir-after-all"]) == 0
    banners = [line for line in capsys.readouterr().err.splitlines() if line.startswith("// -----//")]
    assert banners == [f"// -----// IR after {name} //----- //" for name in ("canonicalize", "cse")]


def test_statistics(source: str, capsys: pytest.CaptureFixture[str]):
    assert main([source, "-p", "canonicalize,cse", "--pass-statistics"]) == 0
    header, canonicalize, cse = capsys.readouterr().err.splitlines()
    assert header.split() == ["pass", "seconds", "before", "after", "changed"]
    assert canonicalize.split()[0] == "canonicalize"
    assert canonicalize.split()[2] == "6"
    assert "arith 4 ->" in canonicalize
    assert "func" not in canonicalize
    assert cse.split()[2] == canonicalize.split()[3]


def test_statistics_name_the_dialect_of_unregistered_operations(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    path = tmp_path / "input.mlir"
    path.write_text('"a.b"() : () -> ()\n%x = arith.constant 1 : i32\n')
    args = [str(path), "-p", "canonicalize", "--pass-statistics", "--allow-unregistered-dialect"]
    assert main(args) == 0
    row = capsys.readouterr().err.splitlines()[1].split()
    assert row[2:] == ["2", "1", "arith", "1", "->", "0"]


def test_crash_leaves_a_reproducer(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "crash dir" / "crash.mlir"
    path.parent.mkdir()
    args = [source, "-p", "cse,test-crash{depth=3},canonicalize", "--crash-reproducer", str(path)]
    err = fails(args, 1, capsys)
    assert "pass 'test-crash' crashed with IndexError: nothing at depth 3" in err
    assert str(path) in err
    first = path.read_text().splitlines()[0]
    assert first == f"// sparsecc-opt '{path}' -p 'test-crash{{depth=3}}'"
    assert err.rstrip().endswith(first.removeprefix("// "))
    assert "IndexError" in path.read_text()  # the traceback, as comments
    # It is the module before the pass: cse has run, the constant is still there.
    capsys.readouterr()
    assert main([str(path)]) == 0
    assert capsys.readouterr().out.count("arith.constant") == 1
    # And the crash happens again.
    fails([str(path), "-p", "test-crash{depth=3}", "--crash-reproducer", str(tmp_path / "x")], 1, capsys)


def test_reproducer_keeps_flags(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    source, path = tmp_path / "input.mlir", tmp_path / "crash.mlir"
    source.write_text('"a.b"() : () -> ()')
    flags = ["--allow-unregistered-dialect", "--blobs", str(tmp_path)]
    fails([str(source), "-p", "test-crash", "--crash-reproducer", str(path), *flags], 1, capsys)
    assert path.read_text().splitlines()[0].endswith(f"--allow-unregistered-dialect --blobs {tmp_path}")


def test_weights_are_saved_with_the_module(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    saved = f"{WEIGHT.digest}.npz"
    assert run(Tool, [source, "-p", "test-weight", "--save-blobs", str(tmp_path / "weights")]) == 0
    assert [path.name for path in (tmp_path / "weights").iterdir()] == [saved]
    path = tmp_path / "crash.mlir"
    err = fails([source, "-p", "test-weight,test-crash", "--crash-reproducer", str(path)], 1, capsys)
    assert f"--blobs {tmp_path / 'crash.blobs'}" in err
    assert [path.name for path in (tmp_path / "crash.blobs").iterdir()] == [saved]


def test_reproducer_that_cannot_be_written(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "no" / "crash.mlir"
    err = fails([source, "-p", "test-crash", "--crash-reproducer", str(path)], 1, capsys)
    assert "IndexError" in err
    assert "cannot be written (no such file or directory)" in err


def test_pass_that_breaks_the_module(source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    path = tmp_path / "crash.mlir"
    args = [source, "-p", "test-break", "--crash-reproducer", str(path), "--print-ir-after-all"]
    assert run(Tool, args) == 1
    err = capsys.readouterr().err
    assert '// -----// IR after test-break (does not verify) //----- //\n"builtin.module"' in err
    assert "error: pass 'test-break' left a module that does not verify" in err
    assert "func.return" in path.read_text()


def test_refusal_is_no_crash(
    source: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    assert fails([source, "-p", "test-refuse"], 1, capsys) == "error: test-refuse takes no module at all\n"
    assert not Path("sparsecc-reproducer.mlir").exists()
    # FileCheck tests of refusals use the stock flag: message on stdout, exit 0.
    assert run(Tool, [source, "-p", "test-refuse", "--verify-diagnostics"]) == 0
    assert "takes no module" in capsys.readouterr().out


def test_verify_diagnostics_keeps_stock_behaviour(source: str, capsys: pytest.CaptureFixture[str]):
    assert run(Tool, [source, "-p", "test-break", "--verify-diagnostics"]) == 0
    assert "arith.addi terminates block" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "code", "needed"),
    [
        (["-p", "canonicalise"], 2, "unknown pass: 'canonicalise'; did you mean 'canonicalize'?"),
        (["-p", "canonicalize{a=}"], 2, "Error parsing pass pipeline specification"),
        (["-p", "canonicalize{a=3}"], 2, "-p 'canonicalize{a=3}': Provided arguments [\"a\"] not found"),
        (["-p", "test-crash{depth=x}"], 2, "Incompatible types"),
        (["-p", "cse", "--print-ir-after", "dce"], 2, "'dce'; the pipeline has cse"),
        (["-t", "mlir{"], 2, "Error parsing pass pipeline specification"),
        (["--blobs", "/nowhere"], 2, "--blobs /nowhere: no such folder"),
        (["-o", "/nowhere/x.mlir"], 2, "-o /nowhere/x.mlir: no such folder"),
    ],
)
def test_wrong_commands(
    options: list[str], code: int, needed: str, source: str, capsys: pytest.CaptureFixture[str]
):
    assert needed in fails([source, *options], code, capsys)


def test_wrong_inputs(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert fails([str(tmp_path / "no.mlir")], 1, capsys).endswith("no.mlir: no such file or directory\n")
    path = tmp_path / "input.txt"
    path.write_text("")
    assert "known are .mlir" in fails([str(path)], 2, capsys)
    path = tmp_path / "input.mlir"
    path.write_text("%a = arith.constant 1 : i3x\n")
    err = fails([str(path)], 1, capsys)
    assert f"{path}:1:25\n" in err
    assert "^^^" in err
    path.write_text(MODULE.replace("func.return %c", "func.return %c, %c").replace("i32\n}", "i32, i32\n}"))
    err = fails([str(path)], 1, capsys)
    assert "error: the module does not verify: Expected arguments to have the same types" in err


def test_unknown_option_is_a_usage_error(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit, match="2"):
        main(["--print-ir-before"])
    assert "unrecognized arguments: --print-ir-before" in capsys.readouterr().err


def test_excerpt_keeps_the_marked_lines():
    lines = [f"line {i}" for i in range(100)]
    lines[50:50] = ["    op", "    ^^^---", "    | wrong", "    ------"]
    text = excerpt("\n".join(lines))
    assert "| wrong" in text
    assert len(text.splitlines()) < 20
    assert excerpt("short\nnote") == "short\nnote"


def test_universe_is_lazy_and_named():
    assert set(universe.SPARSECC_UNIVERSE.all_passes) == set(universe.PASSES)
    assert set(universe.SPARSECC_UNIVERSE.all_dialects) == set(universe.DIALECTS)
    assert set(universe.SPARSECC_UNIVERSE.all_targets) == set(universe.TARGETS)
    for name, (module, cls) in universe.PASSES.items():
        words = name.split("-")
        assert module == "sparsecc.passes." + "_".join(words)
        assert cls == "".join(word.capitalize() for word in words) + "Pass"


def test_starts_fast_and_imports_little():
    code = (
        "import sys\nfrom sparsecc.driver.opt import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "print([m for m in ('numpy', 'scipy', 'rich') if m in sys.modules])"
    )
    seconds: list[float] = []
    for _ in range(3):
        started = os.times().children_user
        result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        assert result.stdout.splitlines()[-1] == "[]"
        for name in (*universe.PASSES, *universe.TARGETS):
            assert name in result.stdout.replace("\n", "").replace(" ", "")
        seconds.append(os.times().children_user - started)
    assert min(seconds) < 0.6
