/* The scoreboard as instructions see it: areas of a memory, what they wait for, and what they leave. Inline,
 * because a simulated instruction is a handful of these and little else. */
#ifndef AXSIM_AREA_H
#define AXSIM_AREA_H

#include "internal.h"

/* Whether all rows were written before; if not, the machine fails. */
int axi_find_hole(ax_machine *m, const axi_insn *insn, const char *operand, const axi_area *area);
void axi_note_written(axi_memory *memory, int64_t row, int64_t rows);

static inline int64_t axi_area_end(const axi_area *area)
{
    return area->row + (area->blocks - 1) * area->step + area->rows;
}

static inline int axi_need_written(ax_machine *m, const axi_insn *insn, const char *operand, const axi_area *area)
{
    return axi_area_end(area) <= area->memory->written_before ? 0 : axi_find_hole(m, insn, operand, area);
}

static inline int64_t axi_line_of(const ax_machine *m, int64_t row)
{
    return m->line_shift >= 0 ? row >> m->line_shift : (int64_t)((uint32_t)row / (uint32_t)m->config.line_rows);
}

/* The lines of block b. */
static inline axi_line *axi_first_line(const ax_machine *m, const axi_area *area, int64_t b)
{
    return area->memory->lines + axi_line_of(m, area->row + b * area->step);
}

static inline axi_line *axi_last_line(const ax_machine *m, const axi_area *area, int64_t b)
{
    return area->memory->lines + axi_line_of(m, area->row + b * area->step + area->rows - 1);
}

static inline void axi_wait_to_read(const ax_machine *m, const axi_area *area, axi_hazards *hazards)
{
    for (int64_t b = 0; b < area->blocks; b++) {
        const axi_line *last = axi_last_line(m, area, b);
        for (const axi_line *line = axi_first_line(m, area, b); line <= last; line++)
            hazards->raw = axi_max(hazards->raw, axi_max(line->load, axi_max(line->mat, line->other)));
    }
}

/* LOAD and MAT write in the order of their own instructions, whatever their latency. */
static inline void axi_wait_to_write(const ax_machine *m, const axi_area *area, axi_engine engine,
                                     axi_hazards *hazards)
{
    for (int64_t b = 0; b < area->blocks; b++) {
        const axi_line *last = axi_last_line(m, area, b);
        for (const axi_line *line = axi_first_line(m, area, b); line <= last; line++) {
            hazards->war = axi_max(hazards->war, line->read);
            hazards->waw = axi_max(hazards->waw, line->other);
            if (engine != AXI_LOAD)
                hazards->waw = axi_max(hazards->waw, line->load);
            if (engine != AXI_MAT)
                hazards->waw = axi_max(hazards->waw, line->mat);
        }
    }
}

/* Sums go into the accumulators in the order of the instructions, so an accumulating instruction need not wait
 * for earlier results of the array, but for all else that was put there. */
static inline void axi_wait_for_sums(const ax_machine *m, const axi_area *c, bool accumulate, axi_hazards *hazards)
{
    axi_wait_to_write(m, c, AXI_MAT, hazards);
    if (accumulate) {
        hazards->raw = axi_max(hazards->raw, hazards->waw);
        hazards->waw = 0;
    }
}

static inline void axi_mark_read(const ax_machine *m, const axi_area *area, int64_t done)
{
    for (int64_t b = 0; b < area->blocks; b++) {
        const axi_line *last = axi_last_line(m, area, b);
        for (axi_line *line = axi_first_line(m, area, b); line <= last; line++)
            line->read = axi_max(line->read, done);
    }
}

static inline void axi_mark_written(const ax_machine *m, const axi_area *area, axi_engine engine, int64_t done)
{
    axi_memory *memory = area->memory;
    const bool known = axi_area_end(area) <= memory->written_before;
    for (int64_t b = 0; b < area->blocks; b++) {
        if (!known)
            axi_note_written(memory, area->row + b * area->step, area->rows);
        if (engine != AXI_LOAD && engine != AXI_MAT && memory->known) /* LOAD says itself what it knows */
            memset(memory->known + area->row + b * area->step, 0, (size_t)area->rows);
        const axi_line *last = axi_last_line(m, area, b);
        for (axi_line *line = axi_first_line(m, area, b); line <= last; line++) {
            int64_t *time = engine == AXI_LOAD ? &line->load : engine == AXI_MAT ? &line->mat : &line->other;
            *time = axi_max(*time, done);
        }
    }
}

#endif
