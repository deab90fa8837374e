/* Opening and closing a machine, its off-chip arrays and output conversions, and errors. */
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "internal.h"

static char *copy_string(const char *text)
{
    const size_t size = strlen(text) + 1;
    char *copy = malloc(size);
    return copy ? memcpy(copy, text, size) : NULL;
}

/* Only the first error counts: what comes after it may merely follow from it. */
int axi_fail_config(ax_machine *m, const char *format, ...)
{
    if (m->failed)
        return -1;
    m->failed = true;
    const int n = snprintf(m->error, sizeof m->error, "target '%.100s': ", m->name);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(m->error + n, sizeof m->error - (size_t)n, format, arguments);
    va_end(arguments);
    return -1;
}

int axi_fail(ax_machine *m, const axi_insn *insn, const char *format, ...)
{
    char operands[512];
    if (m->failed)
        return -1;
    m->failed = true;
    axi_describe(m, insn, operands, sizeof operands);
    const int n = snprintf(m->error, sizeof m->error, "%s (%s), instruction %lld%s%.200s%s: ", axi_op_name[insn->op],
                           operands, (long long)(m->issued + 1), m->scope ? ", in '" : "", m->scope ? m->scope : "",
                           m->scope ? "'" : "");
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(m->error + n, sizeof m->error - (size_t)n, format, arguments);
    va_end(arguments);
    return -1;
}

/* Makes room for one more item; NULL when out of memory, and then `items` still stands. */
void *axi_grow(void *items, int64_t count, int64_t *room, size_t size)
{
    if (count < *room)
        return items;
    const int64_t more = *room ? 2 * *room : 16;
    void *grown = realloc(items, (size_t)more * size);
    if (grown)
        *room = more;
    return grown;
}

void *axi_scratch(ax_machine *m, const axi_insn *insn, void **block, size_t *size, size_t need)
{
    if (need > *size) {
        free(*block);
        *size = 0;
        *block = malloc(need);
        if (*block)
            *size = need;
        else
            axi_fail(m, insn, "out of memory: %zu bytes needed", need);
    }
    return *block;
}

static void check_at_least(ax_machine *m, const char *key, double found, double least)
{
    if (!(found >= least))
        axi_fail_config(m, "%s must be at least %g, found %g", key, least, found);
}

/* The unit computes whole groups at once. */
static void check_kept(ax_machine *m)
{
    const ax_config *c = &m->config;
    const int kept[] = {c->kept_of_2, c->kept_of_4, c->kept_of_8, c->kept_of_16};
    for (int i = 0, group = 2; i < 4; i++, group *= 2) {
        if (kept[i] && c->kind != AX_MMA)
            axi_fail_config(m, "kept_of_%d needs kind AX_MMA, found AX_WS", group);
        if (kept[i] & ~(((1 << group) - 1) & ~1))
            axi_fail_config(m, "kept_of_%d must have bits 1 to %d only, found %d", group, group - 1, kept[i]);
        for (int n = 1; n < group; n++)
            if (c->kind == AX_MMA && kept[i] >> n & 1 && c->mma_k % n)
                axi_fail_config(m, "mma_k must be a multiple of %d to take %d of every %d columns, found %d", n, n, group,
                            c->mma_k);
    }
}

static void check_config(ax_machine *m)
{
    const ax_config *c = &m->config;
    if (c->kind != AX_WS && c->kind != AX_MMA && !(c->kind == AX_XB && m->row_elements))
        axi_fail_config(m, "kind must be AX_WS or AX_MMA, found %d%s", (int)c->kind,
                        c->kind == AX_XB ? "; AX_XB needs ax_open_crossbar" : "");
    if (!((c->in == AX_I8 && c->acc == AX_I32) ||
          ((c->in == AX_F16 || c->in == AX_BF16 || c->in == AX_F32) && c->acc == AX_F32)))
        axi_fail_config(m, "types must be i8 with i32, or f16, bf16 or f32 with f32; found in %d and acc %d (ax_type)",
                    (int)c->in, (int)c->acc);
    check_at_least(m, "rows", c->rows, 1);
    check_at_least(m, "cols", c->cols, 1);
    check_at_least(m, "line_rows", c->line_rows, 1);
    if (c->rows > 65535 || c->cols > 65535)
        axi_fail_config(m, "rows and cols must be at most 65535, found %d and %d", c->rows, c->cols);
    if (!(c->clock_ghz > 0 && isfinite(c->clock_ghz)))
        axi_fail_config(m, "clock_ghz must be positive, found %g", c->clock_ghz);
    if (c->kind == AX_MMA) {
        check_at_least(m, "mma_m", c->mma_m, 1);
        check_at_least(m, "mma_n", c->mma_n, 1);
        check_at_least(m, "mma_k", c->mma_k, 1);
        check_at_least(m, "mma_interval", c->mma_interval, 1);
        check_at_least(m, "mma_latency", c->mma_latency, 0);
    }
    const struct {
        const char *key;
        double value, least;
    } numbers[] = {
        {"min_rows", c->min_rows, 0},
        {"spad_bytes", (double)c->spad_bytes, 0},
        {"acc_bytes", (double)c->acc_bytes, 0},
        {"l0a_bytes", (double)c->l0a_bytes, 0},
        {"l0b_bytes", (double)c->l0b_bytes, 0},
        {"dma_latency", c->dma_latency, 0},
        {"dma_max_burst", c->dma_max_burst, 0},
        {"dma_row_overhead", c->dma_row_overhead, 0},
        {"dma_gather_overhead", c->dma_gather_overhead, 0},
        {"move_latency", c->move_latency, 0},
        {"vector_lanes", c->vector_lanes, 1},
        {"vector_latency", c->vector_latency, 0},
        {"queue_load", c->queue_load, 1},
        {"queue_execute", c->queue_execute, 1},
        {"queue_store", c->queue_store, 1},
        {"issue_gap", c->issue_gap, 0},
        {"mac_pj", c->mac_pj, 0},
        {"reg_pj_per_byte", c->reg_pj_per_byte, 0},
        {"spad_pj_per_byte", c->spad_pj_per_byte, 0},
        {"acc_pj_per_byte", c->acc_pj_per_byte, 0},
        {"l0_pj_per_byte", c->l0_pj_per_byte, 0},
        {"dram_pj_per_byte", c->dram_pj_per_byte, 0},
        {"alu_pj", c->alu_pj, 0},
        {"indexed_read_cycles", c->indexed_read_cycles, 0},
        {"indexed_accumulate_cycles", c->indexed_accumulate_cycles, 0},
        {"indexed_read_pj", c->indexed_read_pj, 0},
        {"indexed_accumulate_pj", c->indexed_accumulate_pj, 0},
        {"scatter_add_cycles", c->scatter_add_cycles, 0},
        {"scatter_add_pj", c->scatter_add_pj, 0},
    };
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        check_at_least(m, numbers[i].key, numbers[i].value, numbers[i].least);
    if (c->indexed && c->kind != AX_WS)
        axi_fail_config(m, "indexed needs kind AX_WS, found AX_MMA");
    if (c->indexed && axi_type_bytes(c->in) * (c->rows > c->cols ? c->rows : c->cols) < 2)
        axi_fail_config(m, "indexed needs scratchpad rows of at least 2 bytes, found 1");
    check_kept(m);
    if (!(c->dma_bytes_per_cycle > 0))
        axi_fail_config(m, "dma_bytes_per_cycle must be positive, found %g", c->dma_bytes_per_cycle);
    if (!(c->move_bytes_per_cycle > 0))
        axi_fail_config(m, "move_bytes_per_cycle must be positive, found %g", c->move_bytes_per_cycle);
}

static bool open_memory(ax_machine *m, int which, int64_t bytes)
{
    const ax_config *c = &m->config;
    axi_memory *memory = &m->memory[which];
    memory->name = axi_memory_name((uint32_t)which << 30);
    memory->type = which == AXI_ACC ? c->acc : c->in;
    memory->width = m->row_elements ? m->row_elements : c->cols;
    if (which == AXI_SPAD && c->kind == AX_WS && c->rows > c->cols)
        memory->width = c->rows; /* a row feeds all rows of the array */
    memory->row_bytes = memory->width * axi_type_bytes(memory->type);
    memory->rows = bytes / memory->row_bytes;
    if (memory->rows > (int64_t)AXI_ADDRESS_MASK + 1)
        memory->rows = (int64_t)AXI_ADDRESS_MASK + 1;
    memory->pitch = (size_t)axi_pad(memory->width) * axi_kept_bytes(memory->type);
    if (memory->rows == 0)
        return true;
    memory->written = calloc((size_t)memory->rows, 1);
    memory->lines = calloc((size_t)axi_ceil_div(memory->rows, c->line_rows), sizeof *memory->lines);
    /* Time depends on indices, and SPAD holds them. */
    const bool only_known = !axi_with_data(m) && which == AXI_SPAD && c->indexed;
    if (only_known)
        memory->known = calloc((size_t)memory->rows, 1);
    if (axi_with_data(m) || only_known)
        memory->data = calloc((size_t)memory->rows, memory->pitch);
    return memory->written && memory->lines && (memory->data || !axi_with_data(m)) &&
           (!only_known || (memory->known && memory->data));
}

static bool open_parts(ax_machine *m)
{
    const ax_config *c = &m->config;
    const int depths[AXI_QUEUES] = {c->queue_load, c->queue_execute, c->queue_store};
    const int64_t bytes[AXI_MEMORIES] = {c->spad_bytes, c->acc_bytes, c->l0a_bytes, c->l0b_bytes};
    for (int q = 0; q < AXI_QUEUES; q++) {
        m->queue[q].depth = depths[q];
        m->queue[q].ends = calloc((size_t)depths[q], sizeof *m->queue[q].ends);
        if (!m->queue[q].ends)
            return false;
    }
    for (int i = 0; i < AXI_MEMORIES; i++)
        if (!open_memory(m, i, bytes[i]))
            return false;
    m->line_shift = -1;
    for (int shift = 0; shift < 31; shift++)
        if (c->line_rows == 1 << shift)
            m->line_shift = shift;
    m->k_pad = (int32_t)axi_pad(c->rows);
    m->n_pad = (int32_t)axi_pad(c->cols);
    if (c->kind == AX_WS && axi_with_data(m)) /* two int16, or one float, per 4 bytes: enough for either */
        m->tile = calloc((size_t)m->k_pad * (size_t)m->n_pad, sizeof(float));
    return m->tile || c->kind != AX_WS || !axi_with_data(m);
}

ax_machine *ax_open(const ax_config *config, unsigned flags) { return axi_open(config, flags, 0); }

ax_machine *axi_open(const ax_config *config, unsigned flags, int row_elements)
{
    ax_machine *m = calloc(1, sizeof *m);
    if (!m)
        return NULL;
    m->config = *config;
    m->flags = flags;
    m->row_elements = row_elements;
    m->output_count = 1;
    m->name = copy_string(config->name ? config->name : "unnamed");
    if (!m->name) {
        ax_close(m);
        return NULL;
    }
    m->config.name = m->name;
    check_config(m);
    if (!m->failed && !open_parts(m)) {
        ax_close(m);
        return NULL;
    }
    return m;
}

void ax_close(ax_machine *m)
{
    if (!m)
        return;
    for (int i = 0; i < AXI_MEMORIES; i++) {
        free(m->memory[i].data);
        free(m->memory[i].written);
        free(m->memory[i].known);
        free(m->memory[i].lines);
    }
    for (int q = 0; q < AXI_QUEUES; q++)
        free(m->queue[q].ends);
    for (int i = 0; i < m->buffer_count; i++)
        free(m->buffers[i].name);
    free(m->buffers);
    free(m->outputs);
    axi_xb_close(m->xb);
    free(m->tile);
    free(m->scratch_a);
    free(m->scratch_b);
    free(m->events);
    free(m->name);
    free(m);
}

const char *ax_error(const ax_machine *m) { return m->failed ? m->error : NULL; }

void ax_scope(ax_machine *m, const char *name) { m->scope = name; }

int ax_buffer(ax_machine *m, const char *name, void *data, int64_t elements, ax_type type)
{
    if (m->failed)
        return -1;
    if ((int)type < AX_I8 || type > AX_I32) {
        axi_fail_config(m, "buffer '%s' has the unknown type %d", name, (int)type);
        return -1;
    }
    if (elements < 0) {
        axi_fail_config(m, "buffer '%s' needs at least 0 elements, found %lld", name, (long long)elements);
        return -1;
    }
    if (!data && elements > 0 && axi_with_data(m)) {
        axi_fail_config(m, "buffer '%s' has no data; only a machine opened with AX_NO_DATA can do without", name);
        return -1;
    }
    /* A program that runs again registers its tables again: they are what they were. */
    for (int i = 0; data && i < m->buffer_count; i++) {
        const axi_buffer *known = &m->buffers[i];
        if (known->data == data && known->elements == elements && known->type == type && strcmp(known->name, name) == 0)
            return i;
    }
    int64_t room = m->buffer_room;
    axi_buffer *grown = axi_grow(m->buffers, m->buffer_count, &room, sizeof *grown);
    char *copy = copy_string(name);
    if (grown) {
        m->buffers = grown;
        m->buffer_room = (int)room;
    }
    if (!grown || !copy) {
        free(copy);
        axi_fail_config(m, "out of memory for buffer '%s'", name);
        return -1;
    }
    m->buffers[m->buffer_count] = (axi_buffer){copy, data, elements, type};
    return m->buffer_count++;
}

int ax_output(ax_machine *m, ax_type type, double scale, ax_act act)
{
    if (m->failed)
        return -1;
    if ((int)type < AX_I8 || type > AX_I32 || (act != AX_ACT_NONE && act != AX_ACT_RELU) || !isfinite(scale)) {
        axi_fail_config(m, "an output conversion needs a known type, a finite scale and a known activation, "
                    "found type %d, scale %g, activation %d", (int)type, scale, (int)act);
        return -1;
    }
    int64_t room = m->output_room;
    axi_output *grown = axi_grow(m->outputs, m->output_count, &room, sizeof *grown);
    if (!grown) {
        axi_fail_config(m, "out of memory for an output conversion");
        return -1;
    }
    m->outputs = grown;
    m->output_room = (int)room;
    m->outputs[m->output_count] = (axi_output){type, (float)scale, act};
    return m->output_count++;
}
