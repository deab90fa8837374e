"""The bar that commands show on a terminal while they work."""

from __future__ import annotations

import argparse
import io
import sys

import pytest

from sparsecc.driver.output import progress_of, steps_of


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    ("text", "steps"),
    [
        ("conv1 (1 of 26): sparse-lift (3 of 9)", (0, 26)),
        ("layers[0] (26 of 26): simulating", (25, 26)),
        ("compiling the C", None),
    ],
)
def test_steps(text: str, steps: tuple[int, int] | None):
    assert steps_of(text) == steps


def shown(monkeypatch: pytest.MonkeyPatch, stream: io.StringIO, **options: bool) -> str:
    monkeypatch.setattr(sys, "stderr", stream)
    monkeypatch.setenv("TERM", "xterm")
    arguments = argparse.Namespace(**({"verbose": False, "quiet": False} | options))
    with progress_of(arguments) as tell:
        for text in (
            "reading",
            "layers[0] (1 of 2)",
            "fc (2 of 2): building",
            "running [/the] C",
            "fc (1 of 3)",
        ):
            tell(text)
    return stream.getvalue()


def test_a_terminal_gets_a_bar(monkeypatch: pytest.MonkeyPatch):
    text = shown(monkeypatch, Terminal())
    assert "━" in text
    assert "fc (1 of 3)" in text


def test_others_get_lines_or_nothing(monkeypatch: pytest.MonkeyPatch):
    assert shown(monkeypatch, io.StringIO()) == ""
    assert shown(monkeypatch, Terminal(), quiet=True) == ""
    lines = shown(monkeypatch, io.StringIO(), verbose=True).splitlines()
    assert lines[:2] == ["reading", "layers[0] (1 of 2)"]
    assert len(lines) == 5
