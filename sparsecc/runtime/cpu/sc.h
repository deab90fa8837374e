/* Products of a constant matrix W [M, K] and X [K, N] on a CPU: y = f(W x + bias + residual), f32.
 *
 * X and Y are row-major; strides count elements and rows need not be aligned. Kernels differ in how they hold W. All
 * of them take any N, keep no state between calls, may run in several threads at once, and return 0, or -1 when
 * memory for their scratch panels cannot be had, or what a call brings is too small. Stored nonzeros see NaN and infinities of X as IEEE 754 says; a
 * zero of W that is not stored is not multiplied. Dense kernels multiply every zero.
 */
#ifndef SC_H
#define SC_H

#include <stddef.h>
#include <stdint.h>

/* Lanes of the widest vector, and of the panels that scratch copies of X are cut to. */
#if defined(__AVX512F__)
#define SC_LANES 16
#elif defined(__AVX__)
#define SC_LANES 8
#else
#define SC_LANES 4
#endif

/* One call. Positions are columns of X and Y. */
typedef struct sc_call {
    const float *x;
    size_t ldx;
    float *y;
    size_t ldy;
    size_t n;
    const float *residual; /* [M, N] that is added, or NULL */
    size_t ldr;
    /* For scratch panels: of each thread `each` floats, a multiple of 16, from an address that is one of 64 on; NULL:
     * they are allocated. */
    float *scratch;
    size_t each;
    int turned; /* X is [N, K], ldx elements from position to position: sc_line with `pack` alone */
} sc_call;

/* Activations, besides ReLU: of v limits a and b, slope a below 0, or as their names say; those of hard ones are
 * a v + b, limited to [0, 1]. */
enum {
    SC_NONE, SC_CLIP, SC_LEAKY_RELU, SC_HARD_SIGMOID, SC_HARD_SWISH, SC_SIGMOID, SC_TANH, SC_SILU, SC_GELU, SC_GELU_TANH
};

typedef struct sc_activation {
    int32_t kind;
    float a, b;
    const float *slopes; /* [M] of each row its slope instead of a, or NULL */
} sc_activation;

/* What is fused to the product. */
typedef struct sc_epilogue {
    const float *bias; /* [M], or NULL */
    int32_t relu;      /* results below 0 become 0; NaN stays */
    sc_activation activation; /* of sc_line: what its code does not do itself */
} sc_epilogue;

/* A part of a call: positions and rows (of whatever the kernel counts as rows) from first to end. */
typedef struct sc_part {
    size_t n0, n1;
    size_t r0, r1;
} sc_part;

/* Straight-line code: see sparsecc/cpu/assembly.py. Strides in bytes. */
typedef void sc_chunk_code(const char *x, const char *a, char *y, size_t ldy, const char *source, size_t lds, size_t ldx,
                           const char *code, const char *values);

typedef struct sc_chunk {
    sc_chunk_code *run;
    uint64_t first; /* of its values */
} sc_chunk;

typedef struct sc_line {
    int64_t m, k;
    int64_t lanes;          /* of the vectors in the code */
    int64_t width;          /* columns of a block */
    int64_t blocks, groups; /* the table is [blocks][groups] */
    int64_t height;         /* rows of a group */
    const sc_chunk *table; /* and where code and values of the last chunk end */
    const float *values; /* of all chunks */
    int64_t ahead;       /* bytes from a chunk's values to where its pointer to them stands */
    sc_epilogue epilogue;
    const int32_t *rows; /* [M] row of the result of each row of each group of the last block */
    int64_t cut; /* threads may share out groups: `groups`: anywhere; below: before this one alone; 0: nowhere */
    /* The schedule: any is right, some are faster. */
    int64_t panels; /* of X that run through a block of columns before the next */
    int64_t batch;  /* groups that run over those panels one after another */
    int64_t pack;   /* X is copied to panels first */
    int64_t fetches; /* panels that share out the fetching of what runs next, by instructions in the code; 0: none */
} sc_line;

/* Exact CSR over panels, driven by data. Entries of a row stand together, for each block of columns. Rows may be in
 * another order in each block, inside segments of SC_CSR_ROWS. */
enum { SC_CSR_ROWS = 64 };

typedef struct sc_entry {
    float value;
    uint32_t column; /* inside the block */
} sc_entry;

typedef struct sc_csr {
    int64_t m, k;
    int64_t width, blocks;   /* columns of a block; 0, of one block: X is not packed to panels, rows run one by one */
    const int64_t *begin;    /* [blocks][m + 1] into entries */
    const sc_entry *entries; /* by block, by place of the row */
    const int32_t *rows;     /* [blocks][m] row of the result at each place */
    sc_epilogue epilogue;
} sc_csr;

/* Matrix times vector: tiles of SC_VECTOR_ROWS rows and SC_VECTOR_COLUMNS columns; every step of a tile multiplies
 * at most one value of each of its rows. A slab is up to SC_VECTOR_GROUPS groups of rows; its tiles stand in stretches
 * of equally many steps. Tiles without a value are left out; of int8 in words, those of SC_VECTOR_COLUMNS steps have
 * one for each column, in their order. */
enum { SC_VECTOR_ROWS = 16, SC_VECTOR_COLUMNS = 32, SC_VECTOR_GROUPS = 16 };
enum { SC_VECTOR_SLAB = SC_VECTOR_ROWS * SC_VECTOR_GROUPS }; /* rows */

/* Or slices of SC_SLICE_ROWS rows whose steps may have any columns: with few values a slice has fewer places without
 * one than tiles have. Then `group` of a slab counts slices, and a stretch is slices of equally many steps. */
enum { SC_SLICE_ROWS = 8 };

/* Or groups of SC_VECTOR_ROWS rows whose steps may each have any two blocks of SC_PAIR_COLUMNS columns. Then a stretch
 * is groups of equally many steps, and a column with SC_THERE is that of a value; there are no masks. */
enum { SC_PAIR_COLUMNS = 16, SC_THERE = 128 };

/* Or rounds: chunks of `columns` columns are cut to SC_ROUND_BLOCKS blocks of 16 columns or less, the first
 * SC_ROUND_CLOSED of which have a zero beside 15 columns or less. Which two blocks a step of any group reads depends on
 * how many follow it, modulo SC_ROUND_STEPS: rounds.c. Of SC_VECTOR_ROWS rows each takes a value from one of them, or
 * that zero. The few values that steps have no place for stand alone. A slab is rows that follow each other, of about as
 * many steps as those of another; where the last group has less than SC_VECTOR_ROWS, `rows` names its first one again. Its
 * `stretch` is the first of its last groups, which have no steps in the only chunk. */
enum { SC_ROUND_BLOCKS = 33, SC_ROUND_CLOSED = 16, SC_ROUND_STEPS = 96 };

typedef struct sc_round_begin {
    int64_t step, six; /* the first of a slab in a chunk: of its steps, and of its vectors of columns */
} sc_round_begin;

typedef struct sc_rounds {
    int64_t chunks, columns;     /* 0: the layout is another */
    int64_t slabs;
    const uint16_t *starts;      /* [SC_ROUND_BLOCKS + 1] first column of each block in its chunk */
    const uint16_t *steps;       /* [chunks][groups], even */
    const sc_round_begin *begin; /* [chunks][slabs] */
    const uint32_t *picks;       /* six times 5 bits: which float of the two blocks, for 16 rows */
    /* Those that stand alone, with their rows and columns; `tile` of a slab is where its own begin. */
    const float *singles;
    const int32_t *single_rows;
    const uint16_t *single_columns;
} sc_rounds;

typedef struct sc_slab {
    int64_t group, stretch, tile, step; /* the first of each; the next slab's are the end */
} sc_slab;

typedef struct sc_stretch {
    int32_t steps; /* of each tile */
    int32_t tiles;
} sc_stretch;

typedef struct sc_tile {
    uint16_t group; /* of the slab */
    uint16_t tile;  /* of columns */
} sc_tile;

typedef struct sc_vector {
    int64_t m, k;
    int64_t tiles; /* of columns */
    const sc_slab *slabs; /* [slabs + 1], ceil(m / SC_VECTOR_SLAB) of them, or those of rounds */
    const sc_stretch *stretches;
    const sc_tile *places;
    /* Of each step SC_VECTOR_ROWS values, their columns inside the tile, and which rows have one. */
    const float *values;
    const uint8_t *columns;
    const uint16_t *masks;
    const int32_t *rows;   /* [groups][SC_VECTOR_ROWS] row of the result, or -1 */
    sc_epilogue epilogue;
    const uint16_t *wide; /* Of slices: columns of each step; `columns` and `places` are not there. Else NULL. */
    const uint16_t *pairs; /* Of pairs: the first columns of both blocks of each step. Else NULL. */
    int64_t shared;        /* Steps that share a pair: 1, or 2. */
    sc_rounds rounds;
} sc_vector;

/* Dense: panels of rows, column by column. */
typedef struct sc_dense {
    int64_t m, k;
    const float *values; /* [ceil(m / SC_DENSE_ROWS)][k][SC_DENSE_ROWS], rows beyond m are 0 */
    sc_epilogue epilogue;
} sc_dense;

#if SC_LANES == 16
enum { SC_DENSE_ROWS = 14, SC_DENSE_VECTORS = 2 };
#elif SC_LANES == 8
enum { SC_DENSE_ROWS = 6, SC_DENSE_VECTORS = 2 };
#else
enum { SC_DENSE_ROWS = 8, SC_DENSE_VECTORS = 3 };
#endif

/* Narrow types: elements of W and X in words of 32 bits (words.h), and kernels over them as over floats. */
enum { SC_WORDS_VECTORS = 4, SC_WORDS_MOST = 512 }; /* positions that are packed at once, at most */

/* Of X. f32 is rounded to the other type on its way. */
enum { SC_X_I8, SC_X_BF16, SC_X_F16, SC_X_F32_AS_BF16, SC_X_F32_AS_F16 };
/* Of Y. */
enum { SC_Y_I32, SC_Y_F32, SC_Y_I8, SC_Y_U8, SC_Y_BF16, SC_Y_F16 };
/* Of a bias: that of the sums. */
enum { SC_BIAS_NONE, SC_BIAS_I32, SC_BIAS_F32 };
/* What `inner` of sc_words is. */
enum { SC_WORDS_LINE, SC_WORDS_CSR, SC_WORDS_DENSE, SC_WORDS_VECTOR };

/* What follows the sums, in this order: bias, scale, residual (of the call), activation, limits, zero point, type. */
typedef struct sc_finish {
    int32_t integers; /* the sums are int32, else f32 */
    int32_t out;
    int32_t plain; /* sums and their bias are the results */
    int32_t bias_type;
    const void *bias;   /* [m] */
    const float *scale; /* [m], one for all, or NULL */
    int32_t scale_rows; /* there are m of them */
    int32_t zero;
    float low, high;
    int32_t low_i32, high_i32; /* the limits of results in int32 */
    sc_activation activation;
} sc_finish;

typedef struct sc_words {
    int64_t m, k;           /* of W in elements */
    int64_t words, depth;   /* words of a row; elements of a word: sc_words_depth */
    int64_t x_type, dot;    /* of X; of the multiplication: SC_X_I8, SC_X_BF16, or SC_X_F16 for f32 */
    const int32_t *columns; /* [words][depth] which column each element of a word is; -1: none */
    int64_t kernel;
    const void *inner; /* sc_line, sc_csr (one block), sc_dense or sc_vector; its k counts words, its values are words */
    sc_finish finish;
} sc_words;

int sc_words_part(const sc_words *w, const sc_call *call, sc_part part);
size_t sc_words_rows(const sc_words *w);  /* that a part counts */
size_t sc_words_panel(const sc_words *w); /* positions between which parts are cut */
/* x, y and strides are those of the types that `w` has. Any kernel takes any n. */
int sc_words_run(const sc_words *w, const sc_call *call, int threads);
/* Elements of a word for a type of X, which depends on the instructions this was compiled for. */
int sc_words_depth(int x_type);

int sc_line_part(const sc_line *w, const sc_call *call, sc_part part);
int sc_csr_part(const sc_csr *w, const sc_call *call, sc_part part);
int sc_dense_part(const sc_dense *w, const sc_call *call, sc_part part);
int sc_vector_part(const sc_vector *w, const sc_call *call, sc_part part);

/* Floats of scratch panels that a thread needs at most in a call of n positions; ldx is 1 or not. */
size_t sc_line_scratch(const sc_line *w, size_t n, size_t ldx);
size_t sc_csr_scratch(const sc_csr *w, size_t n, size_t ldx);
size_t sc_dense_scratch(const sc_dense *w, size_t n, size_t ldx);
size_t sc_vector_scratch(const sc_vector *w, size_t n, size_t ldx);
size_t sc_words_scratch(const sc_words *w, size_t n);

/* Whole calls, cut to parts for so many threads (at least 1). sc_vector_run computes positions one by one. */
int sc_line_run(const sc_line *w, const sc_call *call, int threads);
int sc_csr_run(const sc_csr *w, const sc_call *call, int threads);
int sc_dense_run(const sc_dense *w, const sc_call *call, int threads);
int sc_vector_run(const sc_vector *w, const sc_call *call, int threads);

/* The same on plain arguments, strides in elements; sc_*_call has no residual. */
#define SC_AT(kind)                                                                                                \
    int sc_##kind##_at(const sc_##kind *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n,             \
                       const float *residual, size_t ldr, int threads);
SC_AT(line)
SC_AT(csr)
SC_AT(dense)
SC_AT(vector)
SC_AT(words)

/* The same with scratch panels that the caller has, as of sc_call, for all threads. */
#define SC_IN(kind)                                                                                                \
    int sc_##kind##_in(const sc_##kind *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n,             \
                       const float *residual, size_t ldr, int threads, float *scratch, size_t each);
SC_IN(line)
SC_IN(csr)
SC_IN(dense)
SC_IN(vector)
SC_IN(words)

#define SC_CALL(kind)                                                                                                \
    static inline int sc_##kind##_call(const sc_##kind *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, \
                                       int threads) {                                                                \
        return sc_##kind##_at(w, x, ldx, y, ldy, n, NULL, 0, threads);                                               \
    }
SC_CALL(line)
SC_CALL(csr)
SC_CALL(dense)
SC_CALL(vector)
/* The same with a residual. */
#define SC_WITH(kind)                                                                                                \
    static inline int sc_##kind##_with(const sc_##kind *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, \
                                       const float *residual, size_t ldr, int threads) {                             \
        return sc_##kind##_at(w, x, ldx, y, ldy, n, residual, ldr, threads);                                         \
    }
SC_WITH(line)
SC_WITH(csr)
SC_WITH(dense)
SC_WITH(vector)
static inline int sc_words_call(const sc_words *w, const void *x, size_t ldx, void *y, size_t ldy, size_t n, int threads) {
    return sc_words_at(w, (const float *)x, ldx, (float *)y, ldy, n, NULL, 0, threads);
}

/* sc_line_in on X [N, K], ldx elements from position to position, which is turned while it is packed. */
int sc_line_turned(const sc_line *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, const float *residual,
                   size_t ldr, int threads, float *scratch, size_t each);

/* Rows that sc_dense packs together, which depends on the instructions this was compiled for. */
int sc_dense_rows(void);
/* Whether this CPU has the instructions this was compiled for. */
int sc_supported(void);

/* Runs task(context, index) for each index below count, on that many threads if it can. */
typedef int sc_task(const void *context, int index);
int sc_parallel(sc_task *task, const void *context, int count);
/* Starts the threads that calls for so many will want, which those do otherwise. */
void sc_start(int threads);

/* Seconds of the fastest of at least three runs of a kernel, for some `budget` seconds; below 0 when one failed. On one
 * thread the thread's own, which others on a busy machine do not add to. */
typedef int sc_run(const void *w, const sc_call *call, int threads);
double sc_time(sc_run *run, const void *w, const sc_call *call, int threads, double budget);
/* Multiply-adds of the widest vector that one core starts per second, times its lanes and 2. */
double sc_peak(double budget);
/* Bytes that one core reads per second of so many floats, from whichever cache holds them: at one position a product
 * cannot be faster than W is read. */
double sc_read(const float *data, size_t count, double budget);
/* Single floats that one core loads per second to registers that multiply, from the first cache if they fit it: where
 * columns are far apart, each nonzero takes one. */
double sc_loads(const float *data, size_t count, double budget);
/* As sc_peak, for the multiplication of words of a type of X, and what their elements do. */
double sc_words_peak(int x_type, double budget);

/* An array of numpy, as far as it is read: what follows the head of its object. */
typedef struct sc_array {
    char *data;
    int nd;
    const intptr_t *dims, *strides;
    void *base, *descr;
    int flags;
} sc_array;

typedef struct sc_array_kernel {
    sc_run *run; /* NULL: not by this way */
    const void *w;
} sc_array_kernel;

typedef struct sc_array_call {
    void *array_type, *x_type, *y_type; /* the type of arrays, and their element types */
    int64_t head;               /* bytes of an object's head, the last of which are its type */
    int64_t m, k;
    int64_t x_size, y_size; /* of elements in bytes */
    int64_t alignment; /* bits of an address that are 0 where vectors are aligned */
    int64_t few; /* positions up to which `single` runs */
    sc_array_kernel aligned, unaligned, single;
} sc_array_call;

const sc_array *sc_array_at(const char *object, size_t head);
/* x and y are addresses of Python objects. 0; -1 without memory; 1 when they are not what this takes: arrays of two
 * dimensions with contiguous rows of these types that do not overlap. Then nothing has been done. */
int sc_array_run(const sc_array_call *f, const char *x, const char *y, int threads);

#endif
