"""How lit runs the tests of this folder: `lit test/filecheck`, from anywhere, the environment active or not."""

import os
import shutil
import sys
from pathlib import Path

import lit.formats

root = Path(__file__).parents[2]

config.name = "sparsecc"
config.suffixes = [".mlir", ".test"]
config.test_source_root = str(Path(__file__).parent)
config.test_exec_root = str(root / ".lit")
config.test_format = lit.formats.ShTest(preamble_commands=[f"cd {root}"])

# Tools of the environment that lit itself stands in; no need to activate it.
config.environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
# The sources of this checkout, installed or not.
config.environment["PYTHONPATH"] = str(root)
config.environment["PYTHONWARNINGS"] = "error"

opt = f"{sys.executable} -m sparsecc.driver.opt"
config.substitutions += [
    # Generic form and back, then what the file expects of the custom form.
    (
        "ROUNDTRIP",
        f"{opt} %s --split-input-file --print-op-generic | {opt} --split-input-file | filecheck %s",
    ),
    # What the parser and the verifier say.
    ("DIAGNOSTICS", f"{opt} %s --split-input-file --parsing-diagnostics --verify-diagnostics | filecheck %s"),
    ("sparsecc-opt", opt),
]

for tool in ("gcc", "mlir-opt-19"):
    if shutil.which(tool):
        config.available_features.add(tool)
