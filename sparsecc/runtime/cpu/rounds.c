/* Matrix times vector in rounds: sc_rounds of sc.h. The blocks of X that a step reads are the same for all groups, so
 * that X stays in registers and the code knows which; what differs from group to group is only how many steps run. */
#include "vector.h"

enum { BLOCK = 16, CLOSED = SC_ROUND_CLOSED, STEPS = SC_ROUND_STEPS, SIX = 6 };
/* Floats of sums that are kept on the stack. */
enum { SMALL = 4096 };

#if defined(__AVX512F__)
/* Written as assembly: compilers keep neither all blocks in registers nor each in one when code is entered anywhere.
 * Registers 0 to 15 hold the closed blocks, 16 to 23 as many open ones as there is room for, and the last ones stay in the
 * first cache; 24 to 26 are sums, 27 columns, 28 what is picked. */
#define OPEN_0 "%%zmm16"
#define OPEN_1 "%%zmm17"
#define OPEN_2 "%%zmm18"
#define OPEN_3 "%%zmm19"
#define OPEN_4 "%%zmm20"
#define OPEN_5 "%%zmm21"
#define OPEN_6 "%%zmm22"
#define OPEN_7 "%%zmm23"
#define OPEN_8 "64*24(%[blocks])"
#define OPEN_9 "64*25(%[blocks])"
#define OPEN_10 "64*26(%[blocks])"
#define OPEN_11 "64*27(%[blocks])"
#define OPEN_12 "64*28(%[blocks])"
#define OPEN_13 "64*29(%[blocks])"
#define OPEN_14 "64*30(%[blocks])"
#define OPEN_15 "64*31(%[blocks])"
#define OPEN_16 "64*32(%[blocks])"

#define PICK(first, second, columns, at, sum)                 \
    "vpermi2ps " OPEN_##second ", %%zmm" #first ", " columns "\n" \
    "vfmadd231ps -64-64*(" at ")(%[values]), " columns ", %%zmm" #sum "\n"
#define STEP(first, second, at, shift, sum) \
    "vpsrld $" #shift ", %%zmm27, %%zmm28\n" PICK(first, second, "%%zmm28", at, sum)
/* Six steps, whose columns come in one vector, the last first. Groups enter before any two. */
#define SIX(at, a, b, c, d, e, f, g, h, i, j, k, l)                                                        \
    "vmovdqu32 -64-64*" #at "(%[columns]), %%zmm27\n"                                                      \
    ".Lenter%=_" #at "_2:\n" STEP(a, b, #at "*6+5", 25, 24) STEP(c, d, #at "*6+4", 20, 25)                  \
    ".Lenter%=_" #at "_1:\n" STEP(e, f, #at "*6+3", 15, 26) STEP(g, h, #at "*6+2", 10, 24)                  \
    ".Lenter%=_" #at "_0:\n" STEP(i, j, #at "*6+1", 5, 25) PICK(k, l, "%%zmm27", #at "*6", 26)
#define ENTER(at, two) ".long .Lenter%=_" #at "_" #two " - .Lenters%=\n"
#define ENTER_SIX(at) ENTER(at, 0) ENTER(at, 1) ENTER(at, 2)
#define ENTERS(X) X(0) X(1) X(2) X(3) X(4) X(5) X(6) X(7) X(8) X(9) X(10) X(11) X(12) X(13) X(14) X(15)

/* The first block of each step, and the second less CLOSED: `pair_of`, written out, for registers have no index. */
#define ROUNDS \
    SIX(15, 15, 16, 14, 5, 13, 11, 12, 0, 11, 6, 10, 12) \
    SIX(14, 9, 1, 8, 7, 7, 13, 6, 2, 5, 8, 4, 14) \
    SIX(13, 3, 3, 2, 9, 1, 15, 0, 4, 15, 8, 14, 3) \
    SIX(12, 13, 15, 12, 10, 11, 5, 10, 0, 9, 12, 8, 7) \
    SIX(11, 7, 2, 6, 14, 5, 9, 4, 4, 3, 16, 2, 11) \
    SIX(10, 1, 6, 0, 1, 15, 5, 14, 3, 13, 1, 12, 16) \
    SIX(9, 11, 14, 10, 12, 9, 10, 8, 8, 7, 6, 6, 4) \
    SIX(8, 5, 2, 4, 0, 3, 15, 2, 13, 1, 11, 0, 9) \
    SIX(7, 15, 5, 14, 15, 13, 8, 12, 1, 11, 11, 10, 4) \
    SIX(6, 9, 14, 8, 7, 7, 0, 6, 10, 5, 3, 4, 13) \
    SIX(5, 3, 6, 2, 16, 1, 9, 0, 2, 15, 16, 14, 13) \
    SIX(4, 13, 10, 12, 7, 11, 4, 10, 1, 9, 15, 8, 12) \
    SIX(3, 7, 9, 6, 6, 5, 3, 4, 0, 3, 14, 2, 11) \
    SIX(2, 1, 8, 0, 5, 15, 15, 14, 14, 13, 13, 12, 12) \
    SIX(1, 11, 11, 10, 10, 9, 9, 8, 8, 7, 7, 6, 6) \
    SIX(0, 5, 5, 4, 4, 3, 3, 2, 2, 1, 1, 0, 0)

/* All groups from the first to the last, whose sums follow each other. All end with the same step and begin where as many
 * are left as they have: one jump for each group, which is predicted; exits from among the steps were not. */
static __attribute__((noinline)) void run_groups(const uint16_t *steps, const uint16_t *end, const float *values,
                                                 const uint32_t *columns, const float *blocks, int add, float *sums) {
    size_t left, now;
    const char *code;
    if (steps == end) return;
    __asm__ volatile(
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23\n"
        "vmovaps 64*\\i(%[blocks]), %%zmm\\i\n"
        ".endr\n"
        "1:\n"
        "vmovaps (%[sums]), %%zmm24%{%[add]%}%{z%}\n"
        "vpxord %%xmm25, %%xmm25, %%xmm25\n"
        "vpxord %%xmm26, %%xmm26, %%xmm26\n"
        "movzwl (%[steps]), %k[left]\n"
        "test %k[left], %k[left]\n"
        "je 5f\n"
        /* Of more steps than there is code for, the code runs again as a whole. */
        "2: mov %k[left], %k[now]\n"
        "3: cmp %[most], %k[now]\n"
        "jbe 4f\n"
        "sub %[most], %k[now]\n"
        "jmp 3b\n"
        "4: sub %k[now], %k[left]\n"
        "lea .Lenters%=-4(%%rip), %[code]\n"
        "vmovdqu32 (%[columns]), %%zmm27\n"
        "shl $6, %k[now]\n"
        "add %[now], %[values]\n"
        "shr $5, %k[now]\n" /* 2 `now` */
        "movslq (%[code], %[now]), %%r11\n"
        "lea 4(%[code], %%r11), %[code]\n"
        /* The vectors of columns: a sixth of `now`, rounded up. */
        "lea 10(%[now]), %k[now]\n"
        "imul $43, %k[now], %k[now]\n"
        "shr $9, %k[now]\n"
        "shl $6, %k[now]\n"
        "add %[now], %[columns]\n"
        "jmp *%[code]\n"
        ROUNDS
        "test %k[left], %k[left]\n"
        "jne 2b\n"
        "5: vaddps %%zmm25, %%zmm24, %%zmm24\n"
        "vaddps %%zmm26, %%zmm24, %%zmm24\n"
        "vmovaps %%zmm24, (%[sums])\n"
        "add $64, %[sums]\n"
        "add $2, %[steps]\n"
        "cmp %[end], %[steps]\n"
        "jb 1b\n"
        ".pushsection .rodata\n"
        ".balign 4\n"
        ".Lenters%=:\n" ENTERS(ENTER_SIX)
        ".popsection\n"
        : [steps] "+r"(steps), [values] "+r"(values), [columns] "+r"(columns), [sums] "+r"(sums), [left] "=&r"(left),
          [now] "=&r"(now), [code] "=&r"(code)
        : [end] "r"(end), [blocks] "r"(blocks), [add] "Yk"((__mmask16)(add ? 0xffff : 0)), [most] "i"(STEPS)
        : "r11", "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
          "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28");
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
    const int round = step % STEPS / CLOSED;
    *first = step % CLOSED;
    *second = CLOSED + (multiplied[round] * *first + added[round]) % (SC_ROUND_BLOCKS - CLOSED);
}

static void run_groups(const uint16_t *steps, const uint16_t *end, const float *values, const uint32_t *columns,
                       const float *blocks, int add, float *sums) {
    for (; steps < end; steps++, sums += SC_VECTOR_ROWS) {
        if (!add) memset(sums, 0, SC_VECTOR_ROWS * sizeof *sums);
        columns += (*steps + SIX - 1) / SIX * SC_VECTOR_ROWS;
        for (int s = *steps; s-- > 0; values += SC_VECTOR_ROWS) {
            const uint32_t *picks = columns - (s / SIX + 1) * SC_VECTOR_ROWS;
            int first, second;
            pair_of(s, &first, &second);
            for (int r = 0; r < SC_VECTOR_ROWS; r++) {
                const uint32_t column = picks[r] >> 5 * (s % SIX) & 31;
                sums[r] += values[r] * blocks[(column < BLOCK ? first : second) * BLOCK + (int)column % BLOCK];
            }
        }
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
static void put_all(const uint16_t *places, int64_t m, const float *sums, float *y, size_t ldy) {
    int64_t r = 0;
#if defined(__AVX512F__)
    for (; ldy == 1 && r + 8 <= m; r += 8) {
        _mm_storeu_ps(y + r, sc_pick(sums, places + r));
        _mm_storeu_ps(y + r + 4, sc_pick(sums, places + r + 4));
    }
#endif
    for (; r < m; r++) y[(size_t)r * ldy] = sums[places[r]];
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
    if (part.r0 == 0 && part.r1 == slabs && a->places && sc_is_plain(w, call))
        put_all(a->places, w->m, sums, call->y + part.n0, call->ldy);
    else
        for (int64_t g = first->group; g < end->group; g++, sums += SC_VECTOR_ROWS)
            sc_put_rows(w, call, w->rows + g * SC_VECTOR_ROWS, SC_VECTOR_ROWS, sums, part.n0);
    sc_give(call, scratch);
    return 0;
}
