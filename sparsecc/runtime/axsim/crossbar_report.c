/* What crossbars counted, and their instructions in words. */
#include <math.h>
#include <stdio.h>

#include "crossbar_internal.h"

static const char *const stall_name[AXI_XB_STALLS] = {"issue", "raw", "war", "waw", "group", "adc", "program"};

void axi_xb_describe(const ax_machine *m, const axi_insn *i, char *text, size_t size)
{
    const char *name = i->buffer >= 0 && i->buffer < m->buffer_count ? m->buffers[i->buffer].name : "?";
    const int row0 = (int)i->address[0], col0 = (int)i->address[1];
    switch (i->op) {
    case AXI_OP_XB_SHAPE:
        snprintf(text, size, "first=%d, count=%d, rows=%d, cols=%d", i->index, (int)i->depth, (int)i->rows,
                 (int)i->cols);
        break;
    case AXI_OP_XB_PROG:
        snprintf(text, size, "array=%d, row0=%d, rows=%d, col0=%d, cols=%d, memory='%.100s', offset=%lld, stride=%lld",
                 i->index, row0, (int)i->rows, col0, (int)i->cols, name, (long long)i->offset, (long long)i->stride);
        break;
    case AXI_OP_XB_CFG:
        snprintf(text, size, "block=%d, array=%d, row0=%d, rows=%d, col0=%d, cols=%d, in_row=%d, out_row=%d, shift=%d, "
                 "adc_bits=%d, offset=%d", i->index, (int)i->depth, row0, (int)i->rows, col0, (int)i->cols,
                 (int)i->step[2], i->output, (int)i->step[0], (int)i->step[1], (int)i->address[2]);
        break;
    default:
        snprintf(text, size, "block=%d, count=%d, in=%s[%u] step %d, out=%s[%u] step %d, n=%d, accumulate=%d", i->index,
                 (int)i->depth, axi_memory_name(i->address[0]), (unsigned)(i->address[0] & AXI_ADDRESS_MASK),
                 (int)i->step[0], axi_memory_name(i->address[1]), (unsigned)(i->address[1] & AXI_ADDRESS_MASK),
                 (int)i->step[1], (int)i->rows, i->flag);
        break;
    }
}

void axi_xb_trace_names(const ax_machine *m, FILE *out)
{
    const char *const form = ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":";
    fprintf(out, form, AXI_ENGINES + 1);
    fputs("\"XPROG\"}}", out);
    for (int32_t i = 0; i < m->xb->array_count; i++)
        if (m->xb->arrays[i].used) {
            fprintf(out, form, AXI_ENGINES + 2 + i);
            fprintf(out, "\"XB %d\"}}", i);
        }
}

typedef struct {
    double dac, array, adc, shift_add, write, index;
} xb_energy;

static xb_energy energy_of(const axi_crossbar *xb)
{
    const ax_crossbar *c = &xb->config;
    xb_energy e = {
        .dac = (double)xb->dac_steps * c->dac_pj,
        .array = (double)xb->device_reads / ((double)c->base.rows * c->base.cols) * c->array_pj,
        .shift_add = (double)xb->shift_adds * c->shift_add_pj,
        .write = (double)xb->device_pulses * c->write_pj,
        .index = (double)xb->indexed_rows * c->index_pj,
    };
    for (int bits = 0; bits <= AX_ADC_BITS; bits++)
        e.adc += (double)xb->conversions[bits] * (c->adc_pj + bits * c->adc_pj_per_bit);
    return e;
}

double axi_xb_energy(const ax_machine *m)
{
    const xb_energy e = energy_of(m->xb);
    return e.dac + e.array + e.adc + e.shift_add + e.write + e.index;
}

void axi_xb_energy_json(const ax_machine *m, FILE *out)
{
    const xb_energy e = energy_of(m->xb);
    fprintf(out, ", \"dac\": %.17g, \"array\": %.17g, \"adc\": %.17g, \"shift_add\": %.17g, \"write\": %.17g, "
            "\"xb_index\": %.17g", e.dac, e.array, e.adc, e.shift_add, e.write, e.index);
}

typedef struct {
    int64_t used, busy, stalls[AXI_XB_STALLS], drain, clipped_arrays, programmed_cells, worn_cells, writes, conversions,
        clips;
    uint32_t fewest, most;
    double device_cells; /* of the arrays in use */
} totals;

int64_t axi_xb_clipped(const ax_machine *m)
{
    int64_t clips = 0;
    for (int bits = 0; bits <= AX_ADC_BITS; bits++)
        clips += m->xb->clips[bits];
    return clips;
}

static totals totals_of(const ax_machine *m)
{
    const axi_crossbar *xb = m->xb;
    totals t = {.fewest = UINT32_MAX};
    for (int32_t i = 0; i < xb->array_count; i++) {
        const axi_array *a = &xb->arrays[i];
        if (!a->used)
            continue;
        const int64_t cells = (int64_t)a->rows * a->cols;
        t.used++;
        t.device_cells += (double)cells;
        t.busy += a->busy;
        t.drain += m->last - a->free;
        t.clipped_arrays += a->clipped > 0;
        for (int s = 0; s < AXI_XB_STALLS; s++)
            t.stalls[s] += a->stalls[s];
        for (int64_t c = 0; a->writes && c < cells; c++) {
            const uint32_t writes = a->writes[c];
            if (!writes)
                continue;
            t.programmed_cells++;
            t.writes += writes;
            t.worn_cells += writes > xb->config.endurance;
            t.fewest = writes < t.fewest ? writes : t.fewest;
            t.most = writes > t.most ? writes : t.most;
        }
    }
    if (!t.programmed_cells)
        t.fewest = 0;
    for (int bits = 0; bits <= AX_ADC_BITS; bits++)
        t.conversions += xb->conversions[bits];
    t.clips = axi_xb_clipped(m);
    return t;
}

static double mean_writes(const totals *t)
{
    return t->programmed_cells ? (double)t->writes / (double)t->programmed_cells : 0;
}

/* Of the time of the arrays in use, the share they were at work. */
double axi_xb_utilization(const ax_machine *m)
{
    int64_t used = 0, busy = 0;
    for (int32_t i = 0; i < m->xb->array_count; i++) {
        used += m->xb->arrays[i].used;
        busy += m->xb->arrays[i].busy;
    }
    return used && m->last ? (double)busy / ((double)used * (double)m->last) : 0;
}

int axi_xb_notes(const ax_machine *m, const char **notes)
{
    const totals t = totals_of(m);
    int n = 0;
    if (t.clips)
        notes[n++] = "sums were clipped by the ADC: the results are those of the hardware, not of exact arithmetic";
    if (m->xb->noisy || m->xb->faulty)
        notes[n++] = "devices differ from their levels, by noise or faults that were asked for";
    if (t.worn_cells)
        notes[n++] = "cells were written more often than they endure";
    return n;
}

static void put_by_bits(FILE *out, const char *name, const int64_t *counts)
{
    fprintf(out, "\"%s\": {", name);
    for (int bits = 0, first = 1; bits <= AX_ADC_BITS; bits++)
        if (counts[bits]) {
            fprintf(out, "%s\"%d\": %lld", first ? "" : ", ", bits, (long long)counts[bits]);
            first = 0;
        }
    fputs("}", out);
}

/* One object. For the arrays in use, busy + the stalls + drain = used x span_cycles; for the write circuits, busy +
 * idle + waits + drain = span_cycles. */
void axi_xb_report_json(const ax_machine *m, FILE *out)
{
    const axi_crossbar *xb = m->xb;
    const totals t = totals_of(m);
    const int devices = axi_xb_devices(xb);
    fprintf(out, "  \"crossbar\": {\n    \"arrays\": %d, \"arrays_used\": %lld, \"devices_per_cell\": %d, "
            "\"cells_used\": %.17g, \"programmed_cells\": %lld,\n", xb->config.arrays, (long long)t.used, devices,
            t.device_cells, (long long)t.programmed_cells);
    fprintf(out, "    \"array_cycles\": {\"busy\": %lld, \"stalls\": {", (long long)t.busy);
    for (int s = 0; s < AXI_XB_STALLS; s++)
        fprintf(out, "%s\"%s\": %lld", s ? ", " : "", stall_name[s], (long long)t.stalls[s]);
    fprintf(out, "}, \"drain\": %lld},\n", (long long)t.drain);
    fprintf(out, "    \"program_engine\": {\"busy\": %lld, \"idle\": %lld, \"waits\": %lld, \"drain\": %lld},\n",
            (long long)xb->program_busy, (long long)xb->program_idle, (long long)xb->program_waits,
            (long long)(m->last - xb->program_free));
    fprintf(out, "    \"adc_conversions\": %lld, ", (long long)t.conversions);
    put_by_bits(out, "adc_bits", xb->conversions);
    fprintf(out, ",\n    \"adc_clipped\": %lld, \"arrays_clipped\": %lld, ", (long long)t.clips,
            (long long)t.clipped_arrays);
    put_by_bits(out, "clipped_bits", xb->clips);
    fprintf(out, ",\n    \"clipped_by_array\": {");
    for (int32_t i = 0, first = 1; i < xb->array_count; i++)
        if (xb->arrays[i].clipped) {
            fprintf(out, "%s\"%d\": %lld", first ? "" : ", ", i, (long long)xb->arrays[i].clipped);
            first = 0;
        }
    fprintf(out, "},\n    \"dac_steps\": %lld, \"device_reads\": %lld, \"indexed_rows\": %lld, \"table_bytes\": %lld,\n",
            (long long)xb->dac_steps, (long long)xb->device_reads, (long long)xb->indexed_rows,
            (long long)xb->table_bytes);
    fprintf(out, "    \"exact_vectors\": %lld, \"bit_serial_vectors\": %lld,\n", (long long)xb->exact_vectors,
            (long long)xb->serial_vectors);
    fprintf(out, "    \"cell_writes\": %lld, \"device_pulses\": %lld, \"worn_cells\": %lld, \"writes_per_cell\": "
            "{\"min\": %u, \"mean\": %.17g, \"max\": %u},\n", (long long)xb->cell_writes, (long long)xb->device_pulses,
            (long long)t.worn_cells, t.fewest, mean_writes(&t), t.most);
    const axi_programmed *p = &xb->programmed;
    const int64_t cycles = p->done ? p->cycles : 0;
    const double pj = p->done ? p->energy_pj : 0;
    fprintf(out, "    \"program\": {\"cycles\": %lld, \"energy_pj\": %.17g}, \"inference\": {\"cycles\": %lld, "
            "\"energy_pj\": %.17g}\n  },\n", (long long)cycles, pj, (long long)(m->last - cycles),
            ax_energy(m) - pj);
}

int64_t ax_xb_writes(const ax_machine *m)
{
    return m->xb->cell_writes;
}

static void put_part(FILE *out, const char *name, double pj, double total)
{
    if (pj > 0)
        fprintf(out, "  %-22s %14.3f nJ  %5.1f %%\n", name, pj / 1000, 100 * pj / total);
}

void axi_xb_report_text(const ax_machine *m, FILE *out)
{
    const axi_crossbar *xb = m->xb;
    const totals t = totals_of(m);
    const xb_energy e = energy_of(xb);
    const double total = ax_energy(m);
    put_part(out, "drivers of rows", e.dac, total);
    put_part(out, "arrays", e.array, total);
    put_part(out, "converters", e.adc, total);
    put_part(out, "shift and add", e.shift_add, total);
    put_part(out, "writing cells", e.write, total);
    put_part(out, "rows by index", e.index, total);
    const int64_t program = xb->programmed.done ? xb->programmed.cycles : 0;
    const double program_pj = xb->programmed.done ? xb->programmed.energy_pj : 0;
    fprintf(out, "\ncrossbars              %14lld of %d arrays, busy %.1f %% of the time\n", (long long)t.used,
            xb->config.arrays, 100 * axi_xb_utilization(m));
    fprintf(out, "  programming          %14lld cycles, %.3f nJ\n", (long long)program, program_pj / 1000);
    fprintf(out, "  inference            %14lld cycles, %.3f nJ\n", (long long)(m->last - program),
            (total - program_pj) / 1000);
    fprintf(out, "  writes of a cell     %14u to %u, %.3g on average, %lld cells beyond their endurance\n", t.fewest,
            t.most, mean_writes(&t), (long long)t.worn_cells);
    fprintf(out, "  conversions          %14lld:", (long long)t.conversions);
    for (int bits = 0; bits <= AX_ADC_BITS; bits++)
        if (xb->conversions[bits])
            fprintf(out, " %lld of %d bits", (long long)xb->conversions[bits], bits);
    fprintf(out, "\n  clipped by the ADC   %14lld sums, in %lld arrays\n", (long long)t.clips,
            (long long)t.clipped_arrays);
}
