/* Runs a compiled operator on the simulator, checks it, and reports.
 *
 * Without arguments: run on the stored input, compare every value with the stored result, print the report.
 * Exit status: 0 all well, 1 an error of the program or of a file, 2 wrong arguments, 3 a wrong value.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "npy.h"
#include "target.h"

static const char usage[] =
    "usage: model [--input X.npy] [--output Y.npy] [--report FILE.json] [--trace FILE.json] [--timing-only] [--quiet]\n"
    "  runs C[M,N] = W[M,K] X[K,N] on the simulated accelerator; without --input on the stored X, whose result is\n"
    "  checked value by value\n";

typedef struct options {
    const char *input, *output, *report, *trace;
    int timing_only, quiet;
} options;

static int parse(int argc, char **argv, options *o) {
    const struct {
        const char *name;
        const char **value;
        int *flag;
    } known[] = {
        {"--input", &o->input, NULL},   {"--output", &o->output, NULL},           {"--report", &o->report, NULL},
        {"--trace", &o->trace, NULL},   {"--timing-only", NULL, &o->timing_only}, {"--quiet", NULL, &o->quiet},
    };
    const int count = (int)(sizeof known / sizeof known[0]);
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < count && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == count || (known[k].value && i + 1 == argc)) {
            fprintf(stderr, "model: %s: %s\n%s", argv[i], k == count ? "unknown argument" : "needs a value", usage);
            return 2;
        }
        if (known[k].flag) *known[k].flag = 1;
        else *known[k].value = argv[++i];
    }
    if (o->timing_only && (o->input || o->output)) {
        fprintf(stderr, "model: --timing-only computes no values; leave --input and --output out\n");
        return 2;
    }
    return 0;
}

typedef struct verdict {
    double max_error, bound_there; /* the largest error, and the bound at the value nearest to its bound */
    int64_t wrong, first_wrong;
    double worst; /* largest error / bound; 0 where the error is 0 */
} verdict;

/* Integers must be equal; floats within the forward error bound gamma_K (|W| |X|) of each value. */
static verdict check(const void *y, ax_type type) {
    verdict v = {0.0, 0.0, 0, -1, 0.0};
    for (int64_t i = 0; i < (int64_t)MODEL_M * MODEL_N; i++) {
        double found, expected, bound;
        if (type == AX_I32) {
            found = ((const int32_t *)y)[i];
            expected = ((const int32_t *)(const void *)model_expected)[i];
            bound = 0.0;
        } else {
            found = ((const float *)y)[i];
            expected = ((const double *)(const void *)model_expected)[i];
            bound = ((const double *)(const void *)model_bound)[i];
        }
        const double error = fabs(found - expected);
        if (error > v.max_error || !(error == error)) v.max_error = error;
        if (!(error <= bound)) {
            if (v.wrong++ == 0) v.first_wrong = i;
        }
        const double share = bound > 0.0 ? error / bound : 0.0;
        if (share >= v.worst) {
            v.worst = share;
            v.bound_there = bound;
        }
    }
    return v;
}

static int write_report(const ax_machine *m, const verdict *v, const options *o) {
    FILE *out = fopen(o->report, "w");
    if (!out) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->report, strerror(errno));
        return 1;
    }
    fprintf(out, "{\"simulation\": ");
    ax_report_json(m, out);
    if (v) {
        fprintf(out, ", \"check\": {\"wrong\": %lld, \"max_error\": %.17g, \"error_bound\": %.17g, \"worst_share\": %.17g}",
                (long long)v->wrong, v->max_error, v->bound_there, v->worst);
    }
    fprintf(out, "}\n");
    if (fclose(out) != 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->report, strerror(errno));
        return 1;
    }
    return 0;
}

static int run(ax_machine *m, const options *o, void *x, void *y) {
    const int64_t x_count = (int64_t)MODEL_K * MODEL_N, y_count = (int64_t)MODEL_M * MODEL_N;
    ax_scope(m, MODEL_TITLE);
    const int x_buffer = ax_buffer(m, "x", x, x_count, MODEL_IN);
    const int y_buffer = ax_buffer(m, "y", y, y_count, MODEL_OUT);
    if (model_infer(m, x_buffer, y_buffer) != 0) {
        fprintf(stderr, "model: %s\n", ax_error(m));
        return 1;
    }
    const int checked = !o->timing_only && !o->input;
    verdict v = {0.0, 0.0, 0, -1, 0.0};
    if (checked) v = check(y, MODEL_OUT);
    if (!o->quiet) {
        printf("%s\n", MODEL_TITLE);
        ax_report_text(m, stdout);
        if (checked) {
            printf("check: %lld of %lld values wrong, largest error %g (bound there %g)\n", (long long)v.wrong,
                   (long long)y_count, v.max_error, v.bound_there);
        }
    }
    if (o->report && write_report(m, checked ? &v : NULL, o) != 0) return 1;
    if (o->trace && ax_write_trace(m, o->trace) != 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->trace, strerror(errno));
        return 1;
    }
    if (o->output && npy_write(o->output, y, MODEL_OUT, MODEL_M, MODEL_N) != 0) return 1;
    if (v.wrong > 0) {
        fprintf(stderr, "model: %lld values are wrong; the first is at row %lld, column %lld\n", (long long)v.wrong,
                (long long)(v.first_wrong / MODEL_N), (long long)(v.first_wrong % MODEL_N));
        return 3;
    }
    return 0;
}

int main(int argc, char **argv) {
    options o = {NULL, NULL, NULL, NULL, 0, 0};
    const int wrong = parse(argc, argv, &o);
    if (wrong) return wrong;
    if (model_load(argv[0]) != 0) return 1;

    void *x = (void *)(uintptr_t)model_x, *read = NULL, *y = NULL;
    if (o.input && !(x = read = npy_read(o.input, MODEL_IN, MODEL_K, MODEL_N))) return 1;
    if (!o.timing_only && !(y = calloc((size_t)MODEL_M * MODEL_N, 4))) {
        fprintf(stderr, "model: out of memory for the result\n");
        free(read);
        return 1;
    }
    ax_machine *m = ax_open(&ax_target, (o.timing_only ? AX_NO_DATA : 0u) | (o.trace ? AX_TRACE : 0u));
    int status = 1;
    if (m) status = run(m, &o, o.timing_only ? NULL : x, y);
    else fprintf(stderr, "model: out of memory for the simulator\n");
    ax_close(m);
    free(read);
    free(y);
    return status;
}
