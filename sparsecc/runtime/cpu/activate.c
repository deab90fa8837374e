/* Activations of results that were just stored and are still in a cache. */
#include "activate.h"

static inline __attribute__((always_inline)) void run(int32_t kind, const sc_epilogue *e, const int32_t *rows, size_t first,
                                                      size_t count, float *y, size_t ldy, size_t n) {
    const sc_activation f = {kind, e->activation.a, e->activation.b, NULL};
    for (size_t i = 0; i < count; i++) {
        const size_t row = rows ? (size_t)rows[first + i] : first + i;
        const float slope = e->activation.slopes ? e->activation.slopes[row] : f.a;
        float *const to = y + row * ldy;
        size_t p = 0;
        for (; p + SC_LANES <= n; p += SC_LANES) sc_store(to + p, sc_activated(&f, slope, sc_load(to + p)));
        if (p == n) continue;
        sc_vec rest = {0};
        memcpy(&rest, to + p, (n - p) * sizeof *to);
        rest = sc_activated(&f, slope, rest);
        memcpy(to + p, &rest, (n - p) * sizeof *to);
    }
}

/* The kinds are told apart once, not for every vector. */
void sc_activate(const sc_epilogue *e, const int32_t *rows, size_t first, size_t count, float *y, size_t ldy, size_t n) {
    switch (e->activation.kind) {
#define KIND(kind) \
    case kind: run(kind, e, rows, first, count, y, ldy, n); break;
        KIND(SC_CLIP)
        KIND(SC_LEAKY_RELU)
        KIND(SC_HARD_SIGMOID)
        KIND(SC_HARD_SWISH)
        KIND(SC_SIGMOID)
        KIND(SC_TANH)
        KIND(SC_SILU)
        KIND(SC_GELU)
        KIND(SC_GELU_TANH)
        default: break;
    }
}
