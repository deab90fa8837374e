"""target.h: what the emitted C and the simulator know about a target."""

import json
import math

from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.structured import GROUPS
from sparsecc.target.target import Target

AX_VERSION = 1  # of runtime/axsim/axsim.h; a header made for another version does not compile


def target_header(target: Target) -> str:
    """The text of target.h: constants for the program, and the simulator's configuration."""
    name = json.dumps(target.name)
    written = {
        "name": "AX_TARGET_NAME",
        **{field: c_number(value) for field, value in configuration(target).items()},
    }
    # In words what C has words for.
    written |= {"kind": f"AX_{target.array.kind.upper()}", "rows": "AX_ROWS", "cols": "AX_COLS"}
    written |= {"in": f"AX_{target.in_type.upper()}", "acc": f"AX_{target.acc_type.upper()}"}
    fields = "\n".join(f"    .{field} = {value}," for field, value in written.items())
    return f"""\
/* Target {target.name}, written by sparsecc.
{provenance(target)}
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


def provenance(target: Target | CrossbarTarget) -> str:
    """Comment lines: sources of the constants, and which of them are assumed."""
    assumed = ", ".join(target.assumed) or "nothing"
    lines = [" * Sources:", *(f" *   {pattern}: {source}" for pattern, source in target.sources)]
    # A source is free text; it must not end the comment, nor open another (-Wcomment).
    lines = [line.replace("*/", "* /").replace("/*", "/ *").replace("\n", " ") for line in lines]
    return "\n".join([f" * Assumed: {assumed}.", *lines])


# ax_array_kind and ax_type, in the order of axsim.h.
KINDS = ("ws", "mma")
TYPES = ("i8", "f16", "bf16", "f32", "i32")


def configuration(target: Target) -> dict[str, float]:
    """Every field of ax_config after the name, in its order, as a number."""
    array, dma, move, vector = target.array, target.dma, target.move, target.vector
    energy, queues, indexed = target.energy, target.queues, target.indexed
    scatter_add = target.scatter_add
    return {
        "clock_ghz": target.clock_ghz,
        "kind": KINDS.index(array.kind),
        "rows": array.rows,
        "cols": array.cols,
        "in": TYPES.index(target.in_type),
        "acc": TYPES.index(target.acc_type),
        "pe_double_buffer": array.pe_double_buffer,
        "fill_in_occupancy": array.fill_in_occupancy,
        "min_rows": array.min_rows,
        "mma_m": array.mma_m,
        "mma_n": array.mma_n,
        "mma_k": array.mma_k,
        "mma_interval": array.interval,
        "mma_latency": array.latency,
        "spad_bytes": target.spad.bytes,
        "acc_bytes": target.acc.bytes,
        "l0a_bytes": target.l0a.bytes if target.l0a else 0,
        "l0b_bytes": target.l0b.bytes if target.l0b else 0,
        "line_rows": target.line_rows,
        "dma_bytes_per_cycle": dma.bytes_per_cycle,
        "dma_latency": dma.latency,
        "dma_max_burst": dma.max_burst,
        "dma_row_overhead": dma.row_overhead,
        "dma_gather_overhead": dma.gather_overhead,
        "move_bytes_per_cycle": move.bytes_per_cycle,
        "move_latency": move.latency,
        "vector_lanes": vector.lanes,
        "vector_latency": vector.latency,
        "queue_load": queues.load,
        "queue_execute": queues.execute,
        "queue_store": queues.store,
        "issue_gap": queues.issue_gap,
        "report_last_index": target.timing.count == "last_index",
        "mac_pj": target.mac_pj,
        "reg_pj_per_byte": energy.reg_pj_per_byte,
        "spad_pj_per_byte": energy.spad_pj_per_byte,
        "acc_pj_per_byte": energy.acc_pj_per_byte,
        "l0_pj_per_byte": energy.l0_pj_per_byte,
        "dram_pj_per_byte": energy.dram_pj_per_byte,
        "alu_pj": energy.alu_pj,
        "indexed": target.indexed is not None,
        "indexed_read_cycles": indexed.read_cycles if indexed else 0,
        "indexed_accumulate_cycles": indexed.accumulate_cycles if indexed else 0,
        "indexed_read_pj": indexed.read_pj if indexed else 0.0,
        "indexed_accumulate_pj": indexed.accumulate_pj if indexed else 0.0,
        **{
            f"kept_of_{group}": sum(1 << kept.keep for kept in target.kept_patterns if kept.group == group)
            for group in GROUPS
        },
        "scatter_add": scatter_add is not None,
        "scatter_add_cycles": scatter_add.row_cycles if scatter_add else 0,
        "scatter_add_pj": scatter_add.element_pj if scatter_add else 0.0,
    }


def c_number(number: float | bool) -> str:
    """A number as C writes it; Python's repr of a float reads back as the same double in C."""
    if isinstance(number, bool):
        return str(int(number))
    return "INFINITY" if number == math.inf else repr(number)
