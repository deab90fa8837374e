"""What all readers share: getting at the bytes of a file, at numbers in text, and the form of an error."""

from __future__ import annotations

import gzip
import io
import stat
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from sparsecc.errors import UserError

# More than any matrix file in use. It bounds the memory that a small file which unpacks to a huge one
# can take.
MAX_BYTES = 4 << 30

_GZIP_MAGIC = b"\x1f\x8b"


def fault(where: str, found: str, needed: str, advice: str) -> UserError:
    """The error for a bad file, always of one form: where, what was found, what is needed, what to do."""
    return UserError(f"{where}: found {found}, but {needed}; {advice}")


def quote(text: str, limit: int = 40) -> str:
    """`text` from a file, fit for a message: control characters escaped, cut after `limit` characters."""
    return ascii(text if len(text) <= limit else text[:limit] + "...")


def name_list(names: Sequence[str]) -> str:
    """The first of `names`, quoted, and how many more there are. Names are given whole, to be copied."""
    shown = ", ".join(quote(name, 300) for name in names[:12])
    return f"{shown} and {len(names) - 12} more" if len(names) > 12 else shown


def check_file(path: Path) -> int:
    """The size of the ordinary file `path` in bytes; UserError when it is no such thing."""
    try:
        status = path.stat()
    except FileNotFoundError:
        raise UserError(f"{path}: no such file; check the path") from None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise unreadable(path, error) from None
    if stat.S_ISDIR(status.st_mode):
        raise fault(str(path), "a directory", "a file is needed", "name one file in it")
    if not stat.S_ISREG(status.st_mode):
        raise fault(
            str(path), "a device, pipe or socket", "a file is needed", "save the data to a file first"
        )
    return status.st_size


def read_file(path: Path) -> bytes:
    """The bytes of `path` as they are; UserError when it cannot be read or has more than MAX_BYTES."""
    size = check_file(path)
    if size > MAX_BYTES:
        raise fault(
            str(path),
            f"{size} bytes",
            f"at most {MAX_BYTES} are supported",
            "split the matrix into several files",
        )
    try:
        return path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from None


def unpack(stream: io.BufferedIOBase, path: Path, what: str) -> bytes:
    """What the decompressor `stream` gives, at most MAX_BYTES; `path` and `what` are for messages."""
    try:
        with stream:
            unpacked = stream.read(MAX_BYTES + 1)
    except Exception as error:  # several modules raise here, each its own kinds
        raise damaged(str(path), what, error) from None
    if len(unpacked) > MAX_BYTES:
        raise fault(
            str(path),
            f"more than {MAX_BYTES} bytes after unpacking",
            "this is the most that is supported",
            "split the matrix into several files",
        )
    return unpacked


def read_bytes(path: Path) -> bytes:
    """The bytes of `path`, unpacked when its name ends in `.gz`."""
    data = read_file(path)
    if path.name.lower().endswith(".gz"):
        if not data.startswith(_GZIP_MAGIC):
            raise fault(
                str(path), "data that is not gzip", "a .gz file must be", f"rename it to {path.name[:-3]}"
            )
        return unpack(gzip.GzipFile(fileobj=io.BytesIO(data)), path, "gzip data")
    if data.startswith(_GZIP_MAGIC):
        raise fault(
            str(path),
            "gzip-compressed data",
            f"{path.suffix} files are not compressed",
            f"unpack it, or if it is a matrix in text, rename it to {path.name}.gz",
        )
    return data


def decode(data: bytes, where: str) -> str:
    """`data` as UTF-8 text."""
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise fault(
            f"{where}, line {line}",
            f"byte 0x{data[error.start]:02x} at offset {error.start}, which is not UTF-8",
            "this format is text",
            "check that the file is what its name says, and copy or download it again",
        ) from None


def unreadable(path: Path, error: OSError | ValueError) -> UserError:
    """The error for a path that the operating system does not let us look at."""
    reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
    shown = str(path) if str(path).isprintable() and len(str(path)) < 1000 else quote(str(path))
    return UserError(f"{shown}: cannot be read ({reason}); check the path and its permissions")


def damaged(where: str, what: str, error: Exception) -> UserError:
    """The error for bytes that a library could not make sense of."""
    detail = str(error).split("\n")[0].rstrip(". ")
    return fault(
        where,
        f"damaged {what} ({type(error).__name__}{': ' + detail if detail else ''})",
        "a complete file is needed",
        "copy, download or write the file again",
    )


def size_number(token: str, where: str, what: str) -> int:
    """The count `token` of a header: digits only, and short enough to be no nonsense."""
    if not (token.isascii() and token.isdigit() and len(token) <= 18):
        raise fault(
            where,
            f"{quote(token)} as the number of {what}",
            "a whole number from 0 to 10**18 is needed",
            "correct the header, or write the file again",
        )
    return int(token)


def numbers(
    tokens: Sequence[str], dtype: type[np.int64] | type[np.float64], where_of: Callable[[int], str]
) -> npt.NDArray[Any]:
    """`tokens` as an array of `dtype`, [tokens].

    where_of: where token i stands, for the UserError that names the first token which is no number.
    """
    # Python's and numpy's own conversions take more than these formats allow: digits of other scripts,
    # underscores between digits, and null bytes after them.
    joined = "".join(tokens)
    plain = joined.isascii() and "_" not in joined and "\0" not in joined
    if plain:
        try:
            return np.array(tokens, dtype=dtype)
        except (ValueError, OverflowError):
            pass
    kind = "a whole number of 64 bits" if dtype is np.int64 else "a decimal number"
    bad = next(i for i, token in enumerate(tokens) if not _converts(token, dtype))
    raise fault(
        where_of(bad),
        quote(tokens[bad]),
        f"{kind} is needed",
        "check that the file is what its name says, and write it again",
    )


def _converts(token: str, dtype: type[np.int64] | type[np.float64]) -> bool:
    if not token.isascii() or "_" in token or "\0" in token:
        return False
    try:
        np.array([token], dtype=dtype)
    except (ValueError, OverflowError):
        return False
    return True
