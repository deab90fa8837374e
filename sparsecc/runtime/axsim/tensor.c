/* The tensor unit: TU.PRE and TU.MM of a weight-stationary array, the same by index, and TU.MMA of a matrix cube or
 * fragment unit. */
#include "area.h"

int axi_need_kind(ax_machine *m, const axi_insn *insn, ax_array_kind kind)
{
    if (m->config.kind == kind)
        return 0;
    if (m->xb)
        return axi_fail(m, insn, "target '%s' has no tensor unit (it computes with XB.MVM)", m->name);
    return axi_fail(m, insn, "target '%s' has no %s", m->name,
                    kind == AX_WS ? "stationary array (it computes with TU.MMA)"
                                  : "TU.MMA (it computes with TU.PRE and TU.MM)");
}

static inline int check_tile(ax_machine *m, const axi_insn *insn)
{
    const ax_config *config = &m->config;
    if (insn->rows >= 1 && insn->rows <= config->rows && insn->cols >= 1 && insn->cols <= config->cols)
        return 0;
    return axi_fail(m, insn, "a tile of 1 x 1 to %d x %d needed, found %d x %d", config->rows, config->cols,
                    (int)insn->rows, (int)insn->cols);
}

/* Starts to load a tile; returns when it is there, and its rows are read. */
static inline int64_t load_tile(ax_machine *m, const axi_insn *insn, int64_t occupancy, axi_hazards *hazards)
{
    const ax_config *config = &m->config;
    /* The shadow registers are free once the tile before has moved on, when its first TU.MM starts. */
    if (config->pe_double_buffer && !m->tile_waiting)
        hazards->weights = m->tile_latched;
    m->tile_ready =
        axi_schedule(m, insn, config->pe_double_buffer ? AXI_WPORT : AXI_MAT, occupancy, 0, hazards) + occupancy;
    m->tile_loaded = m->tile_waiting = true;
    m->reg_written += (int64_t)config->rows * config->cols * axi_type_bytes(config->in);
    return m->tile_ready;
}

static inline void put_tile(ax_machine *m, const unsigned char *source, size_t pitch, int32_t rows, int32_t cols)
{
    if (m->config.in == AX_I8) {
        axi_pack_i8(m->tile, m->k_pad, m->n_pad, (const int8_t *)source, pitch, rows, cols);
    } else {
        memset(m->tile, 0, (size_t)m->k_pad * (size_t)m->n_pad * sizeof(float));
        for (int32_t r = 0; r < rows; r++)
            memcpy((float *)m->tile + (size_t)r * (size_t)m->n_pad, source + (size_t)r * pitch,
                   (size_t)cols * sizeof(float));
    }
}

int ax_pre(ax_machine *m, uint32_t b, int32_t rows, int32_t cols)
{
    const axi_insn insn = {.op = AXI_OP_PRE, .address = {b}, .rows = rows, .cols = cols};
    axi_area from;
    if (axi_begin(m) || axi_need_kind(m, &insn, AX_WS) || check_tile(m, &insn) ||
        axi_place(m, &insn, "b", b, AXI_IN_SPAD, rows, 0, 1, &from) || axi_need_written(m, &insn, "b", &from))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_read(m, &from, &hazards);
    axi_mark_read(m, &from, load_tile(m, &insn, m->config.rows, &hazards));
    axi_count_read(&from);
    if (axi_with_data(m))
        put_tile(m, axi_row(from.memory, from.row), from.memory->pitch, rows, cols);
    return 0;
}

/* Starts to stream rows, which takes so many cycles; sums are there once the last has gone through, too. */
static inline int64_t stream(ax_machine *m, const axi_insn *insn, int64_t streaming, int64_t through,
                             const axi_hazards *hazards)
{
    const bool fill = m->config.fill_in_occupancy;
    const int64_t start =
        axi_schedule(m, insn, AXI_MAT, streaming + (fill ? through : 0), fill ? 0 : through, hazards);
    if (m->tile_waiting) {
        m->tile_waiting = false;
        m->tile_latched = start;
    }
    return start;
}

/* Rows of a times the stationary tile, put or added to rows of accumulators that follow each other. */
static inline void put_products(ax_machine *m, unsigned char *to, const unsigned char *a, int64_t rows,
                                bool accumulate)
{
    const ax_config *config = &m->config;
    const size_t to_pitch = m->memory[AXI_ACC].pitch, a_pitch = m->memory[AXI_SPAD].pitch;
    if (config->in == AX_I8)
        m->int32_overflow += axi_mm_i8((int32_t *)(void *)to, to_pitch / sizeof(int32_t), (const int8_t *)a, a_pitch,
                                       m->tile, rows, m->k_pad, m->n_pad, accumulate);
    else
        axi_mm_float((float *)(void *)to, to_pitch / sizeof(float), (const float *)(const void *)a,
                     a_pitch / sizeof(float), m->tile, rows, config->rows, m->n_pad, accumulate,
                     config->in == AX_F16);
}

static int need_tile(ax_machine *m, const axi_insn *insn)
{
    return m->tile_loaded
               ? 0
               : axi_fail(m, insn, "the array is empty: a TU.PRE before the first TU.MM needed, found none");
}

int ax_mm(ax_machine *m, uint32_t c, uint32_t a, int32_t rows, int accumulate)
{
    const axi_insn insn = {.op = AXI_OP_MM, .address = {c, a}, .rows = rows, .flag = accumulate != 0};
    const ax_config *config = &m->config;
    axi_area sums, from;
    if (axi_begin(m) || axi_need_kind(m, &insn, AX_WS) || need_tile(m, &insn) ||
        axi_place(m, &insn, "c", c, AXI_IN_ACC, rows, 0, 1, &sums) ||
        axi_place(m, &insn, "a", a, AXI_IN_SPAD, rows, 0, 1, &from) || axi_need_written(m, &insn, "a", &from) ||
        (accumulate && axi_need_written(m, &insn, "c", &sums)))
        return -1;

    axi_hazards hazards = {.weights = m->tile_ready};
    axi_wait_to_read(m, &from, &hazards);
    axi_wait_for_sums(m, &sums, accumulate, &hazards);
    const int64_t streaming = axi_max(rows, config->min_rows), through = config->rows + config->cols - 2;
    const int64_t start = stream(m, &insn, streaming, through, &hazards);
    axi_mark_read(m, &from, start + streaming);
    axi_mark_written(m, &sums, AXI_MAT, start + streaming + through);
    from.memory->bytes_read += (int64_t)rows * config->rows * axi_type_bytes(config->in);
    if (accumulate)
        axi_count_read(&sums);
    axi_count_written(&sums);
    m->macs += (int64_t)rows * config->rows * config->cols;
    if (axi_with_data(m))
        put_products(m, axi_row(sums.memory, sums.row), axi_row(from.memory, from.row), rows, accumulate);
    return 0;
}

static int need_indexed(ax_machine *m, const axi_insn *insn)
{
    if (axi_need_kind(m, insn, AX_WS))
        return -1;
    if (m->config.indexed)
        return 0;
    return axi_fail(m, insn, "target '%s' cannot address rows by index (its description has no [indexed])", m->name);
}

/* The `count` indices from the start of the list's first row on; NULL after an error. */
static const uint16_t *read_list(ax_machine *m, const axi_insn *insn, uint32_t address, int64_t count,
                                 axi_area *list)
{
    const axi_memory *memory = &m->memory[AXI_SPAD];
    const int64_t each = memory->row_bytes / 2;
    if (axi_place(m, insn, "index", address, AXI_IN_SPAD, axi_ceil_div(count, each), 0, 1, list) ||
        axi_need_written(m, insn, "index", list))
        return NULL;
    if (memory->known) {
        const unsigned char *unknown = memchr(memory->known + list->row, 0, (size_t)list->rows);
        if (unknown) {
            axi_fail(m, insn, "the indices in row %lld of SPAD are not known: with AX_NO_DATA an LD of them needed, "
                     "from a buffer that has data", (long long)(unknown - memory->known));
            return NULL;
        }
    }
    const size_t row_bytes = (size_t)memory->row_bytes;
    unsigned char *bytes =
        axi_scratch(m, insn, &m->scratch_b, &m->scratch_b_size, (size_t)list->rows * row_bytes + row_bytes);
    if (!bytes)
        return NULL;
    /* One row at a time, in the bytes it had off-chip, lies behind the numbers. */
    uint16_t *numbers = (uint16_t *)(void *)bytes;
    unsigned char *row = bytes + (size_t)list->rows * row_bytes;
    for (int64_t r = 0, i = 0; r < list->rows; r++) {
        axi_export(m, row, memory->type, axi_row(memory, list->row + r), memory->type, NULL, memory->width);
        for (int64_t k = 0; k < each && i < count; k++, i++)
            numbers[i] = (uint16_t)(row[2 * k] | row[2 * k + 1] << 8);
    }
    return numbers;
}

/* The row that lies `index` rows beyond an address. */
static inline axi_area named(ax_machine *m, uint32_t base, uint16_t index)
{
    return (axi_area){&m->memory[base >> 30], (int64_t)(base & AXI_ADDRESS_MASK) + index, 0, 1, 1};
}

/* The row that index r of a list names; it must exist and be written. */
static int place_named(ax_machine *m, const axi_insn *insn, const char *operand, uint32_t base, const uint16_t *list,
                       int64_t r, axi_area *area)
{
    *area = named(m, base, list[r]);
    const axi_memory *memory = area->memory;
    if (area->row >= memory->rows)
        return axi_fail(m, insn, "index %lld is %d: operand %s reaches row %lld of %s, which has %lld rows",
                        (long long)r, (int)list[r], operand, (long long)area->row, memory->name,
                        (long long)memory->rows);
    if (!memory->written[area->row])
        return axi_fail(m, insn, "index %lld is %d: operand %s reads row %lld of %s, which was never written",
                        (long long)r, (int)list[r], operand, (long long)area->row, memory->name);
    return 0;
}

int ax_prex(ax_machine *m, uint32_t b, uint32_t index, int32_t rows, int32_t cols)
{
    const axi_insn insn = {.op = AXI_OP_PREX, .address = {b, index}, .rows = rows, .cols = cols};
    const ax_config *config = &m->config;
    axi_area first, list, row;
    if (axi_begin(m) || need_indexed(m, &insn) || check_tile(m, &insn) ||
        axi_place(m, &insn, "b", b, AXI_IN_SPAD, 1, 0, 1, &first))
        return -1;
    const uint16_t *numbers = read_list(m, &insn, index, rows, &list);
    if (!numbers)
        return -1;
    axi_hazards hazards = {0};
    axi_wait_to_read(m, &list, &hazards);
    for (int32_t r = 0; r < rows; r++) {
        if (place_named(m, &insn, "b", b, numbers, r, &row))
            return -1;
        axi_wait_to_read(m, &row, &hazards);
    }
    const size_t pitch = first.memory->pitch;
    unsigned char *tile = axi_scratch(m, &insn, &m->scratch_a, &m->scratch_a_size, (size_t)rows * pitch);
    if (!tile)
        return -1;

    const int64_t done =
        load_tile(m, &insn, config->rows + (int64_t)rows * config->indexed_read_cycles, &hazards);
    axi_mark_read(m, &list, done);
    axi_count_read(&list);
    for (int32_t r = 0; r < rows; r++) {
        row = named(m, b, numbers[r]);
        axi_mark_read(m, &row, done);
        axi_count_read(&row);
        if (axi_with_data(m))
            memcpy(tile + (size_t)r * pitch, axi_row(row.memory, row.row), pitch);
    }
    m->indexed_read += rows;
    if (axi_with_data(m))
        put_tile(m, tile, pitch, rows, cols);
    return 0;
}

enum { AXI_BATCH = 16 }; /* rows of a TU.MMX that are worked on at once: few enough to compare all of them */

/* How many rows from the first on are all different, in one batch. */
static int64_t different(const uint16_t *numbers, int64_t count)
{
    int64_t n = 1;
    for (; n < count && n < AXI_BATCH; n++)
        for (int64_t i = 0; i < n; i++)
            if (numbers[i] == numbers[n])
                return n;
    return n;
}

/* Accumulators come together, take their sums, and go back; those of one batch are different. */
static void add_products(ax_machine *m, uint32_t c, const unsigned char *a, const uint16_t *numbers, int64_t rows,
                         unsigned char *sums)
{
    const axi_memory *memory = &m->memory[AXI_ACC];
    unsigned char *to = axi_row(memory, c & AXI_ADDRESS_MASK);
    for (int64_t done = 0, n; done < rows; done += n) {
        n = different(numbers + done, rows - done);
        for (int64_t r = 0; r < n; r++)
            memcpy(sums + (size_t)r * memory->pitch, to + numbers[done + r] * memory->pitch, memory->pitch);
        put_products(m, sums, a + (size_t)done * m->memory[AXI_SPAD].pitch, n, true);
        for (int64_t r = 0; r < n; r++)
            memcpy(to + numbers[done + r] * memory->pitch, sums + (size_t)r * memory->pitch, memory->pitch);
    }
}

int ax_mmx(ax_machine *m, uint32_t c, uint32_t a, uint32_t index, int32_t rows)
{
    const axi_insn insn = {.op = AXI_OP_MMX, .address = {c, a, index}, .rows = rows};
    const ax_config *config = &m->config;
    axi_area first, from, list, row;
    if (axi_begin(m) || need_indexed(m, &insn) || need_tile(m, &insn) ||
        axi_place(m, &insn, "c", c, AXI_IN_ACC, 1, 0, 1, &first) ||
        axi_place(m, &insn, "a", a, AXI_IN_SPAD, rows, 0, 1, &from) || axi_need_written(m, &insn, "a", &from))
        return -1;
    const uint16_t *numbers = read_list(m, &insn, index, rows, &list);
    if (!numbers)
        return -1;
    axi_hazards hazards = {.weights = m->tile_ready};
    axi_wait_to_read(m, &from, &hazards);
    axi_wait_to_read(m, &list, &hazards);
    for (int32_t r = 0; r < rows; r++) {
        if (place_named(m, &insn, "c", c, numbers, r, &row))
            return -1;
        axi_wait_for_sums(m, &row, true, &hazards);
    }
    unsigned char *sums =
        axi_scratch(m, &insn, &m->scratch_a, &m->scratch_a_size, AXI_BATCH * first.memory->pitch);
    if (!sums)
        return -1;

    const int64_t streaming =
        axi_max(rows, config->min_rows) + (int64_t)rows * config->indexed_accumulate_cycles;
    const int64_t through = config->rows + config->cols - 2;
    const int64_t start = stream(m, &insn, streaming, through, &hazards);
    axi_mark_read(m, &from, start + streaming);
    axi_mark_read(m, &list, start + streaming);
    axi_count_read(&list);
    for (int32_t r = 0; r < rows; r++) {
        row = named(m, c, numbers[r]);
        axi_mark_written(m, &row, AXI_MAT, start + streaming + through);
        axi_count_read(&row);
        axi_count_written(&row);
    }
    from.memory->bytes_read += (int64_t)rows * config->rows * axi_type_bytes(config->in);
    m->macs += (int64_t)rows * config->rows * config->cols;
    m->indexed_accumulated += rows;
    if (axi_with_data(m))
        add_products(m, c, axi_row(from.memory, from.row), numbers, rows, sums);
    return 0;
}

/* A wide operand, whose column blocks lie apart, as rows of one piece. */
static void join_blocks(const axi_memory *memory, uint32_t address, int32_t step, int64_t rows, int64_t blocks,
                        unsigned char *to, size_t pitch)
{
    const size_t width = (size_t)memory->width * axi_kept_bytes(memory->type);
    for (int64_t r = 0; r < rows; r++)
        for (int64_t b = 0; b < blocks; b++)
            memcpy(to + (size_t)r * pitch + (size_t)b * width,
                   axi_row(memory, (int64_t)(address & AXI_ADDRESS_MASK) + b * step + r), width);
}

static int multiply(ax_machine *m, const axi_insn *insn)
{
    const ax_config *config = &m->config;
    const bool integer = config->in == AX_I8, accumulate = insn->flag;
    axi_memory *memory_a = &m->memory[insn->address[1] >> 30], *memory_b = &m->memory[insn->address[2] >> 30];
    axi_memory *sums = &m->memory[AXI_ACC];
    const int64_t rows = insn->rows, n = insn->cols, k = insn->depth, width = memory_a->width;
    const int64_t k_blocks = axi_ceil_div(k, width), k_pad = axi_pad(k_blocks * width), n_pad = axi_pad(width);
    const size_t size = axi_kept_bytes(config->in), pitch_a = (size_t)k_pad * size;
    unsigned char *a = axi_scratch(m, insn, &m->scratch_a, &m->scratch_a_size, (size_t)rows * pitch_a);
    unsigned char *b = axi_scratch(m, insn, &m->scratch_b, &m->scratch_b_size, (size_t)(k_pad * n_pad) * 4);
    if (!a || !b)
        return -1;
    memset(a, 0, (size_t)rows * pitch_a);
    join_blocks(memory_a, insn->address[1], insn->step[1], rows, k_blocks, a, pitch_a);
    for (int64_t block = 0; block * width < n; block++) {
        const int64_t cols = n - block * width < width ? n - block * width : width;
        const unsigned char *from =
            axi_row(memory_b, (int64_t)(insn->address[2] & AXI_ADDRESS_MASK) + block * insn->step[2]);
        unsigned char *to = axi_row(sums, (int64_t)(insn->address[0] & AXI_ADDRESS_MASK) + block * insn->step[0]);
        if (integer) {
            axi_pack_i8((int16_t *)(void *)b, k_pad, n_pad, (const int8_t *)from, memory_b->pitch, k, cols);
            m->int32_overflow +=
                axi_mm_i8((int32_t *)(void *)to, sums->pitch / sizeof(int32_t), (const int8_t *)a, pitch_a,
                          (const int16_t *)(const void *)b, rows, k_pad, n_pad, accumulate);
        } else {
            memset(b, 0, (size_t)(k * n_pad) * sizeof(float));
            for (int64_t r = 0; r < k; r++)
                memcpy(b + (size_t)(r * n_pad) * sizeof(float), from + (size_t)r * memory_b->pitch,
                       (size_t)cols * sizeof(float));
            axi_mm_float((float *)(void *)to, sums->pitch / sizeof(float), (const float *)(void *)a,
                         pitch_a / sizeof(float), (const float *)(void *)b, rows, k, n_pad, accumulate,
                         config->in == AX_F16);
        }
    }
    return 0;
}

int ax_mma(ax_machine *m, uint32_t c, int32_t c_step, uint32_t a, int32_t a_step, uint32_t b, int32_t b_step,
           int32_t mm, int32_t n, int32_t k, int accumulate)
{
    const axi_insn insn = {.op = AXI_OP_MMA,
                           .address = {c, a, b},
                           .step = {c_step, a_step, b_step},
                           .rows = mm,
                           .cols = n,
                           .depth = k,
                           .flag = accumulate != 0};
    const ax_config *config = &m->config;
    const int32_t width = config->cols;
    axi_area sums, left, right;
    if (axi_begin(m) || axi_need_kind(m, &insn, AX_MMA))
        return -1;
    if (mm < 1 || n < 1 || k < 1 || k > AXI_MAX_K)
        return axi_fail(m, &insn, "m and n of at least 1 and k of 1 to %d needed, found m %d, n %d, k %d", AXI_MAX_K,
                        (int)mm, (int)n, (int)k);
    /* Targets without L0 memories feed the unit from the scratchpad. */
    const unsigned in_a = config->l0a_bytes ? AXI_IN_L0A : AXI_IN_SPAD;
    const unsigned in_b = config->l0b_bytes ? AXI_IN_L0B : AXI_IN_SPAD;
    if (axi_place(m, &insn, "c", c, AXI_IN_ACC, mm, c_step, axi_ceil_div(n, width), &sums) ||
        axi_place(m, &insn, "a", a, in_a, mm, a_step, axi_ceil_div(k, width), &left) ||
        axi_place(m, &insn, "b", b, in_b, k, b_step, axi_ceil_div(n, width), &right) ||
        axi_need_written(m, &insn, "a", &left) || axi_need_written(m, &insn, "b", &right) ||
        (accumulate && axi_need_written(m, &insn, "c", &sums)))
        return -1;

    axi_hazards hazards = {0};
    axi_wait_to_read(m, &left, &hazards);
    axi_wait_to_read(m, &right, &hazards);
    axi_wait_for_sums(m, &sums, accumulate, &hazards);
    const int64_t tiles = axi_ceil_div(mm, config->mma_m) * axi_ceil_div(n, config->mma_n);
    const int64_t steps = tiles * axi_ceil_div(k, config->mma_k), occupancy = steps * config->mma_interval;
    const int64_t start = axi_schedule(m, &insn, AXI_MAT, occupancy, config->mma_latency, &hazards);
    axi_mark_read(m, &left, start + occupancy);
    axi_mark_read(m, &right, start + occupancy);
    axi_mark_written(m, &sums, AXI_MAT, start + occupancy + config->mma_latency);
    /* Each step of the unit reads its two operands; sums of one tile stay inside it along k. */
    left.memory->bytes_read += steps * config->mma_m * config->mma_k * axi_type_bytes(config->in);
    right.memory->bytes_read += steps * config->mma_k * config->mma_n * axi_type_bytes(config->in);
    const int64_t sum_bytes = tiles * config->mma_m * config->mma_n * axi_type_bytes(config->acc);
    sums.memory->bytes_read += accumulate ? sum_bytes : 0;
    sums.memory->bytes_written += sum_bytes;
    m->macs += steps * config->mma_m * config->mma_n * config->mma_k;
    return axi_with_data(m) ? multiply(m, &insn) : 0;
}
