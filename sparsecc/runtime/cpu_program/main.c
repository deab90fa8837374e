/* Runs a compiled product on this CPU, checks it, and says how long it takes.
 *
 * Without arguments: run on the stored input, compare every value with the stored result, print the time. --report
 * FILE.json writes what was found; --threads T runs in so many threads. Exit status: 0 all well, 1 an error, 2 wrong
 * arguments, 3 a wrong value.
 */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "model.h"

#ifdef MODEL_RESIDUAL
#define RUN(y, threads) model_run(model_x, MODEL_N, y, MODEL_N, MODEL_N, model_residual, MODEL_N, threads)
#else
#define RUN(y, threads) model_run(model_x, MODEL_N, y, MODEL_N, MODEL_N, threads)
#endif

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* Seconds of the fastest of the calls that fit a fifth of a second; below 0 when one failed. */
static double fastest(model_out *y, int threads) {
    const double start = now();
    double best = INFINITY;
    do {
        const double before = now();
        if (RUN(y, threads) != 0) return -1.0;
        const double took = now() - before;
        if (took < best) best = took;
    } while (now() - start < 0.2);
    return best;
}

typedef struct verdict {
    size_t wrong, first;
    double max_error, bound_there, worst; /* the bound of the value that came nearest to its own */
} verdict;

static verdict check(const model_out *y) {
    verdict v = {0, 0, 0.0, 0.0, 0.0};
    for (size_t i = 0; i < (size_t)MODEL_M * MODEL_N; i++) {
        const double error = fabs((double)y[i] - model_expected[i]);
        /* Written so that NaN, which compares false with everything, is wrong. */
        if (!(error <= model_bound[i]) && v.wrong++ == 0) v.first = i;
        if (!(error <= v.max_error)) v.max_error = error;
        const double share = model_bound[i] > 0.0 ? error / model_bound[i] : 0.0;
        if (share >= v.worst) v.worst = share, v.bound_there = model_bound[i];
    }
    return v;
}

static int write_report(const char *path, const verdict *v, double seconds, int threads) {
    FILE *out = fopen(path, "w");
    if (!out) {
        fprintf(stderr, "model: %s: cannot be written\n", path);
        return 1;
    }
    fprintf(out, "{\"seconds\": %.9g, \"threads\": %d, \"wrong\": %zu, \"max_error\": %.17g, \"error_bound\": %.17g}\n",
            seconds, threads, v->wrong, v->max_error, v->bound_there);
    return fclose(out) != 0;
}

int main(int argc, char **argv) {
    const char *report = NULL;
    int threads = 1;
    for (int i = 1; i < argc; i++) {
        if (strcmp(argv[i], "--report") == 0 && i + 1 < argc) {
            report = argv[++i];
        } else if (strcmp(argv[i], "--threads") == 0 && i + 1 < argc) {
            char *end;
            const long count = strtol(argv[++i], &end, 10);
            if (*end || count < 1 || count > 1024) {
                fprintf(stderr, "model: --threads %s: needed a number from 1 to 1024\n", argv[i]);
                return 2;
            }
            threads = (int)count;
        } else {
            fprintf(stderr, "model: %s: unknown; usage: model [--threads T] [--report FILE.json]\n", argv[i]);
            return 2;
        }
    }
    if (model_init() != 0) {
        fprintf(stderr, "model: this CPU lacks instructions that the program was made for (%s)\n", MODEL_TARGET);
        return 1;
    }
    model_out *y = malloc(sizeof *y * MODEL_M * MODEL_N);
    if (!y) {
        fprintf(stderr, "model: out of memory for the result\n");
        return 1;
    }
    memset(y, 0xff, sizeof *y * MODEL_M * MODEL_N); /* NaN, or -1 */
    const double seconds = fastest(y, threads);
    if (seconds < 0) {
        fprintf(stderr, "model: out of memory for scratch panels\n");
        free(y);
        return 1;
    }
    const verdict v = check(y);
    printf("%s\n%.4g ms, %.4g GFLOP/s of nonzeros, %d thread%s\n", MODEL_TITLE, 1e3 * seconds,
           2e-9 * MODEL_NNZ * MODEL_N / seconds, threads, threads == 1 ? "" : "s");
    if (v.wrong)
        printf("WRONG: %zu values, the first in row %zu, column %zu: %g, needed %g\n", v.wrong, v.first / MODEL_N,
               v.first % MODEL_N, (double)y[v.first], model_expected[v.first]);
    else
        printf("every value within its bound; largest error %g, bound there %g\n", v.max_error, v.bound_there);
    free(y);
    const int failed = report ? write_report(report, &v, seconds, threads) : 0;
    return v.wrong ? 3 : failed;
}
