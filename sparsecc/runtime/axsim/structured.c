/* TU.SPMMA: a left operand of which N of every M columns are kept, with their columns as metadata. The unit takes
 * the kept elements and picks the rows of the right operand that belong to them. */
#include "area.h"

enum { META = 3 }; /* among the addresses */

/* log2 of the group where the unit takes `keep` of so many columns, else 0. */
static int group_bits(const ax_config *c, int32_t keep, int32_t group)
{
    const int kept[] = {c->kept_of_2, c->kept_of_4, c->kept_of_8, c->kept_of_16};
    for (int bits = 1; bits <= 4; bits++)
        if (group == 1 << bits && keep > 0 && keep < group && kept[bits - 1] >> keep & 1)
            return bits;
    return 0;
}

/* The columns of the elements of each row, `each` to a row, in memory that the scratch holds; NULL after an error. */
static int32_t *read_columns(ax_machine *m, const axi_insn *insn, const axi_area *meta, int bits, int64_t each)
{
    const axi_memory *memory = meta->memory;
    const size_t row_bytes = (size_t)memory->row_bytes, stride = ((size_t)memory->width * (size_t)bits + 7) / 8;
    const size_t numbers = (size_t)insn->rows * (size_t)each * sizeof(int32_t);
    unsigned char *block =
        axi_scratch(m, insn, &m->scratch_a, &m->scratch_a_size, numbers + (size_t)meta->rows * row_bytes);
    if (!block)
        return NULL;
    int32_t *columns = (int32_t *)(void *)block;
    unsigned char *bytes = block + numbers; /* as off-chip */
    for (int64_t r = 0; r < meta->rows; r++)
        axi_export(m, bytes + (size_t)r * row_bytes, memory->type, axi_row(memory, meta->row + r), memory->type, NULL,
                   memory->width);
    for (int64_t r = 0; r < insn->rows; r++)
        for (int64_t i = 0, before = -1; i < each; i++) {
            const size_t bit = (size_t)i * (size_t)bits;
            const unsigned char *at = bytes + (size_t)r * stride + bit / 8;
            /* An element's bits may lie in two bytes; the second is of the same row. */
            const unsigned both = at[0] | (bit % 8 + (size_t)bits > 8 ? (unsigned)at[1] << 8 : 0);
            const int32_t place = (int32_t)(both >> bit % 8 & ((1u << bits) - 1));
            before = i % insn->keep ? before : -1;
            if (place <= before) {
                axi_fail(m, insn, "the metadata of row %lld names column %d of group %lld after column %lld: columns "
                         "that rise needed", (long long)r, (int)place, (long long)(i / insn->keep),
                         (long long)before);
                return NULL;
            }
            before = place;
            columns[r * each + i] = (int32_t)(i / insn->keep) * insn->group + place;
        }
    return columns;
}

static int multiply(ax_machine *m, const axi_insn *insn, const axi_area *meta, int bits, int64_t each)
{
    const ax_config *config = &m->config;
    const bool integer = config->in == AX_I8, accumulate = insn->flag;
    const axi_memory *left = &m->memory[insn->address[1] >> 30], *right = &m->memory[insn->address[2] >> 30];
    const axi_memory *sums = &m->memory[AXI_ACC];
    const int64_t width = left->width, k_pad = axi_pad(each), n_pad = axi_pad(width);
    const size_t size = axi_kept_bytes(config->in), pitch = (size_t)n_pad * size;
    const int32_t *columns = read_columns(m, insn, meta, bits, each);
    if (!columns)
        return -1;
    /* The elements of one row that are used, the rows of b that belong to them, and these packed. */
    const size_t a_size = (size_t)k_pad * size, b_size = (size_t)k_pad * pitch;
    unsigned char *a = axi_scratch(m, insn, &m->scratch_b, &m->scratch_b_size,
                                   a_size + b_size + (integer ? (size_t)(k_pad * n_pad) * sizeof(int16_t) : 0));
    if (!a)
        return -1;
    unsigned char *b = a + a_size;
    int16_t *packed = (int16_t *)(void *)(b + b_size);
    for (int64_t r = 0; r < insn->rows; r++) {
        const unsigned char *from = axi_row(left, (int64_t)(insn->address[1] & AXI_ADDRESS_MASK) + r);
        for (int64_t block = 0; block * width < insn->cols; block++) {
            const int64_t n = insn->cols - block * width < width ? insn->cols - block * width : width;
            const int64_t first = (int64_t)(insn->address[2] & AXI_ADDRESS_MASK) + block * insn->step[2];
            int64_t used = 0;
            memset(a, 0, a_size + b_size);
            for (int64_t i = 0; i < each; i++) {
                const int32_t column = columns[r * each + i];
                if (column >= insn->depth)
                    continue;
                memcpy(a + (size_t)used * size, from + (size_t)i * size, size);
                memcpy(b + (size_t)used * pitch, axi_row(right, first + column), (size_t)n * size);
                used++;
            }
            unsigned char *to =
                axi_row(sums, (int64_t)(insn->address[0] & AXI_ADDRESS_MASK) + block * insn->step[0] + r);
            if (integer) {
                axi_pack_i8(packed, k_pad, n_pad, (const int8_t *)b, pitch, used, n_pad);
                m->int32_overflow += axi_mm_i8((int32_t *)(void *)to, sums->pitch / sizeof(int32_t), (const int8_t *)a,
                                               a_size, packed, 1, k_pad, n_pad, accumulate);
            } else {
                axi_mm_float((float *)(void *)to, sums->pitch / sizeof(float), (const float *)(void *)a,
                             (size_t)k_pad, (const float *)(void *)b, 1, used, n_pad, accumulate,
                             config->in == AX_F16);
            }
        }
    }
    return 0;
}

int ax_spmma(ax_machine *m, uint32_t c, int32_t c_step, uint32_t a, uint32_t meta, uint32_t b, int32_t b_step,
             int32_t mm, int32_t n, int32_t k, int32_t keep, int32_t group, int accumulate)
{
    const axi_insn insn = {.op = AXI_OP_SPMMA,
                           .address = {c, a, b, meta},
                           .step = {c_step, 0, b_step},
                           .rows = mm,
                           .cols = n,
                           .depth = k,
                           .keep = keep,
                           .group = group,
                           .flag = accumulate != 0};
    const ax_config *config = &m->config;
    const int32_t width = config->cols;
    axi_area sums, left, places, right;
    if (axi_begin(m) || axi_need_kind(m, &insn, AX_MMA))
        return -1;
    const int bits = group_bits(config, keep, group);
    if (!bits)
        return axi_fail(m, &insn, "target '%s' does not take %d of every %d columns", m->name, (int)keep, (int)group);
    if (mm < 1 || n < 1 || k < 1 || k > AXI_MAX_K)
        return axi_fail(m, &insn, "m and n of at least 1 and k of 1 to %d needed, found m %d, n %d, k %d", AXI_MAX_K,
                        (int)mm, (int)n, (int)k);
    const int64_t each = axi_ceil_div(k, group) * keep;
    if (each > width)
        return axi_fail(m, &insn, "a row of a holds %lld elements, needed at most the %d of a row of memory",
                        (long long)each, (int)width);
    const int64_t meta_bytes = (int64_t)mm * axi_ceil_div((int64_t)width * bits, 8);
    /* Targets without L0 memories feed the unit from the scratchpad. */
    const unsigned in_a = config->l0a_bytes ? AXI_IN_L0A : AXI_IN_SPAD;
    const unsigned in_b = config->l0b_bytes ? AXI_IN_L0B : AXI_IN_SPAD;
    if (axi_place(m, &insn, "c", c, AXI_IN_ACC, mm, c_step, axi_ceil_div(n, width), &sums) ||
        axi_place(m, &insn, "a", a, in_a, mm, 0, 1, &left) ||
        axi_place(m, &insn, "meta", meta, in_a, axi_ceil_div(meta_bytes, left.memory->row_bytes), 0, 1, &places) ||
        axi_place(m, &insn, "b", b, in_b, k, b_step, axi_ceil_div(n, width), &right) ||
        axi_need_written(m, &insn, "a", &left) || axi_need_written(m, &insn, "meta", &places) ||
        axi_need_written(m, &insn, "b", &right) || (accumulate && axi_need_written(m, &insn, "c", &sums)))
        return -1;
    /* Values first: the metadata may be wrong, and an instruction that fails leaves no time behind. */
    if (axi_with_data(m) && multiply(m, &insn, &places, bits, each))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_read(m, &left, &hazards);
    axi_wait_to_read(m, &places, &hazards);
    axi_wait_to_read(m, &right, &hazards);
    axi_wait_for_sums(m, &sums, accumulate, &hazards);
    const int64_t tiles = axi_ceil_div(mm, config->mma_m) * axi_ceil_div(n, config->mma_n);
    const int64_t steps = tiles * axi_ceil_div(each, config->mma_k), occupancy = steps * config->mma_interval;
    const int64_t start = axi_schedule(m, &insn, AXI_MAT, occupancy, config->mma_latency, &hazards);
    axi_mark_read(m, &left, start + occupancy);
    axi_mark_read(m, &places, start + occupancy);
    axi_mark_read(m, &right, start + occupancy);
    axi_mark_written(m, &sums, AXI_MAT, start + occupancy + config->mma_latency);
    /* Each step of the unit reads mma_k elements of a row of a, and all columns of the groups they are of. */
    const int64_t columns = config->mma_k / keep * group;
    left.memory->bytes_read += steps * config->mma_m * config->mma_k * axi_type_bytes(config->in);
    axi_count_read(&places);
    right.memory->bytes_read += steps * columns * config->mma_n * axi_type_bytes(config->in);
    const int64_t sum_bytes = tiles * config->mma_m * config->mma_n * axi_type_bytes(config->acc);
    sums.memory->bytes_read += accumulate ? sum_bytes : 0;
    sums.memory->bytes_written += sum_bytes;
    m->macs += steps * config->mma_m * config->mma_n * config->mma_k;
    return 0;
}
