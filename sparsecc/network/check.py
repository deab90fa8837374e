"""What the program of a network should compute for its stored inputs, and how far off it may be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.dialects import func
from xdsl.dialects.builtin import ModuleOp
from xdsl.ir import SSAValue

from sparsecc.codegen.network import Check, name_of, steps
from sparsecc.dialects.host import CallOp, kind_of
from sparsecc.errors import UserError
from sparsecc.interpreters.host import Run, in_model, run
from sparsecc.interpreters.sparse import run_module
from sparsecc.network.engine import Progress

Array = NDArray[Any]


@dataclass(eq=False)
class NetworkCheck:
    """Values of a network, found when they are first asked for: of its cycles alone nobody needs them."""

    chosen: ModuleOp
    """The network before its operators became calls."""
    lowered: ModuleOp
    main: func.FuncOp
    """Its calls, in `lowered`."""
    inputs: Sequence[Array]
    exact: bool
    """Whether products are in integers."""
    progress: Progress

    @cached_property
    def reference(self) -> Run:
        """All values for these inputs, and how far the program may be from each when it starts every layer
        from the values of the one before."""
        self.progress("computing the expected values")
        restarts = set(checked_values(self.main))
        return run(self.lowered, self.main, self.inputs, restarts=restarts, exact=self.exact)

    @cached_property
    def bounds(self) -> tuple[Array | None, ...]:
        """How far the program's outputs may be from those of the reference; None where no bound is known.

        Holds the chosen operators to the network as it was read. Raises UserError, status 3, where they
        differ by more.
        """
        self.progress("computing the bounds of errors")
        wanted = run_module(self.chosen, *in_model(self.main, self.inputs))
        found = run(self.lowered, self.main, self.inputs, rounded_weights=True, exact=self.exact)
        bounds: list[Array | None] = []
        outputs = cast(func.ReturnOp, self.main.body.block.last_op).operands
        for value, array in zip(outputs, wanted, strict=True):
            bound, result = found.errors[value], found.array(value)
            if bound is None or not np.isfinite(bound).all():
                bounds.append(None)
                continue
            allowed = bound.reshape(result.shape)
            bounds.append(allowed)
            # Both sides are rounded.
            over = np.abs(result.astype(np.float64) - array.astype(np.float64)) - 2.0 * allowed
            if not (over <= 0).all():
                at = np.unravel_index(np.argmax(over), over.shape)
                raise UserError(
                    f"convert-nn-to-host: the output's value at {[int(i) for i in at]} is {result[at]}, "
                    f"needed {array[at]}: this is a bug of the pass; report it with the model",
                    exit_code=3,
                )
        return tuple(bounds)

    def checks(self) -> list[Check]:
        """What the program compares."""
        values, errors = self.reference.values, self.reference.errors
        numbers: dict[SSAValue, tuple[int, str]] = {
            op.results[0]: (i, name_of(op)) for i, op in enumerate(steps(self.main))
        }
        # Values of which no bound is known are not compared, but what follows them starts from them.
        return [
            Check(
                *numbers[value], value, values[value],
                np.full(values[value].size, np.inf, np.float32) if error is None else error,
            )
            for value in checked_values(self.main)
            for error in (errors[value],)
        ]  # fmt: skip


def checked_values(function: func.FuncOp) -> list[SSAValue]:
    """Results of layers: not those that only become another's in place, in another order, or as patches."""
    found: list[SSAValue] = []
    for op in steps(function):
        value = op.results[0]
        users = [use.operation for use in value.uses]
        only = users[0] if len(users) == 1 and isinstance(users[0], CallOp) else None
        passing = only is not None and (value in only.in_place() or only.into is value)
        patches = isinstance(op, CallOp) and op.operator.data.startswith("host_im2col")
        if not (passing or patches or "reorders" in op.attributes or kind_of(value) in ("f16", "bf16")):
            found.append(value)
    return found
