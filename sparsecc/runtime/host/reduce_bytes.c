/* Means of bytes that are bytes again: dequantised, summed in ascending order in f32, divided and quantised. */
#include "loops.h"

/* Rows abreast; floats, and results, that are held at a time. */
enum { ROWS = 16, WIDE = 8192, MEANS = 256 };

#if defined(__AVX512F__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

static inline __m512i four_rows(const uint8_t *const *rows, int64_t at, __mmask16 some)
{
    __m512i v = _mm512_castsi128_si512(_mm_maskz_loadu_epi8(some, rows[0] + at));
    v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(some, rows[1] + at), 1);
    v = _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(some, rows[2] + at), 2);
    return _mm512_inserti32x4(v, _mm_maskz_loadu_epi8(some, rows[3] + at), 3);
}

/* The sums of ROWS rows, a row in each element. */
static void sums_of_rows(float *total, const uint8_t *const *rows, int64_t axis, bool is_signed, float scale,
                         int32_t zero)
{
    const __m512 scales = _mm512_set1_ps(scale);
    const __m512i zeros = _mm512_set1_epi32(zero);
    __m512 sums = _mm512_setzero_ps();
    for (int64_t k = 0; k < axis; k += 16) {
        const int64_t count = host_least(16, axis - k);
        const __mmask16 some = (__mmask16)((1u << count) - 1);
        const __m512i a = four_rows(rows, k, some), b = four_rows(rows + 4, k, some);
        const __m512i c = four_rows(rows + 8, k, some), d = four_rows(rows + 12, k, some);
        const __m512i ab = _mm512_unpacklo_epi32(a, b), ab2 = _mm512_unpackhi_epi32(a, b);
        const __m512i cd = _mm512_unpacklo_epi32(c, d), cd2 = _mm512_unpackhi_epi32(c, d);
        /* Four elements of every row; row 4 e + l is in element e of 128-bit part l. */
        const __m512i fours[4] = {_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd),
                                  _mm512_unpacklo_epi64(ab2, cd2), _mm512_unpackhi_epi64(ab2, cd2)};
#pragma GCC unroll 16
        for (int64_t j = 0; j < 16; j++) {
            if (j >= count)
                break;
            const __m512i top = _mm512_slli_epi32(fours[j / 4], (unsigned)(24 - j % 4 * 8));
            const __m512i element = is_signed ? _mm512_srai_epi32(top, 24) : _mm512_srli_epi32(top, 24);
            const __m512 real = _mm512_cvtepi32_ps(_mm512_sub_epi32(element, zeros));
            sums = _mm512_add_ps(sums, _mm512_mul_ps(real, scales));
        }
    }
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    _mm512_storeu_ps(total, _mm512_permutexvar_ps(order, sums));
}

static bool means_of_rows(float *mean, const uint8_t *x, int64_t count, int64_t axis, bool is_signed, float scale,
                          int32_t zero)
{
    for (int64_t o = 0; o < count; o += ROWS) {
        const uint8_t *rows[ROWS];
        float total[ROWS];
        const int64_t n = host_least(ROWS, count - o);
        for (int64_t r = 0; r < ROWS; r++)
            rows[r] = x + (o + host_least(r, n - 1)) * axis;
        sums_of_rows(total, rows, axis, is_signed, scale, zero);
        for (int64_t r = 0; r < n; r++)
            mean[o + r] = total[r] / (float)axis;
    }
    return true;
}

/* How many rows come together. */
static int64_t rows_for(int64_t axis)
{
    (void)axis;
    return MEANS;
}
#else
#define means_of_rows(...) false

static int64_t rows_for(int64_t axis) { return axis > WIDE || axis <= 0 ? 1 : host_least(MEANS, WIDE / axis); }
#endif

/* Rows of one axis: as many together as fit, or one after the other. */
#define MEAN_Q(S, T, LOW, HIGH)                                                                                    \
    static void rows_##S(T *restrict y, const T *restrict x, int64_t outer, int64_t axis, float x_scale,           \
                         T x_zero, float y_scale, T y_zero)                                                        \
    {                                                                                                              \
        float wide[WIDE], mean[MEANS];                                                                             \
        const int64_t rows = rows_for(axis);                                                                       \
        for (int64_t o = 0; o < outer; o += rows) {                                                                \
            const int64_t n = host_least(rows, outer - o);                                                         \
            const T *from = x + o * axis;                                                                          \
            if (means_of_rows(mean, (const uint8_t *)from, n, axis, (LOW) < 0, x_scale, x_zero)) {                 \
                /* done */                                                                                         \
            } else if (axis <= WIDE) {                                                                             \
                host_dequantize_##S(wide, from, &x_scale, &x_zero, 1, 1, n * axis);                                \
                host_reduce_mean_f32(mean, wide, n, axis, 1);                                                      \
            } else {                                                                                               \
                mean[0] = 0;                                                                                       \
                for (int64_t k = 0; k < axis; k++)                                                                 \
                    mean[0] += (float)(from[k] - x_zero) * x_scale;                                                \
                mean[0] /= (float)axis;                                                                            \
            }                                                                                                      \
            host_quantize_##S(y + o, mean, &y_scale, &y_zero, 1, 1, n);                                            \
        }                                                                                                          \
    }                                                                                                              \
                                                                                                                   \
    void host_reduce_mean_q_##S(T *restrict y, const T *restrict x, int64_t outer, int64_t axis, int64_t inner,    \
                                float x_scale, int32_t x_zero, float y_scale, int32_t y_zero)                      \
    {                                                                                                              \
        if (inner == 1) {                                                                                          \
            rows_##S(y, x, outer, axis, x_scale, (T)x_zero, y_scale, (T)y_zero);                                   \
            return;                                                                                                \
        }                                                                                                          \
        for (int64_t o = 0; o < outer; o++)                                                                        \
            for (int64_t first = 0; first < inner; first += HOST_BLOCK) {                                          \
                const int64_t n = host_least(HOST_BLOCK, inner - first);                                           \
                const T *from = x + o * axis * inner + first;                                                      \
                float total[HOST_BLOCK] = {0};                                                                     \
                for (int64_t k = 0; k < axis; k++)                                                                 \
                    for (int64_t j = 0; j < n; j++)                                                                \
                        total[j] += (float)(from[k * inner + j] - x_zero) * x_scale;                               \
                for (int64_t j = 0; j < n; j++)                                                                    \
                    y[o * inner + first + j] =                                                                     \
                        (T)host_saturate(total[j] / (float)axis / y_scale, y_zero, LOW, HIGH);                     \
            }                                                                                                      \
    }

MEAN_Q(i8, int8_t, INT8_MIN, INT8_MAX)
MEAN_Q(u8, uint8_t, 0, UINT8_MAX)
