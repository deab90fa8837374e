"""What calls of the host are estimated to take: bytes and operations at the rates of one plain core.

An estimate for comparison with the accelerator's simulated time, not a measurement.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from xdsl.ir import SSAValue

from sparsecc.dialects.host import CallOp
from sparsecc.host.operator import Cost

# Assumed: a core that streams 8 GB/s and does 4e9 operations or 1e8 evaluations of exp and the like a second.
BYTES_PER_SECOND = 8e9
OPERATIONS_PER_SECOND = 4e9
FUNCTIONS_PER_SECOND = 1e8
RATES = "assumed: 8 GB/s, 4e9 operations and 1e8 functions such as exp per second"


@dataclass(frozen=True)
class HostWork:
    """Of one call or of several."""

    bytes: int = 0
    operations: int = 0
    functions: int = 0

    def __add__(self, other: HostWork) -> HostWork:
        return HostWork(
            self.bytes + other.bytes,
            self.operations + other.operations,
            self.functions + other.functions,
        )

    @property
    def seconds(self) -> float:
        """Moving and computing overlap; functions do not."""
        streamed = max(self.bytes / BYTES_PER_SECOND, self.operations / OPERATIONS_PER_SECOND)
        return streamed + self.functions / FUNCTIONS_PER_SECOND


def work_of(op: CallOp) -> HostWork:
    """What a call moves and computes."""
    values: list[Any] = [None if isinstance(v, SSAValue) else v for v in op.values()]
    return work_from(op.declaration.cost(*values))


def work_from(cost: Cost) -> HostWork:
    """The same, from what an operator declares."""
    return HostWork(cost.bytes_read + cost.bytes_written, cost.flops, cost.functions)
