/* Products with a sparse matrix, and softmax along its rows: row_first [m + 1] says where rows begin, column
 * [points] where their points lie. Sums go in the order of the points, from 0. */
#include "loops.h"

#define SPMM(S, R, A, T, V, STEP)                                                                                  \
    {                                                                                                              \
        for (int64_t i = 0; i < m; i++)                                                                            \
            for (int64_t first = 0; first < n; first += HOST_BLOCK) {                                              \
                const int64_t width = host_least(HOST_BLOCK, n - first);                                           \
                A total[HOST_BLOCK] = {0};                                                                         \
                for (int64_t p = row_first[i]; p < row_first[i + 1]; p++) {                                        \
                    const V factor = values[p];                                                                    \
                    const T *from = x + column[p] * x_pitch + first;                                               \
                    for (int64_t j = 0; j < width; j++)                                                            \
                        total[j] += (A)(STEP);                                                                     \
                }                                                                                                  \
                for (int64_t j = 0; j < width; j++)                                                                \
                    y[i * y_pitch + first + j] = (R)(bias == NULL ? total[j] : total[j] + (A)bias[i]);             \
            }                                                                                                      \
    }

void host_spmm_f32(float *restrict y, const float *restrict values, const float *restrict x, const float *bias,
                   const int32_t *row_first, const int32_t *column, int64_t m, int64_t n, int64_t y_pitch,
                   int64_t x_pitch)
SPMM(f32, float, float, float, float, factor *from[j])

void host_spmm_i8(int32_t *restrict y, const int16_t *restrict values, const int8_t *restrict x, const int32_t *bias,
                  const int32_t *row_first, const int32_t *column, int64_t m, int64_t n, int64_t y_pitch,
                  int64_t x_pitch, int32_t x_zero)
SPMM(i8, int32_t, uint32_t, int8_t, int16_t, factor *(from[j] - x_zero))

void host_spmm_u8(int32_t *restrict y, const int16_t *restrict values, const uint8_t *restrict x, const int32_t *bias,
                  const int32_t *row_first, const int32_t *column, int64_t m, int64_t n, int64_t y_pitch,
                  int64_t x_pitch, int32_t x_zero)
SPMM(u8, int32_t, uint32_t, uint8_t, int16_t, factor *(from[j] - x_zero))

void host_sddmm_f32(float *restrict values, const float *restrict a, const float *restrict b,
                    const int32_t *row_first, const int32_t *column, const host_product *product)
{
    for (int64_t i = 0; i < product->m; i++)
        for (int64_t p = row_first[i]; p < row_first[i + 1]; p++) {
            const float *left = a + i * product->a_row, *right = b + column[p] * product->b_col;
            float total = 0.0f;
            for (int64_t k = 0; k < product->k; k++)
                total += left[k * product->a_col] * right[k * product->b_row];
            values[p] = total;
        }
}

void host_csr_softmax_f32(float *y, const float *x, const int32_t *row_first, int64_t outer, int64_t m, int64_t inner,
                          float scale)
{
    for (int64_t o = 0; o < outer; o++)
        for (int64_t i = 0; i < m; i++)
            for (int64_t j = 0; j < inner; j++) {
                const int64_t begin = row_first[i], end = row_first[i + 1], base = o * row_first[m] * inner + j;
                float largest = -INFINITY, total = 0.0f;
                for (int64_t p = begin; p < end; p++)
                    largest = host_larger(scale * x[base + p * inner], largest);
                for (int64_t p = begin; p < end; p++) {
                    const float power = (float)exp((double)(scale * x[base + p * inner] - largest));
                    y[base + p * inner] = power;
                    total += power;
                }
                for (int64_t p = begin; p < end; p++)
                    y[base + p * inner] /= total;
            }
}
