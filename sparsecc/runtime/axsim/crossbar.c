/* Memristor crossbars: opening and closing a machine that has them. */
#include <math.h>
#include <stdlib.h>

#include "crossbar_internal.h"

enum { AXI_MAX_ARRAYS = 1 << 24 };

static int check_config(ax_machine *m, const ax_crossbar *c)
{
    const struct {
        const char *key;
        double value, least, most;
    } numbers[] = {
        {"row_elements", c->row_elements, 1, 65535},
        {"arrays", c->arrays, 1, AXI_MAX_ARRAYS},
        {"shapes", c->shapes, 0, AX_SHAPES},
        {"cell_bits", c->cell_bits, 1, 6},
        {"in_bits", c->in_bits, 2, axi_with_data(m) ? 8 : 32},
        {"read_cycles", c->read_cycles, 0, 1e12},
        {"ou_rows", c->ou_rows, 0, c->base.rows},
        {"ou_cols", c->ou_cols, 0, c->base.cols},
        {"dac_bits", c->dac_bits, 1, c->encoding == AX_DIFFERENTIAL ? 7 : 1},
        {"dac_lanes", c->dac_lanes, 0, INT32_MAX},
        {"adc_bits", c->adc_bits, 1, AX_ADC_BITS},
        {"adc_lanes", c->adc_lanes, 1, INT32_MAX},
        {"adc_arrays", c->adc_arrays, 1, INT32_MAX},
        {"adc_cycles", c->adc_cycles, 0, 1e12},
        {"adc_cycles_per_bit", c->adc_cycles_per_bit, 0, 1e12},
        {"stages", c->stages, c->timing == AX_TIME_STAGES, INT32_MAX},
        {"input_buffer_cycles", c->input_buffer_cycles, 0, INT32_MAX},
        {"dac_cycles", c->dac_cycles, 0, INT32_MAX},
        {"sample_hold_cycles", c->sample_hold_cycles, 0, INT32_MAX},
        {"shift_add_cycles", c->shift_add_cycles, 0, INT32_MAX},
        {"output_buffer_cycles", c->output_buffer_cycles, 0, INT32_MAX},
        {"io_cycles", c->io_cycles, 0, INT32_MAX},
        {"index_cycles", c->index_cycles, 0, INT32_MAX},
        {"row_write_cycles", c->row_write_cycles, 0, 1e12},
        {"pulses", c->pulses, 1, INT32_MAX},
        {"program_lanes", c->program_lanes, 1, INT32_MAX},
        {"endurance", c->endurance, 1, INFINITY},
        {"dac_pj", c->dac_pj, 0, INFINITY},
        {"array_pj", c->array_pj, 0, INFINITY},
        {"adc_pj", c->adc_pj, 0, INFINITY},
        {"adc_pj_per_bit", c->adc_pj_per_bit, 0, INFINITY},
        {"shift_add_pj", c->shift_add_pj, 0, INFINITY},
        {"write_pj", c->write_pj, 0, INFINITY},
        {"index_pj", c->index_pj, 0, INFINITY},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(numbers[i].value >= numbers[i].least && numbers[i].value <= numbers[i].most))
            return axi_fail_config(m, "%s must be from %g to %g, found %g", numbers[i].key, numbers[i].least,
                                   numbers[i].most, numbers[i].value);
    if (c->base.in != AX_I8 || c->base.acc != AX_I32)
        return axi_fail_config(m, "a crossbar multiplies i8 to i32; found in %d and acc %d (ax_type)", (int)c->base.in,
                               (int)c->base.acc);
    if (c->encoding != AX_DIFFERENTIAL && c->encoding != AX_OFFSET)
        return axi_fail_config(m, "encoding must be AX_DIFFERENTIAL or AX_OFFSET, found %d", (int)c->encoding);
    if (c->encoding == AX_OFFSET && c->digitised_separately)
        return axi_fail_config(m, "digitised_separately needs encoding AX_DIFFERENTIAL, found AX_OFFSET");
    if (c->timing != AX_TIME_STAGES && c->timing != AX_TIME_PIMSIM)
        return axi_fail_config(m, "timing must be AX_TIME_STAGES or AX_TIME_PIMSIM, found %d", (int)c->timing);
    for (int i = 0; i < c->shapes; i++)
        if (c->shape_rows[i] < 1 || c->shape_rows[i] > 65535 || c->shape_cols[i] < 1 || c->shape_cols[i] > 65535)
            return axi_fail_config(m, "a shape of 1 x 1 to 65535 x 65535 needed, found %d x %d", c->shape_rows[i],
                                   c->shape_cols[i]);
    return 0;
}

/* Arrays that the cells of the chip make, all of the smallest shape. */
static int32_t most_arrays(const ax_crossbar *c)
{
    const int64_t cells = (int64_t)c->arrays * c->base.rows * c->base.cols;
    int64_t most = c->arrays;
    for (int i = 0; i < c->shapes; i++)
        most = axi_max(most, cells / ((int64_t)c->shape_rows[i] * c->shape_cols[i]));
    return (int32_t)(most < AXI_MAX_ARRAYS ? most : AXI_MAX_ARRAYS);
}

ax_machine *ax_open_crossbar(const ax_crossbar *config, unsigned flags)
{
    ax_config base = config->base;
    base.kind = AX_XB;
    ax_machine *m = axi_open(&base, flags, config->row_elements < 1 ? 1 : config->row_elements);
    if (!m || m->failed || check_config(m, config))
        return m;
    axi_crossbar *xb = calloc(1, sizeof *xb);
    if (!xb) {
        ax_close(m);
        return NULL;
    }
    m->xb = xb;
    xb->config = *config;
    xb->bit_serial = flags & AX_BIT_SERIAL;
    xb->array_count = most_arrays(config);
    const int64_t pools = axi_ceil_div(xb->array_count, config->adc_arrays);
    xb->arrays = calloc((size_t)xb->array_count, sizeof *xb->arrays);
    xb->pools = calloc((size_t)pools, sizeof *xb->pools);
    xb->touched = calloc((size_t)m->memory[AXI_ACC].rows, sizeof *xb->touched);
    if (!xb->arrays || !xb->pools || !xb->touched) {
        ax_close(m);
        return NULL;
    }
    for (int32_t i = 0; i < xb->array_count; i++) {
        xb->arrays[i].rows = config->base.rows;
        xb->arrays[i].cols = config->base.cols;
        xb->arrays[i].version = 1;
    }
    return m;
}

void axi_xb_close(axi_crossbar *xb)
{
    if (!xb)
        return;
    for (int32_t i = 0; xb->arrays && i < xb->array_count; i++) {
        free(xb->arrays[i].levels);
        free(xb->arrays[i].writes);
        free(xb->arrays[i].faults);
    }
    for (int64_t i = 0; i < xb->block_count; i++) {
        axi_xb_forget(&xb->blocks[i]);
        free(xb->blocks[i].in_index);
        free(xb->blocks[i].out_index);
        free(xb->blocks[i].doubled);
        free(xb->blocks[i].flipped);
    }
    free(xb->arrays);
    free(xb->named);
    free(xb->blocks);
    free(xb->pools);
    free(xb->touched);
    free(xb->scratch);
    free(xb);
}
