"""The digits example under noise and faults."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def test_digits_under_noise():
    pytest.importorskip("sklearn", reason="the images come with scikit-learn")
    command = [sys.executable, str(ROOT / "examples" / "digits" / "noise.py"), "--variant", "blocks"]
    options = ["--faults", "0.02", "--seeds", "2", "--json"]
    done = subprocess.run([*command, *options], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    exact, faulty = json.loads(done.stdout)
    assert exact["right"][0] >= 485
    assert faulty["mean_percent"] < exact["mean_percent"]
    assert len(set(faulty["right"])) == 2
    assert faulty["spread_percent"] > 0
