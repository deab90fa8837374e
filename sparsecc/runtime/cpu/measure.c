/* Times of kernels, the peak of a core, and whether the CPU has the instructions. */
#define _POSIX_C_SOURCE 200809L
#include <time.h>

#include "words.h"

static double seconds_of(clockid_t clock) {
    struct timespec t;
    clock_gettime(clock, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double now(void) { return seconds_of(CLOCK_MONOTONIC); }

double sc_time(sc_run *run, const void *w, const sc_call *call, int threads, double budget) {
    /* A thread's own time leaves out what other programs do on its core: a run of milliseconds seldom has it
     * to itself on a busy machine. */
    const clockid_t clock = threads > 1 ? CLOCK_MONOTONIC : CLOCK_THREAD_CPUTIME_ID;
    const double start = now();
    double best = 1e30;
    int runs = 1, left = 3; /* even where one run takes all of the budget */
    do {
        const double before = seconds_of(clock);
        for (int i = 0; i < runs; i++)
            if (run(w, call, threads) != 0) return -1.0;
        const double each = (seconds_of(clock) - before) / runs;
        if (each < best) best = each;
        /* Several runs between two looks at the clock, which takes up to a microsecond. */
        if (each * runs < 2e-4) runs *= 2;
    } while (--left > 0 || now() - start < budget);
    return best;
}

double sc_peak(double budget) {
    enum { CHAINS = 10, STEPS = 4096 };
    const double start = now();
    double best = 0.0;
    do {
        sc_vec acc[CHAINS], a = sc_spread(0.5f), b = sc_spread(0.5f);
        for (int c = 0; c < CHAINS; c++) acc[c] = sc_spread(1.0f);
        /* The compiler may not know the factors. */
        __asm__ volatile("" : "+m"(a), "+m"(b));
        const double before = now();
        for (int s = 0; s < STEPS; s++) {
#pragma GCC unroll 8
            for (int i = 0; i < 8; i++)
                for (int c = 0; c < CHAINS; c++) acc[c] = acc[c] * a + b;
        }
        for (int c = 0; c < CHAINS; c++) __asm__ volatile("" : : "m"(acc[c]));
        const double rate = 2.0 * 8 * CHAINS * STEPS * SC_LANES / (now() - before);
        if (rate > best) best = rate;
    } while (now() - start < budget);
    return best;
}

/* Seconds of so many rounds of eight times CHAINS multiplications. */
#define WORDS_SECONDS(name, dot)                                                  \
    static double name(size_t steps) {                                            \
        enum { CHAINS = 10 };                                                     \
        sc_word acc[CHAINS], a = {0}, b = {0};                                    \
        for (int c = 0; c < CHAINS; c++) acc[c] = (sc_word){0};                   \
        __asm__ volatile("" : "+m"(a), "+m"(b));                                  \
        sc_word x = a, y = b;                                                     \
        const double before = now();                                              \
        for (size_t s = 0; s < 8 * steps; s++) {                                  \
            _Pragma("GCC unroll 10") for (int c = 0; c < CHAINS; c++) {           \
                SC_OPAQUE(x); /* or the products would be the same each time */   \
                acc[c] = dot(acc[c], x, y);                                       \
            }                                                                     \
        }                                                                         \
        for (int c = 0; c < CHAINS; c++) __asm__ volatile("" : : "m"(acc[c]));    \
        return (now() - before) / (double)(8 * steps * CHAINS);                   \
    }
WORDS_SECONDS(seconds_i8, sc_dot_i8)
#if SC_BF16_DEPTH == 2
WORDS_SECONDS(seconds_bf16, sc_dot_bf16)
#endif

double sc_words_peak(int x_type, double budget) {
    const double start = now(), depth = sc_words_depth(x_type);
    double (*seconds)(size_t) = seconds_i8;
#if SC_BF16_DEPTH == 2
    if (x_type == SC_X_BF16) seconds = seconds_bf16;
#endif
    if (depth == 1) return sc_peak(budget);
    double best = 0.0;
    do {
        const double rate = 2.0 * depth * SC_LANES / seconds(4096);
        if (rate > best) best = rate;
    } while (now() - start < budget);
    return best;
}

double sc_read(const float *data, size_t count, double budget) {
    enum { CHAINS = 8, LEAST = 1 << 16 };
    /* Few values are read several times, or looking at the clock counts. */
    const size_t rounds = 1 + LEAST / (count + 1);
    const double start = now();
    double best = 0.0;
    do {
        sc_vec sums[CHAINS] = {{0}};
        const double before = now();
        for (size_t round = 0; round < rounds; round++)
            for (size_t i = 0; i + CHAINS * SC_LANES <= count; i += CHAINS * SC_LANES)
                for (size_t c = 0; c < CHAINS; c++) sums[c] += sc_load(data + i + c * SC_LANES);
        const double rate = 4.0 * (double)(rounds * count) / (now() - before);
        for (size_t c = 0; c < CHAINS; c++) __asm__ volatile("" : : "m"(sums[c]));
        if (rate > best) best = rate;
    } while (now() - start < budget);
    return best;
}

double sc_loads(const float *data, size_t count, double budget) {
    enum { STEPS = 8, ROUNDS = 64 };
    const double start = now();
    double best = 0.0;
    do {
        const double before = now();
        for (int round = 0; round < ROUNDS; round++)
            for (size_t i = 0; i + STEPS <= count; i += STEPS)
                for (size_t s = 0; s < STEPS; s++) {
                    const float loaded = data[i + s];
                    /* Or compilers leave the load out, or load several at once. */
#if defined(__aarch64__)
                    __asm__ volatile("" : : "w"(loaded));
#elif defined(__x86_64__) || defined(__i386__)
                    __asm__ volatile("" : : "x"(loaded));
#else
                    __asm__ volatile("" : : "m"(loaded));
#endif
                }
        const double rate = (double)(count / STEPS * STEPS * ROUNDS) / (now() - before);
        if (rate > best) best = rate;
    } while (now() - start < budget);
    return best;
}

int sc_supported(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_cpu_init();
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512vl") &&
           __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("fma")
#if defined(__AVX512VNNI__)
           && __builtin_cpu_supports("avx512vnni")
#endif
#if defined(__AVX512BF16__)
           && __builtin_cpu_supports("avx512bf16")
#endif
        ;
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
#else
    return 1; /* NEON is part of every AArch64 */
#endif
}
