/* What a machine counted: as JSON and as text. Energy is counters times constants and nothing else. */
#include <stdio.h>

#include "internal.h"

static const char *const stall_name[AXI_STALLS] = {"issue", "queue_full", "fence", "raw", "war", "waw", "weights"};

typedef struct {
    double mac, reg, spad, acc, l0, dram, alu, index, total;
} energy;

static double touched(const axi_memory *memory)
{
    return (double)(memory->bytes_read + memory->bytes_written);
}

static energy energy_of(const ax_machine *m)
{
    const ax_config *c = &m->config;
    energy e = {
        .mac = (double)m->macs * c->mac_pj,
        .reg = (double)m->reg_written * c->reg_pj_per_byte,
        .spad = touched(&m->memory[AXI_SPAD]) * c->spad_pj_per_byte,
        .acc = touched(&m->memory[AXI_ACC]) * c->acc_pj_per_byte,
        .l0 = (touched(&m->memory[AXI_L0A]) + touched(&m->memory[AXI_L0B])) * c->l0_pj_per_byte,
        .dram = (double)(m->dram_read + m->dram_written) * c->dram_pj_per_byte,
        .alu = (double)m->alu * c->alu_pj + (double)m->scatter_added * c->scatter_add_pj,
        .index = (double)m->indexed_read * c->indexed_read_pj +
                 (double)m->indexed_accumulated * c->indexed_accumulate_pj,
    };
    e.total = e.mac + e.reg + e.spad + e.acc + e.l0 + e.dram + e.alu + e.index + (m->xb ? axi_xb_energy(m) : 0);
    return e;
}

double ax_energy(const ax_machine *m) { return energy_of(m).total; }

static double microseconds(const ax_machine *m) { return (double)ax_cycles(m) / (m->config.clock_ghz * 1000); }

/* Of the multiply-accumulates that the array could have done in the time, the share that was issued. */
static double utilization(const ax_machine *m)
{
    const ax_config *c = &m->config;
    if (m->xb)
        return axi_xb_utilization(m);
    const double each_cycle = c->kind == AX_WS
                                  ? (double)c->rows * c->cols
                                  : (double)c->mma_m * c->mma_n * c->mma_k / c->mma_interval;
    return m->last ? (double)m->macs / (each_cycle * (double)m->last) : 0;
}

/* The time an engine stood still after its last instruction. */
static int64_t drain(const ax_machine *m, int engine) { return m->last - m->free[engine]; }

typedef struct {
    const char *name;
    int64_t value;
} counter;

enum { BYTES = 9 };

static void bytes_of(const ax_machine *m, counter bytes[BYTES])
{
    const axi_memory *spad = &m->memory[AXI_SPAD], *acc = &m->memory[AXI_ACC];
    const axi_memory *l0a = &m->memory[AXI_L0A], *l0b = &m->memory[AXI_L0B];
    const counter all[BYTES] = {
        {"dram_read", m->dram_read},      {"dram_write", m->dram_written},
        {"spad_read", spad->bytes_read},  {"spad_write", spad->bytes_written},
        {"acc_read", acc->bytes_read},    {"acc_write", acc->bytes_written},
        {"l0_read", l0a->bytes_read + l0b->bytes_read},
        {"l0_write", l0a->bytes_written + l0b->bytes_written},
        {"reg_write", m->reg_written},
    };
    memcpy(bytes, all, sizeof all);
}

enum { NOTES = 6 };

/* What a reader must know to read the numbers rightly. */
static int notes_of(const ax_machine *m, const char *notes[NOTES])
{
    int n = 0;
    if (m->config.report_last_index)
        notes[n++] = "cycles is the number of the last cycle, counted from 0; span_cycles is how many there are";
    if (!axi_with_data(m))
        notes[n++] = "only time was simulated: no values, so no overflows or saturations could be seen";
    if (m->int32_overflow)
        notes[n++] = "int32 sums wrapped around: the results are those of the hardware, not of exact arithmetic";
    if (m->xb)
        n += axi_xb_notes(m, notes + n);
    return n;
}

static void put_counters(FILE *out, const char *name, const counter *counters, int count)
{
    fprintf(out, "  \"%s\": {", name);
    for (int i = 0, first = 1; i < count; i++)
        if (counters[i].name) {
            fprintf(out, "%s\"%s\": %lld", first ? "" : ", ", counters[i].name, (long long)counters[i].value);
            first = 0;
        }
    fputs("},\n", out);
}

void ax_report_json(const ax_machine *m, FILE *out)
{
    const energy e = energy_of(m);
    counter bytes[BYTES], counts[AXI_OPS];
    const char *notes[NOTES];
    bytes_of(m, bytes);
    for (int i = 0; i < AXI_OPS; i++)
        counts[i] = (counter){m->count[i] ? axi_op_name[i] : NULL, m->count[i]};

    fputs("{\n  \"target\": ", out);
    axi_json_string(out, m->name);
    fputs(",\n  \"error\": ", out);
    if (m->failed)
        axi_json_string(out, m->error);
    else
        fputs("null", out);
    fprintf(out, ",\n  \"cycles\": %lld,\n  \"span_cycles\": %lld,\n  \"clock_ghz\": %.17g,\n  \"time_us\": %.17g,\n",
            (long long)ax_cycles(m), (long long)m->last, m->config.clock_ghz, microseconds(m));
    put_counters(out, "instructions", counts, AXI_OPS);
    fputs("  \"engines\": {", out);
    for (int i = 0; i < AXI_ENGINES; i++) {
        fprintf(out, "%s\n    \"%s\": {\"busy\": %lld, \"stalls\": {", i ? "," : "", axi_engine_name[i],
                (long long)m->busy[i]);
        for (int s = 0; s < AXI_STALLS; s++)
            fprintf(out, "%s\"%s\": %lld", s ? ", " : "", stall_name[s], (long long)m->stalls[i][s]);
        fprintf(out, "}, \"drain\": %lld}", (long long)drain(m, i));
    }
    fputs("\n  },\n", out);
    put_counters(out, "bytes", bytes, BYTES);
    fprintf(out, "  \"macs\": %lld,\n  \"mac_utilization\": %.17g,\n  \"alu_ops\": %lld,\n", (long long)m->macs,
            utilization(m), (long long)m->alu);
    fprintf(out,
            "  \"energy_pj\": {\"total\": %.17g, \"mac\": %.17g, \"reg\": %.17g, \"spad\": %.17g, \"acc\": %.17g, "
            "\"l0\": %.17g, \"dram\": %.17g, \"alu\": %.17g, \"index\": %.17g",
            e.total, e.mac, e.reg, e.spad, e.acc, e.l0, e.dram, e.alu, e.index);
    if (m->xb)
        axi_xb_energy_json(m, out);
    fputs("},\n", out);
    if (m->xb)
        axi_xb_report_json(m, out);
    const counter indexed[] = {{"read", m->indexed_read}, {"accumulated", m->indexed_accumulated}};
    put_counters(out, "indexed_rows", indexed, 2);
    const counter peaks[] = {{"spad", m->memory[AXI_SPAD].peak_rows},
                             {"acc", m->memory[AXI_ACC].peak_rows},
                             {"l0a", m->memory[AXI_L0A].peak_rows},
                             {"l0b", m->memory[AXI_L0B].peak_rows}};
    put_counters(out, "peak_rows", peaks, AXI_MEMORIES);
    const counter warnings[] = {{"int32_overflow", m->int32_overflow},
                                {"output_saturation", m->output_saturation},
                                {m->xb ? "adc_clipped" : NULL, m->xb ? axi_xb_clipped(m) : 0}};
    put_counters(out, "warnings", warnings, 3);
    fputs("  \"notes\": [", out);
    const int count = notes_of(m, notes);
    for (int i = 0; i < count; i++) {
        fputs(i ? ", " : "", out);
        axi_json_string(out, notes[i]);
    }
    fputs("]\n}\n", out);
}

static double percent(int64_t part, int64_t whole) { return whole ? 100 * (double)part / (double)whole : 0; }

static void put_energy(FILE *out, const char *name, double pj, double total)
{
    if (pj > 0)
        fprintf(out, "  %-22s %14.3f nJ  %5.1f %%\n", name, pj / 1000, 100 * pj / total);
}

void ax_report_text(const ax_machine *m, FILE *out)
{
    const energy e = energy_of(m);
    counter bytes[BYTES];
    const char *notes[NOTES];
    bytes_of(m, bytes);
    fprintf(out, "target %s at %g GHz\n", m->name, m->config.clock_ghz);
    if (m->failed)
        fprintf(out, "stopped by an error: %s\n", m->error);
    fprintf(out, "time          %14lld cycles = %.3f us\n", (long long)ax_cycles(m), microseconds(m));
    fprintf(out, "instructions  %14lld:", (long long)m->issued);
    for (int i = 0; i < AXI_OPS; i++)
        if (m->count[i])
            fprintf(out, " %s %lld", axi_op_name[i], (long long)m->count[i]);
    fprintf(out, "\nMACs issued   %14lld, %.1f %% of what the array could do in the time\n", (long long)m->macs,
            100 * utilization(m));

    fputs("\nengine, % of the time   busy", out);
    for (int s = 0; s < AXI_STALLS; s++)
        fprintf(out, " %10s", stall_name[s]);
    fputs("      drain\n", out);
    for (int i = 0; i < AXI_ENGINES; i++) {
        fprintf(out, "  %-19s %6.1f", axi_engine_name[i], percent(m->busy[i], m->last));
        for (int s = 0; s < AXI_STALLS; s++)
            fprintf(out, " %10.1f", percent(m->stalls[i][s], m->last));
        fprintf(out, " %10.1f\n", percent(drain(m, i), m->last));
    }

    fputs("\nbytes\n", out);
    for (int i = 0; i < BYTES; i++)
        if (bytes[i].value)
            fprintf(out, "  %-22s %14lld\n", bytes[i].name, (long long)bytes[i].value);
    if (m->config.indexed)
        fprintf(out, "\nrows by index\n  %-22s %14lld\n  %-22s %14lld\n", "read", (long long)m->indexed_read,
                "accumulated", (long long)m->indexed_accumulated);
    fputs("\nmemory, rows used at most\n", out);
    for (int i = 0; i < AXI_MEMORIES; i++)
        if (m->memory[i].rows)
            fprintf(out, "  %-22s %14lld of %lld\n", m->memory[i].name, (long long)m->memory[i].peak_rows,
                    (long long)m->memory[i].rows);
    fprintf(out, "\nenergy                   %14.3f nJ\n", e.total / 1000);
    put_energy(out, "multiply-accumulate", e.mac, e.total);
    put_energy(out, "stationary registers", e.reg, e.total);
    put_energy(out, "scratchpad", e.spad, e.total);
    put_energy(out, "accumulators", e.acc, e.total);
    put_energy(out, "L0", e.l0, e.total);
    put_energy(out, "off-chip memory", e.dram, e.total);
    put_energy(out, "vector unit", e.alu, e.total);
    put_energy(out, "addressing by index", e.index, e.total);
    if (m->xb)
        axi_xb_report_text(m, out);
    fprintf(out, "\nwarnings: %lld int32 overflows, %lld saturated outputs\n", (long long)m->int32_overflow,
            (long long)m->output_saturation);
    const int count = notes_of(m, notes);
    for (int i = 0; i < count; i++)
        fprintf(out, "note: %s\n", notes[i]);
}
