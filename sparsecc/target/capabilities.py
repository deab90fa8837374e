"""What only some targets can do: each asked for by the instructions that need it."""

from __future__ import annotations

from sparsecc.errors import UserError
from sparsecc.target.sections import Indexed
from sparsecc.target.structured import Kept, ScatterAdd
from sparsecc.target.target import Target


def indexed(target: Target) -> Indexed:
    """What rows by index cost. Raises UserError where the target does not have them."""
    if target.indexed is None:
        raise UserError(
            f"target {target.name} cannot address rows by index; TU.PREX and TU.MMX need a target with a "
            "section [indexed]"
        )
    return target.indexed


def scatter_add(target: Target) -> ScatterAdd:
    """What adding in memory costs. Raises UserError where the target cannot."""
    if target.scatter_add is None:
        raise UserError(
            f"target {target.name} cannot add to memory; an STS that adds needs a target with a section "
            "[scatter_add]"
        )
    return target.scatter_add


def kept_pattern(target: Target, keep: int, group: int) -> Kept:
    """The N:M pattern of a TU.SPMMA. Raises UserError where the target does not take it."""
    if (kept := Kept(keep, group)) not in target.kept_patterns:
        known = ", ".join(map(str, target.kept_patterns)) or "none; it needs a section [structured]"
        raise UserError(f"target {target.name} does not take {kept} left operands; it takes {known}")
    return kept
