"""sparsecc: makes the zeros of pruned networks pay on chips with dense units.

```python
artifact = sparsecc.compile("layer.smtx", target="gemmini16", n=128)
y = artifact(x)  # on the simulator
artifact.report  # cycles, energy, speed-up over the dense plan, and why
artifact.save("out")  # C that stands alone
```
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sparsecc.artifact import Artifact
    from sparsecc.compiler import compile
    from sparsecc.errors import UserError
    from sparsecc.network_compiler import NetworkArtifact, compile_network
    from sparsecc.report import Report
    from sparsecc.stages import Stage
    from sparsecc.target import Target

__version__ = "0.1.0"
__all__ = [
    "Artifact",
    "NetworkArtifact",
    "Report",
    "Stage",
    "Target",
    "UserError",
    "compile",
    "compile_network",
]

# Imported when first used: `sparsecc --help` needs none of them.
_HOME = {
    "Artifact": "sparsecc.artifact",
    "NetworkArtifact": "sparsecc.network_compiler",
    "Report": "sparsecc.report",
    "Stage": "sparsecc.stages",
    "Target": "sparsecc.target",
    "UserError": "sparsecc.errors",
    "compile": "sparsecc.compiler",
    "compile_network": "sparsecc.network_compiler",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'sparsecc' has no attribute {name!r}")
