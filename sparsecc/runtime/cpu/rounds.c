/* Matrix times vector in rounds: sc_rounds of sc.h. The blocks of X that a step reads are the same for all groups, so
 * that X stays in registers and the code knows which; what differs from group to group is only how many steps run. */
#include "vector.h"

enum { BLOCK = 16, CLOSED = SC_ROUND_CLOSED, STEPS = SC_ROUND_STEPS, SIX = 6 };
/* Of a closed block; up to the open blocks of a whole chunk; and of all of it. */
enum { CLOSED_COLUMNS = BLOCK - 1, OPEN_AT = CLOSED * CLOSED_COLUMNS, WHOLE = OPEN_AT + (SC_ROUND_BLOCKS - CLOSED) * BLOCK };

/* Where blocks of X are: closed ones `apart`, of which the last float is not looked at, and open ones one after another. */
typedef struct blocks_at {
    const float *closed, *open;
    size_t apart;
} blocks_at;

/* Floats of sums that are kept on the stack. */
enum { SMALL = 4096 };

#if defined(__AVX512F__)
/* Written as assembly: compilers keep neither all blocks in registers nor each in one when code is entered anywhere.
 * Registers 0 to 15 hold the closed blocks, 16 to 23 and 29 to 31 as many open ones as there is room for, and the last ones
 * stay in the first cache; 24 to 26 are sums, 27 columns, 28 what is picked. */
#define OPEN_0 "%%zmm16"
#define OPEN_1 "%%zmm17"
#define OPEN_2 "%%zmm18"
#define OPEN_3 "%%zmm19"
#define OPEN_4 "%%zmm20"
#define OPEN_5 "%%zmm21"
#define OPEN_6 "%%zmm22"
#define OPEN_7 "%%zmm23"
#define OPEN_8 "%%zmm29"
#define OPEN_9 "%%zmm30"
#define OPEN_10 "%%zmm31"
#define OPEN_11 "64*11(%[open])"
#define OPEN_12 "64*12(%[open])"
#define OPEN_13 "64*13(%[open])"
#define OPEN_14 "64*14(%[open])"
#define OPEN_15 "64*15(%[open])"
#define OPEN_16 "64*16(%[open])"

#define PICK(first, second, columns, at, sum)                 \
    "vpermi2ps " OPEN_##second ", %%zmm" #first ", " columns "\n" \
    "vfmadd231ps -64-64*(" at ")(%[values]), " columns ", %%zmm" #sum "\n"
#define STEP(first, second, at, shift, sum) \
    "vpsrld $" #shift ", %%zmm27, %%zmm28\n" PICK(first, second, "%%zmm28", at, sum)
/* Six steps, whose columns come in one vector, the last first. Groups enter before any two, which take a line of code
 * each, so that where to is reckoned, not loaded: it is known the sooner, should it have been guessed wrong. */
#define TWO(text) ".balign 64\n" text
#define SIX(at, a, b, c, d, e, f, g, h, i, j, k, l)                                      \
    TWO("vmovdqu32 -64-64*" #at "(%[columns]), %%zmm27\n"                                \
        STEP(a, b, #at "*6+5", 25, 24) STEP(c, d, #at "*6+4", 20, 25))                   \
    TWO(STEP(e, f, #at "*6+3", 15, 26) STEP(g, h, #at "*6+2", 10, 24))                   \
    TWO(STEP(i, j, #at "*6+1", 5, 25) PICK(k, l, "%%zmm27", #at "*6", 26))

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

/* Four sums to their rows, the last first. */
#define PUT(at, lane, store, apart) \
    "movl 16*" #at "+4*" #lane "(%[rows]), %k[now]\n" apart store "%%xmm25, (%[y], %[now], 4)\n"
#define PUT_4(at, apart)                                                                        \
    "vextractf32x4 $" #at ", %%zmm24, %%xmm25\n"                                                 \
    PUT(at, 3, "vextractps $3, ", apart) PUT(at, 2, "vextractps $2, ", apart)                   \
    PUT(at, 1, "vextractps $1, ", apart) PUT(at, 0, "vmovss ", apart)
#define PUT_ALL(apart) PUT_4(3, apart) PUT_4(2, apart) PUT_4(1, apart) PUT_4(0, apart)

/* All groups from the first to the last. All end with the same step and begin where as many are left as they have: one
 * jump for each group, which is predicted; exits from among the steps were not.
 *
 * sums: of the first group, `stride` bytes before those of the next; they are added to what is there if `add`. With y sums
 * go to their rows instead, as soon as they are complete, so that it happens while values come, and sums need no place. */
static __attribute__((noinline)) void run_groups(const uint16_t *steps, const uint16_t *end, const float *values,
                                                 const uint32_t *columns, const blocks_at *x, int add, float *sums,
                                                 size_t stride, const int32_t *rows, float *y, size_t ldy) {
    /* First where the closed blocks are, and how far apart. */
    const float *code = x->closed;
    size_t left = x->apart * sizeof *x->closed, now;
    if (steps == end) return;
    __asm__ volatile(
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15\n"
        "vmovups (%[code]), %%zmm\\i%{%[most_of]%}%{z%}\n"
        "add %[left], %[code]\n"
        ".endr\n"
        ".irp i, 16, 17, 18, 19, 20, 21, 22, 23\n"
        "vmovups 64*\\i-64*16(%[open]), %%zmm\\i\n"
        ".endr\n"
        ".irp i, 29, 30, 31\n"
        "vmovups 64*\\i-64*21(%[open]), %%zmm\\i\n"
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
        "lea .Lend%=(%%rip), %[code]\n"
        "vmovdqu32 (%[columns]), %%zmm27\n"
        "shl $6, %k[now]\n"
        /* Should the jump be guessed wrong, values come meanwhile. */
        ".irp i, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11\n"
        "prefetcht0 64*\\i(%[values])\n"
        ".endr\n"
        "add %[now], %[values]\n"
        "shr $1, %k[now]\n"
        "sub %[now], %[code]\n"
        "shr $4, %k[now]\n" /* 2 `now` */
        /* The vectors of columns: a sixth of `now`, rounded up. */
        "lea 10(%[now]), %k[now]\n"
        "imul $43, %k[now], %k[now]\n"
        "shr $9, %k[now]\n"
        "shl $6, %k[now]\n"
        "add %[now], %[columns]\n"
        "jmp *%[code]\n"
        ROUNDS
        ".balign 64\n"
        ".Lend%=:\n"
        "test %k[left], %k[left]\n"
        "jne 2b\n"
        "5: vaddps %%zmm25, %%zmm24, %%zmm24\n"
        "vaddps %%zmm26, %%zmm24, %%zmm24\n"
        "test %[y], %[y]\n"
        "je 6f\n"
        "cmp $1, %[ldy]\n"
        "jne 8f\n"
        PUT_ALL("")
        "jmp 7f\n"
        "8:\n"
        PUT_ALL("imul %[ldy], %[now]\n")
        "jmp 7f\n"
        "6: vmovaps %%zmm24, (%[sums])\n"
        "7: add $64, %[rows]\n"
        "add %[stride], %[sums]\n"
        "add $2, %[steps]\n"
        "cmp %[end], %[steps]\n"
        "jb 1b\n"
        "vzeroupper\n"
        : [steps] "+r"(steps), [values] "+r"(values), [columns] "+r"(columns), [sums] "+r"(sums), [rows] "+r"(rows),
          [left] "+r"(left), [now] "=&r"(now), [code] "+r"(code)
        : [end] "r"(end), [open] "r"(x->open), [y] "r"(y), [stride] "rm"(stride), [ldy] "r"(ldy),
          [add] "Yk"((__mmask16)(add ? 0xffff : 0)), [most_of] "Yk"((__mmask16)((1 << CLOSED_COLUMNS) - 1)), [most] "i"(STEPS)
        : "cc", "memory", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10",
          "xmm11", "xmm12", "xmm13", "xmm14", "xmm15", "xmm16", "xmm17", "xmm18", "xmm19", "xmm20", "xmm21", "xmm22",
          "xmm23", "xmm24", "xmm25", "xmm26", "xmm27", "xmm28", "xmm29", "xmm30", "xmm31");
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
                       const blocks_at *x, int add, float *sums, size_t stride, const int32_t *rows, float *y,
                       size_t ldy) {
    for (; steps < end; steps++, rows += SC_VECTOR_ROWS) {
        float group[SC_VECTOR_ROWS] = {0};
        if (add) memcpy(group, sums, sizeof group);
        columns += (*steps + SIX - 1) / SIX * SC_VECTOR_ROWS;
        for (int s = *steps; s-- > 0; values += SC_VECTOR_ROWS) {
            const uint32_t *picks = columns - (s / SIX + 1) * SC_VECTOR_ROWS;
            int first, second;
            pair_of(s, &first, &second);
            for (int r = 0; r < SC_VECTOR_ROWS; r++) {
                const int column = picks[r] >> 5 * (s % SIX) & 31;
                if (column == CLOSED_COLUMNS) continue; /* the zero */
                const float *block = column < BLOCK ? x->closed + (size_t)first * x->apart : x->open + (second - CLOSED) * BLOCK;
                group[r] += values[r] * block[column % BLOCK];
            }
        }
        if (!y) memcpy(sums, group, sizeof group);
        else
            for (int r = SC_VECTOR_ROWS; r-- > 0;) y[(size_t)rows[r] * ldy] = group[r];
        sums += stride / sizeof *sums;
    }
}
#endif

/* Blocks that begin at `starts`, of X that has so many more columns; what follows the columns of one does not matter. */
static blocks_at take_blocks(const uint16_t *starts, const float *x, size_t columns, float *blocks) {
    for (int b = 0; b < SC_ROUND_BLOCKS; b++) {
        float *const to = blocks + b * BLOCK;
        if (starts[b] + (size_t)BLOCK <= columns) {
            memcpy(to, x + starts[b], BLOCK * sizeof *to);
            continue;
        }
        const size_t there = columns > starts[b] ? columns - starts[b] : 0;
#if defined(__AVX512F__)
        _mm512_store_ps(to, _mm512_maskz_loadu_ps((__mmask16)((1u << there) - 1), x + starts[b]));
#else
        memset(to, 0, BLOCK * sizeof *to);
        memcpy(to, x + starts[b], there * sizeof *to);
#endif
    }
    return (blocks_at){blocks, blocks + CLOSED * BLOCK, BLOCK};
}

/* Values that no step had a place for, to sums of rows. Products first: vectors of them take fewer instructions. */
static void add_singles(const sc_rounds *a, int64_t i, int64_t end, const float *x, float *sums, size_t apart) {
    const float *values = a->singles;
    const int32_t *rows = a->single_rows;
    const uint16_t *columns = a->single_columns;
#if defined(__AVX512F__)
    for (; i + 4 <= end; i += 4) {
        const __m128 product = _mm_mul_ps(sc_pick(x, columns + i), _mm_loadu_ps(values + i));
        for (int s = 0; s < 4; s++) sums[(size_t)rows[i + s] * apart] += product[s];
    }
#endif
    for (; i < end; i++) sums[(size_t)rows[i] * apart] += values[i] * x[columns[i]];
}

/* Rows from r0 to r1 of the position: what is fused with sums that stand in their order, in Y or elsewhere. */
static void finish(const sc_vector *w, const sc_call *call, size_t n, size_t r0, size_t r1, float *sums) {
    const float *bias = w->epilogue.bias;
    if (w->epilogue.activation.kind == SC_NONE) {
        if (bias)
            for (size_t r = r0; r < r1; r++) sums[r] += bias[r];
        if (call->residual)
            for (size_t r = r0; r < r1; r++) sums[r] += call->residual[r * call->ldr + n];
        if (w->epilogue.relu)
            for (size_t r = r0; r < r1; r++) sums[r] = sc_relu1(sums[r]);
        if (sums == call->y + n) return;
        for (size_t r = r0; r < r1; r++) call->y[r * call->ldy + n] = sums[r];
        return;
    }
    for (size_t first = r0; first < r1; first += SC_VECTOR_ROWS) {
        const int count = (int)sc_min(r1 - first, SC_VECTOR_ROWS);
        int32_t rows[SC_VECTOR_ROWS];
        for (int r = 0; r < count; r++) rows[r] = (int32_t)first + r;
        sc_put_rows(w, call, rows, count, sums + first, n);
    }
}

/* Floats for sums of groups between chunks, of which only the last puts them to their rows. */
static size_t between_chunks(const sc_rounds *a, int64_t groups) {
    return (size_t)(a->chunks > 1 ? groups : 1) * SC_VECTOR_ROWS;
}

size_t sc_rounds_scratch(const sc_vector *w, size_t ldx) {
    const size_t padded = (size_t)w->tiles * SC_VECTOR_COLUMNS;
    const size_t sums = between_chunks(&w->rounds, w->slabs[w->rounds.slabs].group) + (size_t)w->m;
    return (ldx != 1 ? padded : 0) + (sums > SMALL ? sums : 0);
}

/* Groups that follow each other and are run: of a slab not the last ones, which have no steps. */
typedef struct range {
    int64_t first, end;
    const sc_slab *next; /* where more begin */
} range;

static range used_from(const sc_slab *slab, const sc_slab *end) {
    range found = {slab->group, slab->stretch, slab + 1};
    for (; found.next < end && found.end == found.next->group; found.next++) found.end = found.next->stretch;
    return found;
}

int sc_rounds_part(const sc_vector *w, const sc_call *call, sc_part part) {
    const sc_rounds *a = &w->rounds;
    const size_t k = (size_t)w->k, slabs = (size_t)a->slabs, n = part.n0;
    const size_t padded = call->ldx != 1 ? (size_t)w->tiles * SC_VECTOR_COLUMNS : 0;
    const sc_slab *first = w->slabs + part.r0, *end = w->slabs + part.r1;
    /* Else what is fused takes longer where rows of Y are not beside each other, or a residual may be in the same place. */
    const int direct = sc_is_plain(w, call) || (call->ldy == 1 && !call->residual);
    const size_t between = between_chunks(a, end->group - first->group), count = between + (direct ? 0 : (size_t)w->m);
    const size_t needed = padded + (count > SMALL ? count : 0);
    float small[SMALL] __attribute__((aligned(SC_ALIGN))), blocks[SC_ROUND_BLOCKS * BLOCK] __attribute__((aligned(SC_ALIGN)));
    float *scratch = NULL, *sums = small;
    const float *x = call->x + n;
    if (needed && !(scratch = sc_take(call, needed))) return -1;
    if (count > SMALL) sums = scratch + padded;
    if (padded) {
        for (size_t i = 0; i < k; i++) scratch[i] = x[i * call->ldx];
        x = scratch;
    }
    float *const y = direct ? call->y + n : sums + between;
    const size_t ldy = direct ? call->ldy : 1;
    const size_t all_groups = (size_t)w->slabs[slabs].group, apart = a->chunks > 1 ? SC_VECTOR_ROWS : 0;
    const size_t r0 = (size_t)first->group * SC_VECTOR_ROWS;
    const size_t r1 = sc_min((size_t)end->group * SC_VECTOR_ROWS, (size_t)w->m);
    /* To clear Y is quicker than to write the rows of groups without steps. */
    if (used_from(first, end).end < end->group)
        for (size_t r = r0; r < r1; r++) y[r * ldy] = 0.0f;
    for (int64_t chunk = 0; chunk < a->chunks; chunk++) {
        const sc_round_begin *begin = a->begin + (size_t)chunk * slabs;
        const uint16_t *steps = a->steps + (size_t)chunk * all_groups;
        const size_t from = (size_t)(chunk * a->columns), columns = sc_min(k - from, (size_t)a->columns);
        /* Of a whole chunk blocks are where they are, unless open ones lie across lines. */
        const blocks_at taken = columns == WHOLE && (uintptr_t)(x + from) % SC_ALIGN == 0
                                    ? (blocks_at){x + from, x + from + OPEN_AT, CLOSED_COLUMNS}
                                    : take_blocks(a->starts, x + from, k - from, blocks);
        range groups = {0, 0, first};
        while (groups.next < end) {
            const size_t slab = (size_t)(groups.next - w->slabs);
            groups = used_from(groups.next, end);
            const size_t at = (size_t)groups.first, from_sums = (size_t)(groups.first - first->group) * apart;
            run_groups(steps + at, steps + groups.end, w->values + begin[slab].step * SC_VECTOR_ROWS,
                       a->picks + begin[slab].six * SC_VECTOR_ROWS, &taken, chunk > 0, sums + from_sums,
                       apart * sizeof *sums, w->rows + at * SC_VECTOR_ROWS, chunk + 1 == a->chunks ? y : NULL, ldy);
        }
    }
    add_singles(a, first->tile, end->tile, x, y, ldy);
    if (!direct || !sc_is_plain(w, call)) finish(w, call, n, r0, r1, y);
    sc_give(call, scratch);
    return 0;
}
