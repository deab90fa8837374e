/* Runs a compiled network, checks every layer, and reports.
 *
 * Without arguments: run on the stored inputs, compare each layer with the stored results, print what every product
 * cost. Exit status: 0 all well, 1 an error of the program or of a file, 2 wrong arguments, 3 a wrong value.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"
#include "arrays.h"

static void put_text(FILE *out, const char *text) {
    fputc('"', out);
    for (; *text; text++) {
        if (*text == '"' || *text == '\\') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('"', out);
}

#include "engine.h"

static const char usage[] =
    "usage: model [--input X.npy]... [--output Y.npy]... [--report FILE.json] [--quiet]" ENGINE_USAGE "\n"
    "  --input is given once for each input of the network, in their order, --output likewise; without --input the\n"
    "  stored inputs are taken, and every layer is compared with its stored result\n";

typedef struct options {
    const char *input[MODEL_INPUTS + 1], *output[MODEL_OUTPUTS + 1], *report;
    int inputs, outputs, quiet;
    engine_options engine;
} options;

static int parse(int argc, char **argv, options *o) {
    for (int i = 1; i < argc; i++) {
        const char *name = argv[i];
        if (strcmp(name, "--quiet") == 0) {
            o->quiet = 1;
            continue;
        }
        const char **value = NULL;
        if (strcmp(name, "--report") == 0) value = &o->report;
        else if (strcmp(name, "--input") == 0) value = &o->input[o->inputs < MODEL_INPUTS ? o->inputs++ : MODEL_INPUTS];
        else if (strcmp(name, "--output") == 0) value = &o->output[o->outputs < MODEL_OUTPUTS ? o->outputs++ : MODEL_OUTPUTS];
        else value = engine_option(&o->engine, name);
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
    return 0;
}

/* What the checks found so far. */
typedef struct verdict {
    int next; /* the check to come */
    int64_t values, wrong;
    double worst[MODEL_CHECKS + 1]; /* largest error / bound of each check */
    double largest[MODEL_CHECKS + 1];
    const char *first; /* name of the first layer with a wrong value */
    int64_t place;
} verdict;

/* Integers must be equal, floats within their forward error bounds; where none is known, nothing is compared. */
static void compare(verdict *v, const char *name, int64_t count, const char *descr, const void *found_values,
                    const void *expected_values, const float *bounds, double *largest, double *worst) {
    for (int64_t i = 0; i < count; i++) {
        const double found = element(found_values, descr, i), expected = element(expected_values, descr, i);
        const double error = found == expected || (isnan(found) && isnan(expected)) ? 0.0 : fabs(found - expected);
        const double bound = (double)bounds[i];
        if (isinf(bound)) continue;
        v->values++;
        if (!(error <= bound) && v->wrong++ == 0) {
            v->first = name;
            v->place = i;
        }
        if (error > *largest) *largest = error;
        if (bound > 0.0 && error / bound > *worst) *worst = error / bound;
    }
}

/* Compares what a layer gave, and gives the next one the exact values instead: the bound of a layer is then its
 * own, however many were before it. */
static void watch(void *context, int step, void *values) {
    verdict *v = context;
    while (v->next < MODEL_CHECKS && model_checks[v->next].step == step) {
        const model_check *c = &model_checks[v->next];
        compare(v, c->name, c->count, c->descr, values, c->expected, c->bound, &v->largest[v->next], &v->worst[v->next]);
        memcpy(values, c->expected, (size_t)c->count * (size_t)c->size);
        v->next++;
    }
}

static int write_report(const model *m, const verdict *v, const options *o) {
    FILE *out = fopen(o->report, "w");
    if (!out) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->report, strerror(errno));
        return 1;
    }
    fprintf(out, "{");
    engine_report(m, &o->engine, out);
    if (!o->inputs) {
        fprintf(out, ", \"check\": {\"values\": %lld, \"wrong\": %lld, \"layers\": [", (long long)v->values, (long long)v->wrong);
        for (int i = 0; i < MODEL_CHECKS; i++) {
            fprintf(out, "%s{\"name\": ", i ? ", " : "");
            put_text(out, model_checks[i].name);
            fprintf(out, ", \"max_error\": %.9g, \"worst_share\": %.9g}", v->largest[i], v->worst[i]);
        }
        fprintf(out, "]}");
    }
    fprintf(out, "}\n");
    if (fclose(out) != 0) {
        fprintf(stderr, "model: %s: cannot write: %s\n", o->report, strerror(errno));
        return 1;
    }
    return 0;
}

static int infer(model *m, const void *const *inputs, void *const *outputs) {
    if (model_infer(m, inputs, outputs) == 0) return 0;
    fprintf(stderr, "model: %s\n", m->error);
    return 1;
}

/* An inference in which every layer starts from exact values; it leaves nothing behind. */
static int check_layers(model *m, const engine_options *o, verdict *v, const void *const *inputs, void *const *outputs) {
    int status = 1;
    if (engine_open(m, o, 1) == 0) {
        m->watch = watch;
        m->context = v;
        status = infer(m, inputs, outputs);
    }
    engine_close(m);
    return status;
}

static int run(model *m, const options *o, verdict *v, const void *const *inputs, void *const *outputs) {
    if (infer(m, inputs, outputs) != 0) return 1;
    if (engine_measure(m, &o->engine, inputs, outputs) != 0) return 1;
    for (int k = 0; k < MODEL_OUTPUTS && !o->inputs; k++) {
        const model_array *a = &model_outputs[k];
        double largest = 0.0, worst = 0.0;
        if (a->bound) compare(v, a->name, a->count, a->descr, outputs[k], a->data, a->bound, &largest, &worst);
    }
    if (!o->quiet) {
        printf("%s\n", MODEL_TITLE);
        engine_print(m, &o->engine);
        if (!o->inputs) {
            printf("check: %lld of %lld values of %d layers and the outputs wrong\n", (long long)v->wrong, (long long)v->values, MODEL_CHECKS);
        }
    }
    if (o->report && write_report(m, v, o) != 0) return 1;
    if (engine_files(m, &o->engine) != 0) return 1;
    for (int k = 0; k < o->outputs; k++)
        if (write_npy(o->output[k], &model_outputs[k], outputs[k]) != 0) return 1;
    if (v->wrong > 0) {
        fprintf(stderr, "model: %lld values are wrong; the first is value %lld of %s\n", (long long)v->wrong,
                (long long)v->place, v->first);
        return 3;
    }
    return 0;
}

static model network;
static verdict found;

int main(int argc, char **argv) {
    options o = {{NULL}, {NULL}, NULL, 0, 0, 0, {0}};
    const int wrong = parse(argc, argv, &o);
    if (wrong) return wrong;
    if (model_load(argv[0]) != 0) return 1;

    const void *inputs[MODEL_INPUTS + 1] = {NULL};
    void *read[MODEL_INPUTS + 1] = {NULL}, *outputs[MODEL_OUTPUTS + 1] = {NULL};
    int status = 1;
    for (int k = 0; k < MODEL_INPUTS; k++) {
        inputs[k] = model_inputs[k].data;
        if (o.inputs && !(inputs[k] = read[k] = read_npy(o.input[k], &model_inputs[k]))) goto done;
    }
    for (int k = 0; k < MODEL_OUTPUTS; k++) {
        outputs[k] = malloc((size_t)model_outputs[k].count * (size_t)model_outputs[k].size + 1);
        if (!outputs[k]) {
            fprintf(stderr, "model: out of memory for the outputs\n");
            goto done;
        }
    }
    if (!o.inputs && check_layers(&network, &o.engine, &found, inputs, outputs) != 0) goto done;
    if (engine_open(&network, &o.engine, 0) == 0) status = run(&network, &o, &found, inputs, outputs);
    engine_close(&network);
done:
    for (int k = 0; k < MODEL_INPUTS; k++) free(read[k]);
    for (int k = 0; k < MODEL_OUTPUTS; k++) free(outputs[k]);
    return status;
}
