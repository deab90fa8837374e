/* XB.MVM and XB.MVMG: operands, what they wait for, and what they count. */
#include <string.h>

#include "crossbar_internal.h"

/* The rows of a memory that a block uses: one area, or one for each row found by index. */
typedef struct {
    const char *operand;
    uint32_t address;
    unsigned memory; /* as allowed for axi_place */
    int64_t first, last, rows, step, panels;
    const int32_t *index;
} axi_operand;

static axi_operand input_of(const ax_machine *m, const axi_insn *insn, const axi_block *block)
{
    return (axi_operand){"in", insn->address[0], AXI_IN_SPAD, block->in_row, block->in_last, block->rows,
                         insn->step[0], axi_xb_panels(m, insn->rows), block->in_index};
}

static axi_operand output_of(const ax_machine *m, const axi_insn *insn, const axi_block *block)
{
    return (axi_operand){"out", insn->address[1], AXI_IN_ACC, block->out_row, block->out_last, block->cols,
                         insn->step[1], axi_xb_panels(m, insn->rows), block->out_index};
}

/* Whether an operand is where it may be, with all rows up to the last of those that are named. */
static int check_place(ax_machine *m, const axi_insn *insn, const axi_operand *o)
{
    axi_area hull;
    const int64_t base = (o->address & AXI_ADDRESS_MASK) + o->first;
    if (base > AXI_ADDRESS_MASK)
        return axi_fail(m, insn, "operand %s reaches row %lld, and addresses have 30 bits", o->operand,
                        (long long)base);
    return axi_place(m, insn, o->operand, (o->address & ~AXI_ADDRESS_MASK) | (uint32_t)base, o->memory, o->last + 1,
                     o->step, o->panels, &hull);
}

/* The i-th area of an operand that check_place has found right; false when there are no more. */
static bool next_area(ax_machine *m, const axi_operand *o, int64_t i, axi_area *area)
{
    const int64_t parts = o->index ? o->rows : 1;
    if (i >= parts * o->panels)
        return false;
    const int64_t panel = i / parts, part = i % parts;
    *area = (axi_area){&m->memory[o->address >> 30],
                       (int64_t)(o->address & AXI_ADDRESS_MASK) + o->first + panel * o->step +
                           (o->index ? o->index[part] : 0),
                       0, o->index ? 1 : o->rows, 1};
    return true;
}

static int check_written(ax_machine *m, const axi_insn *insn, const axi_operand *o)
{
    axi_area area;
    for (int64_t i = 0; next_area(m, o, i, &area); i++)
        if (axi_need_written(m, insn, o->operand, &area))
            return -1;
    return 0;
}

static bool same_list(const int32_t *a, const int32_t *b, int32_t count)
{
    return a == b || (a && b && !memcmp(a, b, (size_t)count * sizeof *a));
}

static bool same_flags(const unsigned char *a, const unsigned char *b, int32_t count)
{
    for (int32_t i = 0; i < count; i++)
        if ((a && a[i]) != (b && b[i]))
            return false;
    return true;
}

bool axi_xb_joins(const axi_block *before, const axi_block *block)
{
    return before->array == block->array && before->row0 == block->row0 && before->rows == block->rows &&
           before->col0 + before->cols <= block->col0 && before->in_row == block->in_row &&
           same_list(before->in_index, block->in_index, block->rows) &&
           same_flags(before->doubled, block->doubled, block->rows);
}

static int check_block(ax_machine *m, const axi_insn *insn, int64_t number)
{
    axi_crossbar *xb = m->xb;
    axi_block *block = number < xb->block_count ? &xb->blocks[number] : NULL;
    if (!block || !block->set)
        return axi_fail(m, insn, "block %lld is not known: an XB.CFG of it needed", (long long)number);
    axi_array *array = &xb->arrays[block->array];
    const bool again = array->group == xb->groups_started + 1; /* the group that is about to start */
    if (again && (xb->config.ou_cols || number == insn->index || !axi_xb_joins(block - 1, block)))
        return axi_fail(m, insn, "block %lld is in array %d, as another one of the group is: different arrays needed "
                        "at once%s", (long long)number, (int)block->array,
                        xb->config.ou_cols ? "" : ", or the word lines and inputs of the block before, to its right");
    array->group = xb->groups_started + 1;
    const axi_operand in = input_of(m, insn, block), out = output_of(m, insn, block);
    return axi_xb_prepare(m, insn, block) || check_place(m, insn, &in) || check_written(m, insn, &in) ||
                   check_place(m, insn, &out) || (insn->flag && check_written(m, insn, &out))
               ? -1
               : 0;
}

/* Sums are added in the order of instructions, so they wait for all else that wrote there, not for each other. */
static void wait(ax_machine *m, const axi_insn *insn, const axi_block *block, axi_hazards *hazards)
{
    const axi_operand in = input_of(m, insn, block), out = output_of(m, insn, block);
    axi_hazards before = {0};
    axi_area area;
    for (int64_t i = 0; next_area(m, &in, i, &area); i++)
        axi_wait_to_read(m, &area, hazards);
    for (int64_t i = 0; next_area(m, &out, i, &area); i++)
        axi_wait_to_write(m, &area, AXI_MAT, &before);
    hazards->war = axi_max(hazards->war, before.war);
    if (insn->flag)
        hazards->raw = axi_max(hazards->raw, before.waw);
    else
        hazards->waw = axi_max(hazards->waw, before.waw);
}

/* Rows of ACC that a block adds to and no earlier one of its bundle does. */
static int64_t new_rows(ax_machine *m, const axi_insn *insn, const axi_block *block)
{
    axi_crossbar *xb = m->xb;
    const int64_t base = (int64_t)(insn->address[1] & AXI_ADDRESS_MASK) + block->out_row;
    int64_t found = 0;
    for (int32_t j = 0; j < block->cols; j++) {
        int64_t *last = &xb->touched[base + (block->out_index ? block->out_index[j] : j)];
        found += *last != xb->touches;
        *last = xb->touches;
    }
    return found;
}

/* Marks when inputs were read and results are there, and counts. */
static void leave(ax_machine *m, const axi_insn *insn, axi_block *block, int64_t read, int64_t done)
{
    axi_crossbar *xb = m->xb;
    const bool first = block == &xb->blocks[insn->index] || block[-1].array != block->array;
    const bool last = block == &xb->blocks[insn->index + insn->depth - 1] || block[1].array != block->array;
    const axi_operand in = input_of(m, insn, block), out = output_of(m, insn, block);
    const int64_t n = insn->rows, units = axi_xb_ou_steps(xb, block);
    axi_area area;
    for (int64_t i = 0; next_area(m, &in, i, &area); i++)
        axi_mark_read(m, &area, read);
    for (int64_t i = 0; next_area(m, &out, i, &area); i++)
        axi_mark_written(m, &area, AXI_MAT, done);
    xb->touches += first;
    const int64_t sums = first && last ? block->cols : new_rows(m, insn, block);
    if (first)
        m->memory[AXI_SPAD].bytes_read += n * block->rows;
    m->memory[AXI_ACC].bytes_written += n * sums * 4;
    if (insn->flag)
        m->memory[AXI_ACC].bytes_read += n * sums * 4;

    const int64_t row_groups = xb->config.ou_rows ? axi_ceil_div(block->rows, xb->config.ou_rows) : 1;
    const int64_t steps = n * axi_xb_steps(xb, block);
    const int64_t conversions = steps * block->cols * row_groups * axi_xb_sums(xb);
    if (first)
        xb->dac_steps += steps * block->rows * (units / row_groups);
    xb->device_reads += steps * block->rows * block->cols * axi_xb_devices(xb);
    xb->conversions[block->adc_bits] += conversions;
    xb->shift_adds += conversions;
    xb->indexed_rows += n * ((first && block->in_index ? block->rows : 0) + (block->out_index ? block->cols : 0));
    m->macs += n * block->rows * block->cols;
    xb->arrays[block->array].vectors += first ? n : 0;
}

static int multiply(ax_machine *m, const axi_insn *insn)
{
    if (axi_begin(m))
        return -1;
    if (!m->xb)
        return axi_fail(m, insn, "target '%s' has no crossbars", m->name);
    if (insn->rows < 1 || insn->depth < 1 || insn->index < 0)
        return axi_fail(m, insn, "at least 1 vector and 1 block needed");
    axi_hazards hazards = {0};
    for (int64_t i = insn->index; i < (int64_t)insn->index + insn->depth; i++) {
        if (check_block(m, insn, i))
            return -1;
        wait(m, insn, &m->xb->blocks[i], &hazards);
    }
    int64_t done;
    const int64_t start = axi_xb_start(m, insn, &hazards, &done);
    const axi_block *first = &m->xb->blocks[insn->index];
    const int64_t read = axi_max(start, m->xb->arrays[first->array].free);
    for (int64_t i = insn->index; i < (int64_t)insn->index + insn->depth; i++)
        leave(m, insn, &m->xb->blocks[i], read, done);

    for (int64_t i = insn->index; !insn->flag && axi_with_data(m) && i < (int64_t)insn->index + insn->depth; i++)
        axi_xb_clear(m, insn, &m->xb->blocks[i]);
    for (int64_t i = insn->index; i < (int64_t)insn->index + insn->depth; i++) {
        if (axi_with_data(m) && axi_xb_multiply(m, insn, &m->xb->blocks[i]))
            return -1;
        m->xb->blocks[i].vectors += insn->rows;
    }
    return 0;
}

int ax_xb_mvm(ax_machine *m, int32_t block, uint32_t in, int32_t in_step, uint32_t out, int32_t out_step, int32_t n,
              int accumulate)
{
    const axi_insn insn = {.op = AXI_OP_XB_MVM, .index = block, .depth = 1, .address = {in, out},
                           .step = {in_step, out_step}, .rows = n, .flag = accumulate != 0};
    return multiply(m, &insn);
}

int ax_xb_mvmg(ax_machine *m, int32_t block, int32_t count, uint32_t in, int32_t in_step, uint32_t out,
               int32_t out_step, int32_t n, int accumulate)
{
    const axi_insn insn = {.op = AXI_OP_XB_MVMG, .index = block, .depth = count, .address = {in, out},
                           .step = {in_step, out_step}, .rows = n, .flag = accumulate != 0};
    return multiply(m, &insn);
}
