/* Runs a network for any batch, checks it, and reports; engine.h knows what computes, and what that costs.
 *
 * Without arguments: run on the first rows of the stored inputs for several batches, compare every output value with
 * the stored result, and the cost with what was foretold. Exit status: 0 all well, 1 an error of the program or of a
 * file, 2 wrong arguments, 3 a wrong value or another cost.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "arrays.h"
#include "engine.h"

static const char usage[] =
    "usage: model [--batch N [--input X.npy]... [--output Y.npy]...] [--report FILE.json] [--quiet]" ENGINE_USAGE "\n"
    "  runs the network on the " ENGINE_WHAT " for N rows, or for the batches it checks itself with; --input is\n"
    "  given once for each input, in their order, --output likewise; without --input the first rows of the stored\n"
    "  inputs are taken, and every value of the outputs is compared with the stored result\n";

typedef struct options {
    const char *input[MODEL_INPUTS + 1], *output[MODEL_OUTPUTS + 1], *report, *batch;
    int inputs, outputs, quiet;
    int64_t rows; /* 0 for those of the check */
} options;

static int parse(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i], **value = NULL;
        if (strcmp(name, "--quiet") == 0) {
            o->quiet = 1;
            continue;
        }
        if ((value = engine_option(name))) {
        } else if (strcmp(name, "--report") == 0) value = &o->report;
        else if (strcmp(name, "--batch") == 0) value = &o->batch;
        else if (strcmp(name, "--input") == 0) value = &o->input[o->inputs < MODEL_INPUTS ? o->inputs++ : MODEL_INPUTS];
        else if (strcmp(name, "--output") == 0) value = &o->output[o->outputs < MODEL_OUTPUTS ? o->outputs++ : MODEL_OUTPUTS];
        if (!value || i + 1 == argc) {
            fprintf(stderr, "model: %s: %s\n%s", name, value ? "needs a value" : "unknown argument", usage);
            return 2;
        }
        *value = argv[++i];
    }
    if (o->input[MODEL_INPUTS] || o->output[MODEL_OUTPUTS] || (o->inputs && o->inputs < MODEL_INPUTS)) {
        fprintf(stderr, "model: the network has %d inputs and %d outputs; give each at most once, and all inputs or none\n",
                MODEL_INPUTS, MODEL_OUTPUTS);
        return 2;
    }
    if (o->batch) {
        char *end;
        o->rows = strtoll(o->batch, &end, 10);
        if (*end || end == o->batch || o->rows < 1 || o->rows > MODEL_MAX_BATCH) {
            fprintf(stderr, "model: --batch %s: needed a number from 1 to %d\n", o->batch, MODEL_MAX_BATCH);
            return 2;
        }
    } else if (o->inputs || o->outputs) {
        fprintf(stderr, "model: --input and --output need the number of rows: give --batch N\n");
        return 2;
    }
    return 0;
}

/* How many values of the first rows are wrong; integers must be equal, where no bound is known nothing is compared. */
static int64_t wrong_values(void *const *outputs, int64_t rows) {
    int64_t wrong = 0;
    for (int k = 0; k < MODEL_OUTPUTS; k++) {
        const model_array *a = &model_outputs[k];
        for (int64_t i = 0; a->bound && i < rows * a->count; i++) {
            const double found = element(outputs[k], a->descr, i), expected = element(a->data, a->descr, i);
            const int same = found == expected || (isnan(found) && isnan(expected));
            wrong += !same && !(fabs(found - expected) <= (double)a->bound[i]);
        }
    }
    return wrong;
}

static model network;

/* An array of some rows, as files have it; `shape` holds its text. */
static model_array of_rows(const model_array *a, int64_t rows, char *shape, size_t size) {
    model_array found = *a;
    snprintf(shape, size, "(%lld%s", (long long)rows, a->shape);
    found.shape = shape;
    found.count *= rows;
    return found;
}

static int run(const options *o, const void *const *inputs, void *const *outputs, FILE *report) {
    int64_t wrong = 0, others = 0;
    if (!o->quiet) printf("%s\n", MODEL_TITLE);
    for (int i = 0; i < (o->rows ? 1 : MODEL_CHECKED); i++) {
        const int64_t rows = o->rows ? o->rows : model_checked[i], cost = engine_run(&network, rows, inputs, outputs);
        if (cost < 0) return 1;
        const int64_t bad = o->inputs ? 0 : wrong_values(outputs, rows);
        const int64_t foretold = engine_foretold(rows);
        const int other = foretold >= 0 && cost != foretold;
        wrong += bad;
        others += other;
        if (report) {
            fprintf(report, "%s{\"batch\": %lld, \"chunks\": %d, \"" ENGINE_COST "\": %lld, \"foretold\": %lld, \"wrong\": %lld",
                    i ? ", " : "[", (long long)rows, model_chunks(rows), (long long)cost, (long long)foretold, (long long)bad);
            engine_report(report);
            fprintf(report, "}");
        }
        if (!o->quiet) {
            printf("batch %5lld  %3d chunks  %9lld " ENGINE_COST "%s%s\n", (long long)rows, model_chunks(rows), (long long)cost,
                   bad ? "  WRONG VALUES" : "", other ? "  NOT AS FORETOLD" : "");
        }
    }
    if (report) fprintf(report, "]\n");
    for (int k = 0; k < o->outputs; k++) {
        char shape[256];
        const model_array a = of_rows(&model_outputs[k], o->rows, shape, sizeof shape);
        if (write_npy(o->output[k], &a, outputs[k]) != 0) return 1;
    }
    if (!wrong && !others) return 0;
    fprintf(stderr, "model: %lld values are wrong, and %lld batches cost something else than foretold\n", (long long)wrong,
            (long long)others);
    return 3;
}

int main(int argc, char **argv) {
    options o = {{NULL}, {NULL}, NULL, NULL, 0, 0, 0, 0};
    const int wrong = parse(argc, argv, &o);
    if (wrong) return wrong;
    if (model_load(argv[0]) != 0) return 1;

    const void *inputs[MODEL_INPUTS] = {NULL};
    void *read[MODEL_INPUTS] = {NULL}, *outputs[MODEL_OUTPUTS] = {NULL};
    FILE *report = NULL;
    int status = 1;
    for (int k = 0; k < MODEL_INPUTS; k++) {
        char shape[256];
        const model_array a = of_rows(&model_inputs[k], o.rows, shape, sizeof shape);
        inputs[k] = model_inputs[k].data;
        if (o.inputs && !(inputs[k] = read[k] = read_npy(o.input[k], &a))) goto done;
    }
    for (int k = 0; k < MODEL_OUTPUTS; k++) {
        outputs[k] = malloc((size_t)model_outputs[k].count * MODEL_MAX_BATCH * (size_t)model_outputs[k].size + 1);
        if (!outputs[k]) {
            fprintf(stderr, "model: out of memory for the outputs\n");
            goto done;
        }
    }
    if (o.report && !(report = fopen(o.report, "w"))) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o.report, strerror(errno));
        goto done;
    }
    status = run(&o, inputs, outputs, report);
    if (report && fclose(report) != 0 && status == 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o.report, strerror(errno));
        status = 1;
    }
done:
    for (int k = 0; k < MODEL_INPUTS; k++) free(read[k]);
    for (int k = 0; k < MODEL_OUTPUTS; k++) free(outputs[k]);
    return status;
}
