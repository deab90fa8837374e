/* The arithmetic of the tensor unit. Results are defined to the bit, whichever kernel computes them:
 * integers wrap, floats are chains of fused multiply-adds in the order of k. */
#include <math.h>

#include "internal.h"

#if defined(__SSE2__) && !defined(AX_PORTABLE)
#define AXI_SSE2 1
#include <emmintrin.h>
#endif
#if defined(__x86_64__) && defined(__GNUC__) && !defined(AX_PORTABLE)
#define AXI_FMA 1
#include <immintrin.h>
#endif

/* Packed int8: element (k, n) is half k % 2 of the pair at (k / 2) * n_pad + n, widened to 16 bits. */
void axi_pack_i8(int16_t *packed, int64_t k_pad, int64_t n_pad, const int8_t *b, size_t pitch, int64_t rows,
                 int64_t cols)
{
    int64_t k = 0;
#ifdef AXI_SSE2
    if (cols % AXI_PAD == 0 && cols == n_pad) {
        const __m128i zero = _mm_setzero_si128();
        for (; k < rows; k += 2) {
            const int8_t *even = b + (size_t)k * pitch, *odd = even + pitch;
            for (int64_t n = 0; n < cols; n += 16) {
                const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(even + n));
                const __m128i y = k + 1 < rows ? _mm_loadu_si128((const __m128i *)(const void *)(odd + n)) : zero;
                const __m128i pairs[2] = {_mm_unpacklo_epi8(x, y), _mm_unpackhi_epi8(x, y)};
                __m128i *to = (__m128i *)(void *)(packed + k * n_pad + 2 * n);
                for (int half = 0; half < 2; half++) { /* a byte doubled and shifted is a byte widened */
                    _mm_storeu_si128(to + 2 * half,
                                     _mm_srai_epi16(_mm_unpacklo_epi8(pairs[half], pairs[half]), 8));
                    _mm_storeu_si128(to + 2 * half + 1,
                                     _mm_srai_epi16(_mm_unpackhi_epi8(pairs[half], pairs[half]), 8));
                }
            }
        }
    }
#endif
    for (; k < rows; k += 2) {
        const int8_t *even = b + (size_t)k * pitch;
        int16_t *to = packed + k * n_pad;
        memset(to, 0, (size_t)n_pad * 2 * sizeof *to);
        for (int64_t n = 0; n < cols; n++) {
            to[2 * n] = even[n];
            to[2 * n + 1] = k + 1 < rows ? even[pitch + (size_t)n] : 0;
        }
    }
    if (k < k_pad)
        memset(packed + k * n_pad, 0, (size_t)((k_pad - k) * n_pad) * sizeof *packed);
}

#ifdef AXI_SSE2
/* Adds to c, or replaces it, and counts the lanes in which the sum left the range of int32. */
static int64_t put_sums(int32_t *c, __m128i sum, bool accumulate)
{
    __m128i *to = (__m128i *)(void *)c;
    if (!accumulate) {
        _mm_storeu_si128(to, sum);
        return 0;
    }
    const __m128i before = _mm_loadu_si128(to), after = _mm_add_epi32(before, sum);
    _mm_storeu_si128(to, after);
    const __m128i wrapped = _mm_and_si128(_mm_xor_si128(before, after), _mm_xor_si128(sum, after));
    const int lanes = _mm_movemask_ps(_mm_castsi128_ps(wrapped));
    return lanes ? __builtin_popcount((unsigned)lanes) : 0;
}

#define AXI_MADD(sum, x, y) sum = _mm_add_epi32(sum, _mm_madd_epi16(x, y))

/* One pair of k, broadcast from lane `lane` of each of two rows, times 16 columns. */
#define AXI_PAIR(x, y, lane, b)                                                                                    \
    do {                                                                                                           \
        const __m128i p = _mm_shuffle_epi32(x, (lane) * 0x55), q = _mm_shuffle_epi32(y, (lane) * 0x55);            \
        const __m128i b0 = _mm_loadu_si128(b), b1 = _mm_loadu_si128((b) + 1);                                      \
        AXI_MADD(s00, p, b0);                                                                                      \
        AXI_MADD(s10, q, b0);                                                                                      \
        AXI_MADD(s01, p, b1);                                                                                      \
        AXI_MADD(s11, q, b1);                                                                                      \
        const __m128i b2 = _mm_loadu_si128((b) + 2), b3 = _mm_loadu_si128((b) + 3);                                \
        AXI_MADD(s02, p, b2);                                                                                      \
        AXI_MADD(s12, q, b2);                                                                                      \
        AXI_MADD(s03, p, b3);                                                                                      \
        AXI_MADD(s13, q, b3);                                                                                      \
    } while (0)

int64_t axi_mm_i8(int32_t *c, size_t c_pitch, const int8_t *a, size_t a_pitch, const int16_t *packed, int64_t rows,
                  int64_t k_pad, int64_t n_pad, bool accumulate)
{
    int64_t wrapped = 0;
    for (int64_t r = 0; r < rows; r += 2) {
        const bool both = r + 1 < rows;
        const int8_t *a0 = a + (size_t)r * a_pitch, *a1 = both ? a0 + a_pitch : a0;
        int32_t *c0 = c + (size_t)r * c_pitch;
        for (int64_t n = 0; n < n_pad; n += 16) {
            __m128i s00 = _mm_setzero_si128(), s01 = s00, s02 = s00, s03 = s00;
            __m128i s10 = s00, s11 = s00, s12 = s00, s13 = s00;
            const __m128i *b = (const __m128i *)(const void *)(packed + 2 * n);
            const int64_t next = n_pad / 4; /* vectors from one pair of k to the next */
            for (int64_t k = 0; k < k_pad; k += 16) {
                const __m128i x = _mm_loadu_si128((const __m128i *)(const void *)(a0 + k));
                const __m128i y = _mm_loadu_si128((const __m128i *)(const void *)(a1 + k));
                __m128i x16 = _mm_srai_epi16(_mm_unpacklo_epi8(x, x), 8);
                __m128i y16 = _mm_srai_epi16(_mm_unpacklo_epi8(y, y), 8);
                AXI_PAIR(x16, y16, 0, b);
                AXI_PAIR(x16, y16, 1, b + next);
                AXI_PAIR(x16, y16, 2, b + 2 * next);
                AXI_PAIR(x16, y16, 3, b + 3 * next);
                x16 = _mm_srai_epi16(_mm_unpackhi_epi8(x, x), 8);
                y16 = _mm_srai_epi16(_mm_unpackhi_epi8(y, y), 8);
                AXI_PAIR(x16, y16, 0, b + 4 * next);
                AXI_PAIR(x16, y16, 1, b + 5 * next);
                AXI_PAIR(x16, y16, 2, b + 6 * next);
                AXI_PAIR(x16, y16, 3, b + 7 * next);
                b += 8 * next;
            }
            wrapped += put_sums(c0 + n, s00, accumulate) + put_sums(c0 + n + 4, s01, accumulate) +
                       put_sums(c0 + n + 8, s02, accumulate) + put_sums(c0 + n + 12, s03, accumulate);
            if (both) {
                int32_t *c1 = c0 + c_pitch + n;
                wrapped += put_sums(c1, s10, accumulate) + put_sums(c1 + 4, s11, accumulate) +
                           put_sums(c1 + 8, s12, accumulate) + put_sums(c1 + 12, s13, accumulate);
            }
        }
    }
    return wrapped;
}
#else
int64_t axi_mm_i8(int32_t *c, size_t c_pitch, const int8_t *a, size_t a_pitch, const int16_t *packed, int64_t rows,
                  int64_t k_pad, int64_t n_pad, bool accumulate)
{
    int64_t wrapped = 0;
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t n = 0; n < n_pad; n += AXI_PAD) {
            int32_t sum[AXI_PAD] = {0};
            const int8_t *row = a + (size_t)r * a_pitch;
            for (int64_t k = 0; k < k_pad; k += 2) {
                const int16_t *pair = packed + k * n_pad + 2 * n;
                const int32_t even = row[k], odd = row[k + 1];
                for (int i = 0; i < AXI_PAD; i++)
                    sum[i] += even * pair[2 * i] + odd * pair[2 * i + 1];
            }
            int32_t *to = c + (size_t)r * c_pitch + n;
            for (int i = 0; i < AXI_PAD; i++)
                wrapped += __builtin_add_overflow(accumulate ? to[i] : 0, sum[i], &to[i]);
        }
    }
    return wrapped;
}
#endif

#ifdef AXI_FMA
#define AXI_FMA_TARGET __attribute__((target("avx,fma")))

/* Four rows by 16 columns stay in registers along k. */
AXI_FMA_TARGET static void fma_4_rows(float *c, size_t c_pitch, const float *a, size_t a_pitch, const float *b,
                                      int64_t k, int64_t n_pad, bool accumulate)
{
    const float *a1 = a + a_pitch, *a2 = a1 + a_pitch, *a3 = a2 + a_pitch;
    float *c1 = c + c_pitch, *c2 = c1 + c_pitch, *c3 = c2 + c_pitch;
    __m256 s00 = _mm256_setzero_ps(), s01 = s00, s10 = s00, s11 = s00, s20 = s00, s21 = s00, s30 = s00, s31 = s00;
    if (accumulate) {
        s00 = _mm256_loadu_ps(c), s01 = _mm256_loadu_ps(c + 8);
        s10 = _mm256_loadu_ps(c1), s11 = _mm256_loadu_ps(c1 + 8);
        s20 = _mm256_loadu_ps(c2), s21 = _mm256_loadu_ps(c2 + 8);
        s30 = _mm256_loadu_ps(c3), s31 = _mm256_loadu_ps(c3 + 8);
    }
    for (int64_t i = 0; i < k; i++, b += n_pad) {
        const __m256 b0 = _mm256_loadu_ps(b), b1 = _mm256_loadu_ps(b + 8);
        __m256 x = _mm256_broadcast_ss(a + i);
        s00 = _mm256_fmadd_ps(x, b0, s00), s01 = _mm256_fmadd_ps(x, b1, s01);
        x = _mm256_broadcast_ss(a1 + i);
        s10 = _mm256_fmadd_ps(x, b0, s10), s11 = _mm256_fmadd_ps(x, b1, s11);
        x = _mm256_broadcast_ss(a2 + i);
        s20 = _mm256_fmadd_ps(x, b0, s20), s21 = _mm256_fmadd_ps(x, b1, s21);
        x = _mm256_broadcast_ss(a3 + i);
        s30 = _mm256_fmadd_ps(x, b0, s30), s31 = _mm256_fmadd_ps(x, b1, s31);
    }
    _mm256_storeu_ps(c, s00), _mm256_storeu_ps(c + 8, s01);
    _mm256_storeu_ps(c1, s10), _mm256_storeu_ps(c1 + 8, s11);
    _mm256_storeu_ps(c2, s20), _mm256_storeu_ps(c2 + 8, s21);
    _mm256_storeu_ps(c3, s30), _mm256_storeu_ps(c3 + 8, s31);
}

AXI_FMA_TARGET static void fma_row(float *c, const float *a, const float *b, int64_t k, int64_t n_pad,
                                   bool accumulate)
{
    __m256 s0 = accumulate ? _mm256_loadu_ps(c) : _mm256_setzero_ps();
    __m256 s1 = accumulate ? _mm256_loadu_ps(c + 8) : _mm256_setzero_ps();
    for (int64_t i = 0; i < k; i++, b += n_pad) {
        const __m256 x = _mm256_broadcast_ss(a + i);
        s0 = _mm256_fmadd_ps(x, _mm256_loadu_ps(b), s0);
        s1 = _mm256_fmadd_ps(x, _mm256_loadu_ps(b + 8), s1);
    }
    _mm256_storeu_ps(c, s0);
    _mm256_storeu_ps(c + 8, s1);
}

static bool mm_float_fma(float *c, size_t c_pitch, const float *a, size_t a_pitch, const float *b, int64_t rows,
                         int64_t k, int64_t n_pad, bool accumulate)
{
    if (!__builtin_cpu_supports("avx") || !__builtin_cpu_supports("fma"))
        return false;
    for (int64_t n = 0; n < n_pad; n += AXI_PAD) {
        int64_t r = 0;
        for (; r + 4 <= rows; r += 4)
            fma_4_rows(c + (size_t)r * c_pitch + n, c_pitch, a + (size_t)r * a_pitch, a_pitch, b + n, k, n_pad,
                       accumulate);
        for (; r < rows; r++)
            fma_row(c + (size_t)r * c_pitch + n, a + (size_t)r * a_pitch, b + n, k, n_pad, accumulate);
    }
    return true;
}
#endif

/* One row by 16 columns with a multiply and an add: the same as fused where every product is exact. */
static void exact_row(float *c, const float *a, const float *b, int64_t k, int64_t n_pad, bool accumulate)
{
    float sum[AXI_PAD] = {0};
    if (accumulate)
        memcpy(sum, c, sizeof sum);
    for (int64_t i = 0; i < k; i++, b += n_pad)
        for (int j = 0; j < AXI_PAD; j++)
            sum[j] += a[i] * b[j];
    memcpy(c, sum, sizeof sum);
}

static void fused_row(float *c, const float *a, const float *b, int64_t k, int64_t n_pad, bool accumulate)
{
    float sum[AXI_PAD] = {0};
    if (accumulate)
        memcpy(sum, c, sizeof sum);
    for (int64_t i = 0; i < k; i++, b += n_pad)
        for (int j = 0; j < AXI_PAD; j++)
            sum[j] = fmaf(a[i], b[j], sum[j]);
    memcpy(c, sum, sizeof sum);
}

void axi_mm_float(float *c, size_t c_pitch, const float *a, size_t a_pitch, const float *b, int64_t rows, int64_t k,
                  int64_t n_pad, bool accumulate, bool exact_products)
{
#ifdef AXI_FMA
    if (mm_float_fma(c, c_pitch, a, a_pitch, b, rows, k, n_pad, accumulate))
        return;
#endif
    for (int64_t r = 0; r < rows; r++) {
        for (int64_t n = 0; n < n_pad; n += AXI_PAD) {
            float *to = c + (size_t)r * c_pitch + n;
            const float *from = a + (size_t)r * a_pitch;
            if (exact_products)
                exact_row(to, from, b + n, k, n_pad, accumulate);
            else
                fused_row(to, from, b + n, k, n_pad, accumulate);
        }
    }
}
