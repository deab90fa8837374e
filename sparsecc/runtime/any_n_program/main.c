/* Runs a product for any number of columns on the simulator, checks it, and reports.
 *
 * Without arguments: run on the first n columns of the stored input for every n of the table, compare every value
 * with the stored result, and the cycles with those that were foretold. Exit status: 0 all well, 1 an error of the
 * program or of a file, 2 wrong arguments, 3 a wrong value or other cycles.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "npy.h"

static const char usage[] =
    "usage: model [--n N] [--input X.npy] [--output Y.npy] [--report FILE.json] [--timing-only] [--quiet]\n"
    "  runs the product on the simulated accelerator for N columns, or for all that the table has; --input X.npy\n"
    "  with N columns instead of the stored input, whose result is checked value by value; --timing-only: without\n"
    "  any values\n";

typedef struct options {
    const char *n, *input, *output, *report;
    int quiet, timing_only;
    int64_t columns; /* 0 for the whole table */
} options;

static int parse(int argc, char **argv, options *o) {
    const struct {
        const char *name, **value;
    } known[] = {{"--n", &o->n}, {"--input", &o->input}, {"--output", &o->output}, {"--report", &o->report}};
    for (int i = 1; i < argc; i++) {
        size_t k = 0;
        if (strcmp(argv[i], "--quiet") == 0 || strcmp(argv[i], "--timing-only") == 0) {
            *(argv[i][2] == 'q' ? &o->quiet : &o->timing_only) = 1;
            continue;
        }
        while (k < 4 && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == 4 || i + 1 == argc) {
            fprintf(stderr, "model: %s: %s\n%s", argv[i], k == 4 ? "unknown argument" : "needs a value", usage);
            return 2;
        }
        *known[k].value = argv[++i];
    }
    if (o->n) {
        char *end;
        o->columns = strtoll(o->n, &end, 10);
        if (*end || end == o->n || o->columns < 1 || o->columns > MODEL_MAX_N) {
            fprintf(stderr, "model: --n %s: needed a number of columns from 1 to %d\n", o->n, MODEL_MAX_N);
            return 2;
        }
    } else if (o->input || o->output) {
        fprintf(stderr, "model: --input and --output need the number of columns: give --n N\n");
        return 2;
    }
    if (o->timing_only && (o->input || o->output)) {
        fprintf(stderr, "model: --timing-only computes no values; leave --input and --output out\n");
        return 2;
    }
    return 0;
}

static size_t size_of(ax_type type) {
    return type == AX_I8 ? 1 : type == AX_F16 || type == AX_BF16 ? 2 : 4;
}

/* How many values of the first n columns are wrong: integers must be equal, floats within their bounds. */
static int64_t wrong_values(const void *y, int64_t n) {
    int64_t wrong = 0;
    for (int64_t i = 0; i < MODEL_M; i++)
        for (int64_t j = 0; j < n; j++) {
            const int64_t at = i * n + j, from = i * MODEL_MAX_N + j;
            double error, bound = 0.0;
            if (MODEL_OUT == AX_I32) {
                error = (double)((const int32_t *)y)[at] - (double)((const int32_t *)(const void *)model_expected)[from];
            } else {
                error = (double)((const float *)y)[at] - ((const double *)(const void *)model_expected)[from];
                bound = ((const double *)(const void *)model_bound)[from];
            }
            wrong += !(fabs(error) <= bound);
        }
    return wrong;
}

/* Arrays are written once, and one machine serves all products; what is not programmed begins anew each time. */
static ax_machine *machine;

/* NULL after a message. */
static ax_machine *ready(int timing_only) {
    if (MODEL_PROGRAMMED && machine) return machine;
    ax_close(machine);
    machine = MODEL_OPEN(&ax_target, timing_only ? AX_NO_DATA : 0u);
    if (!machine) {
        fprintf(stderr, "model: out of memory for the simulator\n");
    } else if (model_program(machine) != 0) {
        fprintf(stderr, "model: %s\n", ax_error(machine));
        return NULL;
    }
    return machine;
}

typedef struct cost {
    int64_t cycles; /* -1 after a message */
    double energy_pj;
} cost;

static cost cost_of(int64_t n, void *x, void *y, int timing_only) {
    cost c = {-1, 0.0};
    ax_machine *m = ready(timing_only);
    if (!m) return c;
    const int64_t cycles = MODEL_PROGRAMMED ? ax_cycles(m) : 0;
    const double energy = ax_energy(m);
    const int input = ax_buffer(m, "x", x, MODEL_K * n, MODEL_IN), output = ax_buffer(m, "y", y, MODEL_M * n, MODEL_OUT);
    if (model_infer(m, input, output, n) != 0 || ax_fence(m) != 0) fprintf(stderr, "model: %s\n", ax_error(m));
    else c = (cost){ax_cycles(m) - cycles, ax_energy(m) - energy};
    return c;
}

static int run(const options *o, FILE *report) {
    const size_t size = size_of(MODEL_IN);
    int64_t wrong = 0, others = 0;
    int status = 1, first = 1;
    unsigned char *x = malloc((size_t)MODEL_K * MODEL_MAX_N * size + 1);
    void *y = malloc((size_t)MODEL_M * MODEL_MAX_N * 4 + 1), *given = NULL;
    if (!x || !y) {
        fprintf(stderr, "model: out of memory for the arrays\n");
        goto done;
    }
    if (o->input && !(given = npy_read(o->input, MODEL_IN, MODEL_K, o->columns))) goto done;
    if (!o->quiet) printf("%s\n", MODEL_TITLE);
    for (int i = 0; i < (o->columns ? 1 : MODEL_ROWS); i++) {
        const int64_t n = o->columns ? o->columns : model_table[i].n;
        for (int64_t r = 0; r < MODEL_K && !given; r++)
            memcpy(x + (size_t)(r * n) * size, (const unsigned char *)(const void *)model_x + (size_t)(r * MODEL_MAX_N) * size, (size_t)n * size);
        const cost c = cost_of(n, given ? given : x, y, o->timing_only);
        if (c.cycles < 0) goto done;
        const int64_t bad = given || o->timing_only ? 0 : wrong_values(y, n);
        const int other = !o->columns && model_table[i].cycles >= 0 && c.cycles != model_table[i].cycles;
        wrong += bad;
        others += other;
        if (report) {
            fprintf(report, "%s{\"n\": %lld, \"kernel\": %d, \"cycles\": %lld, \"energy_pj\": %.17g, \"wrong\": %lld}",
                    first ? "[" : ", ", (long long)n, model_kernel(n), (long long)c.cycles, c.energy_pj, (long long)bad);
        }
        first = 0;
        if (!o->quiet) {
            printf("n %5lld  kernel %d  %9lld cycles%s%s\n", (long long)n, model_kernel(n), (long long)c.cycles,
                   bad ? "  WRONG VALUES" : "", other ? "  NOT AS FORETOLD" : "");
        }
    }
    if (report) fprintf(report, "]\n");
    if (o->output && npy_write(o->output, y, MODEL_OUT, MODEL_M, o->columns) != 0) goto done;
    status = 0;
    if (wrong || others) {
        fprintf(stderr, "model: %lld values are wrong, and %lld numbers of columns take other cycles than foretold\n",
                (long long)wrong, (long long)others);
        status = 3;
    }
done:
    ax_close(machine);
    free(given);
    free(x);
    free(y);
    return status;
}

int main(int argc, char **argv) {
    options o = {NULL, NULL, NULL, NULL, 0, 0, 0};
    const int wrong = parse(argc, argv, &o);
    if (wrong) return wrong;
    if (model_load(argv[0]) != 0) return 1;
    FILE *report = o.report ? fopen(o.report, "w") : NULL;
    if (o.report && !report) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o.report, strerror(errno));
        return 1;
    }
    int status = run(&o, report);
    if (report && fclose(report) != 0 && status == 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o.report, strerror(errno));
        status = 1;
    }
    return status;
}
