/* Matrix times vector: lanes are rows. The 32 values of X that a tile needs lie in registers, from which each lane
 * picks its own by one byte of index. Lanes whose row has nothing left are masked, not multiplied by zero. Of pairs,
 * each step says where its 32 values are. Of slices, values of X are loaded one by one, which is quicker than a
 * gather. */
#include "vector.h"

typedef float sums_of[SC_VECTOR_GROUPS][SC_VECTOR_ROWS];

/* Where steps are. */
typedef struct step {
    const float *values;
    const uint8_t *columns;
    const uint16_t *masks;
} step;

static inline void skip(step *p, int64_t steps) {
    p->values += steps * SC_VECTOR_ROWS;
    p->columns += steps * SC_VECTOR_ROWS;
    p->masks += steps;
}

#if defined(__AVX512F__)

static inline __m512 add_step(const step *p, int s, __m512 low, __m512 high, __m512 sum) {
    const uint8_t *columns = p->columns + s * SC_VECTOR_ROWS;
    const __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)columns));
    const __m512 value = _mm512_loadu_ps(p->values + s * SC_VECTOR_ROWS);
    return _mm512_mask3_fmadd_ps(_mm512_permutex2var_ps(low, at, high), value, sum, p->masks[s]);
}

/* Tiles of so many steps; where the compiler knows the number, no loop over steps is left. */
static inline __attribute__((always_inline)) void run_tiles(int steps, int64_t tiles, const sc_tile *tile, step p,
                                                            const float *x, sums_of sums) {
    for (; tiles > 0; tiles--, tile++, skip(&p, steps)) {
        const float *columns = x + tile->tile * SC_VECTOR_COLUMNS;
        const __m512 low = _mm512_loadu_ps(columns), high = _mm512_loadu_ps(columns + 16);
        __m512 even = _mm512_load_ps(sums[tile->group]), odd = _mm512_setzero_ps();
        int s = 0;
        for (; s + 1 < steps; s += 2) {
            even = add_step(&p, s, low, high, even);
            odd = add_step(&p, s + 1, low, high, odd);
        }
        if (s < steps) even = add_step(&p, s, low, high, even);
        _mm512_store_ps(sums[tile->group], steps > 1 ? _mm512_add_ps(even, odd) : even);
    }
}

static void run_stretch(int steps, int64_t tiles, const sc_tile *tile, step p, const float *x, sums_of sums) {
    switch (steps) {
#define STEPS(count) \
    case count: run_tiles(count, tiles, tile, p, x, sums); break;
        STEPS(1)
        STEPS(2)
        STEPS(3)
        STEPS(4)
        STEPS(5)
        STEPS(6)
        STEPS(7)
        STEPS(8)
        STEPS(9)
        STEPS(10)
        STEPS(11)
        STEPS(12)
        default: run_tiles(steps, tiles, tile, p, x, sums);
    }
}

static inline __m256 add_slice_step(const float *x, const float *values, const uint16_t *columns, uint16_t mask,
                                    __m256 sum) {
    const __m256 picked = _mm256_insertf128_ps(_mm256_castps128_ps256(sc_pick(x, columns)), sc_pick(x, columns + 4), 1);
    return _mm256_mask3_fmadd_ps(picked, _mm256_loadu_ps(values), sum, (__mmask8)mask);
}

static inline __attribute__((always_inline)) void run_slice(int64_t steps, const float *values, const uint16_t *columns,
                                                            const uint16_t *masks, const float *x, float *sums) {
    __m256 even = _mm256_setzero_ps(), odd = even;
    for (; steps >= 2; steps -= 2, values += 2 * SC_SLICE_ROWS, columns += 2 * SC_SLICE_ROWS, masks += 2) {
        even = add_slice_step(x, values, columns, masks[0], even);
        odd = add_slice_step(x, values + SC_SLICE_ROWS, columns + SC_SLICE_ROWS, masks[1], odd);
    }
    if (steps) even = add_slice_step(x, values, columns, *masks, even);
    _mm256_storeu_ps(sums, _mm256_add_ps(even, odd));
}

/* Lanes without a value are masked by the signs of their columns. */
static inline __m512 add_pair_step(const float *values, const uint8_t *columns, __m512 low, __m512 high, __m512 sum) {
    __m128i bytes = _mm_loadu_si128((const __m128i *)(const void *)columns);
    /* Or compilers load them twice, and loads are what limits this. */
    __asm__("" : "+v"(bytes));
    const __m512 picked = _mm512_permutex2var_ps(low, _mm512_cvtepu8_epi32(bytes), high);
    return _mm512_mask3_fmadd_ps(picked, _mm512_loadu_ps(values), sum, _mm_movepi8_mask(bytes));
}

static inline __attribute__((always_inline)) void run_pairs(int64_t shared, int64_t steps, const float *values,
                                                            const uint8_t *columns, const uint16_t *pairs,
                                                            const float *x, float *sums) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (; steps >= 2; steps -= 2, values += 2 * SC_VECTOR_ROWS, columns += 2 * SC_VECTOR_ROWS, pairs += 4 / shared) {
        uint64_t four = 0;
        memcpy(&four, pairs, shared == 1 ? 8 : 4);
        __asm__("" : "+r"(four));
        __m512 low = _mm512_loadu_ps(x + (uint16_t)four), high = _mm512_loadu_ps(x + (uint16_t)(four >> 16));
        even = add_pair_step(values, columns, low, high, even);
        if (shared == 1) {
            low = _mm512_loadu_ps(x + (uint16_t)(four >> 32));
            high = _mm512_loadu_ps(x + (four >> 48));
        }
        odd = add_pair_step(values + SC_VECTOR_ROWS, columns + SC_VECTOR_ROWS, low, high, odd);
    }
    if (steps) even = add_pair_step(values, columns, _mm512_loadu_ps(x + pairs[0]), _mm512_loadu_ps(x + pairs[1]), even);
    _mm512_storeu_ps(sums, _mm512_add_ps(even, odd));
}

#else

static void run_stretch(int steps, int64_t tiles, const sc_tile *tile, step p, const float *x, sums_of sums) {
    for (; tiles > 0; tiles--, tile++) {
        const float *columns = x + tile->tile * SC_VECTOR_COLUMNS;
        for (int s = 0; s < steps; s++, skip(&p, 1))
            for (int r = 0; r < SC_VECTOR_ROWS; r++)
                sums[tile->group][r] += (*p.masks >> r & 1) ? p.values[r] * columns[p.columns[r]] : 0.0f;
    }
}

static inline __attribute__((always_inline)) void run_slice(int64_t steps, const float *values, const uint16_t *columns,
                                                            const uint16_t *masks, const float *x, float *sums) {
    memset(sums, 0, SC_SLICE_ROWS * sizeof *sums);
    for (; steps > 0; steps--, values += SC_SLICE_ROWS, columns += SC_SLICE_ROWS, masks++)
        for (int r = 0; r < SC_SLICE_ROWS; r++) sums[r] += (*masks >> r & 1) ? values[r] * x[columns[r]] : 0.0f;
}

static inline __attribute__((always_inline)) void run_pairs(int64_t shared, int64_t steps, const float *values,
                                                            const uint8_t *columns, const uint16_t *pairs,
                                                            const float *x, float *sums) {
    memset(sums, 0, SC_VECTOR_ROWS * sizeof *sums);
    for (int64_t s = 0; s < steps; s++, values += SC_VECTOR_ROWS, columns += SC_VECTOR_ROWS)
        for (int r = 0; r < SC_VECTOR_ROWS; r++) {
            const int column = columns[r] % SC_THERE;
            const float *block = x + pairs[s / shared * 2 + column / SC_PAIR_COLUMNS];
            sums[r] += columns[r] & SC_THERE ? values[r] * block[column % SC_PAIR_COLUMNS] : 0.0f;
        }
}

#endif

/* Whether the sums of a group are all +0. */
static int is_zero(const float *sums) {
    uint32_t bits[SC_VECTOR_ROWS], any = 0;
    memcpy(bits, sums, sizeof bits);
    for (int r = 0; r < SC_VECTOR_ROWS; r++) any |= bits[r];
    return any == 0;
}

/* Activates `count` rows of one position, a vector of rows at a time. */
static void activate_rows(const sc_vector *w, const int32_t *rows, int count, float *y, size_t ldy) {
    float values[SC_VECTOR_ROWS] __attribute__((aligned(SC_ALIGN))) = {0}, slopes[SC_VECTOR_ROWS] = {0};
    for (int r = 0; r < count; r++) {
        if (rows[r] < 0) continue;
        values[r] = y[(size_t)rows[r] * ldy];
        if (w->epilogue.activation.slopes) slopes[r] = w->epilogue.activation.slopes[rows[r]];
    }
    if (w->epilogue.activation.slopes)
        for (int r = 0; r < count; r++) values[r] = values[r] < 0.0f ? slopes[r] * values[r] : values[r];
    else sc_activate(&w->epilogue, NULL, 0, 1, values, SC_VECTOR_ROWS, SC_VECTOR_ROWS);
    for (int r = 0; r < count; r++)
        if (rows[r] >= 0) y[(size_t)rows[r] * ldy] = values[r];
}

/* Sums of `count` rows to those of Y. */
static inline __attribute__((always_inline)) void put_rows(const sc_vector *w, const sc_call *call, const int32_t *rows,
                                                           int count, const float *sums, size_t n) {
    float *y = call->y + n;
    const float *bias = w->epilogue.bias;
    const int activated = w->epilogue.activation.kind != SC_NONE;
    const int plain = !bias && !call->residual && !w->epilogue.relu && !activated;
    for (int r = 0; r < count; r++) {
        if (rows[r] < 0) continue;
        const size_t row = (size_t)rows[r];
        float sum = sums[r];
        if (!plain) {
            if (bias) sum += bias[row];
            if (call->residual) sum += call->residual[row * call->ldr + n];
            if (w->epilogue.relu) sum = sc_relu1(sum);
        }
        y[row * call->ldy] = sum;
    }
    if (activated) activate_rows(w, rows, count, y, call->ldy);
}

void sc_put_rows(const sc_vector *w, const sc_call *call, const int32_t *rows, int count, const float *sums, size_t n) {
    put_rows(w, call, rows, count, sums, n);
}

static void run_slabs(const sc_vector *w, const sc_call *call, sc_part part, const float *x) {
    /* Where some groups have no value, it is quicker to clear all of Y first than to write their rows one by one. */
    const size_t slabs = ((size_t)w->m + SC_VECTOR_SLAB - 1) / SC_VECTOR_SLAB;
    const int empty = w->slabs[slabs].tile < w->slabs[slabs].group, whole = part.r0 == 0 && part.r1 == slabs;
    const int cleared = empty && whole && call->ldy == 1 && !call->residual && !w->epilogue.bias && !w->epilogue.activation.kind;
    if (cleared) memset(call->y, 0, (size_t)w->m * sizeof *call->y);
    for (const sc_slab *slab = w->slabs + part.r0; slab < w->slabs + part.r1; slab++) {
        sums_of sums __attribute__((aligned(SC_ALIGN))) = {{0}};
        const sc_tile *tile = w->places + slab->tile;
        step p = {w->values, w->columns, w->masks};
        skip(&p, slab->step);
        for (const sc_stretch *s = w->stretches + slab->stretch; s < w->stretches + slab[1].stretch; s++) {
            run_stretch(s->steps, s->tiles, tile, p, x, sums);
            tile += s->tiles;
            skip(&p, (int64_t)s->tiles * s->steps);
        }
        for (int64_t g = slab->group; g < slab[1].group; g++)
            if (!cleared || !is_zero(sums[g - slab->group]))
                put_rows(w, call, w->rows + g * SC_VECTOR_ROWS, SC_VECTOR_ROWS, sums[g - slab->group], part.n0);
    }
}

static void run_slices(const sc_vector *w, const sc_call *call, sc_part part, const float *x) {
    const sc_slab *first = w->slabs + part.r0, *end = w->slabs + part.r1;
    const float *values = w->values + first->step * SC_SLICE_ROWS;
    const uint16_t *columns = w->wide + first->step * SC_SLICE_ROWS, *masks = w->masks + first->step;
    const int32_t *rows = w->rows + first->group * SC_SLICE_ROWS;
    const int plain = sc_is_plain(w, call);
    float *const y = call->y + part.n0;
    const size_t ldy = call->ldy;
    for (const sc_stretch *s = w->stretches + first->stretch; s < w->stretches + end->stretch; s++) {
        const int64_t steps = s->steps;
        for (int slice = 0; slice < s->tiles; slice++, rows += SC_SLICE_ROWS) {
            float sums[SC_SLICE_ROWS];
            run_slice(steps, values, columns, masks, x, sums);
            values += steps * SC_SLICE_ROWS;
            columns += steps * SC_SLICE_ROWS;
            masks += steps;
            if (!plain) {
                put_rows(w, call, rows, SC_SLICE_ROWS, sums, part.n0);
                continue;
            }
            for (int r = 0; r < SC_SLICE_ROWS; r++)
                if (rows[r] >= 0) y[(size_t)rows[r] * ldy] = sums[r];
        }
    }
}

static inline __attribute__((always_inline)) void run_paired(int64_t shared, const sc_vector *w, const sc_call *call,
                                                             sc_part part, const float *x) {
    const sc_slab *first = w->slabs + part.r0, *end = w->slabs + part.r1;
    const float *values = w->values + first->step * SC_VECTOR_ROWS;
    const uint8_t *columns = w->columns + first->step * SC_VECTOR_ROWS;
    const uint16_t *pairs = w->pairs + first->step / shared * 2;
    const int32_t *rows = w->rows + first->group * SC_VECTOR_ROWS;
    const int plain = sc_is_plain(w, call);
    float *const y = call->y + part.n0;
    const size_t ldy = call->ldy;
    for (const sc_stretch *s = w->stretches + first->stretch; s < w->stretches + end->stretch; s++) {
        const int64_t steps = s->steps;
        for (int group = 0; group < s->tiles; group++, rows += SC_VECTOR_ROWS) {
            float sums[SC_VECTOR_ROWS];
            run_pairs(shared, steps, values, columns, pairs, x, sums);
            values += steps * SC_VECTOR_ROWS;
            columns += steps * SC_VECTOR_ROWS;
            pairs += steps / shared * 2;
            /* Places without a row are the last of a group. */
            if (!plain || rows[SC_VECTOR_ROWS - 1] < 0) put_rows(w, call, rows, SC_VECTOR_ROWS, sums, part.n0);
            else
                for (int r = 0; r < SC_VECTOR_ROWS; r++) y[(size_t)rows[r] * ldy] = sums[r];
        }
    }
}

size_t sc_vector_scratch(const sc_vector *w, size_t n, size_t ldx) {
    const size_t padded = (size_t)w->tiles * SC_VECTOR_COLUMNS;
    (void)n;
    if (w->rounds.chunks) return sc_rounds_scratch(w, ldx);
    return ldx != 1 || padded != (size_t)w->k ? padded : 0;
}

/* Position part.n0. */
static int run_position(const sc_vector *w, const sc_call *call, sc_part part) {
    if (w->rounds.chunks) return sc_rounds_part(w, call, part);
    const size_t k = (size_t)w->k, n = part.n0;
    const size_t padded = (size_t)w->tiles * SC_VECTOR_COLUMNS;
    const float *x = call->x + n;
    float *copy = NULL;
    if (call->ldx != 1 || (padded != k && !w->wide)) {
        if (!(copy = sc_take(call, padded))) return -1;
        for (size_t i = 0; i < k; i++) copy[i] = x[i * call->ldx];
        memset(copy + k, 0, (padded - k) * sizeof *copy);
        x = copy;
    }
    if (w->wide) run_slices(w, call, part, x);
    else if (w->pairs && w->shared == 2) run_paired(2, w, call, part, x);
    else if (w->pairs) run_paired(1, w, call, part, x);
    else run_slabs(w, call, part, x);
    sc_give(call, copy);
    return 0;
}

/* part.r0 and part.r1 count slabs. */
int sc_vector_part(const sc_vector *w, const sc_call *call, sc_part part) {
    for (size_t n = part.n0; n < part.n1; n++)
        if (run_position(w, call, (sc_part){n, n + 1, part.r0, part.r1}) != 0) return -1;
    return 0;
}
