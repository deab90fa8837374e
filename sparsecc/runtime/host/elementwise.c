/* Operators of two or three operands, element by element, over broadcast and strided arrays. */
#include "loops.h"

/* y = EXPRESSION of p and q at every place of the walk. */
#define BEGIN(NAME, R, T)                                                                                          \
    void host_##NAME(R *y, const T *a, const T *b, const int64_t *walk)                                            \
    {                                                                                                              \
        if (host_empty(walk))                                                                                      \
            return;                                                                                                \
        const int64_t last = walk[0] - 1, n = host_extent(walk, last);                                             \
        const int64_t sy = host_stride(walk, 0, last), sa = host_stride(walk, 1, last);                            \
        const int64_t sb = host_stride(walk, 2, last);                                                             \
        host_place place = {{0}, {0}};                                                                             \
        do {                                                                                                       \
            R *to = y + place.at[0];                                                                               \
            const T *left = a + place.at[1], *right = b + place.at[2];

#define END(R, T, EXPRESSION)                                                                                      \
            for (int64_t i = 0; i < n; i++) {                                                                      \
                const T p = left[i * sa], q = right[i * sb];                                                       \
                to[i * sy] = (R)(EXPRESSION);                                                                      \
            }                                                                                                      \
        } while (host_next(walk, 3, 1, &place));                                                                   \
    }

#define PLAIN(NAME, R, T, EXPRESSION) BEGIN(NAME, R, T) END(R, T, EXPRESSION)

/* The usual innermost strides have loops of their own, for the vectoriser. */
#define BINARY(NAME, R, T, EXPRESSION)                                                                             \
    BEGIN(NAME, R, T)                                                                                              \
    if (sy == 1 && sa == 1 && sb == 1) {                                                                           \
        HOST_INDEPENDENT for (int64_t i = 0; i < n; i++)                                                           \
        {                                                                                                          \
            const T p = left[i], q = right[i];                                                                     \
            to[i] = (R)(EXPRESSION);                                                                               \
        }                                                                                                          \
        continue;                                                                                                  \
    }                                                                                                              \
    if (sy == 1 && sa == 1 && sb == 0) {                                                                           \
        const T q = *right;                                                                                        \
        HOST_INDEPENDENT for (int64_t i = 0; i < n; i++)                                                           \
        {                                                                                                          \
            const T p = left[i];                                                                                   \
            to[i] = (R)(EXPRESSION);                                                                               \
        }                                                                                                          \
        continue;                                                                                                  \
    }                                                                                                              \
    END(R, T, EXPRESSION)

/* Integers wrap around: the sums are those of the unsigned type. */
#define INTEGERS(MACRO, S, T, U)                                                                                   \
    MACRO(add_##S, T, T, (U)p + (U)q)                                                                              \
    MACRO(sub_##S, T, T, (U)p - (U)q)                                                                              \
    MACRO(mul_##S, T, T, (U)p * (U)q)                                                                              \
    PLAIN(div_##S, T, T, q == 0 ? 0 : q == -1 ? (T)(0 - (U)p) : p / q)                                             \
    PLAIN(fmod_##S, T, T, q == 0 || q == -1 ? 0 : p % q)                                                           \
    PLAIN(mod_##S, T, T, q == 0 || q == -1 ? 0 : (p % q != 0 && (p % q < 0) != (q < 0) ? p % q + q : p % q))       \
    MACRO(max_##S, T, T, p > q ? p : q)                                                                            \
    MACRO(min_##S, T, T, p < q ? p : q)

#define COMPARISONS(MACRO, S, T)                                                                                   \
    MACRO(equal_##S, uint8_t, T, p == q)                                                                           \
    MACRO(greater_##S, uint8_t, T, p > q)                                                                          \
    MACRO(less_##S, uint8_t, T, p < q)

/* The rest has the sign of the divisor, also a rest of 0. */
static inline float floored_rest(float p, float q)
{
    const float rest = fmodf(p, q);
    if (rest == 0.0f)
        return copysignf(0.0f, q);
    return (rest < 0.0f) != (q < 0.0f) ? rest + q : rest;
}

BINARY(add_f32, float, float, p + q)
BINARY(sub_f32, float, float, p - q)
BINARY(mul_f32, float, float, p *q)
BINARY(div_f32, float, float, p / q)
BINARY(max_f32, float, float, host_larger(p, q))
BINARY(min_f32, float, float, p < q || p != p ? p : q)
PLAIN(pow_f32, float, float, pow((double)p, (double)q))
PLAIN(fmod_f32, float, float, fmodf(p, q))
PLAIN(mod_f32, float, float, floored_rest(p, q))
INTEGERS(BINARY, i32, int32_t, uint32_t)
INTEGERS(PLAIN, i64, int64_t, uint64_t)
BINARY(max_i8, int8_t, int8_t, p > q ? p : q)
BINARY(min_i8, int8_t, int8_t, p < q ? p : q)
BINARY(max_u8, uint8_t, uint8_t, p > q ? p : q)
BINARY(min_u8, uint8_t, uint8_t, p < q ? p : q)
COMPARISONS(BINARY, f32, float)
COMPARISONS(PLAIN, i32, int32_t)
COMPARISONS(PLAIN, i64, int64_t)
PLAIN(and_b8, uint8_t, uint8_t, p != 0 && q != 0)
PLAIN(or_b8, uint8_t, uint8_t, p != 0 || q != 0)
PLAIN(xor_b8, uint8_t, uint8_t, (p != 0) != (q != 0))

#define WHERE(BYTES)                                                                                               \
    void host_where_##BYTES(void *y, const uint8_t *condition, const void *a, const void *b, const int64_t *walk)  \
    {                                                                                                              \
        typedef host_moved_##BYTES moved;                                                                          \
        if (host_empty(walk))                                                                                      \
            return;                                                                                                \
        const int64_t last = walk[0] - 1, n = host_extent(walk, last);                                             \
        const int64_t sy = host_stride(walk, 0, last), sc = host_stride(walk, 1, last);                            \
        const int64_t sa = host_stride(walk, 2, last), sb = host_stride(walk, 3, last);                            \
        host_place place = {{0}, {0}};                                                                             \
        do {                                                                                                       \
            moved *to = (moved *)y + place.at[0];                                                                  \
            const uint8_t *chosen = condition + place.at[1];                                                       \
            const moved *left = (const moved *)a + place.at[2], *right = (const moved *)b + place.at[3];           \
            for (int64_t i = 0; i < n; i++) {                                                                      \
                const moved p = left[i * sa], q = right[i * sb];                                                   \
                to[i * sy] = chosen[i * sc] ? p : q;                                                               \
            }                                                                                                      \
        } while (host_next(walk, 4, 1, &place));                                                                   \
    }

WHERE(1)
WHERE(2)
WHERE(4)
WHERE(8)
