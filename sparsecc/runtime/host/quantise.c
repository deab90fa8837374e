/* Between real numbers and integers: round(x / scale) + zero, ties to even, saturated. */
#include "loops.h"

/* scale and zero have one element per index of `axis`; zero NULL is 0. */
#define QUANTIZE(S, T, LOW, HIGH)                                                                                  \
    void host_quantize_##S(T *restrict y, const float *restrict x, const float *scale, const T *zero,              \
                           int64_t outer, int64_t axis, int64_t inner)                                             \
    {                                                                                                              \
        for (int64_t o = 0; o < outer * axis; o++) {                                                               \
            const float step = scale[o % axis];                                                                    \
            const int32_t shift = zero == NULL ? 0 : zero[o % axis];                                               \
            for (int64_t j = 0; j < inner; j++)                                                                    \
                y[o * inner + j] = (T)host_saturate(x[o * inner + j] / step, shift, LOW, HIGH);                    \
        }                                                                                                          \
    }                                                                                                              \
                                                                                                                   \
    void host_requantize_##S(T *restrict y, const int32_t *restrict x, const float *multiplier, int64_t outer,     \
                             int64_t axis, int64_t inner, int32_t zero)                                            \
    {                                                                                                              \
        for (int64_t o = 0; o < outer * axis; o++) {                                                               \
            const float factor = multiplier[o % axis];                                                             \
            for (int64_t j = 0; j < inner; j++)                                                                    \
                y[o * inner + j] = (T)host_saturate((float)x[o * inner + j] * factor, zero, LOW, HIGH);            \
        }                                                                                                          \
    }

QUANTIZE(i8, int8_t, INT8_MIN, INT8_MAX)
QUANTIZE(u8, uint8_t, 0, UINT8_MAX)

#define DEQUANTIZE(S, T, DIFFERENCE)                                                                               \
    void host_dequantize_##S(float *restrict y, const T *restrict x, const float *scale, const T *zero,            \
                             int64_t outer, int64_t axis, int64_t inner)                                           \
    {                                                                                                              \
        for (int64_t o = 0; o < outer * axis; o++) {                                                               \
            const float step = scale[o % axis];                                                                    \
            const DIFFERENCE shift = zero == NULL ? 0 : zero[o % axis];                                            \
            for (int64_t j = 0; j < inner; j++)                                                                    \
                y[o * inner + j] = (float)(x[o * inner + j] - shift) * step;                                       \
        }                                                                                                          \
    }

DEQUANTIZE(i8, int8_t, int32_t)
DEQUANTIZE(u8, uint8_t, int32_t)
DEQUANTIZE(i32, int32_t, int64_t)

/* Operands dequantised, combined in f32, quantised. */
#define COMBINE(NAME, T, OPERATOR, LOW, HIGH)                                                                      \
    void host_##NAME(T *y, const T *a, const T *b, const int64_t *walk, float a_scale, int32_t a_zero,             \
                     float b_scale, int32_t b_zero, float y_scale, int32_t y_zero)                                 \
    {                                                                                                              \
        if (host_empty(walk))                                                                                      \
            return;                                                                                                \
        const int64_t last = walk[0] - 1, n = host_extent(walk, last), sy = host_stride(walk, 0, last);            \
        const int64_t sa = host_stride(walk, 1, last), sb = host_stride(walk, 2, last);                            \
        host_place place = {{0}, {0}};                                                                             \
        do {                                                                                                       \
            T *to = y + place.at[0];                                                                               \
            const T *left = a + place.at[1], *right = b + place.at[2];                                             \
            HOST_INDEPENDENT for (int64_t i = 0; i < n; i++)                                                       \
            {                                                                                                      \
                const float p = (float)(left[i * sa] - a_zero) * a_scale;                                          \
                const float q = (float)(right[i * sb] - b_zero) * b_scale;                                         \
                to[i * sy] = (T)host_saturate((p OPERATOR q) / y_scale, y_zero, LOW, HIGH);                        \
            }                                                                                                      \
        } while (host_next(walk, 3, 1, &place));                                                                   \
    }

COMBINE(add_q_i8, int8_t, +, INT8_MIN, INT8_MAX)
COMBINE(add_q_u8, uint8_t, +, 0, UINT8_MAX)
COMBINE(mul_q_i8, int8_t, *, INT8_MIN, INT8_MAX)
COMBINE(mul_q_u8, uint8_t, *, 0, UINT8_MAX)

void host_lookup_1(void *y, const void *x, int64_t n, const void *table)
{
    host_moved_1 *to = y;
    const host_moved_1 *from = x, *values = table;
    for (int64_t i = 0; i < n; i++)
        to[i] = values[from[i]];
}

void host_lookup_4(void *y, const void *x, int64_t n, const void *table)
{
    host_moved_4 *restrict to = y;
    const host_moved_1 *restrict from = x;
    const host_moved_4 *restrict values = table;
    for (int64_t i = 0; i < n; i++)
        to[i] = values[from[i]];
}

void host_dynamic_quantize_u8(uint8_t *restrict y, float *scale, uint8_t *zero, const float *restrict x, int64_t n)
{
    float least = 0.0f, largest = 0.0f; /* 0 is always a value */
    for (int64_t i = 0; i < n; i++) {
        least = x[i] < least ? x[i] : least;
        largest = x[i] > largest ? x[i] : largest;
    }
    const float step = largest > least ? (largest - least) / 255.0f : 1.0f;
    const uint8_t shift = (uint8_t)host_saturate((0.0f - least) / step, 0, 0, UINT8_MAX);
    for (int64_t i = 0; i < n; i++)
        y[i] = (uint8_t)host_saturate(x[i] / step, shift, 0, UINT8_MAX);
    *scale = step;
    *zero = shift;
}
