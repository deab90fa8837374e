"""Large data beside the IR: sets of named arrays addressed by their content.

A module's text holds only a digest. The arrays live in memory while any attribute refers to them and,
once saved, as `<digest>.npz` in a folder; `add_search_folder` names the folders looked through when
text is parsed in another process. The folder `blobs` of the current directory and those listed in
the environment variable SPARSECC_BLOBS are always looked through.
"""

from __future__ import annotations

import os
import zipfile
from collections.abc import Mapping
from hashlib import blake2b
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError

Arrays = Mapping[str, NDArray[np.generic]]

_alive: WeakValueDictionary[str, Blob] = WeakValueDictionary()
_folders: list[Path] = []


def add_search_folder(folder: str | os.PathLike[str]) -> None:
    """Look for `<digest>.npz` in this folder, too."""
    path = Path(folder)
    if path not in _folders:
        _folders.append(path)


def _search_path() -> list[Path]:
    listed = os.environ.get("SPARSECC_BLOBS", "")
    return [*_folders, *(Path(p) for p in listed.split(os.pathsep) if p), Path("blobs")]


def _digest(arrays: Arrays) -> str:
    state = blake2b(digest_size=16)
    for name in sorted(arrays):
        array = arrays[name]
        state.update(f"{name} {array.dtype.str} {array.shape};".encode())
        state.update(np.ascontiguousarray(array).data if array.size else b"")
    return state.hexdigest()


class Blob:
    """A set of read-only arrays; equal, and of equal hash, iff names, types, shapes and bytes are equal."""

    __slots__ = ("__weakref__", "_arrays", "digest")

    def __init__(self, arrays: Arrays | None, digest: str):
        self._arrays = arrays
        self.digest = digest

    @staticmethod
    def of(**arrays: NDArray[np.generic]) -> Blob:
        """The blob of these arrays, which are frozen."""
        digest = _digest(arrays)
        if (known := _alive.get(digest)) is not None and known.is_loaded:
            return known
        for array in arrays.values():
            array.flags.writeable = False
        blob = Blob(arrays, digest)
        _alive[digest] = blob
        return blob

    @staticmethod
    def named(digest: str) -> Blob:
        """The blob of this digest; its arrays are looked up when they are first needed."""
        if (known := _alive.get(digest)) is not None:
            return known
        blob = Blob(None, digest)
        _alive[digest] = blob
        return blob

    @property
    def is_loaded(self) -> bool:
        return self._arrays is not None

    @property
    def arrays(self) -> Arrays:
        """The arrays. Raises UserError when the blob is neither in memory nor in a search folder."""
        if self._arrays is None:
            self._arrays = self._load()
        return self._arrays

    def _load(self) -> Arrays:
        searched = _search_path()
        for folder in searched:
            path = folder / f"{self.digest}.npz"
            if not path.is_file():
                continue
            try:
                with np.load(path, allow_pickle=False) as data:
                    arrays: dict[str, NDArray[np.generic]] = {name: data[name] for name in data.files}
            except (OSError, ValueError, zipfile.BadZipFile) as e:
                raise UserError(f"{path}: not a readable blob ({e}); write it again with --dump-ir") from e
            if _digest(arrays) != self.digest:
                raise UserError(f"{path}: the content does not match its name; write it again with --dump-ir")
            for array in arrays.values():
                array.flags.writeable = False
            return arrays
        raise UserError(
            f"blob {self.digest} not found in {', '.join(map(str, searched))}; "
            "name its folder with --blobs DIR or in SPARSECC_BLOBS"
        )

    def save(self, folder: Path) -> None:
        """Write `<digest>.npz` into the folder, which is made where needed."""
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{self.digest}.npz"
        if not path.exists():
            arrays: dict[str, NDArray[np.generic]] = dict(self.arrays)
            with path.open("wb") as file:
                np.savez(file, allow_pickle=False, **arrays)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Blob) and self.digest == other.digest

    def __hash__(self) -> int:
        return hash(self.digest)

    def __repr__(self) -> str:
        return f"Blob({self.digest})"
