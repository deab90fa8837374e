"""Reader of `.smtx`, the pattern files of the DLMC collection, alone or inside a `.tar.xz` pack.

Three lines of text, counted from 1:
    1  rows, columns, entries      separated by commas, blanks or both
    2  rows + 1 row offsets        from 0 up to the number of entries, never falling
    3  the column of each entry    from 0, row after row; empty when there are no entries
"""

from __future__ import annotations

import io
import lzma
import tarfile
from pathlib import Path

import numpy as np

from sparsecc.errors import UserError
from sparsecc.importers.files import (
    damaged,
    decode,
    fault,
    name_list,
    numbers,
    quote,
    read_bytes,
    read_file,
    size_number,
    unpack,
)
from sparsecc.importers.matrix import Indices, Matrix, build_matrix, check_shape

_SUFFIX = ".smtx"


def read_smtx(path: Path, *, source: str, name: str) -> Matrix:
    """The matrix of a `.smtx` or `.smtx.gz` file; UserError when the file is bad."""
    return parse_smtx(read_bytes(path), source=source, name=name)


def read_smtx_pack(path: Path, member: str, *, source: str) -> Matrix:
    """The matrix of the member `member` (with or without `.smtx`) of a `.tar.xz` pack.

    Raises UserError when the pack or the member is bad, or when there is no such member.
    """
    # Unpacked as a whole: the checksum that tells a damaged pack stands at its end.
    unpacked = unpack(lzma.LZMAFile(io.BytesIO(read_file(path))), path, "xz data")
    wanted = {member, member + _SUFFIX}
    names: list[str] = []
    data: bytes | None = None
    try:
        with tarfile.open(fileobj=io.BytesIO(unpacked), mode="r:") as pack:
            for entry in pack:
                names.append(entry.name)
                # A sparse tar member can claim any size without holding a byte.
                if entry.name in wanted and entry.isreg() and not entry.issparse():
                    content = pack.extractfile(entry)
                    data = content.read() if content else None
                    break
    except Exception as error:  # tarfile lets errors of struct and others through
        raise damaged(str(path), "tar.xz pack", error) from None
    if data is None:
        raise UserError(
            f"{path}: no matrix file {quote(member, 300)} in this pack; it holds "
            f"{name_list(names) or 'nothing'}; name one as {path}::NAME"
        )
    return parse_smtx(data, source=source, name=Path(member).name.removesuffix(_SUFFIX))


def parse_smtx(data: bytes, *, source: str, name: str) -> Matrix:
    """The matrix that the bytes of a `.smtx` file describe; UserError when they are bad."""
    lines = decode(data, source).split("\n")
    if any(line.strip() for line in lines[3:]):
        raise fault(source, "text after line 3", "a .smtx file has three lines", "write the file again")
    lines += [""] * (3 - len(lines))

    header = lines[0].replace(",", " ").split()
    if len(header) != 3:
        raise fault(
            f"{source}, line 1",
            f"{len(header)} fields ({quote(lines[0])})",
            "a .smtx file begins with three: rows, columns, entries",
            "check that the file is what its name says",
        )
    rows, cols, entries = (
        size_number(token, f"{source}, line 1", what)
        for token, what in zip(header, ("rows", "columns", "entries"), strict=True)
    )
    shape = check_shape((rows, cols), f"{source}, line 1")

    offsets = _integers(lines[1], f"{source}, line 2")
    columns = _integers(lines[2], f"{source}, line 3")
    check_offsets(offsets, rows, entries, where=f"{source}, line 2", axis="row")
    if columns.size != entries:
        raise fault(
            f"{source}, line 3",
            f"{columns.size} column indices",
            f"the header announces {entries} entries",
            "the file is cut or its header wrong: write it again",
        )
    check_indices(columns, cols, where=f"{source}, line 3", axis="column")

    row_of = np.repeat(np.arange(rows, dtype=np.int64), np.diff(offsets))
    key = np.sort(row_of * cols + columns)
    twice = np.flatnonzero(np.diff(key) == 0)
    if twice.size:
        row, col = divmod(int(key[twice[0]]), cols)
        raise fault(
            f"{source}, line 3",
            f"column {col} twice in row {row} (counting from 0)",
            "an entry may be listed once only",
            "remove the duplicates and write the file again",
        )
    return build_matrix(shape, row_of, columns, None, source=source, name=name)


def check_offsets(offsets: Indices, lines: int, entries: int, *, where: str, axis: str) -> None:
    """UserError unless `offsets` cut `entries` entries into `lines` rows or columns (`axis` says which)."""
    repair = "the file is cut or damaged: write it again"
    if offsets.size != lines + 1:
        raise fault(
            where,
            f"{offsets.size} {axis} offsets",
            f"{lines} {axis}s need {lines + 1}",
            repair,
        )
    if offsets[0] != 0 or offsets[-1] != entries:
        raise fault(
            where,
            f"{axis} offsets from {offsets[0]} to {offsets[-1]}",
            f"they must go from 0 to the number of entries, {entries}",
            repair,
        )
    falls = np.flatnonzero(np.diff(offsets) < 0)
    if falls.size:
        at = int(falls[0])
        raise fault(
            where,
            f"{axis} offset {offsets[at + 1]} after {offsets[at]} ({axis} {at}, counting from 0)",
            "offsets may not fall",
            repair,
        )


def check_indices(indices: Indices, limit: int, *, where: str, axis: str) -> None:
    """UserError unless all `indices` are in 0..limit-1."""
    bad = np.flatnonzero((indices < 0) | (indices >= limit))
    if bad.size:
        raise fault(
            where,
            f"{axis} index {indices[bad[0]]}",
            f"with {limit} {axis}s it must be 0 to {limit - 1}",
            "correct the index or the size, and write the file again",
        )


def _integers(line: str, where: str) -> Indices:
    return numbers(line.split(), np.int64, lambda i: f"{where}, number {i + 1}")
