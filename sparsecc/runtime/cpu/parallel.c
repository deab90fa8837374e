/* A pool of threads that wait for parts of calls. */
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
