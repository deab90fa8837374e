/* Time: the front end, the queues, the engines and the scoreboard on memory lines.
 *
 * Every instruction is placed in time once, when it is issued: its start is the latest of all it waits for.
 * All of these are sums and maxima of durations, so no duration can shrink and make the whole take longer. */
#include "area.h"

int axi_place(ax_machine *m, const axi_insn *insn, const char *operand, uint32_t address, unsigned allowed,
              int64_t rows, int64_t step, int64_t blocks, axi_area *area)
{
    axi_memory *memory = &m->memory[address >> 30];
    const int64_t row = address & AXI_ADDRESS_MASK;
    if (memory->rows == 0)
        return axi_fail(m, insn, "operand %s is in %s, and target '%s' has no %s", operand, memory->name, m->name,
                        memory->name);
    if (!(allowed >> (address >> 30) & 1))
        return axi_fail(m, insn, "operand %s cannot be in %s: %s%s%s%s needed", operand, memory->name,
                        allowed & AXI_IN_SPAD ? "SPAD" : "", allowed & AXI_IN_ACC ? "ACC" : "",
                        allowed & AXI_IN_L0A ? "L0A" : "", allowed & AXI_IN_L0B ? "L0B" : "");
    if (rows < 1)
        return axi_fail(m, insn, "operand %s needs at least 1 row, found %lld", operand, (long long)rows);
    if (blocks < 1)
        return axi_fail(m, insn, "operand %s needs at least 1 block, found %lld", operand, (long long)blocks);
    if (blocks > 1 && step < rows)
        return axi_fail(m, insn, "the %lld column blocks of operand %s overlap: a step of at least %lld rows needed, "
                        "found %lld", (long long)blocks, operand, (long long)rows, (long long)step);
    const int64_t last = row + (blocks - 1) * step + rows - 1;
    if (last >= memory->rows)
        return axi_fail(m, insn, "operand %s reaches row %lld of %s, which has %lld rows", operand, (long long)last,
                        memory->name, (long long)memory->rows);
    memory->peak_rows = axi_max(memory->peak_rows, last + 1);
    *area = (axi_area){memory, row, step, rows, blocks};
    if (blocks == 1 || step == rows)
        *area = (axi_area){memory, row, 0, rows * blocks, 1};
    return 0;
}

int axi_find_hole(ax_machine *m, const axi_insn *insn, const char *operand, const axi_area *area)
{
    const axi_memory *memory = area->memory;
    for (int64_t b = 0; b < area->blocks; b++) {
        const unsigned char *first = memory->written + area->row + b * area->step;
        const unsigned char *hole = memchr(first, 0, (size_t)area->rows);
        if (hole)
            return axi_fail(m, insn, "operand %s reads row %lld of %s, which was never written", operand,
                            (long long)(hole - memory->written), memory->name);
    }
    return 0;
}

void axi_note_written(axi_memory *memory, int64_t row, int64_t rows)
{
    memset(memory->written + row, 1, (size_t)rows);
    while (memory->written_before < memory->rows && memory->written[memory->written_before])
        memory->written_before++;
}

/* Keeps the `depth` latest ends: the new one takes the place of the earliest and is sorted in from the top.
 * Instructions mostly end in order, so it mostly stays there. */
static void queue_put(axi_queue *queue, int64_t end)
{
    const int depth = queue->depth;
    int at = queue->head;
    queue->head = at + 1 == depth ? 0 : at + 1;
    while (at != queue->head) {
        const int before = at == 0 ? depth - 1 : at - 1;
        if (queue->ends[before] <= end)
            break;
        queue->ends[at] = queue->ends[before];
        at = before;
    }
    queue->ends[at] = end;
}

/* The front end stands still from `from` until `until`; engines that have run dry by then stand still with it. */
static void block_front_end(const ax_machine *m, int64_t from, int64_t until, int64_t *blocked)
{
    for (int e = 0; e < AXI_ENGINES; e++)
        blocked[e] += axi_max(0, until - axi_max(from, m->free[e]));
}

int64_t axi_issue(ax_machine *m, axi_queue_id id)
{
    const axi_queue *queue = &m->queue[id];
    int64_t at = m->next_issue;
    const int64_t room = queue->ends[queue->head];
    if (room > at) {
        block_front_end(m, at, room, m->blocked_full);
        at = room;
    }
    m->next_issue = at + m->config.issue_gap;
    return at;
}

void axi_count(ax_machine *m, const axi_insn *insn)
{
    m->issued++;
    m->count[insn->op]++;
}

void axi_retire(ax_machine *m, const axi_insn *insn, axi_queue_id queue, int64_t end, int64_t done)
{
    m->last = axi_max(m->last, done);
    queue_put(&m->queue[queue], end);
    axi_count(m, insn);
}

int64_t axi_schedule(ax_machine *m, const axi_insn *insn, axi_engine engine, int64_t occupancy, int64_t latency,
                     const axi_hazards *hazards)
{
    const axi_queue_id queue = engine == AXI_LOAD    ? AXI_LOAD_QUEUE
                               : engine == AXI_STORE ? AXI_STORE_QUEUE
                                                     : AXI_EXECUTE_QUEUE;
    const int64_t at = axi_issue(m, queue), free = m->free[engine];
    int64_t *stalls = m->stalls[engine];
    int64_t ready = axi_max(at, free);
    if (at > free) {
        stalls[AXI_STALL_QUEUE_FULL] += m->blocked_full[engine];
        stalls[AXI_STALL_FENCE] += m->blocked_fence[engine];
        stalls[AXI_STALL_ISSUE] += at - free - m->blocked_full[engine] - m->blocked_fence[engine];
    }
    m->blocked_full[engine] = m->blocked_fence[engine] = 0;

    const int64_t start =
        axi_max(ready, axi_max(axi_max(hazards->raw, hazards->war), axi_max(hazards->waw, hazards->weights)));
    if (start > ready) { /* the one that is over last is the cause */
        const axi_stall cause = start == hazards->raw       ? AXI_STALL_RAW
                                : start == hazards->war     ? AXI_STALL_WAR
                                : start == hazards->weights ? AXI_STALL_WEIGHTS
                                                            : AXI_STALL_WAW;
        stalls[cause] += start - ready;
    }
    const int64_t end = start + occupancy;
    m->busy[engine] += occupancy;
    m->free[engine] = end;
    axi_retire(m, insn, queue, end, end + latency);
    if (m->flags & AX_TRACE)
        axi_record(m, insn, engine, start, occupancy);
    return start;
}

int ax_fence(ax_machine *m)
{
    if (axi_begin(m))
        return -1;
    if (m->last > m->next_issue) {
        block_front_end(m, m->next_issue, m->last, m->blocked_fence);
        m->next_issue = m->last;
    }
    m->next_issue += m->config.issue_gap;
    m->issued++;
    m->count[AXI_OP_FENCE]++;
    return 0;
}

int64_t ax_cycles(const ax_machine *m)
{
    return m->last > 0 && m->config.report_last_index ? m->last - 1 : m->last;
}
