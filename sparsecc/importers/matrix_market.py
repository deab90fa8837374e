"""Reader of Matrix Market files, `.mtx` and `.mtx.gz`.

The banner says what follows: `%%MatrixMarket matrix LAYOUT FIELD SYMMETRY`. Supported are the layouts
coordinate (a line `row column [value]` per entry, counted from 1) and array (every element, column
after column), the fields real, integer and pattern, and the symmetries general, symmetric (one triangle
and the diagonal are listed) and skew-symmetric (one triangle without the diagonal).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsecc.importers.files import decode, fault, numbers, quote, read_bytes, size_number
from sparsecc.importers.matrix import Indices, Matrix, build_from_dense, build_matrix, check_shape

_DTYPES: dict[str, type[np.int64] | type[np.float64]] = {
    "real": np.float64,
    "double": np.float64,
    "integer": np.int64,
}


def read_matrix_market(path: Path, *, source: str, name: str) -> Matrix:
    """The matrix of a `.mtx` or `.mtx.gz` file; UserError when the file is bad."""
    return parse_matrix_market(read_bytes(path), source=source, name=name)


def parse_matrix_market(data: bytes, *, source: str, name: str) -> Matrix:
    """The matrix that the bytes of a Matrix Market file describe; UserError when they are bad."""
    lines = decode(data, source).split("\n")
    layout, field, symmetry = _banner(lines[0], f"{source}, line 1")

    at = 1  # first line after the comments
    while at < len(lines) and (not lines[at].strip() or lines[at].startswith("%")):
        at += 1
    where = f"{source}, line {at + 1}"
    sizes = lines[at].split() if at < len(lines) else []
    names = ("rows", "columns", "entries") if layout == "coordinate" else ("rows", "columns")
    if len(sizes) != len(names):
        raise fault(
            where,
            f"{len(sizes)} fields as the size",
            f"{layout} files need {len(names)}: {', '.join(names)}",
            "the file is cut or damaged: write it again",
        )
    counts = [size_number(token, where, what) for token, what in zip(sizes, names, strict=True)]
    shape = check_shape((counts[0], counts[1]), where)
    if symmetry != "general" and shape[0] != shape[1]:
        raise fault(
            where,
            f"a {symmetry} matrix of {shape[0]} rows and {shape[1]} columns",
            "it must be square",
            "correct the size, or write the file as general",
        )

    body = [
        (number, fields) for number, line in enumerate(lines[at + 1 :], at + 2) if (fields := line.split())
    ]
    if layout == "coordinate":
        return _coordinate(body, shape, counts[2], field, symmetry, source, name)
    return _array(body, shape, field, symmetry, source, name)


def _banner(line: str, where: str) -> tuple[str, str, str]:
    """(layout, field, symmetry) of the first line, in lower case, all of them supported."""
    words = line.split()
    if not words or words[0].lower() != "%%matrixmarket":
        raise fault(
            where,
            quote(line),
            "a Matrix Market file begins with %%MatrixMarket",
            "check that the file is what its name says",
        )
    example = "%%MatrixMarket matrix coordinate real general"
    if len(words) != 5 or words[1].lower() != "matrix":
        raise fault(where, quote(line), f"a banner such as {example} is needed", "correct the banner")
    layout, field, symmetry = (word.lower() for word in words[2:])
    for word, known in (
        (layout, ("coordinate", "array")),
        (field, ("real", "double", "integer", "pattern")),
        (symmetry, ("general", "symmetric", "skew-symmetric")),
    ):
        if word not in known:
            raise fault(
                where,
                quote(word),
                f"only {', '.join(known)} are supported here",
                "convert the matrix and write it again",
            )
    if field == "pattern" and (layout == "array" or symmetry == "skew-symmetric"):
        raise fault(
            where,
            f"{layout} {field} {symmetry}",
            "a pattern has no values to list or negate",
            "write it as coordinate pattern general",
        )
    return layout, field, symmetry


def _coordinate(
    body: list[tuple[int, list[str]]],
    shape: tuple[int, int],
    entries: int,
    field: str,
    symmetry: str,
    source: str,
    name: str,
) -> Matrix:
    width = 2 if field == "pattern" else 3
    tokens: list[str] = []
    for number, fields in body:
        if len(fields) != width:
            raise fault(
                f"{source}, line {number}",
                f"{len(fields)} fields",
                f"an entry of a {field} matrix has {width}",
                "the file is cut or damaged: write it again",
            )
        tokens += fields
    _check_count(len(body), entries, "entries", source)

    def line_of(entry: int) -> str:
        return f"{source}, line {body[entry][0]}"

    rows = numbers(tokens[0::width], np.int64, line_of) - 1
    cols = numbers(tokens[1::width], np.int64, line_of) - 1
    for indices, limit, axis in ((rows, shape[0], "row"), (cols, shape[1], "column")):
        bad = np.flatnonzero((indices < 0) | (indices >= limit))
        if bad.size:
            raise fault(
                line_of(int(bad[0])),
                f"{axis} {indices[bad[0]] + 1}",
                f"it must be 1 to {limit}",
                "correct the entry or the size line",
            )
    values = None if field == "pattern" else numbers(tokens[2::width], _DTYPES[field], line_of)

    if symmetry != "general":
        _check_one_triangle(rows, cols, values, symmetry, shape[0], line_of)
        off = rows != cols
        if values is not None:
            mirrored = -values[off] if symmetry == "skew-symmetric" else values[off]
            values = np.concatenate([values, mirrored])
        rows, cols = np.concatenate([rows, cols[off]]), np.concatenate([cols, rows[off]])
    return build_matrix(shape, rows, cols, values, source=source, name=name)


def _check_one_triangle(
    rows: Indices, cols: Indices, values: npt.NDArray[Any] | None, symmetry: str, side: int, line_of: Any
) -> None:
    """UserError when an element and its mirror image are both listed, or a skew diagonal is not zero.

    The format asks for the lower triangle; files with the upper one are about, and are as clear.
    """
    key = np.maximum(rows, cols) * side + np.minimum(rows, cols)
    order = np.argsort(key, kind="stable")
    twice = np.flatnonzero(np.diff(key[order]) == 0)
    if twice.size:
        entry = int(order[twice[0] + 1])
        raise fault(
            line_of(entry),
            f"row {rows[entry] + 1}, column {cols[entry] + 1}, which was listed before, itself or mirrored",
            f"a {symmetry} file lists each pair once",
            "list one triangle only, or write the file as general",
        )
    if symmetry == "skew-symmetric" and values is not None:
        diagonal = np.flatnonzero((rows == cols) & (values != 0))
        if diagonal.size:
            entry = int(diagonal[0])
            raise fault(
                line_of(entry),
                f"the value {values[entry]} on the diagonal",
                "the diagonal of a skew-symmetric matrix is zero",
                "remove the entry, or write the file as general",
            )


def _array(
    body: list[tuple[int, list[str]]],
    shape: tuple[int, int],
    field: str,
    symmetry: str,
    source: str,
    name: str,
) -> Matrix:
    tokens: list[str] = []
    lines: list[int] = []
    for number, fields in body:
        tokens += fields
        lines += [number] * len(fields)
    rows, cols = shape
    skew = int(symmetry == "skew-symmetric")
    wanted = rows * cols if symmetry == "general" else rows * (rows + 1) // 2 - skew * rows
    _check_count(len(tokens), wanted, "values", source)
    values = numbers(tokens, _DTYPES[field], lambda i: f"{source}, line {lines[i]}")

    if symmetry == "general":
        return build_from_dense(values.reshape(cols, rows).T, source=source, name=name)
    # Columns of the lower triangle one after another are rows of the upper one.
    upper_rows, upper_cols = np.triu_indices(rows, skew)
    dense = np.zeros(shape, values.dtype)
    dense[upper_rows, upper_cols] = -values if skew else values
    dense[upper_cols, upper_rows] = values
    return build_from_dense(dense, source=source, name=name)


def _check_count(found: int, wanted: int, what: str, source: str) -> None:
    if found != wanted:
        raise fault(
            source,
            f"{found} {what}",
            f"the size line announces {wanted}",
            "the file is cut or its size line wrong: write it again",
        )
