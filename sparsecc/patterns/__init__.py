"""Sparsity patterns: seeded generators of masks, and a recogniser that says which pattern a matrix has."""

from sparsecc.patterns.generate import (
    Mask,
    bank,
    bcr,
    block,
    columns,
    hierarchical,
    nm,
    pattern_of,
    rows,
    unstructured,
    vector,
    vnm,
)
from sparsecc.patterns.recognise import Structure, recognise

__all__ = [
    "Mask",
    "Structure",
    "bank",
    "bcr",
    "block",
    "columns",
    "hierarchical",
    "nm",
    "pattern_of",
    "recognise",
    "rows",
    "unstructured",
    "vector",
    "vnm",
]
