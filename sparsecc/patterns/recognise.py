"""Which sparsity pattern a matrix has: the one that holds and needs the fewest bits to write the matrix down.

Two kinds of patterns. A *support* names the places where nonzeros may stand: rows, columns, blocks, vectors,
BCR. It holds as far as the places it names are nonzero. A *count* says how many nonzeros each group of
columns has: N:M, banks, V:N:M. It holds as far as the groups obey it. A support that is not filled may have
another pattern inside: that is a hierarchical one. Each is a code for the matrix (see `codes`), and so is
"unstructured"; random sparsity cannot be written shorter than that, so nothing is found in it.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sparsecc.cover.laws import Pattern
from sparsecc.cover.panels import distinct, transposed
from sparsecc.patterns.codes import choices_bits, choose_bits, counts_bits
from sparsecc.patterns.generate import VNM_WIDTH

Int64 = NDArray[np.int64]

# Least share to which a support is filled, and to which groups obey a count.
FILLED, OBEYED = 0.9, 0.98
# Bits that a pattern must save: random sparsity saves so many once in 2^32 matrices.
SURE_BITS = 32.0
# A pattern that does not hold everywhere, or has no pattern inside, must save this share of all bits.
SAVED = 0.1
# A more particular pattern must be shorter by this share than a simpler one.
SHORTER = 0.01
# Random sparsity must break a count in at least this share of the groups: else obeying it says nothing.
BREAKABLE = 0.05

SIDES = (1, 2, 4, 8, 16, 32, 64, 128)
NM_WIDTHS = (2, 4, 8, 16, 32)
BANKS = (1, 2, 4, 8, 16, 32, 64)
VNM_ROWS = (4, 8, 16, 32, 64, 128)
VNM_COLUMNS = (8, 10, 16, 20, 32, 40, 64, 100)
BCR_SIDES = (8, 16, 32, 64, 128)


@dataclass(frozen=True)
class Structure:
    """A pattern with its parameters, and how well it holds."""

    kind: str
    """empty, dense, unstructured, row, column, block, vector, nm, bank, vnm, bcr or hierarchical."""
    parameters: tuple[tuple[str, float], ...]
    share: float
    """Of a support, nonzeros / places it names; of a count, groups that obey it / groups; 1 is exact."""
    saved: float
    """Bits that the pattern saves / bits to write the matrix down as unstructured."""
    parts: tuple[Structure, ...] = ()
    """Of a hierarchical one: the outer patterns, and the one inside them."""

    @property
    def exact(self) -> bool:
        return self.share == 1

    def __str__(self) -> str:
        p = {name: f"{value:g}" for name, value in self.parameters}
        match self.kind:
            case "hierarchical":
                return " of ".join(str(part) for part in reversed(self.parts))
            case "empty" | "dense":
                return self.kind
            case "unstructured":
                text = f"unstructured({p['density']})"
            case "row" | "column":
                text = f"{self.kind}({p['kept']} of {p['all']})"
            case "nm":
                text = f"{p['n']}:{p['m']}"
            case "vnm":
                text = f"{p['v']}:{p['n']}:{p['m']}"
            case "bcr":
                text = f"bcr({p['rows']}x{p['columns']}, keeps {p['row_keep']} x {p['column_keep']})"
            case _:
                text = f"{self.kind}({'x'.join(p.values())})"
        return text if self.exact else f"{text} to {100 * self.share:.1f} %"


@dataclass(frozen=True)
class _Found:
    bits: float
    structure: Structure
    needs_share: bool
    """Whether it must save a share of the bits, not just any that chance does not save."""


@dataclass(frozen=True)
class _Support:
    """Places where nonzeros may stand."""

    bits: float
    """To name them."""
    places: int
    outer: tuple[Structure, ...]
    run: int
    """Columns that its places come in, aligned to it; 0 where groups of columns do not fit."""


def recognise(pattern: Pattern) -> Structure:
    """The most specific pattern that holds; "unstructured" where none does.

    Deterministic; O(nonzeros) for each of about a hundred patterns that are tried.
    """
    points = pattern.m * pattern.k
    density = pattern.nnz / points if points else 0.0
    if pattern.nnz in (0, points):
        return Structure("dense" if pattern.nnz else "empty", (), 1.0, 0.0)
    plain = choose_bits(points, pattern.nnz)
    best: _Found | None = None
    for found in _candidates(pattern):
        needed = SAVED * plain if found.needs_share else 0.0
        if plain - found.bits < max(SURE_BITS, needed):
            continue
        if best is None or found.bits < best.bits - _advantage(found.structure, best):
            best = found
    if best is None:
        return Structure("unstructured", (("density", round(density, 4)),), 1.0, 0.0)
    s = best.structure
    return Structure(s.kind, s.parameters, s.share, 1 - best.bits / plain, s.parts)


def _advantage(structure: Structure, best: _Found) -> float:
    """Bits that a pattern must save over a simpler one: any, if it is of the same kind and as good."""
    if structure.kind == best.structure.kind and structure.share >= best.structure.share:
        return 0.0
    return SHORTER * best.bits + SURE_BITS


def _candidates(pattern: Pattern) -> Iterator[_Found]:
    """Patterns that hold, simple ones first."""
    levels, groups = _Levels(pattern), _Groups(pattern)
    yield from _counts(pattern, groups, _Support(0.0, pattern.m * pattern.k, (), pattern.k))
    supports = [*_lines(pattern), *_blocks(pattern, levels)]
    for support in supports:
        yield from _filled(pattern, support)
    for support in supports:
        yield from (_inside(support, found) for found in _counts(pattern, groups, support))
    yield from _vnm(pattern, levels, groups)
    yield from _bcr(pattern, levels)


# Supports. ---------------------------------------------------------------------------------------------


def _simple(kind: str, **parameters: float) -> Structure:
    return Structure(kind, tuple(parameters.items()), 1.0, 0.0)


def _lines(pattern: Pattern) -> Iterator[_Support]:
    """Rows that are not empty, columns that are not, and both."""
    m, k = pattern.m, pattern.k
    rows = int((np.diff(pattern.indptr) > 0).sum())
    columns = int((np.bincount(pattern.indices, minlength=k) > 0).sum())
    row_bits, column_bits = choose_bits(m, rows) + math.log2(m), choose_bits(k, columns) + math.log2(k)
    row, column = _simple("row", kept=rows, all=m), _simple("column", kept=columns, all=k)
    if rows < m:
        yield _Support(row_bits, rows * k, (row,), k)
    if columns < k:
        yield _Support(column_bits, m * columns, (column,), 0)
    if rows < m and columns < k:
        yield _Support(row_bits + column_bits, rows * columns, (row, column), 0)


class _Levels:
    """The blocks of each size that hold a nonzero, computed from those of half the size."""

    def __init__(self, pattern: Pattern):
        self.pattern = pattern
        self._known: dict[tuple[int, int], tuple[Int64, Int64]] = {
            (1, 1): (pattern.row_of().astype(np.int64), pattern.indices.astype(np.int64))
        }

    def grid(self, rows: int, columns: int) -> tuple[int, int]:
        return -(-self.pattern.m // rows), -(-self.pattern.k // columns)

    def at(self, rows: int, columns: int) -> tuple[Int64, Int64]:
        """(block row, block column) of each block of rows x columns with a nonzero."""
        if (rows, columns) not in self._known:
            finer = (rows, columns // 2) if columns % 2 == 0 else (rows // 2, columns)
            if rows % 2 and columns % 2:
                finer = (1, 1)
            row, column = self.at(*finer)
            down, across = self.grid(rows, columns)
            key = distinct(row // (rows // finer[0]), column // (columns // finer[1]), down, across)
            row, column = np.divmod(key, across)
            self._known[rows, columns] = row, column
        return self._known[rows, columns]

    def places(self, rows: int, columns: int) -> int:
        """Points of these blocks; those at the edges are cut."""
        m, k = self.pattern.m, self.pattern.k
        row, column = self.at(rows, columns)
        return int((np.minimum(rows, m - row * rows) * np.minimum(columns, k - column * columns)).sum())


def _equal_runs(pattern: Pattern) -> int:
    """The largest b such that the rows of every aligned run of b rows are equal."""
    # Equal rows have equal hashes (a fixed random number for each column, added); others, in 2^64 cases, one.
    number = np.random.default_rng(0).integers(0, 1 << 63, pattern.k, np.uint64)
    total = np.concatenate((np.zeros(1, np.uint64), np.cumsum(number[pattern.indices], dtype=np.uint64)))
    digest = total[pattern.indptr[1:]] - total[pattern.indptr[:-1]]
    changes = np.flatnonzero(digest[1:] != digest[:-1]) + 1
    return int(np.gcd.reduce(changes)) if len(changes) else pattern.m


def _blocks(pattern: Pattern, levels: _Levels) -> Iterator[_Support]:
    """Blocks of powers of two, and the largest in which all rows and all columns are equal."""
    sizes = [(b, w) for b in SIDES if b < pattern.m for w in SIDES if w < pattern.k][1:]
    exact = _equal_runs(pattern), _equal_runs(transposed(pattern))
    if exact not in sizes and exact != (1, 1) and exact[0] < pattern.m and exact[1] < pattern.k:
        sizes.append(exact)
    full: list[tuple[int, int]] = []
    for rows, columns in sizes:
        # Where no block is empty, none of larger blocks is.
        if any(rows % a == 0 and columns % b == 0 for a, b in full):
            continue
        down, across = levels.grid(rows, columns)
        kept = len(levels.at(rows, columns)[0])
        if kept == down * across:
            full.append((rows, columns))
            continue
        named = _simple("vector", rows=rows) if columns == 1 else _simple("block", rows=rows, columns=columns)
        bits = choose_bits(down * across, kept) + math.log2(down * across)
        yield _Support(bits, levels.places(rows, columns), (named,), columns)


def _filled(pattern: Pattern, support: _Support) -> Iterator[_Found]:
    """The support alone if it is filled, else with unstructured sparsity inside."""
    share = pattern.nnz / support.places
    bits = support.bits + choose_bits(support.places, pattern.nnz)
    outer = support.outer
    if share >= FILLED:
        one = outer[0] if len(outer) == 1 else Structure("hierarchical", (), 1.0, 0.0, outer)
        yield _Found(bits, Structure(one.kind, one.parameters, share, 0.0, one.parts), share < 1)
    else:
        inner = _simple("unstructured", density=round(share, 4))
        yield _Found(bits, Structure("hierarchical", (), 1.0, 0.0, (*outer, inner)), True)


def _inside(support: _Support, found: _Found) -> _Found:
    """A count inside a support."""
    inner = found.structure
    both = Structure("hierarchical", (), inner.share, 0.0, (*support.outer, inner))
    return _Found(support.bits + found.bits, both, found.needs_share)


# Counts. -----------------------------------------------------------------------------------------------


class _Groups:
    """Nonzeros of each group of so many columns of a row, from those of groups of half the width."""

    def __init__(self, pattern: Pattern):
        self.pattern = pattern
        self._known: dict[int, tuple[Int64, Int64]] = {}

    def at(self, width: int) -> tuple[Int64, Int64]:
        """(number of the group, nonzeros) of each group that has any; groups are numbered row after row."""
        if width not in self._known:
            across = -(-self.pattern.k // width)
            if width % 2 == 0:
                finer = -(-self.pattern.k // (width // 2))
                number, counts = self.at(width // 2)
                key = number // finer * across + number % finer // 2
            else:
                key = self.pattern.row_of().astype(np.int64) * across + self.pattern.indices // width
                counts = np.ones(len(key), np.int64)
            first = np.flatnonzero(np.concatenate(([True], key[1:] != key[:-1])))
            self._known[width] = key[first], np.add.reduceat(counts, first)
        return self._known[width]


def _obeys(histogram: Int64, limit: int) -> float:
    """Share of the groups with at most `limit` nonzeros; histogram: groups of each count."""
    return int(histogram[: limit + 1].sum()) / int(histogram.sum())


def _least_limit(histogram: Int64) -> int:
    """The smallest limit that nearly all groups obey."""
    return int(np.argmax(np.cumsum(histogram) >= OBEYED * histogram.sum()))


def _at_most(n: int, limit: int, density: float) -> float:
    """The chance that of n places, each kept with this probability, at most `limit` are."""
    return sum(math.comb(n, i) * density**i * (1 - density) ** (n - i) for i in range(limit + 1))


def _tells(share: float, random: float) -> bool:
    """Whether random sparsity would break the count, and this matrix does so half as often at most."""
    return 1 - random >= BREAKABLE and 1 - share <= (1 - random) / 2


def _counts(pattern: Pattern, groups: _Groups, support: _Support) -> Iterator[_Found]:
    """N:M and banks, in a support whose places come in whole groups."""
    k = pattern.k
    density = pattern.nnz / support.places
    whole_rows = support.run == k
    widths = [w for w in NM_WIDTHS if w < k and (whole_rows or (support.run and support.run % w == 0))]
    if whole_rows:
        widths += [k // b for b in BANKS if k % b == 0 and k // b > NM_WIDTHS[-1]]
    for width in widths:
        # A narrower group at the edge is counted as a whole one: that only makes the code longer.
        total = support.places // k * -(-k // width) if whole_rows else -(-support.places // width)
        _, counts = groups.at(width)
        histogram = np.bincount(counts, minlength=width + 1)
        histogram[0] = total - len(counts)
        if width <= NM_WIDTHS[-1]:
            n = _least_limit(histogram)
            share = _obeys(histogram, n)
            if n >= width or not _tells(share, _at_most(width, n, density)):
                continue
            structure = _simple("nm", n=n, m=width)
        else:
            kept = int(histogram.argmax())
            share = int(histogram[kept]) / total
            if kept in (0, width) or share < FILLED:
                continue
            structure = _simple("bank", banks=k // width, kept=kept)
        bits = counts_bits(histogram) + choices_bits(np.full(len(counts), width), counts)
        yield _Found(bits, Structure(structure.kind, structure.parameters, share, 0.0), share < 1)


def _vnm(pattern: Pattern, levels: _Levels, groups: _Groups) -> Iterator[_Found]:
    density = pattern.nnz / (pattern.m * pattern.k)
    for m in VNM_COLUMNS:
        if m >= pattern.k:
            continue
        across = -(-pattern.k // m)
        group, counts = groups.at(m)
        in_rows = np.bincount(counts, minlength=m + 1)
        in_rows[0] = pattern.m * across - len(counts)
        n = _least_limit(in_rows)
        if not 0 < n < VNM_WIDTH:
            continue
        for v in VNM_ROWS:
            if v > pattern.m:
                continue
            row, column = levels.at(v, 1)
            used = np.bincount(row * across + column // m, minlength=-(-pattern.m // v) * across)
            in_blocks = np.bincount(used, minlength=m + 1)
            share = min(_obeys(in_rows, n), _obeys(in_blocks, VNM_WIDTH))
            random = _at_most(m, VNM_WIDTH, 1 - (1 - density) ** v)
            if share < OBEYED or not _tells(share, random):
                continue
            of_group = used[group // across // v * across + group % across]
            bits = counts_bits(in_blocks) + counts_bits(in_rows)
            bits += choices_bits(np.full(len(used), m), used) + choices_bits(of_group, counts)
            yield _Found(bits, Structure("vnm", (("v", v), ("n", n), ("m", m)), share, 0.0), share < 1)


def _bcr(pattern: Pattern, levels: _Levels) -> Iterator[_Found]:
    for rows in BCR_SIDES:
        for columns in BCR_SIDES:
            if rows > pattern.m or columns > pattern.k:
                continue
            down, across = levels.grid(rows, columns)
            row, block_column = levels.at(1, columns)
            kept_rows = np.bincount(row // rows * across + block_column, minlength=down * across)
            block_row, column = levels.at(rows, 1)
            kept_columns = np.bincount(block_row * across + column // columns, minlength=down * across)
            places = int((kept_rows * kept_columns).sum())
            share = pattern.nnz / places
            if share < FILLED:
                continue
            bits = choose_bits(places, pattern.nnz)
            for width, kept in ((rows, kept_rows), (columns, kept_columns)):
                bits += counts_bits(np.bincount(kept, minlength=width + 1))
                bits += choices_bits(np.full(len(kept), width), kept)
            parameters = (
                ("rows", rows),
                ("columns", columns),
                ("row_keep", round(float(kept_rows.mean()) / rows, 4)),
                ("column_keep", round(float(kept_columns.mean()) / columns, 4)),
            )
            yield _Found(bits, Structure("bcr", parameters, share, 0.0), True)
