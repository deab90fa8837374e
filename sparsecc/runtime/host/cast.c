/* From one element type to another. */
#include "loops.h"

/* Towards zero. What no int64_t holds becomes its least value, as on x86. */
static inline int64_t truncated(float x) { return x >= -0x1p63f && x < 0x1p63f ? (int64_t)x : INT64_MIN; }

static inline uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static inline float of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

/* Exponent and fraction in the places of f32 are the number times 2^-112, also where it is subnormal. */
static inline float wide_f16(uint16_t h)
{
    const uint32_t magnitude = (uint32_t)(h & 0x7fffu) << 13, sign = (uint32_t)(h & 0x8000u) << 16;
    const uint32_t finite = bits_of(of_bits(magnitude) * 0x1p112f);
    return of_bits(sign | (magnitude >= 0x0f800000u ? magnitude | 0x7f800000u : finite));
}

/* To nearest, ties to even. A carry of the rounding may reach the exponent, and may make it infinite. */
static inline uint16_t narrow_f16(float f)
{
    const uint32_t magnitude = bits_of(f) & 0x7fffffffu, sign = bits_of(f) >> 16 & 0x8000u;
    const uint32_t moved = magnitude - 0x38000000u;
    const uint32_t normal = (moved + 0xfffu + (moved >> 13 & 1u)) >> 13;
    /* The last place of 0.5 is worth 2^-24, as is that of the subnormals. */
    const uint32_t subnormal = bits_of(of_bits(magnitude < 0x38800000u ? magnitude : 0u) + 0.5f) - 0x3f000000u;
    const uint32_t finite = magnitude < 0x38800000u ? subnormal : magnitude < 0x47800000u ? normal : 0x7c00u;
    return (uint16_t)(sign | (magnitude > 0x7f800000u ? 0x7e00u : finite));
}

static inline float wide_bf16(uint16_t h) { return of_bits((uint32_t)h << 16); }

static inline uint16_t narrow_bf16(float f)
{
    const uint32_t u = bits_of(f), rounded = (u + 0x7fffu + (u >> 16 & 1u)) >> 16;
    return (uint16_t)(f != f ? u >> 16 | 0x40u : rounded);
}

#define CAST(FROM, TO, T, R, EXPRESSION)                                                                           \
    void host_cast_##FROM##_##TO(R *restrict y, const T *restrict x, int64_t n)                                    \
    {                                                                                                              \
        for (int64_t i = 0; i < n; i++) {                                                                          \
            const T v = x[i];                                                                                      \
            y[i] = (R)(EXPRESSION);                                                                                \
        }                                                                                                          \
    }

CAST(f32, f16, float, uint16_t, narrow_f16(v))
CAST(f16, f32, uint16_t, float, wide_f16(v))
CAST(f32, bf16, float, uint16_t, narrow_bf16(v))
CAST(bf16, f32, uint16_t, float, wide_bf16(v))

CAST(f32, i8, float, int8_t, truncated(v))
CAST(f32, u8, float, uint8_t, truncated(v))
CAST(f32, i32, float, int32_t, truncated(v))
CAST(f32, i64, float, int64_t, truncated(v))

#define FROM_INTEGER(S, T)                                                                                         \
    CAST(S, f32, T, float, v)                                                                                      \
    CAST(S, b8, T, uint8_t, v != 0)

FROM_INTEGER(i8, int8_t)
FROM_INTEGER(u8, uint8_t)
FROM_INTEGER(i32, int32_t)
FROM_INTEGER(i64, int64_t)
CAST(f32, b8, float, uint8_t, v != 0.0f)

CAST(i8, u8, int8_t, uint8_t, v)
CAST(i8, i32, int8_t, int32_t, v)
CAST(i8, i64, int8_t, int64_t, v)
CAST(u8, i8, uint8_t, int8_t, v)
CAST(u8, i32, uint8_t, int32_t, v)
CAST(u8, i64, uint8_t, int64_t, v)
CAST(i32, i8, int32_t, int8_t, v)
CAST(i32, u8, int32_t, uint8_t, v)
CAST(i32, i64, int32_t, int64_t, v)
CAST(i64, i8, int64_t, int8_t, v)
CAST(i64, u8, int64_t, uint8_t, v)
CAST(i64, i32, int64_t, int32_t, v)
