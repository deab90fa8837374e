/* The vector unit: FILL and VOP. Results are rounded to the element type; integers saturate in i8 and wrap in
 * i32, and either is counted. */
#include <limits.h>
#include <math.h>

#include "area.h"

/* Rows of one area on the vector unit: n / lanes cycles, rounded up, and the latency. */
static int64_t vector_cycles(const ax_machine *m, const axi_area *area)
{
    return axi_ceil_div(area->rows * area->memory->width, m->config.vector_lanes) + m->config.vector_latency;
}

int ax_fill(ax_machine *m, uint32_t dst, int32_t rows, double value)
{
    const axi_insn insn = {.op = AXI_OP_FILL, .address = {dst}, .rows = rows, .value = value};
    axi_area to;
    if (axi_begin(m) || axi_place(m, &insn, "dst", dst, AXI_ANYWHERE, rows, 0, 1, &to))
        return -1;
    const axi_memory *memory = to.memory;
    const double least = memory->type == AX_I8 ? INT8_MIN : INT32_MIN;
    const double most = memory->type == AX_I8 ? INT8_MAX : INT32_MAX;
    const bool integer = memory->type == AX_I8 || memory->type == AX_I32;
    if (integer && !(value >= least && value <= most && value == floor(value)))
        return axi_fail(m, &insn, "a whole number from %.0f to %.0f needed for %s elements, found %g", least, most,
                        axi_type_name[memory->type], value);

    axi_hazards hazards = {0};
    axi_wait_to_write(m, &to, AXI_VEC, &hazards);
    const int64_t occupancy = vector_cycles(m, &to);
    const int64_t start = axi_schedule(m, &insn, AXI_VEC, occupancy, 0, &hazards);
    axi_mark_written(m, &to, AXI_VEC, start + occupancy);
    axi_count_written(&to);
    m->alu += to.rows * memory->width;

    if (!axi_with_data(m))
        return 0;
    for (int64_t r = 0; r < rows; r++) {
        unsigned char *row = axi_row(memory, to.row + r);
        for (int32_t i = 0; i < memory->width; i++) {
            if (memory->type == AX_I8)
                ((int8_t *)row)[i] = (int8_t)value;
            else if (memory->type == AX_I32)
                ((int32_t *)(void *)row)[i] = (int32_t)value;
            else
                ((float *)(void *)row)[i] = axi_round_to(memory->type, (float)value);
        }
    }
    return 0;
}

static float on_floats(ax_vop_kind op, float a, float b, float imm)
{
    switch (op) {
    case AX_ADD:
        return a + b;
    case AX_MUL:
        return a * b;
    case AX_MAX:
        return isnan(a) || a > b ? a : b;
    case AX_RELU:
        return a < 0 ? 0 : a;
    case AX_SCALE:
        return a * imm;
    }
    return a;
}

static int64_t on_integers(ax_vop_kind op, int64_t a, int64_t b)
{
    switch (op) {
    case AX_ADD:
        return a + b;
    case AX_MUL:
        return a * b;
    case AX_MAX:
        return a > b ? a : b;
    case AX_RELU:
        return a < 0 ? 0 : a;
    case AX_SCALE:
        break;
    }
    return a;
}

static void vector_row(ax_machine *m, ax_vop_kind op, const axi_memory *memory, unsigned char *dst,
                       const unsigned char *a, const unsigned char *b, float imm)
{
    for (int32_t i = 0; i < memory->width; i++) {
        if (memory->type == AX_I8) {
            const int8_t x = ((const int8_t *)a)[i], y = ((const int8_t *)b)[i];
            const float v = op == AX_SCALE ? (float)x * imm : (float)on_integers(op, x, y);
            ((int8_t *)dst)[i] = axi_to_i8(v, &m->output_saturation);
        } else if (memory->type == AX_I32) {
            const int32_t x = ((const int32_t *)(const void *)a)[i], y = ((const int32_t *)(const void *)b)[i];
            int32_t v;
            if (op == AX_SCALE) {
                v = axi_to_i32((float)x * imm, &m->output_saturation);
            } else {
                const int64_t wide = on_integers(op, x, y);
                v = (int32_t)(uint32_t)(uint64_t)wide;
                m->int32_overflow += v != wide;
            }
            ((int32_t *)(void *)dst)[i] = v;
        } else {
            const float x = ((const float *)(const void *)a)[i], y = ((const float *)(const void *)b)[i];
            ((float *)(void *)dst)[i] = axi_round_to(memory->type, on_floats(op, x, y, imm));
        }
    }
}

/* Rows are worked on one after the other, so a source may be the target, but not lie half in it. */
static int check_source(ax_machine *m, const axi_insn *insn, const char *operand, const axi_area *dst,
                        const axi_area *source)
{
    const axi_memory *a = dst->memory, *b = source->memory;
    if (a->type != b->type || a->width != b->width)
        return axi_fail(m, insn, "rows of one kind needed, found %d x %s in dst and %d x %s in %s", (int)a->width,
                        axi_type_name[a->type], (int)b->width, axi_type_name[b->type], operand);
    if (a == b && dst->row != source->row && dst->row < source->row + source->rows &&
        source->row < dst->row + dst->rows)
        return axi_fail(m, insn, "operand %s overlaps dst in part: the same rows or others needed", operand);
    return axi_need_written(m, insn, operand, source);
}

int ax_vop(ax_machine *m, ax_vop_kind op, uint32_t dst, uint32_t a, uint32_t b, int32_t rows, double imm)
{
    if (axi_begin(m))
        return -1;
    const bool known = (int)op >= AX_ADD && op <= AX_SCALE, two = known && op <= AX_MAX;
    const axi_insn insn = {.op = known ? (axi_op)(AXI_OP_ADD + (int)op) : AXI_OP_ADD,
                           .address = {dst, a, two ? b : a},
                           .rows = rows,
                           .value = imm};
    axi_area to, left, right;
    if (!known)
        return axi_fail(m, &insn, "vector operations %d to %d are known, found %d", AX_ADD, AX_SCALE, (int)op);
    if (axi_place(m, &insn, "dst", dst, AXI_ANYWHERE, rows, 0, 1, &to) ||
        axi_place(m, &insn, "a", a, AXI_ANYWHERE, rows, 0, 1, &left) ||
        axi_place(m, &insn, "b", insn.address[2], AXI_ANYWHERE, rows, 0, 1, &right) ||
        check_source(m, &insn, "a", &to, &left) || check_source(m, &insn, "b", &to, &right))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_read(m, &left, &hazards);
    axi_wait_to_read(m, &right, &hazards);
    axi_wait_to_write(m, &to, AXI_VEC, &hazards);
    const int64_t occupancy = vector_cycles(m, &to);
    const int64_t start = axi_schedule(m, &insn, AXI_VEC, occupancy, 0, &hazards);
    axi_mark_read(m, &left, start + occupancy);
    axi_mark_read(m, &right, start + occupancy);
    axi_mark_written(m, &to, AXI_VEC, start + occupancy);
    axi_count_read(&left);
    if (two)
        axi_count_read(&right);
    axi_count_written(&to);
    m->alu += to.rows * to.memory->width;

    if (axi_with_data(m))
        for (int64_t r = 0; r < rows; r++)
            vector_row(m, op, to.memory, axi_row(to.memory, to.row + r), axi_row(left.memory, left.row + r),
                       axi_row(right.memory, right.row + r), (float)imm);
    return 0;
}
