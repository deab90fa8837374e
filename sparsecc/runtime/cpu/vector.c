/* Matrix times vector: lanes are rows. The 32 values of X that a tile needs lie in registers, from which each lane
 * picks its own by one byte of index. Lanes whose row has nothing left are masked, not multiplied by zero. */
#include "internal.h"

#if defined(__AVX512F__)
#include <immintrin.h>

static void run_tiles(const sc_vector *w, const float *x, const int64_t *begin, float *sums) {
    __m512 even = _mm512_setzero_ps(), odd = even;
    for (int64_t t = 0; t < w->tiles; t++) {
        const __m512 low = _mm512_loadu_ps(x + t * SC_VECTOR_COLUMNS);
        const __m512 high = _mm512_loadu_ps(x + t * SC_VECTOR_COLUMNS + 16);
        int64_t s = begin[t];
        for (; s + 1 < begin[t + 1]; s += 2) {
            const sc_step *one = &w->steps[s], *two = one + 1;
            const __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)one->column));
            const __m512i at2 = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)two->column));
            even = _mm512_mask3_fmadd_ps(_mm512_permutex2var_ps(low, at, high), _mm512_loadu_ps(one->value), even,
                                         w->masks[s]);
            odd = _mm512_mask3_fmadd_ps(_mm512_permutex2var_ps(low, at2, high), _mm512_loadu_ps(two->value), odd,
                                        w->masks[s + 1]);
        }
        if (s < begin[t + 1]) {
            const sc_step *one = &w->steps[s];
            const __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)one->column));
            even = _mm512_mask3_fmadd_ps(_mm512_permutex2var_ps(low, at, high), _mm512_loadu_ps(one->value), even,
                                         w->masks[s]);
        }
    }
    _mm512_storeu_ps(sums, _mm512_add_ps(even, odd));
}

#else

static void run_tiles(const sc_vector *w, const float *x, const int64_t *begin, float *sums) {
    for (int r = 0; r < SC_VECTOR_ROWS; r++) sums[r] = 0.0f;
    for (int64_t t = 0; t < w->tiles; t++, x += SC_VECTOR_COLUMNS) {
        for (int64_t s = begin[t]; s < begin[t + 1]; s++) {
            const sc_step *step = &w->steps[s];
            /* Rows with the most values in a tile need not be the first: each has its bit. */
            for (int r = 0; r < SC_VECTOR_ROWS; r++)
                sums[r] += (w->masks[s] >> r & 1) ? step->value[r] * x[step->column[r]] : 0.0f;
        }
    }
}

#endif

/* part.r0 and part.r1 count groups of SC_VECTOR_ROWS rows; only position part.n0 is computed. */
int sc_vector_part(const sc_vector *w, const sc_call *call, sc_part part) {
    const size_t k = (size_t)w->k, m = (size_t)w->m, n = part.n0;
    const size_t padded = (size_t)w->tiles * SC_VECTOR_COLUMNS;
    const float *x = call->x + n;
    float *copy = NULL;
    if (call->ldx != 1 || padded != k) {
        if (!(copy = sc_scratch(padded))) return -1;
        for (size_t i = 0; i < k; i++) copy[i] = x[i * call->ldx];
        memset(copy + k, 0, (padded - k) * sizeof *copy);
        x = copy;
    }
    float sums[SC_VECTOR_ROWS];
    for (size_t g = part.r0; g < part.r1; g++) {
        const int64_t *begin = w->begin + g * (size_t)(w->tiles + 1);
        /* Rows stand by falling count: those without a value are together. */
        if (begin[0] == begin[w->tiles]) memset(sums, 0, sizeof sums);
        else run_tiles(w, x, begin, sums);
        for (size_t r = 0; r < SC_VECTOR_ROWS && g * SC_VECTOR_ROWS + r < m; r++) {
            const size_t row = (size_t)w->rows[g * SC_VECTOR_ROWS + r];
            float y = sums[r] + (w->epilogue.bias ? w->epilogue.bias[row] : 0.0f);
            if (call->residual) y += call->residual[row * call->ldr + n];
            call->y[row * call->ldy + n] = w->epilogue.relu ? sc_relu1(y) : y;
        }
    }
    free(copy);
    return 0;
}
