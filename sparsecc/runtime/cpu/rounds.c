/* Matrix times vector in rounds: sc_rounds of sc.h. The blocks of X that a step reads are the same for all groups, so
 * that X stays in registers and the code knows which; what differs from group to group is only how many steps run. */
#include "vector.h"

enum { BLOCK = 16, CLOSED = SC_ROUND_CLOSED, STEPS = SC_ROUND_STEPS, SIX = 6 };
/* Floats of sums that are kept on the stack. */
enum { SMALL = 4096 };

#if defined(__AVX512F__)
/* Steps by six, whose columns come in one vector: of each the first block, and the second less CLOSED. These are the
 * first STEPS of `pair_of`, written out, for registers have no index. */
#define ROUNDS \
    SIX(0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5) \
    SIX(1, 6, 6, 7, 7, 8, 8, 9, 9, 10, 10, 11, 11) \
    SIX(2, 12, 12, 13, 13, 14, 14, 15, 15, 0, 5, 1, 8) \
    SIX(3, 2, 11, 3, 14, 4, 0, 5, 3, 6, 6, 7, 9) \
    SIX(4, 8, 12, 9, 15, 10, 1, 11, 4, 12, 7, 13, 10) \
    SIX(5, 14, 13, 15, 16, 0, 2, 1, 9, 2, 16, 3, 6) \
    SIX(6, 4, 13, 5, 3, 6, 10, 7, 0, 8, 7, 9, 14) \
    SIX(7, 10, 4, 11, 11, 12, 1, 13, 8, 14, 15, 15, 5) \
    SIX(8, 0, 9, 1, 11, 2, 13, 3, 15, 4, 0, 5, 2) \
    SIX(9, 6, 4, 7, 6, 8, 8, 9, 10, 10, 12, 11, 14) \
    SIX(10, 12, 16, 13, 1, 14, 3, 15, 5, 0, 1, 1, 6) \
    SIX(11, 2, 11, 3, 16, 4, 4, 5, 9, 6, 14, 7, 2) \
    SIX(12, 8, 7, 9, 12, 10, 0, 11, 5, 12, 10, 13, 15) \
    SIX(13, 14, 3, 15, 8, 0, 4, 1, 15, 2, 9, 3, 3) \
    SIX(14, 4, 14, 5, 8, 6, 2, 7, 13, 8, 7, 9, 1) \
    SIX(15, 10, 12, 11, 6, 12, 0, 13, 11, 14, 5, 15, 16)

/* Registers hold as many blocks as there are beside sums and columns; the last ones stay in the first cache. */
#define KEPT(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)
#define KEPT_OPEN(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7)
#define FIRST(b) const __m512 closed##b = _mm512_load_ps(blocks + (b) * BLOCK);
#define SECOND(b) const __m512 open##b = _mm512_load_ps(blocks + (CLOSED + (b)) * BLOCK);
#define IN_CACHE(b) _mm512_load_ps(blocks + (CLOSED + (b)) * BLOCK)
#define open8 IN_CACHE(8)
#define open9 IN_CACHE(9)
#define open10 IN_CACHE(10)
#define open11 IN_CACHE(11)
#define open12 IN_CACHE(12)
#define open13 IN_CACHE(13)
#define open14 IN_CACHE(14)
#define open15 IN_CACHE(15)
#define open16 IN_CACHE(16)

#define STEP(at, first, second, sum)                                                                              \
    sum = _mm512_fmadd_ps(                                                                                        \
        _mm512_permutex2var_ps(closed##first, _mm512_srli_epi32(picks, 5 * ((at) % SIX)), open##second),           \
        _mm512_loadu_ps(v + (at) * SC_VECTOR_ROWS), sum);
#define TWO(at, a, b, c, d, sum, next) \
    STEP(at, a, b, sum)                \
    STEP((at) + 1, c, d, next)         \
    if (left == (at) + 2) break;
#define SIX(at, a, b, c, d, e, f, g, h, i, j, k, l)                                       \
    picks = _mm512_loadu_si512((const void *)(p + (at) * SC_VECTOR_ROWS));                \
    TWO(6 * (at), a, b, c, d, even, odd)                                                  \
    TWO(6 * (at) + 2, e, f, g, h, third, even)                                            \
    TWO(6 * (at) + 4, i, j, k, l, odd, third)

/* All groups from the first to the last, whose sums follow each other. */
static void run_groups(const uint16_t *steps, const uint16_t *end, const float *values, const uint32_t *columns,
                       const float *blocks, int add, float *sums) {
    KEPT(FIRST)
    KEPT_OPEN(SECOND)
    for (; steps < end; steps++, sums += SC_VECTOR_ROWS) {
        const float *v = values;
        const uint32_t *p = columns;
        __m512 even = _mm512_setzero_ps(), odd = even, third = even;
        if (add) even = _mm512_load_ps(sums);
        __m512i picks;
        for (int left = *steps; left > 0; left -= STEPS, v += STEPS * SC_VECTOR_ROWS, p += STEPS / SIX * SC_VECTOR_ROWS) {
            ROUNDS
        }
        values += (size_t)*steps * SC_VECTOR_ROWS;
        columns += (size_t)(*steps + SIX - 1) / SIX * SC_VECTOR_ROWS;
        _mm512_store_ps(sums, _mm512_add_ps(_mm512_add_ps(even, odd), third));
    }
}

static void take_blocks(const uint16_t *starts, const float *x, int columns, float *blocks) {
    for (int b = 0; b < SC_ROUND_BLOCKS; b++) {
        const int width = (columns < starts[b + 1] ? columns : starts[b + 1]) - starts[b];
        const __mmask16 there = (__mmask16)(width > 0 ? (1u << width) - 1 : 0);
        _mm512_store_ps(blocks + b * BLOCK, _mm512_maskz_loadu_ps(there, x + starts[b]));
    }
}

#else

/* The blocks of a step: each round has all closed ones in turn, and takes the open ones by steps of its own. */
static void pair_of(int step, int *first, int *second) {
    static const int multiplied[] = {1, 3, 7, 2, 5, 11}, added[] = {0, 5, 2, 9, 1, 4};
    const int round = step / CLOSED;
    *first = step % CLOSED;
    *second = CLOSED + (multiplied[round] * *first + added[round]) % (SC_ROUND_BLOCKS - CLOSED);
}

static void run_groups(const uint16_t *steps, const uint16_t *end, const float *values, const uint32_t *columns,
                       const float *blocks, int add, float *sums) {
    for (; steps < end; steps++, sums += SC_VECTOR_ROWS) {
        if (!add) memset(sums, 0, SC_VECTOR_ROWS * sizeof *sums);
        for (int s = 0; s < *steps; s++, values += SC_VECTOR_ROWS) {
            const uint32_t *picks = columns + s / SIX * SC_VECTOR_ROWS;
            int first, second;
            pair_of(s % STEPS, &first, &second);
            for (int r = 0; r < SC_VECTOR_ROWS; r++) {
                const uint32_t column = picks[r] >> 5 * (s % SIX) & 31;
                sums[r] += values[r] * blocks[(column < BLOCK ? first : second) * BLOCK + (int)column % BLOCK];
            }
        }
        columns += (*steps + SIX - 1) / SIX * SC_VECTOR_ROWS;
    }
}

static void take_blocks(const uint16_t *starts, const float *x, int columns, float *blocks) {
    memset(blocks, 0, SC_ROUND_BLOCKS * BLOCK * sizeof *blocks);
    for (int b = 0; b < SC_ROUND_BLOCKS; b++)
        for (int c = starts[b]; c < starts[b + 1] && c < columns; c++) blocks[b * BLOCK + c - starts[b]] = x[c];
}
#endif

/* Values that no step had a place for, to sums of rows. Products first: vectors of them take fewer instructions. */
static void add_singles(const sc_rounds *a, const sc_slab *slab, const float *x, float *sums) {
    const float *values = a->singles;
    const uint16_t *rows = a->single_rows, *columns = a->single_columns;
    int64_t i = slab->tile;
#if defined(__AVX512F__)
    for (; i + 4 <= slab[1].tile; i += 4) {
        const __m128 product = _mm_mul_ps(sc_pick(x, columns + i), _mm_loadu_ps(values + i));
        uint64_t four;
        memcpy(&four, rows + i, sizeof four);
        /* Or compilers load each of its parts. */
        __asm__("" : "+r"(four));
        sums[(uint16_t)four] += product[0];
        sums[(uint16_t)(four >> 16)] += product[1];
        sums[(uint16_t)(four >> 32)] += product[2];
        sums[four >> 48] += product[3];
    }
#endif
    for (; i < slab[1].tile; i++) sums[rows[i]] += values[i] * x[columns[i]];
}

/* All of Y at once, in its order, which takes half the time of writing rows where they belong. */
static void put_all(const uint16_t *places, int64_t m, const float *sums, float *y) {
    int64_t r = 0;
#if defined(__AVX512F__)
    for (; r + 8 <= m; r += 8) {
        _mm_storeu_ps(y + r, sc_pick(sums, places + r));
        _mm_storeu_ps(y + r + 4, sc_pick(sums, places + r + 4));
    }
#endif
    for (; r < m; r++) y[r] = sums[places[r]];
}

static size_t sums_of(const sc_slab *first, const sc_slab *end) {
    return (size_t)(end->group - first->group) * SC_VECTOR_ROWS;
}

size_t sc_rounds_scratch(const sc_vector *w, size_t ldx) {
    const size_t slabs = ((size_t)w->m + SC_VECTOR_SLAB - 1) / SC_VECTOR_SLAB, sums = sums_of(w->slabs, w->slabs + slabs);
    const size_t padded = (size_t)w->tiles * SC_VECTOR_COLUMNS;
    return (ldx != 1 ? padded : 0) + (sums > SMALL ? sums : 0);
}

int sc_rounds_part(const sc_vector *w, const sc_call *call, sc_part part) {
    const sc_rounds *a = &w->rounds;
    const size_t k = (size_t)w->k, slabs = ((size_t)w->m + SC_VECTOR_SLAB - 1) / SC_VECTOR_SLAB;
    const size_t padded = call->ldx != 1 ? (size_t)w->tiles * SC_VECTOR_COLUMNS : 0;
    const sc_slab *first = w->slabs + part.r0, *end = w->slabs + part.r1;
    const size_t count = sums_of(first, end), needed = padded + (count > SMALL ? count : 0);
    float small[SMALL] __attribute__((aligned(SC_ALIGN))), blocks[SC_ROUND_BLOCKS * BLOCK] __attribute__((aligned(SC_ALIGN)));
    float *scratch = NULL, *sums = small;
    const float *x = call->x + part.n0;
    if (needed && !(scratch = sc_take(call, needed))) return -1;
    if (count > SMALL) sums = scratch + padded;
    if (padded) {
        for (size_t i = 0; i < k; i++) scratch[i] = x[i * call->ldx];
        x = scratch;
    }
    const size_t groups = (size_t)w->slabs[slabs].group;
    for (int64_t chunk = 0; chunk < a->chunks; chunk++) {
        const sc_round_begin *begin = a->begin + (size_t)chunk * slabs + part.r0;
        const uint16_t *steps = a->steps + (size_t)chunk * groups;
        const int64_t from = chunk * a->columns, columns = w->k - from < a->columns ? w->k - from : a->columns;
        take_blocks(a->starts, x + from, (int)columns, blocks);
        run_groups(steps + first->group, steps + end->group, w->values + begin->step * SC_VECTOR_ROWS,
                   a->picks + begin->six * SC_VECTOR_ROWS, blocks, chunk > 0, sums);
    }
    for (const sc_slab *slab = first; slab < end; slab++)
        add_singles(a, slab, x, sums + sums_of(first, slab));
    if (part.r0 == 0 && part.r1 == slabs && a->places && call->ldy == 1 && sc_is_plain(w, call))
        put_all(a->places, w->m, sums, call->y + part.n0);
    else
        for (int64_t g = first->group; g < end->group; g++, sums += SC_VECTOR_ROWS)
            sc_put_rows(w, call, w->rows + g * SC_VECTOR_ROWS, SC_VECTOR_ROWS, sums, part.n0);
    sc_give(call, scratch);
    return 0;
}
