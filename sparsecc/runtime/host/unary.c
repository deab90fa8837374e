/* Functions of one operand. Those without an exact f32 formula are evaluated in f64 and rounded once. */
#include "loops.h"

#define UNARY(NAME, T, EXPRESSION)                                                                                 \
    void host_##NAME(T *y, const T *x, int64_t n)                                                                  \
    {                                                                                                              \
        HOST_INDEPENDENT for (int64_t i = 0; i < n; i++)                                                           \
        {                                                                                                          \
            const T v = x[i];                                                                                      \
            y[i] = (T)(EXPRESSION);                                                                                \
        }                                                                                                          \
    }

#define UNARY_1(NAME, FIRST, EXPRESSION)                                                                           \
    void host_##NAME(float *y, const float *x, int64_t n, float FIRST)                                             \
    {                                                                                                              \
        HOST_INDEPENDENT for (int64_t i = 0; i < n; i++)                                                           \
        {                                                                                                          \
            const float v = x[i];                                                                                  \
            y[i] = (float)(EXPRESSION);                                                                            \
        }                                                                                                          \
    }

#define UNARY_2(NAME, FIRST, SECOND, EXPRESSION)                                                                   \
    void host_##NAME(float *y, const float *x, int64_t n, float FIRST, float SECOND)                               \
    {                                                                                                              \
        HOST_INDEPENDENT for (int64_t i = 0; i < n; i++)                                                           \
        {                                                                                                          \
            const float v = x[i];                                                                                  \
            y[i] = (float)(EXPRESSION);                                                                            \
        }                                                                                                          \
    }

static inline float limited(float x, float low, float high)
{
    const float raised = x < low ? low : x;
    return raised > high ? high : raised;
}

static inline double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

static inline double gelu(double x) { return 0.5 * x * erfc(-x * 0.70710678118654752440); }

static inline double gelu_tanh(double x)
{
    return 0.5 * x * (1.0 + tanh(0.79788456080286535588 * (x + 0.044715 * x * x * x)));
}

static inline double softplus(double x) { return (x < 0.0 ? 0.0 : x) + log1p(exp(-fabs(x))); }

UNARY(relu_f32, float, v < 0.0f ? 0.0f : v)
UNARY(neg_f32, float, -v)
UNARY(abs_f32, float, fabsf(v))
UNARY(reciprocal_f32, float, 1.0f / v)
UNARY(sqrt_f32, float, sqrtf(v))
UNARY(ceil_f32, float, ceilf(v))
UNARY(floor_f32, float, floorf(v))
UNARY(round_f32, float, rintf(v))
UNARY(sign_f32, float, v != v ? v : (float)((v > 0.0f) - (v < 0.0f)))
UNARY(softsign_f32, float, v / (1.0f + fabsf(v)))
UNARY(exp_f32, float, exp((double)v))
UNARY(log_f32, float, log((double)v))
UNARY(erf_f32, float, erf((double)v))
UNARY(sin_f32, float, sin((double)v))
UNARY(cos_f32, float, cos((double)v))
UNARY(tanh_f32, float, tanh((double)v))
UNARY(sigmoid_f32, float, sigmoid((double)v))
UNARY(silu_f32, float, (double)v *sigmoid((double)v))
UNARY(gelu_f32, float, gelu((double)v))
UNARY(gelu_tanh_f32, float, gelu_tanh((double)v))
UNARY(softplus_f32, float, softplus((double)v))

UNARY_1(leaky_relu_f32, alpha, v < 0.0f ? alpha * v : v)
UNARY_1(elu_f32, alpha, v > 0.0f ? (double)v : (double)alpha * expm1((double)v))
UNARY_2(clip_f32, low, high, limited(v, low, high))
UNARY_2(hard_sigmoid_f32, alpha, beta, limited(alpha * v + beta, 0.0f, 1.0f))
UNARY_2(hard_swish_f32, alpha, beta, v *limited(alpha * v + beta, 0.0f, 1.0f))

UNARY(relu_i32, int32_t, v < 0 ? 0 : v)
UNARY(neg_i32, int32_t, 0 - (uint32_t)v)
UNARY(abs_i32, int32_t, v < 0 ? 0 - (uint32_t)v : (uint32_t)v)
UNARY(relu_i64, int64_t, v < 0 ? 0 : v)
UNARY(neg_i64, int64_t, 0 - (uint64_t)v)
UNARY(abs_i64, int64_t, v < 0 ? 0 - (uint64_t)v : (uint64_t)v)
UNARY(relu_i8, int8_t, v < 0 ? 0 : v)
UNARY(not_b8, uint8_t, v == 0)
