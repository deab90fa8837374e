/* Vectors and panels, shared by the kernels. */
#ifndef SC_INTERNAL_H
#define SC_INTERNAL_H

#include <stdlib.h>
#include <string.h>

#include "sc.h"

typedef float sc_vec __attribute__((vector_size(4 * SC_LANES), aligned(4 * SC_LANES)));
typedef int32_t sc_ivec __attribute__((vector_size(4 * SC_LANES)));
/* The same at any address of floats. */
typedef float sc_uvec __attribute__((vector_size(4 * SC_LANES), aligned(4), may_alias));

enum { SC_ALIGN = 64 };

static inline sc_vec sc_load(const float *p) {
    return *(const sc_uvec *)(const void *)p;
}

static inline void sc_store(float *p, sc_vec v) {
    *(sc_uvec *)(void *)p = v;
}

static inline sc_vec sc_spread(float f) {
    return f - (sc_vec){0};
}

static inline float sc_relu1(float f) {
    return f < 0.0f ? 0.0f : f;
}

static inline sc_vec sc_relu(sc_vec v) {
    return (sc_vec)((sc_ivec)v & ~(v < 0.0f));
}

/* Applies the activation to rows of Y that were just stored, n positions from y on: rows[first] and those that follow,
 * `count` in all; without `rows` first itself. */
void sc_activate(const sc_epilogue *e, const int32_t *rows, size_t first, size_t count, float *y, size_t ldy, size_t n);

static inline size_t sc_min(size_t a, size_t b) {
    return a < b ? a : b;
}

/* Floats at an address that vectors like; NULL when there is no memory. */
static inline float *sc_scratch(size_t floats) {
    const size_t bytes = (floats * sizeof(float) + SC_ALIGN - 1) / SC_ALIGN * SC_ALIGN;
    return aligned_alloc(SC_ALIGN, bytes ? bytes : SC_ALIGN);
}

/* Scratch panels of a part of a call: its own, or allocated, which sc_give then frees. */
static inline float *sc_take(const sc_call *call, size_t floats) {
    if (!call->scratch) return sc_scratch(floats);
    return floats <= call->each ? call->scratch : NULL;
}

static inline void sc_give(const sc_call *call, float *floats) {
    if (floats && !call->scratch) free(floats);
}

/* After assembly, which leaves the upper halves of registers in use: code without AVX would be slow until then. */
static inline void sc_leave_vectors(void) {
#if defined(__AVX__)
    __builtin_ia32_vzeroupper();
#endif
}

/* Rows of X, `count` <= width positions each, to rows of `width` floats; what is beyond is 0. */
static inline void sc_pack(float *to, size_t width, const float *from, size_t ldx, size_t rows, size_t count) {
    for (size_t r = 0; r < rows; r++, to += width, from += ldx) {
        memcpy(to, from, count * sizeof *to);
        memset(to + count, 0, (width - count) * sizeof *to);
    }
}

#endif
