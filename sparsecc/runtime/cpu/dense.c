/* Dense: tiles of SC_DENSE_ROWS rows and SC_DENSE_VECTORS vectors of positions in registers; X packed to panels that
 * are as wide; K cut so that the rows' values stay in the first cache while the panels pass.
 * (The scheme of Goto and van de Geijn, Anatomy of High-Performance Matrix Multiplication, 2008.) */
#include "internal.h"

enum {
    ROWS = SC_DENSE_ROWS,
    VECTORS = SC_DENSE_VECTORS,
    PANEL = VECTORS * SC_LANES,
    DEPTH = 256,        /* columns of W at once */
    PANELS = 512 / PANEL /* panels of X that are packed at once */
};

/* tile[ROWS][PANEL] += the product of `depth` columns. */
static void multiply(const float *restrict a, const float *restrict x, size_t depth, sc_vec *restrict tile) {
    sc_vec acc[ROWS][VECTORS];
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) acc[r][v] = tile[r * VECTORS + v];
    for (size_t k = 0; k < depth; k++, a += ROWS, x += PANEL) {
        sc_vec b[VECTORS];
        for (int v = 0; v < VECTORS; v++) b[v] = *(const sc_vec *)(const void *)(x + v * SC_LANES);
#pragma GCC unroll 16
        for (int r = 0; r < ROWS; r++) {
            const sc_vec value = sc_spread(a[r]);
            for (int v = 0; v < VECTORS; v++) acc[r][v] += value * b[v];
        }
    }
    for (int r = 0; r < ROWS; r++)
        for (int v = 0; v < VECTORS; v++) tile[r * VECTORS + v] = acc[r][v];
}

/* What a tile begins with: sums of columns before, or bias and residual. */
static void begin_tile(const sc_dense *w, const sc_call *c, float *tile, size_t row, size_t rows, size_t n, size_t count,
                       int first) {
    memset(tile, 0, sizeof(float) * ROWS * PANEL);
    const float *source = first ? c->residual : c->y;
    const size_t lds = first ? c->ldr : c->ldy;
    for (size_t r = 0; r < rows; r++) {
        if (source) memcpy(tile + r * PANEL, source + (row + r) * lds + n, count * sizeof *tile);
        if (first && w->epilogue.bias)
            for (size_t i = 0; i < count; i++) tile[r * PANEL + i] += w->epilogue.bias[row + r];
    }
}

static void end_tile(const sc_dense *w, const sc_call *c, float *tile, size_t row, size_t rows, size_t n, size_t count,
                     int last) {
    for (size_t r = 0; r < rows; r++) {
        if (last && w->epilogue.relu)
            for (size_t i = 0; i < count; i++) tile[r * PANEL + i] = sc_relu1(tile[r * PANEL + i]);
        memcpy(c->y + (row + r) * c->ldy + n, tile + r * PANEL, count * sizeof *tile);
    }
    if (last && w->epilogue.activation.kind) sc_activate(&w->epilogue, NULL, row, rows, c->y + n, c->ldy, count);
}

/* So few positions have sums of their own for all rows of a panel: W is read once, and no lane of X is empty. */
enum { FEW = 8, ROW_VECTORS = (ROWS + SC_LANES - 1) / SC_LANES };

/* A panel of rows times `count` positions of X where it is: tile[ROWS][PANEL] += the product. As many chains of sums as
 * hide how long one takes. */
static inline __attribute__((always_inline)) void multiply_few(const int count, const float *restrict a, const float *x,
                                                               size_t ldx, size_t k, float *tile) {
    const int chains = count == 1 ? 4 : count <= 3 ? 2 : 1;
    sc_vec acc[4][FEW][ROW_VECTORS];
    for (int c = 0; c < chains; c++)
        for (int n = 0; n < count; n++)
            for (int v = 0; v < ROW_VECTORS; v++) acc[c][n][v] = (sc_vec){0};
    /* A vector may reach into the rows of the next columns, which the last ones do not have. */
    const size_t reach = (ROW_VECTORS * SC_LANES + ROWS - 1) / ROWS;
    size_t i = 0;
    for (; i + (size_t)chains + reach <= k; i += (size_t)chains, a += chains * ROWS, x += (size_t)chains * ldx)
        for (int c = 0; c < chains; c++)
            for (int v = 0; v < ROW_VECTORS; v++) {
                const sc_vec rows = sc_load(a + c * ROWS + v * SC_LANES);
                for (int n = 0; n < count; n++) acc[c][n][v] += rows * sc_spread(x[(size_t)c * ldx + (size_t)n]);
            }
    for (; i < k; i++, a += ROWS, x += ldx) {
        float last[ROW_VECTORS * SC_LANES] __attribute__((aligned(SC_ALIGN))) = {0};
        memcpy(last, a, ROWS * sizeof *last);
        for (int v = 0; v < ROW_VECTORS; v++)
            for (int n = 0; n < count; n++) acc[0][n][v] += sc_load(last + v * SC_LANES) * sc_spread(x[n]);
    }
    for (int n = 0; n < count; n++) {
        float sums[ROW_VECTORS * SC_LANES] __attribute__((aligned(SC_ALIGN)));
        for (int v = 0; v < ROW_VECTORS; v++) {
            for (int c = 1; c < chains; c++) acc[0][n][v] += acc[c][n][v];
            sc_store(sums + v * SC_LANES, acc[0][n][v]);
        }
        for (size_t r = 0; r < ROWS; r++) tile[r * PANEL + (size_t)n] += sums[r];
    }
}

static void run_few(const sc_dense *w, const sc_call *c, sc_part part, float *tile) {
    const size_t k = (size_t)w->k, count = part.n1 - part.n0;
    for (size_t g = part.r0; g < part.r1; g++) {
        const size_t row = g * ROWS, rows = sc_min(ROWS, (size_t)w->m - row);
        const float *a = w->values + g * k * ROWS, *x = c->x + part.n0;
        begin_tile(w, c, tile, row, rows, part.n0, count, 1);
        switch (count) {
            case 1: multiply_few(1, a, x, c->ldx, k, tile); break;
            case 2: multiply_few(2, a, x, c->ldx, k, tile); break;
            case 3: multiply_few(3, a, x, c->ldx, k, tile); break;
            case 4: multiply_few(4, a, x, c->ldx, k, tile); break;
            case 5: multiply_few(5, a, x, c->ldx, k, tile); break;
            case 6: multiply_few(6, a, x, c->ldx, k, tile); break;
            case 7: multiply_few(7, a, x, c->ldx, k, tile); break;
            default: multiply_few(8, a, x, c->ldx, k, tile);
        }
        end_tile(w, c, tile, row, rows, part.n0, count, 1);
    }
}

size_t sc_dense_scratch(const sc_dense *w, size_t n, size_t ldx) {
    (void)ldx;
    return sc_min(PANELS, (n + PANEL - 1) / PANEL) * PANEL * sc_min(DEPTH, (size_t)w->k);
}

/* part.r0 and part.r1 count panels of rows. */
int sc_dense_part(const sc_dense *w, const sc_call *call, sc_part part) {
    const size_t k = (size_t)w->k, m = (size_t)w->m;
    const size_t deepest = sc_min(DEPTH, k);
    float tile[ROWS * PANEL] __attribute__((aligned(SC_ALIGN)));
    if (part.n1 - part.n0 <= FEW) {
        run_few(w, call, part, tile);
        return 0;
    }
    float *packed = sc_take(call, sc_dense_scratch(w, part.n1 - part.n0, call->ldx));
    if (!packed) return -1;
    for (size_t n0 = part.n0; n0 < part.n1; n0 += PANELS * PANEL) {
        const size_t end = sc_min(part.n1, n0 + PANELS * PANEL);
        for (size_t k0 = 0; k0 == 0 || k0 < k; k0 += DEPTH) {
            const size_t depth = sc_min(DEPTH, k - k0);
            for (size_t n = n0; n < end; n += PANEL)
                sc_pack(packed + (n - n0) * deepest, PANEL, call->x + k0 * call->ldx + n, call->ldx, depth,
                        sc_min(PANEL, end - n));
            for (size_t g = part.r0; g < part.r1; g++) {
                const size_t row = g * ROWS, rows = sc_min(ROWS, m - row);
                for (size_t n = n0; n < end; n += PANEL) {
                    const size_t count = sc_min(PANEL, end - n);
                    begin_tile(w, call, tile, row, rows, n, count, k0 == 0);
                    multiply(w->values + (g * k + k0) * ROWS, packed + (n - n0) * deepest, depth, (sc_vec *)(void *)tile);
                    end_tile(w, call, tile, row, rows, n, count, k0 + depth >= k);
                }
            }
        }
    }
    sc_give(call, packed);
    return 0;
}

int sc_dense_rows(void) {
    return SC_DENSE_ROWS;
}
