"""Matrices of narrow types as matrices of words: 32 bits that hold several elements of one row.

An instruction that multiplies two words and adds up does the work of several, but only where their elements
are nonzeros. So columns that many rows share stand together in words: which ones is free to choose, since X
is packed to words anyway.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from sparsecc.importers.matrix import Csr, make_csr
from sparsecc.target.cpu import CpuTarget

Array = NDArray[Any]
Element = Literal["i8", "bf16", "f16"]

# The search for columns that stand together looks at so many rows and, at a time, columns.
ROWS, WINDOW = 512, 512

# numpy's types of what C reads and writes; those that numpy does not have are bits.
STORED: dict[str, np.dtype[Any]] = {
    name: np.dtype(kind)
    for name, kind in {
        "i8": np.int8, "ui8": np.uint8, "i32": np.int32, "f32": np.float32, "f16": np.float16,
        "bf16": np.uint16,
    }.items()
}  # fmt: skip


def as_stored(x: Array, element: str) -> Array:
    """Numbers that the type holds exactly, as C reads them; bf16 comes as the f32 it equals."""
    if element == "bf16":
        bits = np.ascontiguousarray(x, np.float32).view(np.uint32) >> np.uint32(16)
        return bits.astype(np.uint16)
    return np.ascontiguousarray(x, STORED[element])


def depth_of(target: CpuTarget, element: Element) -> int:
    """Elements of a word, as `sc_words_depth` says for the instructions of the target with this type."""
    match target.simd.isa, element:
        case (("avx512" | "neon"), "i8"):
            return 4
        case "avx2", "i8":
            return 2
        case "avx512", "bf16":
            return 2
        case _:
            return 1


def offset_of(target: CpuTarget, element: Element) -> int:
    """What is added to each element of X on its way to words: the instruction wants unsigned bytes."""
    return 128 if element == "i8" and target.simd.isa == "avx512" else 0


@dataclass(frozen=True, eq=False)
class Words:
    """W [M, K] as words [M, words]."""

    csr: Csr
    """float32, but what its values mean is in their bits."""
    columns: NDArray[np.int32]
    """[words, depth] The column of W that each element of a word is of; -1: none, the element is 0."""
    element: Element

    @property
    def depth(self) -> int:
        """Elements of a word."""
        return self.columns.shape[1]

    @cached_property
    def elements(self) -> Array:
        """[nnz of the words, depth] The elements of each word: int8, or float32."""
        return _unpacked(self.csr.data.view(np.uint32), self.depth, self.element)

    def matrix(self) -> Csr:
        """W again, by what the words say: int8, or float32."""
        rows = np.repeat(np.arange(self.csr.shape[0]), np.diff(self.csr.indptr))
        rows = np.repeat(rows, self.depth).reshape(-1, self.depth)
        columns = self.columns[self.csr.indices]
        there = self.elements != 0
        assert (columns[there] >= 0).all()
        k = int(self.columns.max()) + 1
        order = np.lexsort((columns[there], rows[there]))
        counts = np.bincount(rows[there], minlength=self.csr.shape[0])
        indptr = np.concatenate([[0], np.cumsum(counts)])
        return make_csr(self.elements[there][order], columns[there][order], indptr, (self.csr.shape[0], k))


def as_words(w: Csr, element: Element, depth: int) -> Words:
    """W in words. w: int8, or floats that the type holds exactly, without duplicates."""
    m, k = w.shape
    columns = together(w, depth)
    place = np.empty(k, np.int64)
    there = columns >= 0
    place[columns[there]] = np.flatnonzero(there.ravel())
    at = place[w.indices]
    row = np.repeat(np.arange(m), np.diff(w.indptr))
    key = row * len(columns) + at // depth
    order = np.argsort(key, kind="stable")
    bits = _bits(w.data, element, depth)[order] << (32 // depth * (at % depth)[order]).astype(np.uint32)
    sorted_key = key[order]
    first = np.flatnonzero(np.diff(sorted_key, prepend=-1))
    values = np.bitwise_or.reduceat(bits, first) if len(first) else bits
    rows, words = np.divmod(sorted_key[first], len(columns))
    indptr = np.concatenate([[0], np.cumsum(np.bincount(rows, minlength=m))])
    csr = make_csr(values.view(np.float32), words, indptr, (m, len(columns)))
    return Words(csr, columns.astype(np.int32), element)


def _bits(data: Array, element: Element, depth: int) -> NDArray[np.uint32]:
    """Each value at the lower end of a word."""
    if element == "i8":
        narrow = data.astype(np.int8)
        return narrow.view(np.uint8).astype(np.uint32) if depth == 4 else _low(narrow.astype(np.int16))
    bits = np.ascontiguousarray(data, np.float32).view(np.uint32)
    return bits >> np.uint32(16) if depth == 2 else bits


def _low(halves: NDArray[np.int16]) -> NDArray[np.uint32]:
    return halves.view(np.uint16).astype(np.uint32)


def _unpacked(bits: NDArray[np.uint32], depth: int, element: Element) -> Array:
    if element == "i8":
        return bits[:, None].view(np.int8 if depth == 4 else np.int16).astype(np.int8)
    if depth == 2:
        return (bits[:, None].view(np.uint16).astype(np.uint32) << 16).view(np.float32)
    return bits[:, None].view(np.float32)


def together(w: Csr, depth: int) -> NDArray[np.int64]:
    """[words, depth] Columns that stand together in words, -1 after the last.

    Neighbours, or, if that makes fewer words with a nonzero, columns chosen greedily: the one with the most
    nonzeros, then those that share most rows with what is chosen already.
    """
    k = w.shape[1]
    natural = np.full(-(-k // depth) * depth, -1)
    natural[:k] = np.arange(k)
    natural = natural.reshape(-1, depth)
    least = int((-(-np.diff(w.indptr) // depth)).sum())
    if depth == 1 or k <= depth or (neighbours := word_count(w, natural)) == least:
        return natural
    chosen = _greedy(w, depth)
    return chosen if word_count(w, chosen) < neighbours else natural


def word_count(w: Csr, columns: NDArray[np.int64]) -> int:
    """Words with a nonzero."""
    word = np.empty(w.shape[1], np.int64)
    there = columns >= 0
    word[columns[there]] = np.repeat(np.arange(len(columns)), columns.shape[1]).reshape(columns.shape)[there]
    row = np.repeat(np.arange(w.shape[0]), np.diff(w.indptr))
    return len(np.unique(row * len(columns) + word[w.indices]))


def _greedy(w: Csr, depth: int) -> NDArray[np.int64]:
    m, k = w.shape
    row = np.repeat(np.arange(m), np.diff(w.indptr))
    step = -(-m // ROWS)
    kept = row % step == 0
    used = np.zeros((k, -(-m // step)), np.float32)
    used[w.indices[kept], row[kept] // step] = 1
    counts = used.sum(1)
    by_count = np.argsort(-counts, kind="stable")
    width = max(WINDOW, depth) // depth * depth
    chosen: list[int] = []
    for start in range(0, k, width):
        window = by_count[start : start + width]
        part, left = used[window], counts[window].copy()
        for first in range(len(window)):
            if left[first] < 0:
                continue
            union = part[first].copy()
            left[first] = -1
            chosen.append(int(window[first]))
            for _ in range(depth - 1):
                # Shared rows count for a column, and a third of those that it would add against it.
                score = np.where(left >= 0, part @ union * np.float32(4 / 3) - left / 3, -np.inf)
                best = int(np.argmax(score))
                if left[best] < 0:
                    break
                union = np.maximum(union, part[best])
                left[best] = -1
                chosen.append(int(window[best]))
    out = np.full(-(-k // depth) * depth, -1)
    out[:k] = chosen
    return out.reshape(-1, depth)
