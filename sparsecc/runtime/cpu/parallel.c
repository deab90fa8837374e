/* Calls cut to parts, and a pool of threads that wait for them. */
#define _POSIX_C_SOURCE 200809L
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "internal.h"

enum {
    MOST = 256,
    /* Looks at what is waited for before a thread sleeps, some 50 microseconds: to be woken takes as long. */
    SPINS = 2000
};

/* One call at a time uses the pool; another that comes meanwhile runs on its own thread alone. */
static pthread_mutex_t busy = PTHREAD_MUTEX_INITIALIZER;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t wake = PTHREAD_COND_INITIALIZER, done = PTHREAD_COND_INITIALIZER;
static struct {
    int threads; /* that exist, besides the callers */
    pid_t owner; /* a process that was forked has none of its parent's threads */
    sc_task *task;
    const void *context;
    int count, next, failed;
    atomic_int left;
    atomic_uint round; /* of calls */
} pool;

static inline void relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Takes indices until none is left; called and left with the lock held. */
static void work(void) {
    while (pool.next < pool.count) {
        const int index = pool.next++;
        sc_task *const task = pool.task;
        const void *const context = pool.context;
        pthread_mutex_unlock(&lock);
        const int status = task(context, index);
        pthread_mutex_lock(&lock);
        if (status != 0) pool.failed = 1;
        if (--pool.left == 0) pthread_cond_signal(&done);
    }
}

static void *serve(void *unused) {
    (void)unused;
    for (unsigned seen = 0;;) {
        for (int i = 0; i < SPINS && atomic_load_explicit(&pool.round, memory_order_relaxed) == seen; i++) relax();
        pthread_mutex_lock(&lock);
        while (pool.round == seen) pthread_cond_wait(&wake, &lock);
        seen = pool.round;
        work();
        pthread_mutex_unlock(&lock);
    }
    return NULL;
}

static void grow(int threads) {
    if (pool.owner != getpid()) {
        pool.owner = getpid();
        pool.threads = 0;
    }
    while (pool.threads < threads) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, NULL) != 0) return; /* fewer do the same work */
        pthread_detach(thread);
        pool.threads++;
    }
}

int sc_parallel(sc_task *task, const void *context, int count) {
    int failed = 0;
    if (count <= 1 || pthread_mutex_trylock(&busy) != 0) {
        for (int i = 0; i < count; i++) failed |= task(context, i) != 0;
        return failed ? -1 : 0;
    }
    pthread_mutex_lock(&lock);
    grow(sc_min((size_t)count - 1, MOST));
    pool.task = task;
    pool.context = context;
    pool.count = count;
    pool.left = count;
    pool.next = pool.failed = 0;
    pool.round++;
    pthread_cond_broadcast(&wake);
    work();
    pthread_mutex_unlock(&lock);
    for (int i = 0; i < SPINS && atomic_load_explicit(&pool.left, memory_order_relaxed) > 0; i++) relax();
    pthread_mutex_lock(&lock);
    while (pool.left > 0) pthread_cond_wait(&done, &lock);
    failed = pool.failed;
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&busy);
    return failed ? -1 : 0;
}

void sc_start(int threads) {
    if (threads <= 1 || pthread_mutex_trylock(&busy) != 0) return;
    pthread_mutex_lock(&lock);
    grow((int)sc_min((size_t)threads - 1, MOST));
    pthread_mutex_unlock(&lock);
    pthread_mutex_unlock(&busy);
}

/* A call in equal parts: of positions while there are panels for all threads, else of rows. */
typedef struct split {
    const void *w;
    const sc_call *call;
    size_t rows, panel;
    int may_split_rows, parts, by_rows;
    int (*run)(const void *w, const sc_call *call, sc_part part);
} split;

static int run_split(const void *context, int index) {
    const split *s = context;
    const size_t i = (size_t)index, parts = (size_t)s->parts;
    sc_part part = {0, s->call->n, 0, s->rows};
    if (s->by_rows) {
        part.r0 = s->rows * i / parts;
        part.r1 = s->rows * (i + 1) / parts;
    } else {
        const size_t panels = (s->call->n + s->panel - 1) / s->panel;
        part.n0 = panels * i / parts * s->panel;
        part.n1 = sc_min(panels * (i + 1) / parts * s->panel, s->call->n);
    }
    sc_call call = *s->call;
    if (call.scratch) call.scratch += i * call.each;
    return s->run(s->w, &call, part);
}

static int run_parts(split s, int threads) {
    if (s.call->n == 0 || s.rows == 0) return 0;
    const size_t panels = (s.call->n + s.panel - 1) / s.panel, wanted = (size_t)(threads < MOST ? threads : MOST);
    /* With fewer than four panels a thread, an uneven share costs more than reading X twice. */
    s.by_rows = s.may_split_rows && panels % wanted != 0 && panels < 4 * wanted;
    s.parts = (int)sc_min(wanted, s.by_rows ? s.rows : panels);
    return sc_parallel(run_split, &s, s.parts);
}

#define RUN(kernel, count, width, may)                                                          \
    static int kernel##_any(const void *w, const sc_call *call, sc_part part) {            \
        return kernel##_part(w, call, part);                                               \
    }                                                                                      \
    int kernel##_run(const kernel *w, const sc_call *call, int threads) {                  \
        return run_parts((split){w, call, (size_t)(count), width, (int)(may), 1, 0, kernel##_any}, threads); \
    }                                                                                      \
    int kernel##_at(const kernel *w, const float *x, size_t ldx, float *y, size_t ldy, size_t n, const float *residual, \
                    size_t ldr, int threads) {                                             \
        const sc_call call = {x, ldx, y, ldy, n, residual, ldr, NULL, 0, 0};               \
        return kernel##_run(w, &call, threads);                                            \
    }
RUN(sc_line, w->groups, (size_t)w->lanes, w->same_rows)
RUN(sc_csr, (w->m + SC_CSR_ROWS - 1) / SC_CSR_ROWS, 4 * SC_LANES, 1)
RUN(sc_dense, (w->m + SC_DENSE_ROWS - 1) / SC_DENSE_ROWS, SC_DENSE_VECTORS *SC_LANES, 1)
RUN(sc_vector, (w->m + SC_VECTOR_SLAB - 1) / SC_VECTOR_SLAB, 1, 1)
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
RUN(sc_words, sc_words_rows(w), sc_words_panel(w), w->kernel != SC_WORDS_LINE || ((const sc_line *)w->inner)->same_rows)
