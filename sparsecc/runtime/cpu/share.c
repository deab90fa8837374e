/* Calls cut to parts for threads: by positions, by rows, or, of long straight-line code, by the code. */
#include "share.h"

enum { MOST = 256 };

typedef struct shared {
    const sc_work *work;
    size_t parts;
    enum { BY_POSITIONS, BY_ROWS, BY_CODE } by;
} shared;

static int run_share(const void *context, int index) {
    const shared *s = context;
    const sc_work *w = s->work;
    const size_t i = (size_t)index, parts = s->parts, panels = (w->n + w->panel - 1) / w->panel;
    sc_part part = {0, w->n, 0, w->rows};
    switch (s->by) {
        case BY_ROWS:
            part.r0 = w->rows * i / parts;
            part.r1 = w->rows * (i + 1) / parts;
            break;
        case BY_POSITIONS:
            part.n0 = panels * i / parts * w->panel;
            part.n1 = sc_min(panels * (i + 1) / parts * w->panel, w->n);
            break;
        case BY_CODE: {
            sc_part pieces[SC_LINE_PIECES];
            const size_t count = sc_line_share(w->line, i, parts, panels, pieces);
            for (size_t p = 0; p < count; p++) {
                pieces[p].n0 *= w->panel;
                pieces[p].n1 = sc_min(pieces[p].n1 * w->panel, w->n);
                if (w->run(w->context, pieces[p], i) != 0) return -1;
            }
            return 0;
        }
    }
    return w->run(w->context, part, i);
}

int sc_share_out(const sc_work *w, int threads) {
    if (w->n == 0 || w->rows == 0) return 0;
    /* Small products take not much longer than what follows. */
    if (threads <= 1) return w->run(w->context, (sc_part){0, w->n, 0, w->rows}, 0);
    const size_t panels = (w->n + w->panel - 1) / w->panel;
    const size_t wanted = sc_min((size_t)threads, MOST);
    /* With fewer than four panels a thread, an uneven share costs more than reading X twice. */
    const int uneven = panels % wanted != 0 && panels < 4 * wanted;
    shared s = {w, sc_min(wanted, panels), BY_POSITIONS};
    if (uneven && w->may_split_rows) s = (shared){w, sc_min(wanted, w->rows), BY_ROWS};
    /* Threads that share positions all read all code: what a core's cache does not hold is better shared itself. */
    if (w->line && (uneven || sc_line_is_far(w->line)) && sc_line_has_shares(w->line, wanted))
        s = (shared){w, sc_min(wanted, w->rows * panels), BY_CODE};
    return sc_parallel(run_share, &s, (int)s.parts);
}

/* A kernel on rows of X and Y. */
typedef struct call_of {
    const void *w;
    const sc_call *call;
    int (*run)(const void *w, const sc_call *call, sc_part part);
} call_of;

static int run_rows(const void *context, sc_part part, size_t index) {
    const call_of *c = context;
    if (!index || !c->call->scratch) return c->run(c->w, c->call, part);
    sc_call call = *c->call;
    call.scratch += index * call.each;
    return c->run(c->w, &call, part);
}

/* count: rows of the kernel; width: positions of a panel; code: of straight-line kernels. */
#define RUN(kernel, count, width, may, code)                                               \
    static int kernel##_any(const void *w, const sc_call *call, sc_part part) {            \
        return kernel##_part(w, call, part);                                               \
    }                                                                                      \
    int kernel##_run(const kernel *w, const sc_call *call, int threads) {                  \
        const call_of of = {w, call, kernel##_any};                                        \
        const sc_work work = {&of, run_rows, call->n, width, (size_t)(count), (int)(may), code}; \
        return sc_share_out(&work, threads);                                               \
    }                                                                                      \
    int kernel##_at(const kernel *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, const float *residual, \
                    size_t ldr, int threads) {                                             \
        const sc_call call = {x, ldx, y, ldy, n, residual, ldr, NULL, 0, 0};               \
        return kernel##_run(w, &call, threads);                                            \
    }
RUN(sc_line, w->groups, (size_t)w->lanes, 0, w)
RUN(sc_csr, (w->m + SC_CSR_ROWS - 1) / SC_CSR_ROWS, 4 * SC_LANES, 1, NULL)
RUN(sc_dense, (w->m + SC_DENSE_ROWS - 1) / SC_DENSE_ROWS, SC_DENSE_VECTORS *SC_LANES, 1, NULL)
RUN(sc_vector, w->rounds.chunks ? w->rounds.slabs : (w->m + SC_VECTOR_SLAB - 1) / SC_VECTOR_SLAB, 1, 1, NULL)
/* Calls of networks, whose memory is planned. */
#define RUN_IN(kernel)                                                                                              \
    int kernel##_in(const kernel *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, const float *residual, \
                    size_t ldr, int threads, float *scratch, size_t each) {                \
        const sc_call call = {x, ldx, y, ldy, n, residual, ldr, scratch, each, 0};         \
        return kernel##_run(w, &call, threads);                                            \
    }
RUN_IN(sc_line)
RUN_IN(sc_csr)
RUN_IN(sc_dense)
RUN_IN(sc_vector)

int sc_line_turned(const sc_line *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, const float *residual,
                   size_t ldr, int threads, float *scratch, size_t each) {
    const sc_call call = {x, ldx, y, ldy, n, residual, ldr, scratch, each, 1};
    return sc_line_run(w, &call, threads);
}
RUN(sc_words, sc_words_rows(w), sc_words_panel(w), w->kernel != SC_WORDS_LINE || sc_line_has_shares(w->inner, MOST), NULL)
RUN_IN(sc_words)
