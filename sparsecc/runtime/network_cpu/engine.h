/* What main.c asks of the engine: here a CPU, on which times are measured. */
#include <time.h>

#define ENGINE_USAGE " [--threads T] [--seconds S]"

extern const int model_product_steps[];

typedef struct engine_options {
    const char *threads, *seconds;
} engine_options;

/* What was measured. */
static double best_seconds, median_seconds, step_seconds[MODEL_STEPS + 1];
static int runs;

/* Where the value of an option of this engine goes; NULL for others. */
static const char **engine_option(engine_options *o, const char *name) {
    if (strcmp(name, "--threads") == 0) return &o->threads;
    return strcmp(name, "--seconds") == 0 ? &o->seconds : NULL;
}

/* A model that is ready to run; 0, or 1 after a message. checking: only its values count. */
static int engine_open(model *m, const engine_options *o, int checking) {
    (void)checking;
    if (model_init(m, o->threads ? atoi(o->threads) : 1) == 0) return 0;
    fprintf(stderr, "model: %s\n", m->error);
    return 1;
}

static void engine_close(model *m) {
    (void)m;
}

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static double last;

static void note(void *context, int step, void *values) {
    double *const taken = context;
    (void)values;
    const double at = now();
    taken[step] = at - last;
    last = now();
}

static int ascending(const void *a, const void *b) {
    const double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* Runs again and again: first as a whole, then with a look at the clock after every step, whose median counts. */
static int engine_measure(model *m, const engine_options *o, const void *const *inputs, void *const *outputs) {
    enum { MOST = 2000, STEPPED = 25 };
    static double taken[MOST], stepped[STEPPED][MODEL_STEPS + 1];
    const double budget = o->seconds ? atof(o->seconds) : 0.1, start = now();
    if (!(budget > 0.0)) return 0;
    for (runs = 0; runs < MOST && (runs < 3 || now() - start < budget); runs++) {
        const double before = now();
        if (model_infer(m, inputs, outputs) != 0) return 1;
        taken[runs] = now() - before;
    }
    qsort(taken, (size_t)runs, sizeof *taken, ascending);
    best_seconds = taken[0];
    median_seconds = taken[runs / 2];
    m->watch = note;
    int count = 0;
    for (const double again = now(); count < STEPPED && (count < 3 || now() - again < budget); count++) {
        m->context = stepped[count];
        last = now();
        if (model_infer(m, inputs, outputs) != 0) return 1;
    }
    m->watch = NULL;
    for (int s = 0; s < MODEL_STEPS; s++) {
        for (int i = 0; i < count; i++) taken[i] = stepped[i][s];
        qsort(taken, (size_t)count, sizeof *taken, ascending);
        step_seconds[s] = taken[count / 2];
    }
    return 0;
}

static void engine_print(const model *m, const engine_options *o) {
    (void)o;
    if (!runs) return;
    for (int i = 0; i < MODEL_PRODUCTS; i++)
        printf("%12.2f us  %s\n", 1e6 * step_seconds[model_product_steps[i]], model_products[i]);
    printf("%12.2f us in all, %d threads: the median of %d runs; the fastest took %.2f\n", 1e6 * median_seconds, m->threads,
           runs, 1e6 * best_seconds);
}

/* Members of a JSON object. */
static void engine_report(const model *m, const engine_options *o, FILE *out) {
    (void)o;
    fprintf(out, "\"threads\": %d, \"runs\": %d, \"best\": %.9g, \"median\": %.9g, \"steps\": [", m->threads, runs,
            best_seconds, median_seconds);
    for (int s = 0; s < MODEL_STEPS; s++) fprintf(out, "%s%.9g", s ? ", " : "", step_seconds[s]);
    fprintf(out, "]");
}

/* There are none. */
static int engine_files(const model *m, const engine_options *o) {
    (void)m, (void)o;
    return 0;
}
