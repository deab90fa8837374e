/* What kernels of one position share: vector.c, rounds.c. */
#ifndef SC_VECTOR_H
#define SC_VECTOR_H

#include "internal.h"

int sc_rounds_part(const sc_vector *w, const sc_call *call, sc_part part);
size_t sc_rounds_scratch(const sc_vector *w, size_t ldx);

/* Sums of `count` rows, at most SC_VECTOR_ROWS, to those of position n of Y, with what is fused. */
void sc_put_rows(const sc_vector *w, const sc_call *call, const int32_t *rows, int count, const float *sums, size_t n);

/* Whether sums are the results. */
static inline int sc_is_plain(const sc_vector *w, const sc_call *call) {
    return !w->epilogue.bias && !call->residual && !w->epilogue.relu && w->epilogue.activation.kind == SC_NONE;
}

#if defined(__AVX512F__)
#include <immintrin.h>

/* Four floats from anywhere: their places are one load and shifts, for loads are what limits this. */
static inline __m128 sc_pick(const float *x, const uint16_t *columns) {
    uint64_t four;
    memcpy(&four, columns, sizeof four);
    /* Or compilers load each column after all. */
    __asm__("" : "+r"(four));
    __m128 v = _mm_load_ss(x + (uint16_t)four);
    v = _mm_mask_broadcastss_ps(v, 2, _mm_load_ss(x + (uint16_t)(four >> 16)));
    v = _mm_mask_broadcastss_ps(v, 4, _mm_load_ss(x + (uint16_t)(four >> 32)));
    return _mm_mask_broadcastss_ps(v, 8, _mm_load_ss(x + (four >> 48)));
}
#endif

#endif
