"""target.h: what the emitted C and the simulator know about a target."""

import json
import math

from sparsecc.target.target import Target

AX_VERSION = 1  # of runtime/axsim/axsim.h; a header made for another version does not compile


def target_header(target: Target) -> str:
    """The text of target.h: constants for the program, and the simulator's configuration."""
    name = json.dumps(target.name)
    fields = "\n".join(f"    .{field} = {value}," for field, value in _config(target).items())
    return f"""\
/* Target {target.name}, written by sparsecc.
{_provenance(target)}
 */
#ifndef AX_TARGET_H
#define AX_TARGET_H

#include <math.h>

#include "axsim.h"

_Static_assert(AX_VERSION == {AX_VERSION}, "target.h was made for version {AX_VERSION} of axsim.h");

#define AX_TARGET_NAME {name}
#define AX_ROWS {target.array.rows}
#define AX_COLS {target.array.cols}
#define AX_SPAD_ROWS {target.spad_rows}
#define AX_ACC_ROWS {target.acc_rows}

static const ax_config ax_target = {{
{fields}
}};

#endif
"""


def _provenance(target: Target) -> str:
    """Comment lines: sources of the constants, and which of them are assumed."""
    assumed = ", ".join(target.assumed) or "nothing"
    lines = [" * Sources:", *(f" *   {pattern}: {source}" for pattern, source in target.sources)]
    # A source is free text; it must not end the comment, nor open another (-Wcomment).
    lines = [line.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ") for line in lines]
    return "\n".join([f" * Assumed: {assumed}.", *lines])


def _config(target: Target) -> dict[str, str]:
    """Every field of ax_config in its order, as C writes it."""
    array, dma, move, vector = target.array, target.dma, target.move, target.vector
    energy, queues, indexed = target.energy, target.queues, target.indexed
    return {
        "name": "AX_TARGET_NAME",
        "clock_ghz": _c(target.clock_ghz),
        "kind": {"ws": "AX_WS", "mma": "AX_MMA"}[array.kind],
        "rows": "AX_ROWS",
        "cols": "AX_COLS",
        "in": f"AX_{target.in_type.upper()}",
        "acc": f"AX_{target.acc_type.upper()}",
        "pe_double_buffer": _c(array.pe_double_buffer),
        "fill_in_occupancy": _c(array.fill_in_occupancy),
        "min_rows": _c(array.min_rows),
        "mma_m": _c(array.mma_m),
        "mma_n": _c(array.mma_n),
        "mma_k": _c(array.mma_k),
        "mma_interval": _c(array.interval),
        "mma_latency": _c(array.latency),
        "spad_bytes": _c(target.spad.bytes),
        "acc_bytes": _c(target.acc.bytes),
        "l0a_bytes": _c(target.l0a.bytes if target.l0a else 0),
        "l0b_bytes": _c(target.l0b.bytes if target.l0b else 0),
        "line_rows": _c(target.line_rows),
        "dma_bytes_per_cycle": _c(dma.bytes_per_cycle),
        "dma_latency": _c(dma.latency),
        "dma_max_burst": _c(dma.max_burst),
        "dma_row_overhead": _c(dma.row_overhead),
        "dma_gather_overhead": _c(dma.gather_overhead),
        "move_bytes_per_cycle": _c(move.bytes_per_cycle),
        "move_latency": _c(move.latency),
        "vector_lanes": _c(vector.lanes),
        "vector_latency": _c(vector.latency),
        "queue_load": _c(queues.load),
        "queue_execute": _c(queues.execute),
        "queue_store": _c(queues.store),
        "issue_gap": _c(queues.issue_gap),
        "report_last_index": _c(target.timing.count == "last_index"),
        "mac_pj": _c(target.mac_pj),
        "reg_pj_per_byte": _c(energy.reg_pj_per_byte),
        "spad_pj_per_byte": _c(energy.spad_pj_per_byte),
        "acc_pj_per_byte": _c(energy.acc_pj_per_byte),
        "l0_pj_per_byte": _c(energy.l0_pj_per_byte),
        "dram_pj_per_byte": _c(energy.dram_pj_per_byte),
        "alu_pj": _c(energy.alu_pj),
        "indexed": _c(target.indexed is not None),
        "indexed_read_cycles": _c(indexed.read_cycles if indexed else 0),
        "indexed_accumulate_cycles": _c(indexed.accumulate_cycles if indexed else 0),
        "indexed_read_pj": _c(indexed.read_pj if indexed else 0.0),
        "indexed_accumulate_pj": _c(indexed.accumulate_pj if indexed else 0.0),
    }


def _c(number: float | bool) -> str:
    """A number as C writes it; Python's repr of a float reads back as the same double in C."""
    if isinstance(number, bool):
        return str(int(number))
    return "INFINITY" if number == math.inf else repr(number)
