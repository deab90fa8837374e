/* Calls on panels: shared out to threads, and, for kernels that know rows only, panel by panel. */
#include "panels.h"

#include "internal.h"

enum { WRITEABLE = 0x400 };

/* Contiguous panels of `rows` rows of floats; NULL if it is not that. */
static const sc_array *panels_of(const sc_array_call *f, const char *object, size_t rows) {
    void *type;
    memcpy(&type, object + f->head - sizeof type, sizeof type);
    if (type != f->array_type) return NULL;
    const sc_array *a = sc_array_at(object, (size_t)f->head);
    const intptr_t row = SC_PANEL * (intptr_t)sizeof(float);
    if (a->descr != f->x_type || a->nd != 3 || a->dims[0] < 1) return NULL;
    if (a->dims[1] != (intptr_t)rows || a->dims[2] != SC_PANEL) return NULL;
    if (a->strides[0] != row * a->dims[1] || a->strides[1] != row || a->strides[2] != (intptr_t)sizeof(float)) return NULL;
    return a;
}

int sc_array_panels(const sc_array_call *f, const char *x, const char *y, int threads) {
    const size_t m = (size_t)f->m, k = (size_t)f->k;
    const sc_array *from = panels_of(f, x, k), *to = panels_of(f, y, m);
    if (threads < 1 || !from || !to || from->dims[0] != to->dims[0] || !(to->flags & WRITEABLE)) return 1;
    const size_t panels = (size_t)from->dims[0], panel = SC_PANEL * sizeof(float);
    if (from->data < to->data + panels * m * panel && to->data < from->data + panels * k * panel) return 1;
    const sc_panels call = {(const float *)(const void *)from->data, (float *)(void *)to->data, panels, NULL};
    return f->aligned.run(f->aligned.w, (const sc_call *)(const void *)&call, threads);
}

/* A call of a kernel, cut by panels while there are enough of them for all threads, else by rows. */
typedef struct cut {
    const void *w;
    const sc_panels *call;
    size_t m, k, rows, parts;
    int by_rows;
    int (*run)(const struct cut *cut, sc_part part);
} cut;

static int run_part(const void *context, int index) {
    const cut *c = context;
    const size_t i = (size_t)index, all = c->by_rows ? c->rows : c->call->panels;
    const size_t first = all * i / c->parts, end = all * (i + 1) / c->parts;
    const sc_part part = c->by_rows ? (sc_part){0, c->call->panels * SC_PANEL, first, end}
                                    : (sc_part){first * SC_PANEL, end * SC_PANEL, 0, c->rows};
    return c->run(c, part);
}

static int run_cut(cut c, int may_split_rows, int threads) {
    if (c.call->panels == 0 || c.rows == 0) return 0;
    const size_t wanted = threads > 1 ? (size_t)threads : 1;
    c.by_rows = may_split_rows && c.call->panels % wanted != 0 && c.call->panels < 4 * wanted;
    c.parts = sc_min(wanted, c.by_rows ? c.rows : c.call->panels);
    return sc_parallel(run_part, &c, (int)c.parts);
}

static int run_line(const cut *c, sc_part part) {
    return sc_line_panels_part(c->w, c->call, part);
}

/* Each panel is a matrix of SC_PANEL columns. */
#define PANEL_BY_PANEL(kernel, run)                                                               \
    static int run(const cut *c, sc_part part) {                                                  \
        for (size_t p = part.n0 / SC_PANEL; p < part.n1 / SC_PANEL; p++) {                        \
            const size_t at = p * c->m * SC_PANEL;                                                \
            const sc_call call = {                                                                \
                .x = c->call->x + p * c->k * SC_PANEL, .ldx = SC_PANEL,                           \
                .y = c->call->y + at, .ldy = SC_PANEL, .n = SC_PANEL,                             \
                .residual = c->call->residual ? c->call->residual + at : NULL, .ldr = SC_PANEL,   \
            };                                                                                    \
            if (kernel(c->w, &call, (sc_part){0, SC_PANEL, part.r0, part.r1}) != 0) return -1;    \
        }                                                                                         \
        return 0;                                                                                 \
    }
PANEL_BY_PANEL(sc_csr_part, run_csr)
PANEL_BY_PANEL(sc_dense_part, run_dense)

#define CUT(count, function) ((cut){w, call, (size_t)w->m, (size_t)w->k, (size_t)(count), 1, 0, function})

int sc_line_panels(const sc_line *w, const sc_panels *call, int threads) {
    return run_cut(CUT(w->groups, run_line), (int)w->same_rows, threads);
}

int sc_csr_panels(const sc_csr *w, const sc_panels *call, int threads) {
    return run_cut(CUT((w->m + SC_CSR_ROWS - 1) / SC_CSR_ROWS, run_csr), 1, threads);
}

int sc_dense_panels(const sc_dense *w, const sc_panels *call, int threads) {
    return run_cut(CUT((w->m + SC_DENSE_ROWS - 1) / SC_DENSE_ROWS, run_dense), 1, threads);
}
