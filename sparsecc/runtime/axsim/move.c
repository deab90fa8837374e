/* Moving data: LD, LDG, ST, STS between off-chip arrays and the memories, MV between memories. */
#include <math.h>

#include "area.h"

axi_buffer *axi_find_buffer(ax_machine *m, const axi_insn *insn, int handle, const char *what)
{
    if (handle >= 0 && handle < m->buffer_count)
        return &m->buffers[handle];
    axi_fail(m, insn, "%s is buffer %d, and only %d buffers are known (from 0)", what, handle, m->buffer_count);
    return NULL;
}

/* Checks that element offset + row * stride and the `cols - 1` after it exist. */
static int check_row(ax_machine *m, const axi_insn *insn, const axi_buffer *buffer, int64_t row)
{
    int64_t first, last;
    if (__builtin_mul_overflow(row, insn->stride, &first) || __builtin_add_overflow(first, insn->offset, &first) ||
        __builtin_add_overflow(first, (int64_t)insn->cols - 1, &last))
        return axi_fail(m, insn, "the element numbers of row %lld overflow", (long long)row);
    if (first < 0 || last >= buffer->elements)
        return axi_fail(m, insn, "row %lld covers elements %lld to %lld of '%s', which has elements 0 to %lld",
                        (long long)row, (long long)first, (long long)last, buffer->name,
                        (long long)(buffer->elements - 1));
    return 0;
}

static int64_t index_at(const axi_buffer *index, int64_t at)
{
    int32_t value;
    memcpy(&value, index->data + 4 * at, sizeof value);
    return value;
}

/* The index of a gather or scatter: all its rows must exist before any is touched. */
static int check_index(ax_machine *m, const axi_insn *insn, const axi_buffer *buffer, const axi_buffer **index)
{
    *index = axi_find_buffer(m, insn, insn->index, "the index");
    if (!*index)
        return -1;
    if ((*index)->type != AX_I32)
        return axi_fail(m, insn, "the index '%s' must be of type i32, found %s", (*index)->name,
                        axi_type_name[(*index)->type]);
    const int64_t first = insn->index_offset;
    if (first < 0 || first > (*index)->elements - insn->rows)
        return axi_fail(m, insn, "%d indices from %lld on needed, and '%s' has indices 0 to %lld", (int)insn->rows,
                        (long long)first, (*index)->name, (long long)((*index)->elements - 1));
    if (!(*index)->data)
        return 0;
    for (int64_t r = 0; r < insn->rows; r++) {
        const int64_t row = index_at(*index, first + r);
        if (row < 0)
            return axi_fail(m, insn, "index %lld of '%s' must be at least 0, found %lld", (long long)(first + r),
                            (*index)->name, (long long)row);
        if (check_row(m, insn, buffer, row))
            return -1;
    }
    return 0;
}

int axi_check_strided(ax_machine *m, const axi_insn *insn, const axi_buffer *buffer)
{
    return check_row(m, insn, buffer, 0) || check_row(m, insn, buffer, insn->rows - 1) ? -1 : 0;
}

static int check_size(ax_machine *m, const axi_insn *insn)
{
    if (insn->rows >= 1 && insn->cols >= 1)
        return 0;
    return axi_fail(m, insn, "at least 1 row and 1 column needed, found %d x %d", (int)insn->rows, (int)insn->cols);
}

static int64_t cycles_of(double bytes, double bytes_per_cycle) { return (int64_t)ceil(bytes / bytes_per_cycle); }

/* What a transfer holds its engine for. Rows that follow each other without a gap are one run of requests. */
static int64_t transfer_cycles(const ax_machine *m, const axi_insn *insn, int64_t row_bytes, bool indexed, bool twice)
{
    const ax_config *c = &m->config;
    const int64_t rows = insn->rows, burst = c->dma_max_burst;
    int64_t data = rows * cycles_of((double)row_bytes, c->dma_bytes_per_cycle);
    if (twice)
        data *= 2;
    if (indexed)
        return data + rows * c->dma_gather_overhead * (burst ? axi_ceil_div(row_bytes, burst) : 1) +
               cycles_of(4.0 * (double)rows, c->dma_bytes_per_cycle) + (twice ? rows * c->scatter_add_cycles : 0);
    const bool one_run = rows == 1 || insn->stride == insn->cols;
    const int64_t runs = one_run ? 1 : rows, run_bytes = one_run ? rows * row_bytes : row_bytes;
    return data + runs * c->dma_row_overhead * (burst ? axi_ceil_div(run_bytes, burst) : 1);
}

static int64_t row_in_memory(const axi_insn *insn, const axi_buffer *index, int64_t r)
{
    return insn->offset + (index ? index_at(index, insn->index_offset + r) : r) * insn->stride;
}

/* Whether the elements lie one after the other, off-chip as here. */
static bool in_one_piece(const axi_insn *insn, const axi_memory *memory)
{
    return insn->stride == insn->cols && insn->cols == memory->width &&
           memory->pitch == (size_t)insn->cols * axi_kept_bytes(memory->type);
}

static int load(ax_machine *m, const axi_insn *insn, bool indexed)
{
    const uint32_t dst = insn->address[0];
    axi_memory *memory = &m->memory[dst >> 30];
    const axi_buffer *index = NULL;
    axi_area to;
    const axi_buffer *buffer = axi_find_buffer(m, insn, insn->buffer, "the source");
    if (!buffer || check_size(m, insn))
        return -1;
    const int64_t blocks = memory->rows ? axi_ceil_div(insn->cols, memory->width) : 1;
    if (axi_place(m, insn, "dst", dst, AXI_ANYWHERE, insn->rows, insn->step[0], blocks, &to))
        return -1;
    if (buffer->type != memory->type)
        return axi_fail(m, insn, "%s holds %s elements, and '%s' has %s elements", memory->name,
                        axi_type_name[memory->type], buffer->name, axi_type_name[buffer->type]);
    if (indexed ? check_index(m, insn, buffer, &index) : axi_check_strided(m, insn, buffer))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_write(m, &to, AXI_LOAD, &hazards);
    const int64_t row_bytes = (int64_t)insn->cols * axi_type_bytes(buffer->type);
    const int64_t occupancy = transfer_cycles(m, insn, row_bytes, indexed, false);
    const int64_t start = axi_schedule(m, insn, AXI_LOAD, occupancy, m->config.dma_latency, &hazards);
    axi_mark_written(m, &to, AXI_LOAD, start + occupancy + m->config.dma_latency);
    if (m->xb)
        memory->bytes_written += insn->rows * row_bytes;
    else
        axi_count_written(&to);
    m->dram_read += insn->rows * (row_bytes + (indexed ? 4 : 0));

    const bool known = memory->known && buffer->data && (!index || index->data);
    if (memory->known)
        for (int64_t b = 0; b < to.blocks; b++)
            memset(memory->known + to.row + b * to.step, known, (size_t)to.rows);
    if (!axi_with_data(m) && !known)
        return 0;
    const size_t size = axi_kept_bytes(memory->type);
    if (!indexed && in_one_piece(insn, memory)) {
        axi_import(axi_row(memory, to.row), buffer->data + insn->offset * axi_type_bytes(buffer->type), buffer->type,
                   (int64_t)insn->rows * insn->cols);
        return 0;
    }
    for (int64_t b = 0; b < blocks; b++) {
        const int64_t done = b * memory->width;
        const int64_t n = insn->cols - done < memory->width ? insn->cols - done : memory->width;
        unsigned char *row = axi_row(memory, (int64_t)(dst & AXI_ADDRESS_MASK) + b * insn->step[0]);
        for (int64_t r = 0; r < insn->rows; r++, row += memory->pitch) {
            const int64_t from = row_in_memory(insn, index, r) + done;
            axi_import(row, buffer->data + from * axi_type_bytes(buffer->type), buffer->type, n);
            if ((size_t)n * size < memory->pitch)
                memset(row + (size_t)n * size, 0, memory->pitch - (size_t)n * size);
        }
    }
    return 0;
}

int ax_ld(ax_machine *m, uint32_t dst, int32_t step, int buffer, int64_t offset, int64_t stride, int32_t rows,
          int32_t cols)
{
    const axi_insn insn = {.op = AXI_OP_LD,
                           .address = {dst},
                           .step = {step},
                           .buffer = buffer,
                           .offset = offset,
                           .stride = stride,
                           .rows = rows,
                           .cols = cols};
    return axi_begin(m) ? -1 : load(m, &insn, false);
}

int ax_ldg(ax_machine *m, uint32_t dst, int32_t step, int buffer, int64_t offset, int64_t stride, int index,
           int64_t index_offset, int32_t rows, int32_t cols)
{
    const axi_insn insn = {.op = AXI_OP_LDG,
                           .address = {dst},
                           .step = {step},
                           .buffer = buffer,
                           .offset = offset,
                           .stride = stride,
                           .index = index,
                           .index_offset = index_offset,
                           .rows = rows,
                           .cols = cols};
    return axi_begin(m) ? -1 : load(m, &insn, true);
}

static int write_rows(ax_machine *m, const axi_insn *insn, const axi_buffer *buffer, const axi_buffer *index,
                      const axi_output *output)
{
    const uint32_t src = insn->address[0];
    const axi_memory *memory = &m->memory[src >> 30];
    const int64_t size = axi_type_bytes(buffer->type);
    unsigned char *sum = NULL;
    if (!index && in_one_piece(insn, memory)) {
        axi_export(m, buffer->data + insn->offset * size, buffer->type,
                   axi_row(memory, (int64_t)(src & AXI_ADDRESS_MASK)), memory->type, output,
                   (int64_t)insn->rows * insn->cols);
        return 0;
    }
    if (insn->flag) {
        sum = axi_scratch(m, insn, &m->scratch_a, &m->scratch_a_size, (size_t)memory->width * 4);
        if (!sum)
            return -1;
    }
    for (int64_t done = 0, b = 0; done < insn->cols; done += memory->width, b++) {
        const int64_t n = insn->cols - done < memory->width ? insn->cols - done : memory->width;
        const unsigned char *row = axi_row(memory, (int64_t)(src & AXI_ADDRESS_MASK) + b * insn->step[0]);
        for (int64_t r = 0; r < insn->rows; r++, row += memory->pitch) {
            unsigned char *to = buffer->data + (row_in_memory(insn, index, r) + done) * size;
            axi_export(m, sum ? sum : to, buffer->type, row, memory->type, output, n);
            if (sum)
                axi_add_to(m, to, sum, buffer->type, n);
        }
    }
    return 0;
}

static int store(ax_machine *m, const axi_insn *insn, bool indexed)
{
    const uint32_t src = insn->address[0];
    const axi_memory *memory = &m->memory[src >> 30];
    const axi_buffer *index = NULL;
    axi_area from;
    const axi_buffer *buffer = axi_find_buffer(m, insn, insn->buffer, "the target");
    if (!buffer || check_size(m, insn))
        return -1;
    if (insn->flag && !m->config.scatter_add)
        return axi_fail(m, insn, "target '%s' cannot add to memory (its description has no [scatter_add])", m->name);
    const int64_t blocks = memory->rows ? axi_ceil_div(insn->cols, memory->width) : 1;
    if (axi_place(m, insn, "src", src, AXI_ANYWHERE, insn->rows, insn->step[0], blocks, &from))
        return -1;
    if (insn->output < 0 || insn->output >= m->output_count)
        return axi_fail(m, insn, "output conversion %d is not known: 0 to %d needed", insn->output,
                        m->output_count - 1);
    const axi_output *output = insn->output ? &m->outputs[insn->output] : NULL;
    const ax_type type = output ? output->type : memory->type;
    if (buffer->type != type)
        return axi_fail(m, insn, "%s gives %s elements, and '%s' has %s elements",
                        output ? "the output conversion" : memory->name, axi_type_name[type], buffer->name,
                        axi_type_name[buffer->type]);
    if (indexed ? check_index(m, insn, buffer, &index) : axi_check_strided(m, insn, buffer))
        return -1;
    if (!indexed && insn->rows > 1 && insn->stride < insn->cols && insn->stride > -(int64_t)insn->cols)
        return axi_fail(m, insn, "the rows overlap in '%s': a stride of at least %d needed, found %lld", buffer->name,
                        (int)insn->cols, (long long)insn->stride);
    if (axi_need_written(m, insn, "src", &from))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_read(m, &from, &hazards);
    const int64_t row_bytes = (int64_t)insn->cols * axi_type_bytes(buffer->type);
    const int64_t occupancy = transfer_cycles(m, insn, row_bytes, indexed, insn->flag);
    const int64_t start = axi_schedule(m, insn, AXI_STORE, occupancy, m->config.dma_latency, &hazards);
    axi_mark_read(m, &from, start + occupancy);
    if (m->xb)
        from.memory->bytes_read += (int64_t)insn->rows * insn->cols * axi_type_bytes(from.memory->type);
    else
        axi_count_read(&from);
    m->dram_written += insn->rows * row_bytes;
    m->dram_read += insn->rows * ((insn->flag ? row_bytes : 0) + (indexed ? 4 : 0));
    m->scatter_added += insn->flag ? (int64_t)insn->rows * insn->cols : 0;
    return axi_with_data(m) ? write_rows(m, insn, buffer, index, output) : 0;
}

int ax_st(ax_machine *m, int buffer, int64_t offset, int64_t stride, uint32_t src, int32_t step, int32_t rows,
          int32_t cols, int output)
{
    const axi_insn insn = {.op = AXI_OP_ST,
                           .address = {src},
                           .step = {step},
                           .buffer = buffer,
                           .offset = offset,
                           .stride = stride,
                           .rows = rows,
                           .cols = cols,
                           .output = output};
    return axi_begin(m) ? -1 : store(m, &insn, false);
}

int ax_sts(ax_machine *m, int buffer, int64_t offset, int64_t stride, int index, int64_t index_offset, uint32_t src,
           int32_t step, int32_t rows, int32_t cols, int output, int add)
{
    const axi_insn insn = {.op = AXI_OP_STS,
                           .address = {src},
                           .step = {step},
                           .buffer = buffer,
                           .offset = offset,
                           .stride = stride,
                           .index = index,
                           .index_offset = index_offset,
                           .rows = rows,
                           .cols = cols,
                           .output = output,
                           .flag = add != 0};
    return axi_begin(m) ? -1 : store(m, &insn, true);
}

static bool meet(int64_t a, int64_t a_rows, int64_t b, int64_t b_rows) { return a < b + b_rows && b < a + a_rows; }

int ax_mv(ax_machine *m, uint32_t dst, int32_t dst_step, uint32_t src, int32_t src_step, int32_t rows, int32_t blocks)
{
    const axi_insn insn = {
        .op = AXI_OP_MV, .address = {dst, src}, .step = {dst_step, src_step}, .rows = rows, .cols = blocks};
    axi_memory *target = &m->memory[dst >> 30], *source = &m->memory[src >> 30];
    axi_area to, from;
    if (axi_begin(m) || axi_place(m, &insn, "dst", dst, AXI_ANYWHERE, rows, dst_step, blocks, &to) ||
        axi_place(m, &insn, "src", src, AXI_ANYWHERE, rows, src_step, blocks, &from))
        return -1;
    if (target->type != source->type || target->width != source->width)
        return axi_fail(m, &insn, "rows of one kind needed, found %d x %s in %s and %d x %s in %s",
                        (int)target->width, axi_type_name[target->type], target->name, (int)source->width,
                        axi_type_name[source->type], source->name);
    const int64_t first_to = dst & AXI_ADDRESS_MASK, first_from = src & AXI_ADDRESS_MASK;
    if (target == source && meet(to.row, axi_area_end(&to) - to.row, from.row, axi_area_end(&from) - from.row))
        for (int64_t i = 0; i < blocks; i++)
            for (int64_t j = 0; j < blocks; j++)
                if (meet(first_to + i * dst_step, rows, first_from + j * src_step, rows))
                    return axi_fail(m, &insn, "block %lld of dst and block %lld of src overlap in %s", (long long)i,
                                    (long long)j, target->name);
    if (axi_need_written(m, &insn, "src", &from))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_read(m, &from, &hazards);
    axi_wait_to_write(m, &to, AXI_MOVE, &hazards);
    const double bytes = (double)rows * blocks * source->row_bytes;
    const int64_t occupancy = cycles_of(bytes, m->config.move_bytes_per_cycle) + m->config.move_latency;
    const int64_t start = axi_schedule(m, &insn, AXI_MOVE, occupancy, 0, &hazards);
    axi_mark_read(m, &from, start + occupancy);
    axi_mark_written(m, &to, AXI_MOVE, start + occupancy);
    axi_count_read(&from);
    axi_count_written(&to);

    if (axi_with_data(m))
        for (int64_t b = 0; b < blocks; b++)
            memcpy(axi_row(target, first_to + b * dst_step), axi_row(source, first_from + b * src_step),
                   (size_t)rows * source->pitch);
    return 0;
}
