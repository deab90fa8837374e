"""A matrix compiled like an earlier one that it was pruned from, so that more zeros never cost more.

Searches for covers promise nothing of the kind by themselves: of two patterns, one inside the other, the
smaller may be the one whose search ends worse. With zeros stored where the larger has nonzeros, it is the
larger that is searched, and the same program comes out. The better of the two is taken.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from sparsecc.cover.laws import Pattern
from sparsecc.errors import UserError
from sparsecc.importers.matrix import make_csr
from sparsecc.operator import Spmm


def padded(operator: Spmm, earlier: Pattern) -> Spmm:
    """The operator with zeros stored wherever the earlier pattern has a nonzero.

    Raises UserError where the shapes differ, or the operator has a nonzero that the earlier pattern lacks.
    """
    m, k = operator.weight.shape
    if (m, k) != (earlier.m, earlier.k):
        raise UserError(
            f"{operator.name}: has shape {m} x {k}, the matrix it is to be compiled like {earlier.m} x "
            f"{earlier.k}; name one of the same shape"
        )
    pattern = operator.pattern
    here, there = (p.row_of().astype(np.int64) * k + p.indices for p in (pattern, earlier))
    at = np.searchsorted(there, here)
    found = np.zeros(len(here), bool)
    found[at < len(there)] = there[at[at < len(there)]] == here[at < len(there)]
    if not found.all():
        row, column = divmod(int(here[~found][0]), k)
        raise UserError(
            f"{operator.name}: {int((~found).sum())} nonzeros, the first at row {row}, column {column} "
            "(counting from 0), are zeros of the matrix to compile it like; name one that it was pruned from"
        )
    values = np.zeros(len(there), operator.weight.data.dtype)
    values[at] = operator.weight.data
    return replace(operator, weight=make_csr(values, earlier.indices, earlier.indptr, (m, k)))
