"""target.h for targets with crossbars: what the emitted C and the simulator know about one."""

import json

from sparsecc.target.crossbar import CrossbarTarget
from sparsecc.target.crossbar_checks import MAX_SHAPES
from sparsecc.target.header import AX_VERSION, c_number, provenance

# Fields of ax_crossbar that C has words for, in the order of crossbar.h.
ENCODINGS = ("differential", "offset")
TIMINGS = ("stages", "pimsim")


def crossbar_header(target: CrossbarTarget) -> str:
    """The text of target.h: constants for the program, and the simulator's configuration."""
    base = "\n".join(f"        .{name} = {c_number(value)}," for name, value in base_fields(target).items())
    written = {name: c_number(value) for name, value in crossbar_fields(target).items()}
    written["encoding"] = f"AX_{target.array.encoding.upper()}"
    written["timing"] = f"AX_TIME_{target.pipeline.timing.upper()}"
    for axis, name in enumerate(("shape_rows", "shape_cols")):
        written[name] = f"{{{', '.join(str(shape[axis]) for shape in target.array.shapes)}}}"
    fields = "\n".join(f"    .{name} = {value}," for name, value in written.items())
    return f"""\
/* Target {target.name}, written by sparsecc.
{provenance(target)}
 */
#ifndef AX_TARGET_H
#define AX_TARGET_H

#include <math.h>

#include "crossbar.h"

_Static_assert(AX_VERSION == {AX_VERSION}, "target.h was made for version {AX_VERSION} of axsim.h");

#define AX_TARGET_NAME {json.dumps(target.name)}
#define AX_ARRAYS {target.array.count}
#define AX_ROWS {target.array.rows}
#define AX_COLS {target.array.cols}
#define AX_ROW_ELEMENTS {target.row_elements}
#define AX_SPAD_ROWS {target.spad_rows}
#define AX_ACC_ROWS {target.acc_rows}

static const ax_crossbar ax_target = {{
    .base = {{
        .name = AX_TARGET_NAME,
        .kind = AX_XB,
        .in = AX_I8,
        .acc = AX_I32,
{base}
    }},
{fields}
}};

#endif
"""


def base_fields(target: CrossbarTarget) -> dict[str, float]:
    """Numbers of ax_config that a machine with crossbars uses."""
    dma, move, vector = target.dma, target.move, target.vector
    energy, queues = target.energy, target.queues
    return {
        "clock_ghz": target.clock_ghz,
        "rows": target.array.rows,
        "cols": target.array.cols,
        "spad_bytes": target.spad.bytes,
        "acc_bytes": target.acc.bytes,
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
        "spad_pj_per_byte": energy.spad_pj_per_byte,
        "acc_pj_per_byte": energy.acc_pj_per_byte,
        "dram_pj_per_byte": energy.dram_pj_per_byte,
        "alu_pj": energy.alu_pj,
    }


def crossbar_fields(target: CrossbarTarget) -> dict[str, float]:
    """Numbers of ax_crossbar after `base`, in its order; shapes, which are lists, left out."""
    array, adc, dac = target.array, target.adc, target.dac
    pipeline, program, energy = target.pipeline, target.program, target.energy
    assert len(array.shapes) <= MAX_SHAPES
    return {
        "row_elements": target.row_elements,
        "arrays": array.count,
        "shapes": len(array.shapes),
        "cell_bits": array.cell_bits,
        "in_bits": target.numbers.input_bits,
        "encoding": ENCODINGS.index(array.encoding),
        "digitised_separately": array.digitised == "separately",
        "read_cycles": array.read_cycles,
        "ou_rows": array.ou_rows,
        "ou_cols": array.ou_cols,
        "dac_bits": dac.bits,
        "dac_lanes": dac.lanes,
        "adc_bits": adc.bits,
        "adc_lanes": adc.lanes,
        "adc_arrays": adc.arrays,
        "adc_cycles": adc.cycles,
        "adc_cycles_per_bit": adc.cycles_per_bit,
        "timing": TIMINGS.index(pipeline.timing),
        "stages": pipeline.stages,
        "input_buffer_cycles": pipeline.input_buffer_cycles,
        "dac_cycles": pipeline.dac_cycles,
        "sample_hold_cycles": pipeline.sample_hold_cycles,
        "shift_add_cycles": pipeline.shift_add_cycles,
        "output_buffer_cycles": pipeline.output_buffer_cycles,
        "pipelined": pipeline.pipelined,
        "io_cycles": pipeline.io_cycles,
        "index_cycles": pipeline.index_cycles,
        "row_write_cycles": program.row_cycles,
        "pulses": program.pulses,
        "program_lanes": program.lanes,
        "endurance": program.endurance,
        "dac_pj": energy.dac_pj,
        "array_pj": energy.array_pj,
        "adc_pj": energy.adc_pj,
        "adc_pj_per_bit": energy.adc_pj_per_bit,
        "shift_add_pj": energy.shift_add_pj,
        "write_pj": energy.write_pj,
        "index_pj": energy.index_pj,
    }
