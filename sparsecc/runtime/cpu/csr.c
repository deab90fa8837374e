/* Exact CSR over panels: a row's results stay in registers for several vectors of positions while its entries
 * pass. The code is the same for every matrix. */
#include "internal.h"

/* Vectors of positions at once. */
enum { VECTORS = 4, PANEL = VECTORS * SC_LANES };

/* One row of one panel of `vectors` vectors: from `source` (or a number), entries, to y. */
static inline __attribute__((always_inline)) void run_row(int vectors, const sc_entry *e, const sc_entry *end,
                                                          const float *x, const float *source, float start, int relu,
                                                          float *y) {
    sc_vec acc[VECTORS];
    for (int v = 0; v < vectors; v++) acc[v] = (source ? sc_load(source + v * SC_LANES) : (sc_vec){0}) + start;
    for (; e != end; e++) {
        const sc_vec a = sc_spread(e->value);
        const float *row = x + (size_t)e->column * (size_t)(vectors * SC_LANES);
        for (int v = 0; v < vectors; v++) acc[v] += a * *(const sc_vec *)(const void *)(row + v * SC_LANES);
    }
    for (int v = 0; v < vectors; v++) sc_store(y + v * SC_LANES, relu ? sc_relu(acc[v]) : acc[v]);
}

/* Positions n0 and `count` <= vectors * SC_LANES of them. */
static inline __attribute__((always_inline)) void run_panel(int vectors, const sc_csr *w, const sc_call *c, sc_part part,
                                                            float *packed) {
    const size_t width = (size_t)(vectors * SC_LANES), count = part.n1 - part.n0, m = (size_t)w->m;
    float rest[PANEL];
    for (int64_t block = 0; block < w->blocks; block++) {
        const size_t k0 = (size_t)(block * w->width), rows = sc_min((size_t)w->width, (size_t)w->k - k0);
        sc_pack(packed, width, c->x + k0 * c->ldx + part.n0, c->ldx, rows, count);
        const int64_t *begin = w->begin + (size_t)block * (m + 1);
        const int32_t *place = w->rows + (size_t)block * m;
        const int last = block + 1 == w->blocks;
        for (size_t i = part.r0 * SC_CSR_ROWS; i < sc_min(part.r1 * SC_CSR_ROWS, m); i++) {
            /* Between the first and the last block rows without entries stay as they are. */
            if (begin[i] == begin[i + 1] && block != 0 && !(last && (w->epilogue.relu || w->epilogue.activation.kind))) continue;
            const size_t row = (size_t)place[i];
            float *y = c->y + row * c->ldy + part.n0;
            const float *source = block ? y : c->residual ? c->residual + row * c->ldr + part.n0 : NULL;
            const float start = block == 0 && w->epilogue.bias ? w->epilogue.bias[row] : 0.0f;
            if (count < width) {
                if (source) sc_pack(rest, width, source, 0, 1, count);
                run_row(vectors, w->entries + begin[i], w->entries + begin[i + 1], packed, source ? rest : NULL, start,
                        last && w->epilogue.relu, rest);
                memcpy(y, rest, count * sizeof *y);
            } else {
                run_row(vectors, w->entries + begin[i], w->entries + begin[i + 1], packed, source, start,
                        last && w->epilogue.relu, y);
            }
            if (last && w->epilogue.activation.kind)
                sc_activate(&w->epilogue, NULL, row, 1, c->y + part.n0, c->ldy, count);
        }
    }
}

size_t sc_csr_scratch(const sc_csr *w, size_t n, size_t ldx) {
    (void)n, (void)ldx;
    return (size_t)w->width * PANEL;
}

/* part.r0 and part.r1 count segments of SC_CSR_ROWS rows. */
int sc_csr_part(const sc_csr *w, const sc_call *call, sc_part part) {
    float *packed = sc_take(call, (size_t)w->width * PANEL);
    if (!packed) return -1;
    for (size_t n = part.n0; n < part.n1;) {
        const size_t left = part.n1 - n;
        if (left > 2 * SC_LANES) {
            run_panel(4, w, call, (sc_part){n, n + sc_min(left, 4 * SC_LANES), part.r0, part.r1}, packed);
            n += 4 * SC_LANES;
        } else if (left > SC_LANES) {
            run_panel(2, w, call, (sc_part){n, n + left, part.r0, part.r1}, packed);
            n += 2 * SC_LANES;
        } else {
            run_panel(1, w, call, (sc_part){n, n + left, part.r0, part.r1}, packed);
            n += SC_LANES;
        }
    }
    sc_give(call, packed);
    return 0;
}
