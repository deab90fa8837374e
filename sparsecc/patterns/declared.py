"""Patterns that a user says a matrix has, held against the matrix."""

from __future__ import annotations

import re

import numpy as np

from sparsecc.cover.laws import Pattern
from sparsecc.errors import UserError
from sparsecc.patterns.generate import VNM_WIDTH


def check_declared(pattern: Pattern, declared: str, name: str) -> None:
    """Holds a matrix to N:M or V:N:M. Raises UserError, which names the first row and group that break it.

    N:M: of every M columns of a row at most N are nonzero. V:N:M (VENOM): in blocks of V rows and M columns
    at most four columns are used, and at most N of these in each row.
    """
    match = re.fullmatch(r"(?:(\d{1,6}):)?(\d{1,6}):(\d{1,6})", declared)
    v, keep, group = (int(number or 0) for number in match.groups()) if match else (0, 0, 0)
    if not match or not 0 < keep < group or (match[1] and not v):
        raise UserError(
            f"--pattern {declared}: needed N:M with 0 < N < M, such as 2:4, or V:N:M, such as 16:2:8",
            exit_code=2,
        )
    row, column = pattern.row_of().astype(np.int64), pattern.indices.astype(np.int64)
    groups = -(-pattern.k // group)
    count = np.bincount(row * groups + column // group, minlength=pattern.m * groups)
    if (broken := np.flatnonzero(count > keep)).size:
        at, of = divmod(int(broken[0]), groups)
        last = min(pattern.k, (of + 1) * group) - 1
        raise UserError(
            f"{name}: declared {declared}, but row {at} has {count[broken[0]]} nonzeros in columns "
            f"{of * group} to {last} (counting from 0), needed at most {keep}; {broken.size} of {count.size} "
            "groups break the pattern; prune the matrix to it or leave --pattern out"
        )
    if not v:
        return
    used = np.unique((row // v) * pattern.k + column)
    block = used // pattern.k * groups + used % pattern.k // group
    count = np.bincount(block, minlength=-(-pattern.m // v) * groups)
    if (broken := np.flatnonzero(count > VNM_WIDTH)).size:
        at, of = divmod(int(broken[0]), groups)
        rows = f"{at * v} to {min(pattern.m, (at + 1) * v) - 1}"
        columns = f"{of * group} to {min(pattern.k, (of + 1) * group) - 1}"
        raise UserError(
            f"{name}: declared {declared}, but rows {rows} use {count[broken[0]]} of the columns {columns} "
            f"(counting from 0), needed at most {VNM_WIDTH}; {broken.size} of {count.size} blocks "
            "break the pattern; prune the matrix to it or leave --pattern out"
        )
