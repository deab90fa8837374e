"""What `sparse-propagate` does to a network before it is compiled: what is left, and who gained what."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, cast

import numpy as np
from numpy.typing import NDArray
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import ArrayAttr, DictionaryAttr, IntegerAttr, ModuleOp, StringAttr
from xdsl.ir import Attribute
from xdsl.utils.exceptions import PassFailedException

from sparsecc.codegen.network import name_of
from sparsecc.errors import UserError
from sparsecc.interpreters.host import in_model, run
from sparsecc.interpreters.sparse import run_module
from sparsecc.passes.convert_nn_to_host import ConvertNnToHostPass
from sparsecc.passes.sparse_propagate import SparsePropagatePass

if TYPE_CHECKING:
    from rich.table import Table

Array = NDArray[Any]


@dataclass(frozen=True)
class LayerGain:
    """What one layer lost to its neighbours, as [before, after]."""

    name: str
    rows: list[int]
    columns: list[int]
    entries: list[int]
    rows_not_needed: int
    """Rows that no later layer needs."""
    columns_known: int
    """Columns whose input is the same for every input of the network."""
    previous: list[str]
    next: list[str]
    """The nearest layers, which it owes that to."""
    cycles: list[int] | None = None
    """Of its product, where both were compiled."""

    @property
    def changed(self) -> bool:
        """Whether it lost anything."""
        return any(before != after for before, after in (self.rows, self.columns, self.entries))


@dataclass(frozen=True, eq=False)
class Propagation:
    """A network with zeros and constants carried across its layers."""

    before: ModuleOp
    module: ModuleOp
    layers: list[LayerGain]
    """That lost something."""
    gone: list[str]
    """Layers of which nothing was left."""

    @property
    def changed(self) -> bool:
        """Whether anything did."""
        count = sum(1 for _ in self.before.walk()) != sum(1 for _ in self.module.walk())
        return bool(self.layers or self.gone) or count

    def with_cycles(self, cycles: Mapping[str, list[int]]) -> Propagation:
        """With the cycles of layers, [before, after], by their names."""
        layers = [replace(layer, cycles=cycles.get(layer.name)) for layer in self.layers]
        return replace(self, layers=layers)


def _main(module: ModuleOp) -> func.FuncOp:
    return next(op for op in module.ops if isinstance(op, func.FuncOp) and op.sym_name.data == "main")


def _strings(attribute: Attribute | None) -> list[str]:
    if not isinstance(attribute, ArrayAttr):
        return []
    return [cast(StringAttr, name).data for name in cast("ArrayAttr[Attribute]", attribute)]


def propagated(module: ModuleOp) -> Propagation:
    """Run the pass on a copy of a network."""
    new = module.clone()
    SparsePropagatePass(report=True).apply(Context(), new)
    new.verify()
    layers: list[LayerGain] = []
    for op in list(_main(new).walk()):
        found = op.attributes.pop("propagated", None)
        if not isinstance(found, DictionaryAttr):
            continue
        number = {k: v.value.data for k, v in found.data.items() if isinstance(v, IntegerAttr)}
        rows, columns, entries = (
            [number[key], number[f"{key}_left"]] for key in ("rows", "columns", "entries")
        )
        layer = LayerGain(
            name_of(op), rows, columns, entries, number["rows_not_needed"], number["columns_known"],
            _strings(found.data.get("previous")), _strings(found.data.get("next")),
        )  # fmt: skip
        layers += [layer] if layer.changed else []
    gone = _strings(_main(new).attributes.pop("propagated_away", None))
    return Propagation(module, new, layers, gone)


def check(found: Propagation, inputs: Sequence[Array]) -> None:
    """Hold the smaller network to the one it was made from, on these inputs. Raises UserError.

    Integers are equal; floats within the forward error bounds of both, where those are known.
    """
    given = in_model(_main(found.before), inputs)
    wanted, results = run_module(found.before, *given), run_module(found.module, *given)
    if all(np.array_equal(w, r, equal_nan=w.dtype.kind == "f") for w, r in zip(wanted, results, strict=True)):
        return
    lowered = found.before.clone()
    try:
        ConvertNnToHostPass(target="scalesim-ws16").apply(Context(), lowered)
    except PassFailedException:
        return  # products of bytes and floats side by side: their layers are checked one by one
    main = _main(lowered)
    errors = run(lowered, main, inputs).errors
    outputs = cast(func.ReturnOp, main.body.block.last_op).operands
    for value, w, r in zip(outputs, wanted, results, strict=True):
        bound = errors[value]
        if bound is None:
            continue
        # Constants that move into biases are added in another order, and rounded once more.
        over = np.abs(r.astype(np.float64) - w.astype(np.float64)) - 3.0 * bound.reshape(w.shape)
        if not (over <= 0).all():
            at = np.unravel_index(np.argmax(over), over.shape)
            raise UserError(
                f"sparse-propagate: the output's value at {[int(i) for i in at]} is {r[at]}, needed {w[at]}: "
                "this is a bug of the pass; report it with the model, and compile with --no-propagate",
                exit_code=3,
            )


def table(layers: Sequence[LayerGain], gone: Sequence[str]) -> Table:
    """For people."""
    from rich.table import Table

    found = Table(title="gained from neighbours (sparse-propagate)", title_justify="left")
    for heading in ("layer", "rows", "columns", "nonzeros", "cycles", "from"):
        found.add_column(heading, justify="left" if heading in ("layer", "from") else "right")

    def both(pair: Sequence[int] | None) -> str:
        if pair is None:
            return ""
        return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]} -> {pair[1]}"

    for layer in layers:
        sources = [*layer.previous, *layer.next]
        found.add_row(
            layer.name, both(layer.rows), both(layer.columns), both(layer.entries), both(layer.cycles),
            ", ".join(sources),
        )  # fmt: skip
    for name in gone:
        found.add_row(name, "gone", "", "", "", "")
    return found
