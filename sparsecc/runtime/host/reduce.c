/* Reductions, softmax and normalisation along the middle axis of [outer, axis, inner].
 * Sums go in ascending order from 0, in f32; columns of `inner` go side by side. */
#include "loops.h"

enum { ABREAST = 8 };

/* A: the type sums are held in. STEP changes the total `t` by the element `v`. */
#define REDUCE(NAME, T, A, FIRST, STEP, RESULT)                                                                    \
    void host_reduce_##NAME(T *restrict y, const T *restrict x, int64_t outer, int64_t axis, int64_t inner)        \
    {                                                                                                              \
        int64_t o = 0;                                                                                             \
        /* Sums of one axis each: several of them go side by side. */                                              \
        for (; inner == 1 && o + ABREAST <= outer; o += ABREAST) {                                                 \
            A total[ABREAST];                                                                                      \
            const int64_t first = 0, j = 0;                                                                        \
            for (int64_t r = 0; r < ABREAST; r++) {                                                                \
                const T *from = x + (o + r) * axis;                                                                \
                (void)from, (void)first, (void)j;                                                                  \
                total[r] = (A)(FIRST);                                                                             \
            }                                                                                                      \
            for (int64_t k = 0; k < axis; k++)                                                                     \
                for (int64_t r = 0; r < ABREAST; r++) {                                                            \
                    const A v = (A)x[(o + r) * axis + k], t = total[r];                                            \
                    total[r] = (A)(STEP);                                                                          \
                }                                                                                                  \
            for (int64_t r = 0; r < ABREAST; r++) {                                                                \
                const A t = total[r];                                                                              \
                y[o + r] = (T)(RESULT);                                                                            \
            }                                                                                                      \
        }                                                                                                          \
        for (; o < outer; o++) {                                                                                   \
            const T *from = x + o * axis * inner;                                                                  \
            for (int64_t first = 0; first < inner; first += HOST_BLOCK) {                                          \
                const int64_t n = host_least(HOST_BLOCK, inner - first);                                           \
                A total[HOST_BLOCK];                                                                               \
                for (int64_t j = 0; j < n; j++)                                                                    \
                    total[j] = (A)(FIRST);                                                                         \
                for (int64_t k = 0; k < axis; k++)                                                                 \
                    for (int64_t j = 0; j < n; j++) {                                                              \
                        const A v = (A)from[k * inner + first + j], t = total[j];                                  \
                        total[j] = (A)(STEP);                                                                      \
                    }                                                                                              \
                for (int64_t j = 0; j < n; j++) {                                                                  \
                    const A t = total[j];                                                                          \
                    y[o * inner + first + j] = (T)(RESULT);                                                        \
                }                                                                                                  \
            }                                                                                                      \
        }                                                                                                          \
    }

static inline int64_t floor_quotient(int64_t sum, int64_t count) { return sum / count - (sum % count < 0); }

#define EXTREMES(S, T)                                                                                             \
    REDUCE(max_##S, T, T, from[first + j], v > t ? v : t, t)                                                       \
    REDUCE(min_##S, T, T, from[first + j], v < t ? v : t, t)

REDUCE(sum_f32, float, float, 0, t + v, t)
REDUCE(mean_f32, float, float, 0, t + v, t / (float)axis)
REDUCE(prod_f32, float, float, 1, t *v, t)
REDUCE(max_f32, float, float, from[first + j], host_larger(v, t), t)
REDUCE(min_f32, float, float, from[first + j], v < t || v != v ? v : t, t)
REDUCE(sum_i32, int32_t, uint32_t, 0, t + v, t)
REDUCE(mean_i32, int32_t, int64_t, 0, t + v, floor_quotient(t, axis))
REDUCE(prod_i32, int32_t, uint32_t, 1, t *v, t)
REDUCE(sum_i64, int64_t, uint64_t, 0, t + v, t)
REDUCE(mean_i64, int64_t, uint64_t, 0, t + v, floor_quotient((int64_t)t, axis))
REDUCE(prod_i64, int64_t, uint64_t, 1, t *v, t)
EXTREMES(i32, int32_t)
EXTREMES(i64, int64_t)
EXTREMES(i8, int8_t)
EXTREMES(u8, uint8_t)

/* The first place of the extreme, or the last; a NaN comes before every number. */
#define ARGUMENT(NAME, T, BETTER, NAN)                                                                             \
    void host_##NAME(int64_t *restrict y, const T *restrict x, int64_t outer, int64_t axis, int64_t inner,         \
                     int32_t last)                                                                                 \
    {                                                                                                              \
        for (int64_t o = 0; o < outer; o++)                                                                        \
            for (int64_t j = 0; j < inner; j++) {                                                                  \
                const T *from = x + o * axis * inner + j;                                                          \
                T best = from[0];                                                                                  \
                int64_t place = 0;                                                                                 \
                for (int64_t k = 1; k < axis; k++) {                                                               \
                    const T v = from[k * inner];                                                                   \
                    const bool is_nan = NAN(v), was_nan = NAN(best);                                               \
                    const bool equal = is_nan ? was_nan : v == best;                                               \
                    if (is_nan > was_nan || (!was_nan && v BETTER best) || (last && equal)) {                      \
                        best = v;                                                                                  \
                        place = k;                                                                                 \
                    }                                                                                              \
                }                                                                                                  \
                y[o * inner + j] = place;                                                                          \
            }                                                                                                      \
    }

#define NAN_OF_FLOAT(x) ((x) != (x))
#define NAN_OF_INTEGER(x) false
#define ARGUMENTS(S, T, NAN)                                                                                       \
    ARGUMENT(argmax_##S, T, >, NAN)                                                                                \
    ARGUMENT(argmin_##S, T, <, NAN)

ARGUMENTS(f32, float, NAN_OF_FLOAT)
ARGUMENTS(i32, int32_t, NAN_OF_INTEGER)
ARGUMENTS(i64, int64_t, NAN_OF_INTEGER)
ARGUMENTS(i8, int8_t, NAN_OF_INTEGER)
ARGUMENTS(u8, uint8_t, NAN_OF_INTEGER)

static void largest_of(float *largest, const float *x, int64_t axis, int64_t inner, int64_t n)
{
    memcpy(largest, x, (size_t)n * sizeof *largest);
    for (int64_t k = 1; k < axis; k++)
        for (int64_t j = 0; j < n; j++)
            largest[j] = host_larger(x[k * inner + j], largest[j]);
}

void host_softmax_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner)
{
    for (int64_t o = 0; axis > 0 && o < outer; o++)
        for (int64_t first = 0; first < inner; first += HOST_BLOCK) {
            const int64_t n = host_least(HOST_BLOCK, inner - first), at = o * axis * inner + first;
            float largest[HOST_BLOCK], total[HOST_BLOCK] = {0};
            largest_of(largest, x + at, axis, inner, n);
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++) {
                    const float power = (float)exp((double)(x[at + k * inner + j] - largest[j]));
                    y[at + k * inner + j] = power;
                    total[j] += power;
                }
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++)
                    y[at + k * inner + j] /= total[j];
        }
}

void host_log_softmax_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner)
{
    for (int64_t o = 0; axis > 0 && o < outer; o++)
        for (int64_t first = 0; first < inner; first += HOST_BLOCK) {
            const int64_t n = host_least(HOST_BLOCK, inner - first), at = o * axis * inner + first;
            float largest[HOST_BLOCK], total[HOST_BLOCK] = {0};
            largest_of(largest, x + at, axis, inner, n);
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++)
                    total[j] += (float)exp((double)(x[at + k * inner + j] - largest[j]));
            for (int64_t j = 0; j < n; j++)
                total[j] = (float)log((double)total[j]);
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++)
                    y[at + k * inner + j] = (x[at + k * inner + j] - largest[j]) - total[j];
        }
}

void host_layer_norm_f32(float *y, const float *x, const float *scale, const float *bias, int64_t outer, int64_t axis,
                         int64_t inner, float epsilon)
{
    const float count = (float)(axis > 0 ? axis : 1);
    for (int64_t o = 0; o < outer; o++)
        for (int64_t first = 0; first < inner; first += HOST_BLOCK) {
            const int64_t n = host_least(HOST_BLOCK, inner - first), at = o * axis * inner + first;
            float mean[HOST_BLOCK] = {0}, deviation[HOST_BLOCK] = {0};
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++)
                    mean[j] += x[at + k * inner + j];
            for (int64_t j = 0; j < n; j++)
                mean[j] /= count;
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++) {
                    const float centred = x[at + k * inner + j] - mean[j];
                    deviation[j] += centred * centred;
                }
            for (int64_t j = 0; j < n; j++)
                deviation[j] = sqrtf(deviation[j] / count + epsilon);
            for (int64_t k = 0; k < axis; k++)
                for (int64_t j = 0; j < n; j++) {
                    float value = (x[at + k * inner + j] - mean[j]) / deviation[j];
                    if (scale != NULL)
                        value *= scale[k];
                    if (bias != NULL)
                        value += bias[k];
                    y[at + k * inner + j] = value;
                }
        }
}

void host_batch_norm_f32(float *y, const float *x, const float *scale, const float *bias, const float *mean,
                         const float *variance, int64_t outer, int64_t axis, int64_t inner, float epsilon)
{
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < axis; k++) {
            const float deviation = sqrtf(variance[k] + epsilon), middle = mean[k], factor = scale[k], add = bias[k];
            const int64_t at = (o * axis + k) * inner;
            HOST_INDEPENDENT for (int64_t j = 0; j < inner; j++) y[at + j] =
                (x[at + j] - middle) / deviation * factor + add;
        }
}
