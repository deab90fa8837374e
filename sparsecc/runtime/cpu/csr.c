/* Exact CSR over panels: a row's results stay in registers for several vectors of positions while its entries
 * pass. The code is the same for every matrix. Of few entries to a row X is read where it is, and rows are written
 * from end to end: what counts then is Y. */
#include "internal.h"

/* Vectors of positions at once: of panels, and of rows of X that are read where they are. */
enum { VECTORS = 4, PANEL = VECTORS * SC_LANES, WIDE = 8 };

/* One row of one panel of `vectors` vectors: from `source` (or a number), entries, to y. ldx: of the panel. */
static inline __attribute__((always_inline)) void run_row(int vectors, const sc_entry *e, const sc_entry *end,
                                                          const float *x, size_t ldx, const float *source, float start,
                                                          int relu, float *y) {
    sc_vec acc[WIDE];
    for (int v = 0; v < vectors; v++) acc[v] = (source ? sc_load(source + v * SC_LANES) : (sc_vec){0}) + start;
    for (; e != end; e++) {
        const sc_vec a = sc_spread(e->value);
        const float *row = x + (size_t)e->column * ldx;
        for (int v = 0; v < vectors; v++) acc[v] += a * sc_load(row + v * SC_LANES);
    }
    for (int v = 0; v < vectors; v++) sc_store(y + v * SC_LANES, relu ? sc_relu(acc[v]) : acc[v]);
}

/* Positions n0 and `count` <= vectors * SC_LANES of them. Where these do not fill vectors, rows of several blocks stay in
 * `sums` until all blocks have been added: to copy them from Y and back takes longer than what a block adds. */
static inline __attribute__((always_inline)) void run_panel(int vectors, const sc_csr *w, const sc_call *c, sc_part part,
                                                            float *packed, float *sums) {
    const size_t width = (size_t)(vectors * SC_LANES), count = part.n1 - part.n0, m = (size_t)w->m;
    const size_t first = part.r0 * SC_CSR_ROWS, end = sc_min(part.r1 * SC_CSR_ROWS, m);
    const int narrow = count < width;
    float rest[PANEL];
    for (int64_t block = 0; block < w->blocks; block++) {
        const size_t k0 = (size_t)(block * w->width), rows = sc_min((size_t)w->width, (size_t)w->k - k0);
        sc_pack(packed, width, c->x + k0 * c->ldx + part.n0, c->ldx, rows, count);
        const int64_t *begin = w->begin + (size_t)block * (m + 1);
        const int32_t *place = w->rows + (size_t)block * m;
        const int last = block + 1 == w->blocks;
        for (size_t i = first; i < end; i++) {
            /* Between the first and the last block rows without entries stay as they are. */
            const int ends = last && (narrow || w->epilogue.relu || w->epilogue.activation.kind);
            if (begin[i] == begin[i + 1] && block != 0 && !ends) continue;
            const size_t row = (size_t)place[i];
            float *const out = c->y + row * c->ldy + part.n0;
            float *const y = !narrow ? out : w->blocks > 1 ? sums + (row - first) * width : rest;
            const float *source = block ? y : c->residual ? c->residual + row * c->ldr + part.n0 : NULL;
            const float start = block == 0 && w->epilogue.bias ? w->epilogue.bias[row] : 0.0f;
            if (narrow && block == 0 && source) {
                sc_pack(rest, width, source, 0, 1, count);
                source = rest;
            }
            run_row(vectors, w->entries + begin[i], w->entries + begin[i + 1], packed, width, source, start,
                    last && w->epilogue.relu, y);
            if (narrow && last) memcpy(out, y, count * sizeof *y);
            if (last && w->epilogue.activation.kind)
                sc_activate(&w->epilogue, NULL, row, 1, c->y + part.n0, c->ldy, count);
        }
    }
}

/* Rows i to `last` of the order, which ends with the first row without entries if `filled`: they are 0 already. */
static void run_rows(const sc_csr *w, const sc_call *c, sc_part part, size_t i, size_t last, int filled) {
    const int relu = w->epilogue.relu;
    for (; i < last && !(filled && w->begin[i] == w->begin[i + 1]); i++) {
        const size_t row = (size_t)w->rows[i];
        const sc_entry *const first = w->entries + w->begin[i], *const end = w->entries + w->begin[i + 1];
        const float *const residual = c->residual ? c->residual + row * c->ldr : NULL;
        const float start = w->epilogue.bias ? w->epilogue.bias[row] : 0.0f;
        float *const y = c->y + row * c->ldy;
        size_t n = part.n0;
        for (; n + WIDE * SC_LANES <= part.n1; n += WIDE * SC_LANES)
            run_row(WIDE, first, end, c->x + n, c->ldx, residual ? residual + n : NULL, start, relu, y + n);
        for (; n + PANEL <= part.n1; n += PANEL)
            run_row(VECTORS, first, end, c->x + n, c->ldx, residual ? residual + n : NULL, start, relu, y + n);
        for (; n + SC_LANES <= part.n1; n += SC_LANES)
            run_row(1, first, end, c->x + n, c->ldx, residual ? residual + n : NULL, start, relu, y + n);
        /* What is left takes other positions along, if none was overwritten that is added. */
        if (n < part.n1 && part.n1 - part.n0 >= SC_LANES && !residual) {
            n = part.n1 - SC_LANES;
            run_row(1, first, end, c->x + n, c->ldx, NULL, start, relu, y + n);
            n = part.n1;
        }
        for (; n < part.n1; n++) {
            float sum = (residual ? residual[n] : 0.0f) + start;
            for (const sc_entry *e = first; e != end; e++) sum += e->value * c->x[(size_t)e->column * c->ldx + n];
            y[n] = relu ? sc_relu1(sum) : sum;
        }
        if (w->epilogue.activation.kind)
            sc_activate(&w->epilogue, NULL, row, 1, c->y + part.n0, c->ldy, part.n1 - part.n0);
    }
}

/* Whether more than half of a segment's rows, which stand by falling count, have no entries. */
static int mostly_empty(const sc_csr *w, size_t segment) {
    const size_t first = segment * SC_CSR_ROWS, middle = (first + sc_min(first + SC_CSR_ROWS, (size_t)w->m)) / 2;
    return w->begin[middle] == w->begin[middle + 1];
}

/* Segments of mostly empty rows are filled with zeros first, as many as there are one after the other: at the rate of
 * the memory, whatever the length of a row. */
static void run_segments(const sc_csr *w, const sc_call *c, sc_part part) {
    const int zeros = !w->epilogue.bias && !c->residual && !w->epilogue.activation.kind;
    const size_t m = (size_t)w->m, count = part.n1 - part.n0;
    for (size_t next, segment = part.r0; segment < part.r1; segment = next) {
        for (next = segment; zeros && next < part.r1 && mostly_empty(w, next);) next++;
        const int filled = next > segment;
        next += !filled;
        const size_t first = segment * SC_CSR_ROWS, last = sc_min(next * SC_CSR_ROWS, m);
        const size_t stretch = c->ldy == count ? last - first : 1;
        for (size_t row = first; filled && row < last; row += stretch)
            memset(c->y + row * c->ldy + part.n0, 0, stretch * count * sizeof *c->y);
        for (; segment < next; segment++)
            run_rows(w, c, part, segment * SC_CSR_ROWS, sc_min((segment + 1) * SC_CSR_ROWS, m), filled);
    }
}

/* Positions of the panel that takes the first of `left`. */
static size_t panel_for(size_t left) { return (left > 2 * SC_LANES ? 4 : left > SC_LANES ? 2 : 1) * SC_LANES; }

size_t sc_csr_scratch(const sc_csr *w, size_t n, size_t ldx) {
    const size_t rest = n % PANEL, last = panel_for(rest);
    (void)ldx;
    return (size_t)w->width * PANEL + (w->blocks > 1 && rest && rest != last ? (size_t)w->m * last : 0);
}

/* part.r0 and part.r1 count segments of SC_CSR_ROWS rows. */
int sc_csr_part(const sc_csr *w, const sc_call *call, sc_part part) {
    if (w->width == 0) {
        run_segments(w, call, part);
        return 0;
    }
    float *const packed = sc_take(call, sc_csr_scratch(w, part.n1 - part.n0, call->ldx));
    if (!packed) return -1;
    float *const sums = packed + (size_t)w->width * PANEL;
    for (size_t n = part.n0; n < part.n1;) {
        const size_t width = panel_for(part.n1 - n);
        const sc_part panel = {n, sc_min(n + width, part.n1), part.r0, part.r1};
        if (width == 4 * SC_LANES)
            run_panel(4, w, call, panel, packed, sums);
        else if (width == 2 * SC_LANES)
            run_panel(2, w, call, panel, packed, sums);
        else
            run_panel(1, w, call, panel, packed, sums);
        n += width;
    }
    sc_give(call, packed);
    return 0;
}
