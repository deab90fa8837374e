/* What comes before a multiplication: XB.SHAPE, XB.PROG, XB.CFG, XB.DONE. */
#include <stdlib.h>

#include "crossbar_internal.h"

enum { AXI_MAX_BLOCKS = 1 << 24 };

static int need_crossbar(ax_machine *m, const axi_insn *insn)
{
    return m->xb ? 0 : axi_fail(m, insn, "target '%s' has no crossbars", m->name);
}

static axi_array *find_array(ax_machine *m, const axi_insn *insn, int32_t number)
{
    if (number >= 0 && number < m->xb->array_count)
        return &m->xb->arrays[number];
    axi_fail(m, insn, "array %d is not there: the target has arrays 0 to %d", (int)number,
             (int)m->xb->array_count - 1);
    return NULL;
}

static int check_rectangle(ax_machine *m, const axi_insn *insn, const axi_array *array)
{
    const int64_t row0 = (int32_t)insn->address[0], col0 = (int32_t)insn->address[1];
    if (row0 >= 0 && insn->rows >= 1 && row0 + insn->rows <= array->rows && col0 >= 0 && insn->cols >= 1 &&
        col0 + insn->cols <= array->cols)
        return 0;
    return axi_fail(m, insn, "at least 1 x 1 cells inside the %d x %d of the array needed, found rows %lld to %lld and "
                    "columns %lld to %lld", (int)array->rows, (int)array->cols, (long long)row0,
                    (long long)(row0 + insn->rows - 1), (long long)col0, (long long)(col0 + insn->cols - 1));
}

/* An array takes its share of the cells of the chip, once. */
static int claim(ax_machine *m, const axi_insn *insn, axi_array *array)
{
    axi_crossbar *xb = m->xb;
    const ax_crossbar *c = &xb->config;
    const int64_t all = (int64_t)c->arrays * c->base.rows * c->base.cols;
    if (array->claimed)
        return 0;
    xb->claimed_cells += (int64_t)array->rows * array->cols;
    array->claimed = true;
    if (xb->claimed_cells > all)
        return axi_fail(m, insn, "the arrays in use would have %lld cells, and the chip has %lld",
                        (long long)xb->claimed_cells, (long long)all);
    return 0;
}

int ax_xb_shape(ax_machine *m, int32_t first, int32_t count, int32_t rows, int32_t cols)
{
    const axi_insn insn = {.op = AXI_OP_XB_SHAPE, .index = first, .depth = count, .rows = rows, .cols = cols};
    if (axi_begin(m) || need_crossbar(m, &insn))
        return -1;
    axi_crossbar *xb = m->xb;
    const ax_crossbar *c = &xb->config;
    if (first < 0 || count < 1 || count > xb->array_count - first)
        return axi_fail(m, &insn, "at least 1 of the arrays 0 to %d needed", (int)xb->array_count - 1);
    bool known = rows == c->base.rows && cols == c->base.cols;
    for (int i = 0; i < c->shapes; i++)
        known |= rows == c->shape_rows[i] && cols == c->shape_cols[i];
    if (!known)
        return axi_fail(m, &insn, "%d x %d is no shape of an array of target '%s'", (int)rows, (int)cols, m->name);
    for (int32_t i = first; i < first + count; i++) {
        axi_array *array = &xb->arrays[i];
        if (array->writes)
            return axi_fail(m, &insn, "array %d is in use: a shape before its first XB.PROG needed", (int)i);
        if (array->claimed)
            xb->claimed_cells -= (int64_t)array->rows * array->cols;
        array->rows = rows;
        array->cols = cols;
        array->claimed = false;
        if (claim(m, &insn, array))
            return -1;
    }
    axi_count(m, &insn);
    return 0;
}

static int check_levels(ax_machine *m, const axi_insn *insn, const int8_t *from)
{
    const int most = axi_xb_level_max(m->xb), least = m->xb->config.encoding == AX_DIFFERENTIAL ? -most : 0;
    for (int32_t r = 0; r < insn->rows; r++)
        for (int32_t c = 0; c < insn->cols; c++) {
            const int level = from[insn->offset + r * insn->stride + c];
            if (level < least || level > most)
                return axi_fail(m, insn, "levels from %d to %d needed in cells of %d bits, found %d for row %d, column "
                                "%d", least, most, m->xb->config.cell_bits, level, (int)r, (int)c);
        }
    return 0;
}

int ax_xb_prog(ax_machine *m, int32_t array, int32_t row0, int32_t rows, int32_t col0, int32_t cols, int buffer,
               int64_t offset, int64_t stride)
{
    const axi_insn insn = {.op = AXI_OP_XB_PROG, .index = array, .address = {(uint32_t)row0, (uint32_t)col0},
                           .rows = rows, .cols = cols, .buffer = buffer, .offset = offset, .stride = stride};
    if (axi_begin(m) || need_crossbar(m, &insn))
        return -1;
    axi_crossbar *xb = m->xb;
    axi_array *a = find_array(m, &insn, array);
    if (!a || check_rectangle(m, &insn, a))
        return -1;
    const axi_buffer *source = axi_find_buffer(m, &insn, buffer, "the source");
    if (!source)
        return -1;
    if (source->type != AX_I8)
        return axi_fail(m, &insn, "levels are i8, and '%s' has %s elements", source->name,
                        axi_type_name[source->type]);
    if (axi_check_strided(m, &insn, source))
        return -1;
    if (axi_with_data(m) && check_levels(m, &insn, (const int8_t *)source->data))
        return -1;
    const size_t cells = (size_t)a->rows * (size_t)a->cols;
    if (claim(m, &insn, a))
        return -1;
    if (!a->writes)
        a->writes = calloc(cells, sizeof *a->writes);
    if (!a->levels && axi_with_data(m))
        a->levels = calloc(cells, 1);
    if (!a->writes || (axi_with_data(m) && !a->levels))
        return axi_fail(m, &insn, "out of memory for the cells of array %d", (int)array);
    if (axi_with_data(m) && axi_xb_set_faults(m, &insn, array))
        return -1;

    for (int32_t r = 0; r < rows; r++)
        for (int32_t c = 0; c < cols; c++)
            if (a->writes[(size_t)(row0 + r) * (size_t)a->cols + (size_t)(col0 + c)] == UINT16_MAX)
                return axi_fail(m, &insn, "row %d, column %d was written %d times, and more are not counted",
                                (int)(row0 + r), (int)(col0 + c), UINT16_MAX);

    axi_xb_program(m, &insn, a, (int64_t)rows * cols);
    m->dram_read += (int64_t)rows * cols;
    xb->cell_writes += (int64_t)rows * cols;
    xb->device_pulses += (int64_t)rows * cols * axi_xb_devices(xb) * xb->config.pulses;
    a->version++;
    for (int32_t r = 0; r < rows; r++) {
        const size_t to = (size_t)(row0 + r) * (size_t)a->cols + (size_t)col0;
        for (int32_t c = 0; c < cols; c++)
            a->writes[to + (size_t)c]++;
        if (axi_with_data(m))
            memcpy(a->levels + to, source->data + offset + r * stride, (size_t)cols);
    }
    return 0;
}

/* A list of `count` numbers of the tables, each from `least` to `most`; NULL after an error. */
static const int32_t *table(ax_machine *m, const axi_insn *insn, const axi_buffer *tables, const char *name,
                            int64_t at, int32_t count, int32_t least, int32_t most)
{
    if (at > tables->elements - count) {
        axi_fail(m, insn, "%s has %d numbers from %lld on, and '%s' has %lld elements", name, (int)count,
                 (long long)at, tables->name, (long long)tables->elements);
        return NULL;
    }
    if (!tables->data) {
        axi_fail(m, insn, "%s needs the numbers of '%s', which has no data; time depends on them", name, tables->name);
        return NULL;
    }
    const int32_t *list = (const int32_t *)(const void *)tables->data + at;
    for (int32_t i = 0; i < count; i++)
        if (list[i] < least || list[i] > most) {
            axi_fail(m, insn, "%s[%d] is %d: %d to %d needed", name, (int)i, (int)list[i], (int)least, (int)most);
            return NULL;
        }
    return list;
}

/* A list of indices, and the largest; without one, the largest is that of the numbers in order. */
static int take_indices(ax_machine *m, const axi_insn *insn, const axi_buffer *tables, const char *name, int64_t at,
                        int32_t count, int32_t **copy, int32_t *last)
{
    *copy = NULL;
    *last = count - 1;
    if (at < 0)
        return 0;
    const int32_t *list = table(m, insn, tables, name, at, count, 0, INT32_MAX / 2);
    if (!list)
        return -1;
    *copy = malloc((size_t)count * sizeof **copy);
    if (!*copy)
        return axi_fail(m, insn, "out of memory for %s", name);
    memcpy(*copy, list, (size_t)count * sizeof **copy);
    *last = 0;
    for (int32_t i = 0; i < count; i++)
        *last = list[i] > *last ? list[i] : *last;
    return 0;
}

static int take_flags(ax_machine *m, const axi_insn *insn, const axi_buffer *tables, const char *name, int64_t at,
                      int32_t count, unsigned char **copy, bool *any)
{
    *copy = NULL;
    *any = false;
    if (at < 0)
        return 0;
    const int32_t *list = table(m, insn, tables, name, at, count, 0, 1);
    if (!list)
        return -1;
    *copy = malloc((size_t)count);
    if (!*copy)
        return axi_fail(m, insn, "out of memory for %s", name);
    for (int32_t i = 0; i < count; i++) {
        (*copy)[i] = (unsigned char)list[i];
        *any |= list[i] != 0;
    }
    return 0;
}

static int compare_numbers(const void *a, const void *b)
{
    const int32_t x = *(const int32_t *)a, y = *(const int32_t *)b;
    return (x > y) - (x < y);
}

/* Outputs of one block must go to different rows: it has one adder for each. */
static int check_different(ax_machine *m, const axi_insn *insn, const int32_t *list, int32_t count)
{
    if (!list)
        return 0;
    int32_t *sorted = malloc((size_t)count * sizeof *sorted);
    if (!sorted)
        return axi_fail(m, insn, "out of memory for out_index");
    memcpy(sorted, list, (size_t)count * sizeof *sorted);
    qsort(sorted, (size_t)count, sizeof *sorted, compare_numbers);
    int result = 0;
    for (int32_t i = 1; i < count && !result; i++)
        if (sorted[i] == sorted[i - 1])
            result = axi_fail(m, insn, "out_index has %d twice: different rows needed", (int)sorted[i]);
    free(sorted);
    return result;
}

static axi_block *find_room(ax_machine *m, const axi_insn *insn, int32_t number)
{
    axi_crossbar *xb = m->xb;
    if (number < 0 || number >= AXI_MAX_BLOCKS) {
        axi_fail(m, insn, "blocks 0 to %d can be set", AXI_MAX_BLOCKS - 1);
        return NULL;
    }
    if (number >= xb->block_room) {
        int64_t room = xb->block_room ? xb->block_room : 16;
        while (room <= number)
            room *= 2;
        axi_block *grown = realloc(xb->blocks, (size_t)room * sizeof *grown);
        if (!grown) {
            axi_fail(m, insn, "out of memory for block %d", (int)number);
            return NULL;
        }
        xb->blocks = grown;
        xb->block_room = room;
    }
    for (; xb->block_count <= number; xb->block_count++)
        xb->blocks[xb->block_count] = (axi_block){0};
    return &xb->blocks[number];
}

int ax_xb_cfg(ax_machine *m, int32_t block, int32_t array, int32_t row0, int32_t rows, int32_t col0, int32_t cols,
              int32_t in_row, int32_t out_row, int32_t shift, int32_t adc_bits, int32_t offset, int tables,
              int64_t in_index, int64_t out_index, int64_t doubled, int64_t flipped)
{
    const axi_insn insn = {.op = AXI_OP_XB_CFG, .index = block, .depth = array, .buffer = tables, .rows = rows,
                           .address = {(uint32_t)row0, (uint32_t)col0, (uint32_t)offset}, .cols = cols,
                           .step = {shift, adc_bits, in_row}, .output = out_row};
    if (axi_begin(m) || need_crossbar(m, &insn))
        return -1;
    const ax_crossbar *c = &m->xb->config;
    const axi_array *a = find_array(m, &insn, array);
    if (!a || check_rectangle(m, &insn, a))
        return -1;
    if (adc_bits < 1 || adc_bits > c->adc_bits)
        return axi_fail(m, &insn, "1 to %d bits of the ADC needed, found %d", c->adc_bits, (int)adc_bits);
    if (shift < 0 || shift > 30 || in_row < 0 || out_row < 0)
        return axi_fail(m, &insn, "a shift of 0 to 30, in_row and out_row of at least 0 needed, found %d, %d and %d",
                        (int)shift, (int)in_row, (int)out_row);
    if (flipped >= 0 && c->encoding != AX_OFFSET)
        return axi_fail(m, &insn, "flipped columns need offset encoding, and the target's is differential");
    const bool any = in_index >= 0 || out_index >= 0 || doubled >= 0 || flipped >= 0;
    const axi_buffer *lists = any ? axi_find_buffer(m, &insn, tables, "tables") : NULL;
    if (any && !lists)
        return -1;
    if (any && lists->type != AX_I32)
        return axi_fail(m, &insn, "tables are i32, and '%s' has %s elements", lists->name, axi_type_name[lists->type]);

    axi_block made = {.set = true, .array = array, .row0 = row0, .rows = rows, .col0 = col0, .cols = cols,
                      .in_row = in_row, .out_row = out_row, .shift = shift, .adc_bits = adc_bits, .offset = offset};
    bool any_flipped;
    axi_block *place = find_room(m, &insn, block);
    if (!place || take_indices(m, &insn, lists, "in_index", in_index, rows, &made.in_index, &made.in_last) ||
        take_indices(m, &insn, lists, "out_index", out_index, cols, &made.out_index, &made.out_last) ||
        take_flags(m, &insn, lists, "doubled", doubled, rows, &made.doubled, &made.any_doubled) ||
        take_flags(m, &insn, lists, "flipped", flipped, cols, &made.flipped, &any_flipped) ||
        check_different(m, &insn, made.out_index, cols)) {
        free(made.in_index);
        free(made.out_index);
        free(made.doubled);
        free(made.flipped);
        return -1;
    }
    axi_xb_forget(place);
    free(place->in_index);
    free(place->out_index);
    free(place->doubled);
    free(place->flipped);
    *place = made;
    /* As a chip would keep them: 16 bits for an index, a bit for a flag. */
    const int64_t bytes = (in_index >= 0 ? 2 * rows : 0) + (out_index >= 0 ? 2 * cols : 0) +
                          (doubled >= 0 ? axi_ceil_div(rows, 8) : 0) + (flipped >= 0 ? axi_ceil_div(cols, 8) : 0);
    axi_xb_configure(m, &insn, bytes);
    m->xb->table_bytes += bytes;
    m->dram_read += bytes;
    return 0;
}

int ax_xb_done(ax_machine *m)
{
    const axi_insn insn = {.op = AXI_OP_XB_DONE};
    if (axi_begin(m) || need_crossbar(m, &insn))
        return -1;
    if (m->xb->programmed.done)
        return axi_fail(m, &insn, "programming was over before: one XB.DONE needed");
    if (ax_fence(m))
        return -1;
    m->count[AXI_OP_FENCE]--;
    m->count[AXI_OP_XB_DONE]++;
    m->xb->programmed = (axi_programmed){m->last, ax_energy(m), true};
    return 0;
}
