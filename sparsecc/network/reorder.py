"""Which orders the layers of a network should leave their outputs in: those that make it faster.

A layer that orders its rows scatters them where it stores, and one that orders its columns gathers where it
loads; each undoes an order that the layer beside it might as well have. Every block of channels that may
change places (`sparse-reorder`) is tried in the orders that the plans of the layers around it have, and gets
the one for which these layers together take the fewest cycles, their plans carried over. What is tried is
costed, not compiled again.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from xdsl.context import Context
from xdsl.dialects import func
from xdsl.dialects.builtin import DenseArrayBase, ModuleOp, StringAttr, i64
from xdsl.ir import Block, Operation
from xdsl.traits import SymbolTable

from sparsecc.dialects.host import CallOp
from sparsecc.network.engine import Engine, Layer, Move
from sparsecc.network.patches import Unfolding
from sparsecc.passes.sparse_reorder import ORDER, Channels, SparseReorderPass
from sparsecc.propagate.cuts import Axis, Indices

if TYPE_CHECKING:
    from rich.table import Table

# Of the cycles of all layers: what saves less is not worth compiling some of them again.
WORTH = 0.002


@dataclass(frozen=True, eq=False)
class Placed:
    """A layer in its network."""

    op: Operation
    layer: Layer
    rows: Axis
    columns: Axis
    source: Indices
    """For each column of its matrix the index that it reads on that axis."""
    used: Indices
    """For each column of its matrix the column of its weight."""
    taps: int

    def move(self, moved: Mapping[Axis, Indices]) -> Move | None:
        """How its matrix changes; None where it does not."""
        rows, channels = moved.get(self.rows), moved.get(self.columns)
        if rows is None and channels is None:
            return None
        if channels is None:
            return Move(rows, None)
        place = np.empty(len(channels), np.intp)
        place[channels] = np.arange(len(channels))
        used = place[self.source] * self.taps + self.used % self.taps
        columns = np.argsort(used)
        return Move(rows, columns, used[columns])


@dataclass(frozen=True)
class OrderGain:
    """A layer whose rows or columns have an order that a neighbour wanted, or it itself."""

    name: str
    cycles: list[int]
    """[before, after]."""
    ordered: str
    """What has another order: rows, columns, or both."""
    wanted: str
    """The layers whose orders these are."""


@dataclass(frozen=True, eq=False)
class Orders:
    """What was found for a network."""

    rows: dict[Operation, list[int]]
    """Of products, the orders for `sparse-reorder`."""
    moves: dict[str, Move]
    """Of the matrices of layers, by name."""
    gains: list[OrderGain]


def order_table(gains: Sequence[OrderGain]) -> Table:
    """For people."""
    from rich.table import Table

    found = Table(title="orders carried between layers (sparse-reorder)", title_justify="left")
    for heading in ("layer", "reordered", "cycles", "as wanted by"):
        found.add_column(heading, justify="right" if heading == "cycles" else "left")
    for gain in gains:
        before, after = gain.cycles
        cycles = str(before) if before == after else f"{before} -> {after}"
        found.add_row(gain.name, gain.ordered, cycles, gain.wanted)
    return found


def placed(channels: Channels, layers: Mapping[str, tuple[Layer, Indices | None]]) -> list[Placed]:
    """The layers of a network; columns of matrices that were left out are those not in the arrays."""
    found: list[Placed] = []
    for op in channels.rules:
        name, axes = op.attributes.get("name"), channels.axes(op)
        if axes is None or not isinstance(name, StringAttr) or name.data not in layers:
            continue
        rows, columns, taps = axes
        layer, used = layers[name.data]
        extent = len(channels.atoms.of[columns])
        used = np.arange(extent * taps) if used is None else used
        found.append(Placed(op, layer, rows, columns, used // taps, used, taps))
    return found


def find_orders(
    block: Block, layers: Mapping[str, tuple[Layer, Indices | None]], engine: Engine
) -> Orders | None:
    """Orders that make the layers around them faster; None where there are none.

    layers: by their names, which no two products share, with the columns of its weight that its matrix has
    (None: all).
    """
    wanted = {name: found for name, (layer, _) in layers.items() if (found := list(engine.wanted(layer)))}
    if not wanted:
        return None
    channels = Channels.of(block)
    atoms = channels.atoms
    every = placed(channels, layers)
    whole = np.arange(len(atoms.block))
    cycles = {one.layer.name: engine.cycles(one.layer) or 0 for one in every}
    started = dict(cycles)
    who: dict[str, set[str]] = {}
    tried = {(b, n): e for one in every for b, n, e in _candidates(one, channels, wanted)}
    for b in sorted({b for b, _ in tried}):
        around = [o for o in every if any((atoms.block[atoms.of[a]] == b).any() for a in (o.rows, o.columns))]
        now = sum(cycles[o.layer.name] for o in around)
        best: tuple[int, str, Indices, dict[str, int]] | None = None
        for (_, name), exchange in ((k, e) for k, e in tried.items() if k[0] == b):
            new = np.where(exchange != np.arange(len(exchange)), exchange, whole)
            moved = atoms.moved(new)
            if moved is None:
                continue
            costs = _costs(around, moved, engine, cycles, now)
            if costs is not None and (best is None or sum(costs.values()) < best[0]):
                best = sum(costs.values()), name, new, costs
        if best is not None:
            _, name, whole, costs = best
            cycles.update(costs)
            for one in around:
                who.setdefault(one.layer.name, set()).add(name)
    every_cycle = sum(engine.cycles(layer) or 0 for layer, _ in layers.values())
    if sum(started.values()) - sum(cycles.values()) <= WORTH * every_cycle:
        return None
    moved = atoms.moved(whole)
    assert moved is not None
    moves = {one.layer.name: move for one in every if (move := one.move(moved)) is not None}
    gains = [
        OrderGain(name, [started[name], cycles[name]], move.what, ", ".join(sorted(who[name])))
        for name, move in moves.items()
    ]
    return Orders({o.op: moved[o.rows].tolist() for o in every if o.rows in moved}, moves, gains)


def _costs(
    around: list[Placed], moved: Mapping[Axis, Indices], engine: Engine, cycles: Mapping[str, int], now: int
) -> dict[str, int] | None:
    """Cycles of the layers in this order; None where they are not fewer, or some layer cannot have it."""
    found: dict[str, int] = {}
    for one in around:
        move = one.move(moved)
        cost = cycles[one.layer.name] if move is None else engine.moved_cycles(one.layer, move)
        if cost is None:
            return None
        found[one.layer.name] = cost
    return found if sum(found.values()) < now else None


def _candidates(
    one: Placed, channels: Channels, wanted: Mapping[str, list[Move]]
) -> Iterator[tuple[int, str, Indices]]:
    """(block, name of the layer, exchange of its atoms) of every order that a layer wants."""
    atoms = channels.atoms
    for move in wanted.get(one.layer.name, []):
        if move.rows is not None:
            yield from _of_blocks(channels, atoms.of[one.rows], move.rows, f"{one.layer.name}'s rows")
        if move.columns is not None:
            here = atoms.of[one.columns]
            yield from _of_blocks(channels, here, one.source[move.columns], f"{one.layer.name}'s columns")


def _of_blocks(
    channels: Channels, here: Indices, order: Indices, name: str
) -> Iterator[tuple[int, str, Indices]]:
    """Atoms of each block of an axis in the order in which its indices are listed; unlisted ones last."""
    block = channels.atoms.block
    _, first = np.unique(here, return_index=True)
    natural = here[np.sort(first)]
    listed = np.concatenate([here[order], natural])
    _, first = np.unique(listed, return_index=True)
    ordered = listed[np.sort(first)]
    for b in np.unique(block[here]).tolist():
        if b < 0:
            continue
        exchange = np.arange(len(block))
        exchange[natural[block[natural] == b]] = ordered[block[ordered] == b]
        if (exchange != np.arange(len(block))).any():
            yield b, name, exchange


def ordered(module: ModuleOp, orders: Orders) -> ModuleOp:
    """A copy of the network in which these orders are carried through."""
    for op, order in orders.rows.items():
        op.attributes[ORDER] = DenseArrayBase.from_list(i64, order)
    new = module.clone()
    for op in orders.rows:
        del op.attributes[ORDER]
    SparseReorderPass().apply(Context(), new)
    new.verify()
    return new


def matrices(
    calls: Sequence[func.CallOp], lowered: ModuleOp, layers: Sequence[Layer]
) -> dict[str, tuple[Layer, Indices | None]]:
    """The layers whose names no two calls share, and which columns of its weight each one's matrix has."""
    names = Counter(layer.name for layer in layers)
    found: dict[str, tuple[Layer, Indices | None]] = {}
    for call, layer in zip(calls, layers, strict=True):
        if names[layer.name] == 1:
            function = SymbolTable.lookup_symbol(lowered, call.callee)
            assert isinstance(function, func.FuncOp)
            inside = [op for op in function.body.block.ops if isinstance(op, CallOp)]
            owner = call.arguments[0].owner
            found[layer.name] = layer, _used([*inside, owner] if isinstance(owner, CallOp) else inside)
    return found


def _used(before: Sequence[CallOp]) -> Indices | None:
    """The rows of patches that are made, where some are left out."""
    for op in before:
        if op.operator.data.startswith("host_im2col"):
            rows = Unfolding.of(op).rows
            return None if rows is None else np.array(rows, np.intp)
    return None
