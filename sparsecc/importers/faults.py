"""Files that name stuck cells: .csv with a line for each, or .json with a list of objects.

Columns, or keys: array, row, column and stuck, whole numbers; slice may be given and is then compared with
what lies there. A .csv file has a first line of names, in any order; those of the table that --places writes
are known, so that lines of it with a column `stuck` are such a file.
"""

from __future__ import annotations

import csv
import io
import json
import operator
from pathlib import Path
from typing import Any, cast

from sparsecc.crossbar.faults import Fault
from sparsecc.crossbar.place import PLACE_COLUMNS
from sparsecc.errors import UserError
from sparsecc.importers.files import check_file

NEEDED = ("array", "row", "column", "stuck")
KNOWN = (*NEEDED, *PLACE_COLUMNS)
ENDINGS = (".csv", ".json")


def read_faults(path: str) -> list[Fault]:
    """The faults of a file. Raises UserError for what cannot be read, with its line or entry."""
    check_file(Path(path))
    try:
        text = Path(path).read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as e:
        raise UserError(f"{path}: cannot be read as text: {e}; needed: a .csv or .json of faults") from e
    entries = _of_json(path, text) if path.endswith(".json") else _of_csv(path, text)
    return [_fault(where, entry) for where, entry in entries]


def _of_csv(path: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    reader = csv.reader(io.StringIO(text), skipinitialspace=True)
    found: list[tuple[str, dict[str, Any]]] = []
    names: list[str] | None = None
    for fields in reader:
        where = f"{path}, line {reader.line_num}"
        if not fields:
            continue
        if names is None:
            names = [name.strip() for name in fields]
            _check_names(where, names)
        elif len(fields) != len(names):
            raise UserError(f"{where}: found {len(fields)} fields, needed {len(names)}: {', '.join(names)}")
        else:
            found.append((where, dict(zip(names, fields, strict=True))))
    if names is None:
        raise UserError(f"{path}: is empty; needed: a first line {','.join(NEEDED)}")
    return found


def _of_json(path: str, text: str) -> list[tuple[str, dict[str, Any]]]:
    try:
        told = json.loads(text)
    except json.JSONDecodeError as e:
        raise UserError(f"{path}, line {e.lineno}: is no JSON: {e.msg}; needed: a list of faults") from e
    if not isinstance(told, list):
        raise UserError(f"{path}: found {type(told).__name__}, needed: a list of objects, one for each fault")
    found: list[tuple[str, dict[str, Any]]] = []
    for number, entry in enumerate(cast("list[Any]", told)):
        where = f"{path}, entry {number} (counting from 0)"
        if not isinstance(entry, dict):
            raise UserError(f"{where}: found {entry!r}, needed: an object with {', '.join(NEEDED)}")
        fault = cast("dict[str, Any]", entry)
        _check_names(where, list(fault))
        found.append((where, fault))
    return found


def _check_names(where: str, names: list[str]) -> None:
    missing = [name for name in NEEDED if name not in names]
    unknown = [name for name in names if name not in KNOWN]
    if missing or unknown or len(set(names)) < len(names):
        found = f"{', '.join(missing)} missing" if missing else ""
        found = f"{unknown[0]!r} is not known" if unknown and not missing else found or "a name twice"
        raise UserError(f"{where}: {found}; needed: {', '.join(NEEDED)}, and slice if known")


def _fault(where: str, entry: dict[str, Any]) -> Fault:
    def number(name: str) -> int:
        value = entry[name]
        try:
            return int(value) if isinstance(value, str) else operator.index(value)
        except (TypeError, ValueError):
            raise UserError(f"{where}: {name} is {value!r}, needed: a whole number") from None

    part = number("slice") if entry.get("slice") not in (None, "") else None
    return Fault(number("array"), number("row"), number("column"), number("stuck"), part, where)
