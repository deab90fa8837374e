/* Runs a compiled operator on the simulator, checks it, and reports.
 *
 * Without arguments: run on the stored inputs, compare every value with the stored result, print the report.
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
    "usage: model [--input X.npy]... [--output Y.npy] [--report FILE.json] [--trace FILE.json] [--timing-only] [--quiet]\n"
    "             [--noise seed=1,program=0.05,lognormal=0,read=0.01,stuck_low=0.001,stuck_high=0.001]\n"
    "             [--faults FILE]\n"
    "  runs the product on the simulated accelerator; --input is given once for each input, in their order; without\n"
    "  it the stored ones are taken, whose result is checked value by value; --noise: what makes the devices of\n"
    "  crossbars differ from their levels, any of these numbers; values may then be wrong, and are counted;\n"
    "  --faults: stuck devices of crossbars, a line 'array row column negative high' of numbers for each\n";

typedef struct options {
    const char *input[MODEL_INPUTS], *output, *report, *trace, *noise, *faults;
    int inputs, timing_only, quiet;
} options;

static int parse(int argc, char **argv, options *o) {
    const struct {
        const char *name;
        const char **value;
        int *flag;
    } known[] = {
        {"--input", NULL, NULL},       {"--output", &o->output, NULL},           {"--report", &o->report, NULL},
        {"--trace", &o->trace, NULL},  {"--timing-only", NULL, &o->timing_only}, {"--quiet", NULL, &o->quiet},
        {"--noise", &o->noise, NULL},  {"--faults", &o->faults, NULL},
    };
    const int count = (int)(sizeof known / sizeof known[0]);
    for (int i = 1; i < argc; i++) {
        int k = 0;
        while (k < count && strcmp(argv[i], known[k].name) != 0) k++;
        if (k == count || (!known[k].flag && i + 1 == argc)) {
            fprintf(stderr, "model: %s: %s\n%s", argv[i], k == count ? "unknown argument" : "needs a value", usage);
            return 2;
        }
        if (known[k].flag) *known[k].flag = 1;
        else if (known[k].value) *known[k].value = argv[++i];
        else if (++o->inputs <= MODEL_INPUTS) o->input[o->inputs - 1] = argv[++i];
        else i++;
    }
    if (o->inputs != 0 && o->inputs != MODEL_INPUTS) {
        fprintf(stderr, "model: --input is given %d times; needed once for each of %d inputs:", o->inputs, MODEL_INPUTS);
        for (int k = 0; k < MODEL_INPUTS; k++) fprintf(stderr, " %s", model_inputs[k].name);
        fprintf(stderr, "\n");
        return 2;
    }
    if (o->timing_only && (o->inputs || o->output)) {
        fprintf(stderr, "model: --timing-only computes no values; leave --input and --output out\n");
        return 2;
    }
    return 0;
}

typedef struct verdict {
    double max_error, bound_there; /* the largest error, and the bound at the value nearest to its bound */
    int64_t wrong, first_wrong;
    double worst; /* largest error / bound; 0 where the error is 0 */
    double squared_error, squared; /* sums, of the errors and of what was expected */
} verdict;

/* Integers must be equal; floats within the forward error bound of each value, gamma_K times the product of the
 * factors' magnitudes. */
static verdict check(const void *y, ax_type type) {
    verdict v = {0.0, 0.0, 0, -1, 0.0, 0.0, 0.0};
    for (int64_t i = 0; i < MODEL_VALUES; i++) {
        const int64_t at = MODEL_PLACE(i);
        double found, expected, bound;
        if (type == AX_I32 || type == AX_I8) {
            found = type == AX_I8 ? ((const int8_t *)y)[at] : ((const int32_t *)y)[at];
            expected = ((const int32_t *)(const void *)model_expected)[i];
            bound = 0.0;
        } else {
            found = ((const float *)y)[at];
            expected = ((const double *)(const void *)model_expected)[i];
            bound = ((const double *)(const void *)model_bound)[i];
        }
        const double error = fabs(found - expected);
        v.squared_error += error * error;
        v.squared += expected * expected;
        if (error > v.max_error || !(error == error)) v.max_error = error;
        if (!(error <= bound)) {
            if (v.wrong++ == 0) v.first_wrong = at;
        }
        const double share = bound > 0.0 ? error / bound : 0.0;
        if (share >= v.worst) {
            v.worst = share;
            v.bound_there = bound;
        }
    }
    return v;
}

/* Of all values; 0 where a mask keeps none. */
static double root_mean(double squares) {
    const double values = (double)MODEL_VALUES;
    return values > 0.0 ? sqrt(squares / values) : 0.0;
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
        fprintf(out, ", \"check\": {\"wrong\": %lld, \"max_error\": %.17g, \"error_bound\": %.17g, \"worst_share\": %.17g, "
                "\"rms_error\": %.17g, \"rms\": %.17g}",
                (long long)v->wrong, v->max_error, v->bound_there, v->worst, root_mean(v->squared_error), root_mean(v->squared));
    }
    fprintf(out, "}\n");
    if (fclose(out) != 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->report, strerror(errno));
        return 1;
    }
    return 0;
}

/* What a program leaves at other places than those of its values is not part of the result. */
static int write_output(const char *path, const uint32_t *y) {
    if (MODEL_VALUES == (int64_t)MODEL_M * MODEL_N) return npy_write(path, y, MODEL_OUT, MODEL_M, MODEL_N);
    uint32_t *values = calloc((size_t)MODEL_M * MODEL_N, sizeof *values);
    if (!values) {
        fprintf(stderr, "model: out of memory for the result\n");
        return -1;
    }
    for (int64_t i = 0; i < MODEL_VALUES; i++) values[MODEL_PLACE(i)] = y[MODEL_PLACE(i)];
    const int status = npy_write(path, values, MODEL_OUT, MODEL_M, MODEL_N);
    free(values);
    return status;
}

static int add_noise(ax_machine *m, const char *noise) {
#ifdef AXSIM_CROSSBAR_H
    if (ax_xb_noise_text(m, noise) == 0) return 0;
    fprintf(stderr, "model: --noise: %s\n", ax_error(m));
#else
    (void)m;
    fprintf(stderr, "model: --noise %s: only crossbars have noise, and target %s has none\n", noise, AX_TARGET_NAME);
#endif
    return -1;
}

static int add_faults(ax_machine *m, const char *path) {
#ifdef AXSIM_CROSSBAR_H
    if (ax_xb_fault_file(m, path) == 0) return 0;
    fprintf(stderr, "model: --faults: %s\n", ax_error(m));
#else
    (void)m;
    fprintf(stderr, "model: --faults %s: only crossbars have faults, and target %s has none\n", path, AX_TARGET_NAME);
#endif
    return -1;
}

static int run(ax_machine *m, const options *o, void *const *inputs, void *y) {
    int buffers[MODEL_INPUTS];
    ax_scope(m, MODEL_TITLE);
    if (o->noise && add_noise(m, o->noise) != 0) return 1;
    if (o->faults && add_faults(m, o->faults) != 0) return 1;
    if (model_program(m) != 0) {
        fprintf(stderr, "model: %s\n", ax_error(m));
        return 1;
    }
    for (int k = 0; k < MODEL_INPUTS; k++) {
        const model_input *in = &model_inputs[k];
        buffers[k] = ax_buffer(m, in->name, o->timing_only ? NULL : inputs[k], in->rows * in->cols, MODEL_IN);
    }
    const int output = ax_buffer(m, "y", y, (int64_t)MODEL_M * MODEL_N, MODEL_OUT);
    if (model_run(m, buffers, output) != 0) {
        fprintf(stderr, "model: %s\n", ax_error(m));
        return 1;
    }
    const int checked = !o->timing_only && !o->inputs;
    verdict v = {0.0, 0.0, 0, -1, 0.0, 0.0, 0.0};
    if (checked) v = check(y, MODEL_OUT);
    if (!o->quiet) {
        printf("%s\n", MODEL_TITLE);
        ax_report_text(m, stdout);
        if (checked) {
            printf("check: %lld of %lld values wrong, largest error %g (bound there %g)\n", (long long)v.wrong,
                   (long long)MODEL_VALUES, v.max_error, v.bound_there);
        }
    }
    if (o->report && write_report(m, checked ? &v : NULL, o) != 0) return 1;
    if (o->trace && ax_write_trace(m, o->trace) != 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->trace, strerror(errno));
        return 1;
    }
    if (o->output && write_output(o->output, y) != 0) return 1;
    if (v.wrong > 0 && !o->noise && !o->faults) {
        fprintf(stderr, "model: %lld values are wrong; the first is at row %lld, column %lld\n", (long long)v.wrong,
                (long long)(v.first_wrong / MODEL_N), (long long)(v.first_wrong % MODEL_N));
        return 3;
    }
    return 0;
}

int main(int argc, char **argv) {
    options o = {{NULL}, NULL, NULL, NULL, NULL, NULL, 0, 0, 0};
    const int wrong = parse(argc, argv, &o);
    if (wrong) return wrong;
    if (model_load(argv[0]) != 0) return 1;

    void *inputs[MODEL_INPUTS], *read[MODEL_INPUTS] = {NULL}, *y = NULL;
    ax_machine *m = NULL;
    int status = 1;
    for (int k = 0; k < MODEL_INPUTS; k++) {
        const model_input *in = &model_inputs[k];
        inputs[k] = (void *)(uintptr_t)in->data;
        if (o.inputs && !(inputs[k] = read[k] = npy_read(o.input[k], MODEL_IN, in->rows, in->cols))) goto done;
    }
    if (!o.timing_only && !(y = calloc((size_t)MODEL_M * MODEL_N, 4))) {
        fprintf(stderr, "model: out of memory for the result\n");
        goto done;
    }
    m = MODEL_OPEN(&ax_target, (o.timing_only ? AX_NO_DATA : 0u) | (o.trace ? AX_TRACE : 0u));
    if (m) status = run(m, &o, inputs, y);
    else fprintf(stderr, "model: out of memory for the simulator\n");
done:
    ax_close(m);
    for (int k = 0; k < MODEL_INPUTS; k++) free(read[k]);
    free(y);
    return status;
}
