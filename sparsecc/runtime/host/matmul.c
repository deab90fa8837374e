/* Products of two dense matrices, both known at run time only: attention scores, for one. Batched and strided.
 * Sums go in ascending order of k from 0, each product and each sum rounded by itself. */
#include "loops.h"

enum { ROWS = 4, COLS = 8, LANES = 4, DEPTH = 256, BATCH = 32 };

typedef float lanes __attribute__((vector_size(LANES * sizeof(float))));

static inline lanes load(const float *from)
{
    lanes v;
    memcpy(&v, from, sizeof v);
    return v;
}

/* A tile of ROWS x COLS sums over `depth` elements of k: a is read in place, b is packed [depth, COLS]. */
static void sum_tile(float sums[ROWS][COLS], const float *const a[ROWS], int64_t a_col, const float *panel, int64_t depth)
{
    lanes total[ROWS][COLS / LANES];
    memcpy(total, sums, sizeof total);
    for (int64_t k = 0; k < depth; k++) {
        const lanes left = load(panel + k * COLS), right = load(panel + k * COLS + LANES);
        for (int r = 0; r < ROWS; r++) {
            const float one = a[r][k * a_col];
            const lanes factor = {one, one, one, one};
            total[r][0] += factor * left;
            total[r][1] += factor * right;
        }
    }
    memcpy(sums, total, sizeof total);
}

static void multiply(float *y, const float *a, const float *b, const host_product *p)
{
    float panel[DEPTH * COLS];
    for (int64_t j = 0; j < p->n; j += COLS) {
        const int64_t cols = host_least(COLS, p->n - j);
        for (int64_t k = 0; k < p->k || k == 0; k += DEPTH) {
            const int64_t depth = host_least(DEPTH, p->k - k);
            for (int64_t l = 0; l < depth; l++)
                for (int64_t c = 0; c < COLS; c++)
                    panel[l * COLS + c] = c < cols ? b[(k + l) * p->b_row + (j + c) * p->b_col] : 0.0f;
            for (int64_t i = 0; i < p->m; i += ROWS) {
                const int64_t rows = host_least(ROWS, p->m - i);
                float sums[ROWS][COLS] = {{0}};
                const float *left[ROWS]; /* rows beyond the last one repeat it */
                for (int64_t r = 0; r < ROWS; r++)
                    left[r] = a + (i + host_least(r, rows - 1)) * p->a_row + k * p->a_col;
                float *to = y + i * p->y_row + j * p->y_col;
                for (int64_t r = 0; k > 0 && r < rows; r++)
                    for (int64_t c = 0; c < cols; c++)
                        sums[r][c] = to[r * p->y_row + c * p->y_col];
                sum_tile(sums, left, p->a_col, panel, depth);
                for (int64_t r = 0; r < rows; r++)
                    for (int64_t c = 0; c < cols; c++)
                        to[r * p->y_row + c * p->y_col] = sums[r][c];
            }
        }
    }
}

/* `count` products side by side, adjacent in y: batch last. a_step and b_step are 1, or 0 for a shared matrix. */
static void multiply_batch(float *y, const float *a, const float *b, const host_product *p, int64_t count, int64_t a_step,
                           int64_t b_step)
{
    for (int64_t i = 0; i < p->m; i++)
        for (int64_t j = 0; j < p->n; j++)
            for (int64_t first = 0; first < count; first += BATCH) {
                const int64_t n = host_least(BATCH, count - first);
                const float *left = a + i * p->a_row + first * a_step, *right = b + j * p->b_col + first * b_step;
                float total[BATCH] = {0};
                for (int64_t k = 0; k < p->k; k++, left += p->a_col, right += p->b_row) {
                    if (a_step == 1 && b_step == 1)
                        for (int64_t l = 0; l < n; l++)
                            total[l] += left[l] * right[l];
                    else
                        for (int64_t l = 0; l < n; l++)
                            total[l] += left[l * a_step] * right[l * b_step];
                }
                memcpy(y + i * p->y_row + j * p->y_col + first, total, (size_t)n * sizeof *total);
            }
}

void host_matmul_f32(float *restrict y, const float *restrict a, const float *restrict b, const host_product *product,
                     const int64_t *batch)
{
    if (host_empty(batch))
        return;
    const int64_t last = batch[0] - 1, count = host_extent(batch, last);
    const int64_t a_step = host_stride(batch, 1, last), b_step = host_stride(batch, 2, last);
    const bool side_by_side = count >= LANES && host_stride(batch, 0, last) == 1 && (a_step == 1 || a_step == 0) &&
                              (b_step == 1 || b_step == 0);
    host_place place = {{0}, {0}};
    if (side_by_side) {
        do
            multiply_batch(y + place.at[0], a + place.at[1], b + place.at[2], product, count, a_step, b_step);
        while (host_next(batch, 3, 1, &place));
        return;
    }
    do
        multiply(y + place.at[0], a + place.at[1], b + place.at[2], product);
    while (host_next(batch, 3, 0, &place));
}

/* Whole numbers of 16 bits hold the differences to the zero points. Sums wrap around. */
__attribute__((noinline)) static void sum_integers(uint32_t sums[ROWS][COLS], int16_t a[ROWS][DEPTH],
                                                   int16_t panel[DEPTH][COLS], int64_t depth)
{
    for (int64_t k = 0; k < depth; k++)
        for (int r = 0; r < ROWS; r++)
            for (int c = 0; c < COLS; c++)
                sums[r][c] += (uint32_t)((int32_t)a[r][k] * panel[k][c]);
}

#define MATMUL_INTEGER(S, A, B)                                                                                    \
    static void multiply_##S(int32_t *y, const A *a, const B *b, const A *a_zero, const B *b_zero,                 \
                             const host_product *p)                                                                \
    {                                                                                                              \
        int16_t panel[DEPTH][COLS], block[ROWS][DEPTH];                                                            \
        for (int64_t j = 0; j < p->n; j += COLS) {                                                                 \
            const int64_t cols = host_least(COLS, p->n - j);                                                       \
            for (int64_t k = 0; k < p->k || k == 0; k += DEPTH) {                                                  \
                const int64_t depth = host_least(DEPTH, p->k - k);                                                 \
                for (int64_t c = 0; c < COLS; c++) {                                                               \
                    const int zero = b_zero == NULL || c >= cols ? 0 : b_zero[(j + c) * p->b_zero_step];           \
                    for (int64_t l = 0; l < depth; l++)                                                            \
                        panel[l][c] =                                                                              \
                            (int16_t)(c < cols ? b[(k + l) * p->b_row + (j + c) * p->b_col] - zero : 0);           \
                }                                                                                                  \
                for (int64_t i = 0; i < p->m; i += ROWS) {                                                         \
                    const int64_t rows = host_least(ROWS, p->m - i);                                               \
                    uint32_t sums[ROWS][COLS] = {{0}};                                                             \
                    int32_t *to = y + i * p->y_row + j * p->y_col;                                                 \
                    for (int64_t r = 0; r < ROWS; r++) {                                                           \
                        const int64_t row = i + host_least(r, rows - 1);                                           \
                        const int zero = a_zero == NULL ? 0 : a_zero[row * p->a_zero_step];                        \
                        for (int64_t l = 0; l < depth; l++)                                                        \
                            block[r][l] = (int16_t)(a[row * p->a_row + (k + l) * p->a_col] - zero);                \
                    }                                                                                              \
                    for (int64_t r = 0; k > 0 && r < rows; r++)                                                    \
                        for (int64_t c = 0; c < cols; c++)                                                         \
                            sums[r][c] = (uint32_t)to[r * p->y_row + c * p->y_col];                                \
                    sum_integers(sums, block, panel, depth);                                                       \
                    for (int64_t r = 0; r < rows; r++)                                                             \
                        for (int64_t c = 0; c < cols; c++)                                                         \
                            to[r * p->y_row + c * p->y_col] = (int32_t)sums[r][c];                                 \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }                                                                                                              \
                                                                                                                   \
    void host_matmul_##S(int32_t *restrict y, const A *restrict a, const B *restrict b, const A *a_zero,           \
                         const B *b_zero, const host_product *product, const int64_t *batch)                       \
    {                                                                                                              \
        if (host_empty(batch))                                                                                     \
            return;                                                                                                \
        host_place place = {{0}, {0}};                                                                             \
        do                                                                                                         \
            multiply_##S(y + place.at[0], a + place.at[1], b + place.at[2], a_zero, b_zero, product);              \
        while (host_next(batch, 3, 0, &place));                                                                    \
    }

MATMUL_INTEGER(i8_i8, int8_t, int8_t)
MATMUL_INTEGER(i8_u8, int8_t, uint8_t)
MATMUL_INTEGER(u8_i8, uint8_t, int8_t)
MATMUL_INTEGER(u8_u8, uint8_t, uint8_t)
