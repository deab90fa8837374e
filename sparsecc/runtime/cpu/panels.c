/* Calls on panels: shared out to threads, and, for kernels that know rows only, panel by panel. */
#include "panels.h"

#include "share.h"

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

/* A kernel on panels. */
typedef struct call_of {
    const void *w;
    const sc_panels *call;
    size_t m, k;
} call_of;

static int run_line(const void *context, sc_part part, size_t index) {
    const call_of *c = context;
    (void)index;
    return sc_line_panels_part(c->w, c->call, part);
}

/* Each panel is a matrix of SC_PANEL columns. */
#define PANEL_BY_PANEL(kernel, run)                                                               \
    static int run(const void *context, sc_part part, size_t index) {                             \
        const call_of *c = context;                                                               \
        (void)index;                                                                              \
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

/* count: rows of the kernel; code: w if it is straight-line code. */
#define PANELS(kernel, run, count, code)                                                          \
    int kernel##_panels(const kernel *w, const sc_panels *call, int threads) {                    \
        const call_of of = {w, call, (size_t)w->m, (size_t)w->k};                                 \
        const size_t n = call->panels * SC_PANEL;                                                 \
        const sc_work work = {&of, run, n, SC_PANEL, (size_t)(count), !(code), code};             \
        return sc_share_out(&work, threads);                                                      \
    }
PANELS(sc_line, run_line, w->groups, w)
PANELS(sc_csr, run_csr, (w->m + SC_CSR_ROWS - 1) / SC_CSR_ROWS, NULL)
PANELS(sc_dense, run_dense, (w->m + SC_DENSE_ROWS - 1) / SC_DENSE_ROWS, NULL)
