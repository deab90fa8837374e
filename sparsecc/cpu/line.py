"""Straight-line kernels: from a matrix to assembled code that is loaded and can be called."""

from __future__ import annotations

import ctypes
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from sparsecc.cpu.activate import with_activation
from sparsecc.cpu.arrays import Floats, line_arrays
from sparsecc.cpu.assembly import Epilogue, Registers, assembly
from sparsecc.cpu.build import assembled_object, digest
from sparsecc.cpu.native import ActivationStruct, EpilogueStruct, Kernel, LineStruct, address
from sparsecc.cpu.plan import Indices, LinePlan, block_width, line_plan
from sparsecc.importers.matrix import Csr
from sparsecc.target.cpu import CpuTarget

SYMBOL = "model_line"


@dataclass(frozen=True)
class Schedule:
    """In which order chunks and panels run: any is right, some are faster."""

    panels: int
    """Of X that pass a block of columns before the next."""
    batch: int
    """Groups of rows that run over those panels, one after another."""
    pack: bool
    """X is copied to panels first, whether its rows are aligned or not."""


def registers_for(target: CpuTarget, n: int) -> Registers | None:
    """How the target's registers are used for so many positions; None where no assembly is written for it."""
    match target.simd.isa:
        case "avx512":
            # Up to 8 positions half a register is enough, and two such run at once.
            return Registers("avx512", 8 if n <= 8 else 16)
        case "avx2":
            return Registers("avx2", 8)
        case "neon":
            return None


def make_plan(w: Csr, height: int, columns: int, rows: Indices) -> LinePlan:
    """The plan with `height` rows in a group and at most `columns` columns in a block. rows: [blocks, M]."""
    m, k = w.shape
    return line_plan(
        (m, k), w.indptr.astype(np.int64), w.indices.astype(np.int64), rows, height, block_width(k, columns)
    )


def schedules(groups: int, panels: int, fetches: int = 0) -> Iterator[Schedule]:
    """Those worth timing, for so many groups of rows and panels of X. fetches: as of `assembly`."""
    batches = sorted({b for b in (1, 2, 4) if b < groups} | {groups})
    for pack in (False, True):
        if panels > 1:
            # A panel's block of X in the first cache, and all code streams past it.
            yield Schedule(1, groups, pack)
        # A few groups' code in the first cache, and all panels stream past it; or as many as leave room
        # in the second cache for code that comes from beyond.
        for some in sorted({min(panels, 32), min(panels, fetches or 32)}):
            yield from (Schedule(some, batch, pack) for batch in batches)


def line_kernel(
    library: ctypes.CDLL,
    w: Csr,
    plan: LinePlan,
    registers: Registers,
    epilogue: Epilogue,
    bias: Floats | None,
    places: Indices | None = None,
    fetches: int = 0,
) -> Kernel:
    """Assembles and loads the plan's code. Raises UserError where the assembler fails.

    places, fetches: as of `assembly`.
    """
    pattern = (w.shape, w.indptr.tobytes(), w.indices.tobytes())
    key = digest(*pattern, plan.rows.tobytes(), plan.height, plan.width, registers, epilogue, fetches)
    key = key if places is None else digest(key, places.tobytes())

    def text() -> str:
        return assembly(plan, registers, epilogue, SYMBOL, places, fetches)

    path = assembled_object(key, text)
    try:
        code = ctypes.CDLL(str(path))
    except OSError:
        # Cut short or of another system: made again.
        path.unlink()
        code = ctypes.CDLL(str(assembled_object(key, text)))
    arrays = line_arrays(plan, w.data.astype(np.float32, copy=False), bias)
    m, k = w.shape
    table = ctypes.addressof(ctypes.c_char.in_dll(code, f"{SYMBOL}_table"))
    fused = EpilogueStruct(None, int(epilogue.relu), ActivationStruct())
    struct = LineStruct(
        m, k, registers.lanes, plan.width, plan.blocks, plan.groups, plan.height, table,
        address(arrays.values), 2 * registers.window, fused,
        address(arrays.rows), plan.cut, 1, plan.groups, 1, fetches,
    )  # fmt: skip
    kept = [code, arrays]
    kernel = Kernel("line", struct, library.sc_line_run, library.sc_line_at, library.sc_time, kept)
    return with_activation(kernel, epilogue)


def with_schedule(kernel: Kernel, panels: int, batch: int, pack: bool) -> Kernel:
    """The same code, called in another order."""
    struct = LineStruct.from_buffer_copy(kernel.struct)
    struct.panels, struct.batch, struct.pack = panels, batch, int(pack)
    return Kernel("line", struct, kernel.run, kernel.at, kernel.time, kernel.kept)
