"""Files of emitted folders: data that C code refers to, and the folder that appears whole or not at all."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Generator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sparsecc.errors import UserError

Array = NDArray[Any]


@dataclass(frozen=True)
class Part:
    """An array that a file holds and C code refers to."""

    name: str
    c_type: str
    data: Array
    file: str

    @property
    def declaration(self) -> str:
        return f"{self.c_type} {self.name}[{max(self.data.size, 1)}]"

    @property
    def padding(self) -> int:
        """Bytes after it in its file, for the next one to begin at a multiple of 64."""
        return -self.data.nbytes % 64


def list_tables(tables: Mapping[str, tuple[str, Array]], parts: list[Part]) -> str:
    """Add a kernel's tables (by name: C type and array) to what weights.bin holds; their declarations."""
    new = [Part(name, kind, array, "weights.bin") for name, (kind, array) in tables.items()]
    parts += new
    return "".join(f"extern AX_DATA {part.declaration};\n" for part in new)


# What model.h says of data.
INCBIN = """\
/* Data is assembled into the program where the assembler can; elsewhere, or with -DAX_NO_INCBIN, it is read
 * from the .bin files beside the program when it starts. */
#if defined(__ELF__) && !defined(AX_NO_INCBIN)
#define AX_INCBIN 1
#define AX_DATA const
#else
#define AX_DATA
#endif
"""


def data_c(before: str, parts: Sequence[Part]) -> str:
    """The text of data.c: what is given, then the parts and model_load."""
    offsets: list[int] = []
    sizes: dict[str, int] = {}
    for part in parts:
        offsets.append(sizes.get(part.file, 0))
        sizes[part.file] = offsets[-1] + part.data.nbytes + part.padding
    lines = "\n".join(
        f'BLOB({b.name}, "{b.file}", {offset}, {b.data.nbytes})'
        for b, offset in zip(parts, offsets, strict=True)
    )
    arrays = "\n".join(f"{b.declaration};" for b in parts)
    entries = "\n".join(
        f'    {{"{b.file}", {b.name}, {offset}, {b.data.nbytes}}},'
        for b, offset in zip(parts, offsets, strict=True)
    )
    return f"""\
/* The program's data. Written by sparsecc. */
#include "model.h"

{before}
#ifdef AX_INCBIN

#define BLOB(name, file, offset, size) \\
    __asm__(".pushsection .rodata\\n.balign 64\\n.global " #name "\\n" #name ":\\n" \\
            ".incbin \\"" file "\\", " #offset ", " #size "\\n.popsection\\n");
{lines}

int model_load(const char *program) {{
    (void)program;
    return 0;
}}

#else

#include <stdio.h>
#include <string.h>

{arrays}

static const struct {{
    const char *file;
    void *data;
    long offset;
    size_t size;
}} parts[] = {{
{entries}
}};

int model_load(const char *program) {{
    const char *end = strrchr(program, '/');
    const int length = end ? (int)(end - program) + 1 : 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {{
        char path[4096];
        snprintf(path, sizeof path, "%.*s%s", length, program, parts[i].file);
        FILE *f = fopen(path, "rb");
        const int ok = f && fseek(f, parts[i].offset, SEEK_SET) == 0 &&
                       fread(parts[i].data, 1, parts[i].size, f) == parts[i].size;
        if (f) fclose(f);
        if (!ok) {{
            fprintf(stderr, "model: %s: missing or cut short; it belongs beside the program\\n", path);
            return -1;
        }}
    }}
    return 0;
}}

#endif
"""


def write_files(
    folder: Path, texts: Mapping[str, str], parts: Sequence[Part], copies: Mapping[str, Path]
) -> None:
    """Write a folder of texts, of the files that parts make, and of copies, all by name.

    The folder appears whole or not at all; one made before is replaced. Raises UserError when it cannot be
    written or holds something else.
    """
    with new_folder(folder, {"model.c", "model.h", "data.c", "report.json"}) as new:
        for name, text in texts.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            (new / name).write_text(text)
        for name in dict.fromkeys(part.file for part in parts):
            with (new / name).open("wb") as file:
                for part in parts:
                    if part.file == name:
                        file.write(np.ascontiguousarray(part.data).data)
                        file.write(bytes(part.padding))
        for name, path in copies.items():
            (new / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, new / name)


@contextmanager
def new_folder(folder: Path, ours: set[str]) -> Generator[Path]:
    """An empty folder to fill, which then takes this name: it appears whole or not at all.

    One made before is replaced if it is empty or has the files `ours`. Raises UserError when it cannot be
    written or holds something else.
    """
    if folder.exists() and not (folder.is_dir() and _is_ours(folder, ours)):
        raise UserError(f"{folder}: exists and was not written by sparsecc; name another folder")
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}-") as work:
            new = Path(work) / "new"
            new.mkdir()
            yield new
            if folder.exists():
                os.rename(folder, Path(work) / "old")
            os.rename(new, folder)
    except OSError as e:
        raise UserError(f"{folder}: cannot be written: {e.strerror}; name a folder you may write to") from e


def _is_ours(folder: Path, ours: set[str]) -> bool:
    names = {path.name for path in folder.iterdir()}
    return not names or names >= ours
