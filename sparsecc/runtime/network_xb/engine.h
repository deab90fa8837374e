/* What main.c asks of the engine: here crossbars, on the simulator. Every layer has arrays of its own, and so a
 * machine of its own: layers run one after the other, and none of their arrays is written again. */
#define ENGINE_USAGE ""

typedef struct engine_options {
    int none; /* there are none, and C has no empty structures */
} engine_options;

static const char **engine_option(engine_options *o, const char *name) {
    (void)o, (void)name;
    return NULL;
}

/* A model that is ready to run, its arrays written; 0, or 1 after a message. */
static int engine_open(model *m, const engine_options *o, int checking) {
    (void)o, (void)checking;
    ax_machine *machines[MODEL_LAYERS + 1];
    int opened = 1;
    for (int i = 0; i < MODEL_LAYERS; i++) opened = (machines[i] = ax_open_crossbar(&ax_target, 0u)) && opened;
    if (opened && model_init(m, machines) == 0) return 0;
    fprintf(stderr, "model: %s\n", opened ? m->error : "out of memory for the simulator");
    memcpy(m->machine, machines, MODEL_LAYERS * sizeof *machines);
    return 1;
}

static void engine_close(model *m) {
    for (int i = 0; i < MODEL_LAYERS; i++) {
        ax_close(m->machine[i]);
        m->machine[i] = NULL;
    }
}

/* The simulator has measured already. */
static int engine_measure(model *m, const engine_options *o, const void *const *inputs, void *const *outputs) {
    (void)m, (void)o, (void)inputs, (void)outputs;
    return 0;
}

static void engine_print(const model *m, const engine_options *o) {
    (void)o;
    for (int i = 0; i < MODEL_PRODUCTS; i++) printf("%12lld cycles  %s\n", (long long)m->cycles[i], model_products[i]);
}

/* Members of a JSON object. */
static void engine_report(const model *m, const engine_options *o, FILE *out) {
    (void)o;
    fprintf(out, "\"layers\": [");
    for (int i = 0; i < MODEL_LAYERS; i++) {
        fprintf(out, "%s", i ? ", " : "");
        ax_report_json(m->machine[i], out);
    }
    fprintf(out, "], \"products\": [");
    for (int i = 0; i < MODEL_PRODUCTS; i++) {
        fprintf(out, "%s{\"name\": ", i ? ", " : "");
        put_text(out, model_products[i]);
        fprintf(out, ", \"cycles\": %lld}", (long long)m->cycles[i]);
    }
    fprintf(out, "]");
}

/* There are none. */
static int engine_files(const model *m, const engine_options *o) {
    (void)m, (void)o;
    return 0;
}
