/* Instructions in words, for messages and the trace. */
#include <stdarg.h>
#include <stdio.h>

#include "internal.h"

const char *const axi_op_name[AXI_OPS] = {"LD",      "LDG",     "ST",       "STS",       "MV",
                                          "FILL",    "VOP.ADD", "VOP.MUL",  "VOP.MAX",   "VOP.RELU",
                                          "VOP.SCALE", "TU.PRE", "TU.MM",   "TU.PREX",   "TU.MMX",
                                          "TU.MMA",  "TU.SPMMA", "FENCE",   "XB.SHAPE", "XB.PROG", "XB.CFG", "XB.MVM", "XB.MVMG", "XB.DONE"};
const char *const axi_type_name[] = {"i8", "f16", "bf16", "f32", "i32"};

const char *axi_memory_name(uint32_t address)
{
    static const char *const names[AXI_MEMORIES] = {"SPAD", "ACC", "L0A", "L0B"};
    return names[address >> 30];
}

typedef struct {
    char *at;
    size_t left;
} text;

AXI_PRINTF(2, 3) static void put(text *t, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    const int n = vsnprintf(t->at, t->left, format, arguments);
    va_end(arguments);
    const size_t used = n < 0 ? 0 : (size_t)n < t->left ? (size_t)n : t->left - 1;
    t->at += used;
    t->left -= used;
}

static void put_address(text *t, const char *name, uint32_t address)
{
    put(t, "%s=%s[%u]", name, axi_memory_name(address), (unsigned)(address & AXI_ADDRESS_MASK));
}

static void put_stepped(text *t, const char *name, uint32_t address, int32_t step)
{
    put_address(t, name, address);
    put(t, " step %d", (int)step);
}

static void put_buffer(text *t, const ax_machine *m, const char *name, int handle)
{
    if (handle >= 0 && handle < m->buffer_count)
        put(t, "%s='%s'", name, m->buffers[handle].name);
    else
        put(t, "%s=buffer %d", name, handle);
}

static void put_off_chip(text *t, const ax_machine *m, const axi_insn *i)
{
    put_buffer(t, m, "memory", i->buffer);
    put(t, ", offset=%lld, stride=%lld", (long long)i->offset, (long long)i->stride);
    if (i->op == AXI_OP_LDG || i->op == AXI_OP_STS) {
        put(t, ", ");
        put_buffer(t, m, "index", i->index);
        put(t, "[%lld..]", (long long)i->index_offset);
    }
}

void axi_describe(const ax_machine *m, const axi_insn *i, char *out, size_t size)
{
    text t = {out, size};
    *out = '\0';
    switch (i->op) {
    case AXI_OP_LD:
    case AXI_OP_LDG:
        put_stepped(&t, "dst", i->address[0], i->step[0]);
        put(&t, ", ");
        put_off_chip(&t, m, i);
        put(&t, ", rows=%d, cols=%d", (int)i->rows, (int)i->cols);
        break;
    case AXI_OP_ST:
    case AXI_OP_STS:
        put_off_chip(&t, m, i);
        put(&t, ", ");
        put_stepped(&t, "src", i->address[0], i->step[0]);
        put(&t, ", rows=%d, cols=%d, output=%d", (int)i->rows, (int)i->cols, i->output);
        if (i->op == AXI_OP_STS)
            put(&t, ", add=%d", i->flag);
        break;
    case AXI_OP_MV:
        put_stepped(&t, "dst", i->address[0], i->step[0]);
        put(&t, ", ");
        put_stepped(&t, "src", i->address[1], i->step[1]);
        put(&t, ", rows=%d, blocks=%d", (int)i->rows, (int)i->cols);
        break;
    case AXI_OP_FILL:
        put_address(&t, "dst", i->address[0]);
        put(&t, ", rows=%d, value=%g", (int)i->rows, i->value);
        break;
    case AXI_OP_ADD:
    case AXI_OP_MUL:
    case AXI_OP_MAX:
    case AXI_OP_RELU:
    case AXI_OP_SCALE:
        put_address(&t, "dst", i->address[0]);
        put_address(&t, ", a", i->address[1]);
        if (i->op == AXI_OP_SCALE)
            put(&t, ", imm=%g", i->value);
        else if (i->op != AXI_OP_RELU)
            put_address(&t, ", b", i->address[2]);
        put(&t, ", rows=%d", (int)i->rows);
        break;
    case AXI_OP_PRE:
        put_address(&t, "b", i->address[0]);
        put(&t, ", rows=%d, cols=%d", (int)i->rows, (int)i->cols);
        break;
    case AXI_OP_MM:
        put_address(&t, "c", i->address[0]);
        put_address(&t, ", a", i->address[1]);
        put(&t, ", rows=%d, accumulate=%d", (int)i->rows, i->flag);
        break;
    case AXI_OP_PREX:
        put_address(&t, "b", i->address[0]);
        put_address(&t, ", index", i->address[1]);
        put(&t, ", rows=%d, cols=%d", (int)i->rows, (int)i->cols);
        break;
    case AXI_OP_MMX:
        put_address(&t, "c", i->address[0]);
        put_address(&t, ", a", i->address[1]);
        put_address(&t, ", index", i->address[2]);
        put(&t, ", rows=%d", (int)i->rows);
        break;
    case AXI_OP_MMA:
        put_stepped(&t, "c", i->address[0], i->step[0]);
        put_stepped(&t, ", a", i->address[1], i->step[1]);
        put_stepped(&t, ", b", i->address[2], i->step[2]);
        put(&t, ", m=%d, n=%d, k=%d, accumulate=%d", (int)i->rows, (int)i->cols, (int)i->depth, i->flag);
        break;
    case AXI_OP_SPMMA:
        put_stepped(&t, "c", i->address[0], i->step[0]);
        put_address(&t, ", a", i->address[1]);
        put_address(&t, ", meta", i->address[3]);
        put_stepped(&t, ", b", i->address[2], i->step[2]);
        put(&t, ", m=%d, n=%d, k=%d, keep=%d, group=%d, accumulate=%d", (int)i->rows, (int)i->cols, (int)i->depth,
            (int)i->keep, (int)i->group, i->flag);
        break;
    case AXI_OP_XB_SHAPE:
    case AXI_OP_XB_PROG:
    case AXI_OP_XB_CFG:
    case AXI_OP_XB_MVM:
    case AXI_OP_XB_MVMG:
        axi_xb_describe(m, i, out, size);
        break;
    case AXI_OP_XB_DONE:
    case AXI_OP_FENCE:
    case AXI_OPS:
        break;
    }
}
