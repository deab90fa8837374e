/* What main.c asks of the engine: here a CPU, on which times are measured. */
#include <time.h>

#define ENGINE_WHAT "CPU"
#define ENGINE_USAGE " [--threads T]"
#define ENGINE_COST "nanoseconds"

static const char *engine_threads;

/* Where the value of an option of this engine goes; NULL for others. */
static const char **engine_option(const char *name) {
    return strcmp(name, "--threads") == 0 ? &engine_threads : NULL;
}

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + (int64_t)t.tv_nsec;
}

/* The fastest of some inferences in nanoseconds, or -1 after a message. */
static int64_t engine_run(model *m, int64_t rows, const void *const *inputs, void *const *outputs) {
    const int64_t start = now(), budget = 20000000;
    int64_t best = INT64_MAX;
    int status = model_init(m, engine_threads ? atoi(engine_threads) : 1);
    for (int run = 0; status == 0 && (run < 3 || now() - start < budget); run++) {
        const int64_t before = now();
        status = model_infer(m, rows, inputs, outputs);
        const int64_t taken = now() - before;
        if (taken < best) best = taken;
    }
    if (status == 0) return best;
    fprintf(stderr, "model: %s\n", m->error);
    return -1;
}

/* What a batch should cost; -1 where nobody can tell. */
static int64_t engine_foretold(int64_t rows) {
    (void)rows;
    return -1;
}

/* Further members of the JSON object of a batch: none. */
static void engine_report(FILE *out) {
    (void)out;
}
