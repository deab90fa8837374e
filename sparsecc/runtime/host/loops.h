/* What the host operators share: strided walks, ranges of windows, roundings. Not part of the interface. */
#ifndef HOST_LOOPS_H
#define HOST_LOOPS_H

#include <math.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "host.h"

/* Products and sums are rounded one by one, so that every compiler gives the same bits. gcc knows the option
 * -ffp-contract=off only (implied by -std=c11), and vectorises loops of unknown length at -O2 only if asked;
 * nothing here looks at floating-point exceptions or errno. */
#if defined(__clang__)
#pragma STDC FP_CONTRACT OFF
#elif defined(__GNUC__) && defined(__OPTIMIZE__)
#pragma GCC optimize("tree-vectorize", "vect-cost-model=dynamic", "no-trapping-math", "no-math-errno")
#endif

/* A loop that may run in place: element i of the result depends on elements i of the operands alone. */
#if defined(__GNUC__) && !defined(__clang__)
#define HOST_INDEPENDENT _Pragma("GCC ivdep")
#else
#define HOST_INDEPENDENT
#endif

enum { HOST_RANK = 6, HOST_OPERANDS = 4, HOST_BLOCK = 64 };

/* Elements that are only moved; they may hold any type. */
typedef uint8_t __attribute__((may_alias)) host_moved_1;
typedef uint16_t __attribute__((may_alias)) host_moved_2;
typedef uint32_t __attribute__((may_alias)) host_moved_4;
typedef uint64_t __attribute__((may_alias)) host_moved_8;

/* Where a walk (host.h) stands: its indices and the offset of each operand, in elements. */
typedef struct {
    int64_t index[HOST_RANK], at[HOST_OPERANDS];
} host_place;

static inline int64_t host_extent(const int64_t *walk, int64_t axis) { return walk[1 + axis]; }

static inline int64_t host_stride(const int64_t *walk, int operand, int64_t axis)
{
    return walk[1 + (1 + operand) * walk[0] + axis];
}

static inline bool host_empty(const int64_t *walk)
{
    for (int64_t d = 0; d < walk[0]; d++)
        if (host_extent(walk, d) == 0)
            return true;
    return false;
}

/* To the next place of all axes but the last `inner`; false when there is none. */
static inline bool host_next(const int64_t *walk, int operands, int64_t inner, host_place *place)
{
    for (int64_t d = walk[0] - inner - 1; d >= 0; d--) {
        const int64_t extent = host_extent(walk, d);
        const bool ends = ++place->index[d] == extent;
        if (ends)
            place->index[d] = 0;
        for (int o = 0; o < operands; o++)
            place->at[o] += host_stride(walk, o, d) * (ends ? 1 - extent : 1);
        if (!ends)
            return true;
    }
    return false;
}

static inline int64_t host_least(int64_t a, int64_t b) { return a < b ? a : b; }

/* The larger one; NaN if either is. */
static inline float host_larger(float a, float b) { return a > b || a != a ? a : b; }

/* Windows i of [0, count) whose element at i * stride + at lies in [0, extent) are [*low, *high). */
static inline void host_inside(int64_t at, int64_t stride, int64_t extent, int64_t count, int64_t *low, int64_t *high)
{
    const int64_t last = extent - 1 - at;
    *high = last < 0 ? 0 : host_least(count, last / stride + 1);
    *low = host_least(*high, at < 0 ? (stride - 1 - at) / stride : 0);
}

/* To the nearest whole number, ties to even, for |x| <= 2^22: there the sum's last place is worth 1. */
static inline float host_whole(float x) { return (x + 0x1.8p23f) - 0x1.8p23f; }

/* round(x) + zero, limited to [low, high] (at most 16 bits); NaN becomes 0, before it is limited. */
static inline int32_t host_saturate(float x, int32_t zero, int32_t low, int32_t high)
{
    const float limit = 0x1p21f;
    const float real = x == x ? x : 0.0f, near = real > limit ? limit : real < -limit ? -limit : real;
    const int32_t whole = (int32_t)host_whole(near), value = x == x ? whole + zero : 0;
    return value < low ? low : value > high ? high : value;
}

#endif
