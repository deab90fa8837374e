/* When crossbars work: the cycles of a multiplication and of writing, and what starts when.
 *
 * Every array is an engine of its own. Arrays that share converters share their time: an XB.MVM ends no sooner than
 * its conversions are done, after those of instructions before it. */
#include <math.h>

#include "crossbar_internal.h"

/* Steps of one vector: digits of an input, one bit more when some inputs count twice. */
int axi_xb_steps(const axi_crossbar *xb, const axi_block *block)
{
    const int bits = xb->config.in_bits - (xb->config.encoding == AX_DIFFERENTIAL) + block->any_doubled;
    return (int)axi_ceil_div(bits, xb->config.dac_bits);
}

static int64_t ou_rows(const axi_crossbar *xb, const axi_block *block)
{
    return xb->config.ou_rows ? axi_ceil_div(block->rows, xb->config.ou_rows) : 1;
}

static int64_t ou_cols(const axi_crossbar *xb, const axi_block *block)
{
    return xb->config.ou_cols ? axi_ceil_div(block->cols, xb->config.ou_cols) : 1;
}

/* Operation units of a block: each takes its turn in every step. */
int64_t axi_xb_ou_steps(const axi_crossbar *xb, const axi_block *block)
{
    return ou_rows(xb, block) * ou_cols(xb, block);
}

static double conversion_cycles(const axi_crossbar *xb, int bits)
{
    return xb->config.adc_cycles + bits * xb->config.adc_cycles_per_bit;
}

static axi_pool *pool_of(const axi_crossbar *xb, const axi_block *block)
{
    return &xb->pools[block->array / xb->config.adc_arrays];
}

static void add_work(const axi_crossbar *xb, const axi_block *block, int64_t group)
{
    axi_pool *pool = pool_of(xb, block);
    if (pool->group != group)
        *pool = (axi_pool){.free = pool->free, .group = group};
    const int64_t unit = xb->config.ou_cols && xb->config.ou_cols < block->cols ? xb->config.ou_cols : block->cols;
    const int64_t columns = unit * axi_xb_sums(xb);
    pool->steps = axi_max(pool->steps, axi_xb_steps(xb, block) * axi_xb_ou_steps(xb, block));
    pool->rows = axi_max(pool->rows, block->rows);
    pool->columns += columns;
    pool->cycles += (double)columns * conversion_cycles(xb, block->adc_bits);
}

typedef struct {
    double vector;     /* one vector: what the arrays are held for */
    double converting; /* one vector: what the converters are held for */
    double after;      /* from the last step to its result */
} axi_durations;

static axi_durations durations_of(const axi_crossbar *xb, const axi_pool *work)
{
    const ax_crossbar *c = &xb->config;
    const double rounds = (double)axi_ceil_div(work->columns, c->adc_lanes);
    const double conversion = work->cycles / (double)work->columns; /* on average */
    if (c->timing == AX_TIME_STAGES) {
        const double converting = rounds * conversion, step = fmax(c->read_cycles, converting);
        return (axi_durations){(double)work->steps * step, (double)work->steps * converting, (c->stages - 1) * step};
    }
    /* PIMSIM-NN, XbarArray::calcXbarArrayLatency */
    const double accumulate = c->shift_add_cycles + c->output_buffer_cycles;
    const double front = c->input_buffer_cycles + c->dac_cycles + ceil(c->read_cycles) + c->sample_hold_cycles;
    const double back = conversion + accumulate + (rounds - 1) * fmax(conversion, accumulate);
    const double times =
        (double)(work->steps * (c->dac_lanes ? axi_ceil_div(work->rows, c->dac_lanes) : 1));
    const double vector = c->pipelined ? front + back + (times - 1) * fmax(front, back) : (front + back) * times;
    return (axi_durations){vector, times * rounds * conversion, 0};
}

/* Rows by index of a block, and of those before it in its bundle, which have so many outputs by index. */
static int64_t index_rows(const axi_block *block, int64_t *outputs)
{
    *outputs += block->out_index ? block->cols : 0;
    return (block->in_index ? block->rows : 0) + *outputs;
}

static void account(axi_array *array, int64_t at, int64_t start, const axi_hazards *hazards, int64_t busy, int64_t end)
{
    int64_t ready = array->free;
    if (at > ready) {
        array->stalls[AXI_XB_ISSUE] += at - ready;
        ready = at;
    }
    if (start > ready) { /* the one that is over last is the cause; else another array of the group */
        const axi_xb_stall cause = start == hazards->raw   ? AXI_XB_RAW
                                   : start == hazards->war ? AXI_XB_WAR
                                   : start == hazards->waw ? AXI_XB_WAW
                                                           : AXI_XB_GROUP;
        array->stalls[cause] += start - ready;
    }
    array->busy += busy;
    array->stalls[AXI_XB_ADC] += end - start - busy;
    array->free = end;
    array->used = true;
}

int64_t axi_xb_start(ax_machine *m, const axi_insn *insn, const axi_hazards *hazards, int64_t *done)
{
    axi_crossbar *xb = m->xb;
    const int64_t first = insn->index, count = insn->depth, n = insn->rows, group = ++xb->groups_started;
    int64_t extra = xb->config.io_cycles, start;
    double longest = 0, after = 0;
    const int64_t at = axi_issue(m, AXI_EXECUTE_QUEUE);
    start = axi_max(axi_max(at, hazards->raw), axi_max(hazards->war, hazards->waw));
    int64_t outputs = 0;
    for (int64_t i = first; i < first + count; i++) {
        if (i > first && xb->blocks[i].array != xb->blocks[i - 1].array)
            outputs = 0;
        start = axi_max(start, xb->arrays[xb->blocks[i].array].free);
        extra = axi_max(extra, xb->config.io_cycles + index_rows(&xb->blocks[i], &outputs) * xb->config.index_cycles);
        add_work(xb, &xb->blocks[i], group);
    }
    int64_t end = start;
    for (int64_t i = first; i < first + count; i++) {
        axi_pool *pool = pool_of(xb, &xb->blocks[i]);
        if (pool->placed)
            continue;
        const axi_durations d = durations_of(xb, pool);
        longest = fmax(longest, d.vector);
        after = fmax(after, d.after);
        pool->placed = true;
        pool->free = axi_max(pool->free, start) + (int64_t)ceil((double)n * d.converting);
        end = axi_max(end, pool->free);
    }
    const int64_t busy = (int64_t)ceil((double)n * longest) + n * extra;
    end = axi_max(end, start + busy);
    for (int64_t i = first; i < first + count; i++)
        if (i == first || xb->blocks[i].array != xb->blocks[i - 1].array)
            account(&xb->arrays[xb->blocks[i].array], at, start, hazards, busy, end);
    *done = end + (int64_t)ceil(after);
    axi_retire(m, insn, AXI_EXECUTE_QUEUE, end, *done);
    if (m->flags & AX_TRACE)
        for (int64_t i = first; i < first + count; i++)
            if (i == first || xb->blocks[i].array != xb->blocks[i - 1].array)
                axi_record(m, insn, AXI_ENGINES + 1 + xb->blocks[i].array, start, end - start);
    return start;
}

/* The circuits that write: in order, several arrays at once as far as they have lanes. Returns the start. */
static int64_t start_program(ax_machine *m, int64_t at, int64_t free, int64_t occupancy)
{
    axi_crossbar *xb = m->xb;
    const int64_t ready = axi_max(at, xb->program_free), start = axi_max(ready, free);
    xb->program_idle += axi_max(0, at - xb->program_free);
    xb->program_waits += start - ready;
    xb->program_busy += occupancy;
    xb->program_free = start + occupancy;
    return start;
}

void axi_xb_program(ax_machine *m, const axi_insn *insn, axi_array *array, int64_t bytes)
{
    const ax_crossbar *c = &m->xb->config;
    const double writing = (double)insn->rows * c->row_write_cycles * c->pulses;
    const double loading = (double)bytes / c->base.dma_bytes_per_cycle;
    const int64_t occupancy = (int64_t)ceil(fmax(writing / c->program_lanes, loading));
    const int64_t at = axi_issue(m, AXI_EXECUTE_QUEUE);
    const int64_t start = start_program(m, at, array->free, occupancy);
    const int64_t end = start + axi_max(occupancy, (int64_t)ceil(writing)) + c->base.dma_latency;
    if (at > array->free)
        array->stalls[AXI_XB_ISSUE] += at - array->free;
    array->stalls[AXI_XB_PROGRAM] += start - axi_max(at, array->free);
    array->busy += end - start;
    array->free = end;
    array->used = true;
    axi_retire(m, insn, AXI_EXECUTE_QUEUE, end, end);
    if (m->flags & AX_TRACE)
        axi_record(m, insn, AXI_ENGINES, start, occupancy);
}

void axi_xb_configure(ax_machine *m, const axi_insn *insn, int64_t bytes)
{
    const int64_t occupancy = 1 + (int64_t)ceil((double)bytes / m->config.dma_bytes_per_cycle);
    const int64_t at = axi_issue(m, AXI_EXECUTE_QUEUE);
    const int64_t start = start_program(m, at, 0, occupancy);
    axi_retire(m, insn, AXI_EXECUTE_QUEUE, start + occupancy, start + occupancy);
    if (m->flags & AX_TRACE)
        axi_record(m, insn, AXI_ENGINES, start, occupancy);
}
