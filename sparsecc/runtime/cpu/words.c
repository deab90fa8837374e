/* Products of narrow types: X is packed to words, some positions at a time; a kernel over words runs on them. */
#include "words.h"

/* The same as sc_finish_row; sums alone need no call, which costs as much as some twenty products. */
static inline void put_row(const sc_words *w, const sc_call *c, size_t row, size_t n, size_t count, const uint32_t *sums) {
    const sc_finish *f = &w->finish;
    if (!f->plain) {
        sc_finish_row(w, c, row, n, count, sums);
        return;
    }
    uint32_t bias = 0, *y = (uint32_t *)(void *)c->y + row * c->ldy + n;
    if (f->bias_type != SC_BIAS_NONE) memcpy(&bias, (const char *)f->bias + row * sizeof bias, sizeof bias);
    if (count == 1 && f->integers) {
        *y = sums[0] + bias;
        return;
    }
    size_t i = 0;
    for (; i + SC_LANES <= count; i += SC_LANES) sc_store_words(y + i, sc_with_bias(f, sc_load_words(sums + i), bias));
    if (i == count) return;
    uint32_t rest[SC_LANES] __attribute__((aligned(SC_ALIGN)));
    sc_store_words(rest, sc_with_bias(f, sc_load_words(sums + i), bias));
    memcpy(y + i, rest, (count - i) * sizeof *rest);
}

/* One position of neighbouring rows. */
static inline void put_column(const sc_words *w, const sc_call *c, size_t row, size_t rows, size_t n,
                              const uint32_t *sums) {
    const sc_finish *f = &w->finish;
    if (f->plain && f->integers && c->ldy == 1) {
        uint32_t *y = (uint32_t *)(void *)c->y + row + n;
        const uint32_t *bias = f->bias_type != SC_BIAS_NONE ? (const uint32_t *)f->bias + row : NULL;
        for (size_t r = 0; r < rows; r++) y[r] = sums[r] + (bias ? bias[r] : 0);
        return;
    }
    for (size_t r = 0; r < rows; r++) {
        const uint32_t one[SC_LANES] = {sums[r]};
        put_row(w, c, row + r, n, 1, one);
    }
}

/* Full tiles at once: so many have the words of X that one loads. */
enum { FULL = 4 };

/* One position of any rows; -1 is none. */
static inline void put_rows(const sc_words *w, const sc_call *c, const int32_t *rows, size_t count, size_t n,
                            const uint32_t *sums) {
    const sc_finish *f = &w->finish;
    if (f->plain && f->integers) {
        uint32_t *y = (uint32_t *)(void *)c->y + n;
        const uint32_t *bias = f->bias_type != SC_BIAS_NONE ? f->bias : NULL;
        for (size_t r = 0; r < count; r++)
            if (rows[r] >= 0) y[(size_t)rows[r] * c->ldy] = sums[r] + (bias ? bias[rows[r]] : 0);
        return;
    }
    for (size_t r = 0; r < count; r++) {
        const uint32_t one[SC_LANES] = {sums[r]};
        if (rows[r] >= 0) put_row(w, c, (size_t)rows[r], n, 1, one);
    }
}

/* Bytes of W that pass from the second cache. */
enum { SC_WORDS_STAY = 1 << 19 };
/* Words of W that are fetched before one position needs them. */
enum { SC_WORDS_AHEAD = 512 };

#define SC_KERNEL(name) name##_i8
#define SC_DOT sc_dot_i8
#define SC_SUM(a, b) ((a) + (b))
#define SC_INTEGERS 1
#include "words_kernels.h"
#undef SC_KERNEL
#undef SC_DOT
#undef SC_SUM
#undef SC_INTEGERS

#define SC_SUM(a, b) ((sc_word)((sc_vec)(a) + (sc_vec)(b)))
#define SC_INTEGERS 0
#define SC_KERNEL(name) name##_f32
#define SC_DOT sc_dot_f32
#include "words_kernels.h"
#undef SC_KERNEL
#undef SC_DOT

#if SC_BF16_DEPTH == 2
#define SC_KERNEL(name) name##_bf16
#define SC_DOT sc_dot_bf16
#include "words_kernels.h"
#endif

/* Packed words at once: they and what is made of them stay in the second cache. */
enum { PACKED = 1 << 17, ROW = SC_ALIGN / 4 };

int sc_words_depth(int x_type) {
    switch (x_type) {
        case SC_X_I8: return SC_I8_DEPTH;
        case SC_X_BF16:
        case SC_X_F32_AS_BF16: return SC_BF16_DEPTH;
        default: return 1;
    }
}

size_t sc_words_rows(const sc_words *w) {
    const size_t m = (size_t)w->m;
    switch (w->kernel) {
        case SC_WORDS_LINE: return (size_t)((const sc_line *)w->inner)->groups;
        case SC_WORDS_CSR: return (m + SC_CSR_ROWS - 1) / SC_CSR_ROWS;
        case SC_WORDS_DENSE: return (m + SC_DENSE_ROWS - 1) / SC_DENSE_ROWS;
        default: return (m + SC_VECTOR_SLAB - 1) / SC_VECTOR_SLAB;
    }
}

size_t sc_words_panel(const sc_words *w) {
    switch (w->kernel) {
        case SC_WORDS_LINE: return (size_t)((const sc_line *)w->inner)->lanes;
        case SC_WORDS_CSR: return 4 * SC_LANES;
        case SC_WORDS_DENSE: return SC_DENSE_VECTORS * SC_LANES;
        default: return 1;
    }
}

/* Straight-line code stores whole vectors of sums: into Y where it may, else into a buffer, some groups at a time. */
static int run_line(const sc_words *w, const sc_call *c, sc_part part, const uint32_t *x, size_t ld, uint32_t *sums) {
    const sc_line *line = w->inner;
    const size_t lanes = (size_t)line->lanes, count = part.n1 - part.n0, height = (size_t)line->height;
    sc_call call = {(const float *)(const void *)x, ld, c->y + part.n0, c->ldy, count, NULL, 0, NULL, 0, 0};
    if (w->finish.plain && w->finish.bias_type == SC_BIAS_NONE && count % lanes == 0) {
        return sc_line_part(line, &call, (sc_part){0, count, part.r0, part.r1});
    }
    const size_t padded = (count + lanes - 1) / lanes * lanes, m = (size_t)w->m;
    /* Rows of a group are in one place of the buffer only if they are the same in all blocks of columns. */
    const size_t batch = line->cut == line->groups ? (size_t)line->batch : part.r1 - part.r0;
    call.y = (float *)(void *)sums;
    call.ldy = call.n = padded;
    int status = 0;
    for (size_t g = part.r0; g < part.r1 && status == 0; g += batch) {
        const size_t end = sc_min(part.r1, g + batch);
        status = sc_line_part(line, &call, (sc_part){0, padded, g, end});
        for (size_t i = g * height; i < sc_min(end * height, m); i++)
            put_row(w, c, (size_t)line->rows[i], part.n0, count, sums + (size_t)line->rows[i] * padded);
    }
    return status;
}

#define RUN(type)                                                             \
    switch (w->kernel) {                                                      \
        case SC_WORDS_CSR: csr_##type(w, call, some, x, ld); break;           \
        case SC_WORDS_DENSE: dense_##type(w, call, some, x, ld); break;       \
        default: vector_##type(w, call, some, x);                             \
    }

static int run_kernel(const sc_words *w, const sc_call *call, sc_part some, const uint32_t *x, size_t ld, uint32_t *sums) {
    if (w->kernel == SC_WORDS_LINE) return run_line(w, call, some, x, ld, sums);
    switch (w->dot) {
        case SC_X_I8: RUN(i8) break;
#if SC_BF16_DEPTH == 2
        case SC_X_BF16: RUN(bf16) break;
#endif
        default: RUN(f32)
    }
    return 0;
}

/* How X is packed for a part of n positions. */
typedef struct packing {
    int single;    /* Kernels with lanes of rows read no more than one position. */
    size_t words;  /* that are packed; a vector's tiles are whole */
    size_t width;  /* positions at once */
    size_t ld;     /* Rows begin an odd number of cache lines apart, so that those of one panel fall into different sets. */
    size_t packed; /* words of memory, before those for sums */
} packing;

static packing packing_of(const sc_words *w, size_t n) {
    const int vector = w->kernel == SC_WORDS_VECTOR, single = vector || (w->kernel == SC_WORDS_DENSE && n == 1);
    const size_t panel = sc_words_panel(w), most = vector ? 1 : SC_WORDS_MOST;
    const size_t words = vector ? (size_t)((const sc_vector *)w->inner)->tiles * SC_VECTOR_COLUMNS : (size_t)w->words;
    const size_t fit = sc_min(most, PACKED / (words ? words : 1)) / panel * panel;
    const size_t width = sc_min(fit ? fit : panel, (n + panel - 1) / panel * panel);
    const size_t ld = single ? 1 : ((width + ROW - 1) / ROW | 1) * ROW;
    return (packing){single, words, width, ld, ((words + 1) * ld + ROW - 1) / ROW * ROW};
}

size_t sc_words_scratch(const sc_words *w, size_t n) {
    const packing p = packing_of(w, n);
    return p.packed + (w->kernel == SC_WORDS_LINE ? (size_t)w->m * p.width + SC_LANES : 0);
}

int sc_words_part(const sc_words *w, const sc_call *call, sc_part part) {
    const int vector = w->kernel == SC_WORDS_VECTOR;
    const packing p = packing_of(w, part.n1 - part.n0);
    const int single = p.single;
    const size_t panel = sc_words_panel(w), words = p.words, width = p.width, ld = p.ld;
    float *const memory = sc_take(call, sc_words_scratch(w, part.n1 - part.n0));
    if (!memory) return -1;
    uint32_t *const x = (uint32_t *)(void *)memory, *const sums = x + p.packed;
    if (vector) memset(x + w->words, 0, (words - (size_t)w->words) * sizeof *x);
    int status = 0;
    for (size_t n = part.n0; n < part.n1 && status == 0; n += width) {
        const size_t count = sc_min(width, part.n1 - n);
        const size_t padded = single ? 1 : (count + panel - 1) / panel * panel;
        sc_pack_words(w, call, n, count, x, ld, padded);
        status = run_kernel(w, call, (sc_part){n, n + count, part.r0, part.r1}, x, ld, sums);
    }
    sc_give(call, memory);
    return status;
}
