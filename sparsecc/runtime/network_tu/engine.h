/* What main.c asks of the engine: here a tensor unit, on the simulator. */
#define ENGINE_USAGE " [--trace FILE.json]"

typedef struct engine_options {
    const char *trace;
} engine_options;

/* Where the value of an option of this engine goes; NULL for others. */
static const char **engine_option(engine_options *o, const char *name) {
    return strcmp(name, "--trace") == 0 ? &o->trace : NULL;
}

/* A model that is ready to run; 0, or 1 after a message. checking: only its values count. */
static int engine_open(model *m, const engine_options *o, int checking) {
    ax_machine *machine = ax_open(&ax_target, o->trace && !checking ? AX_TRACE : 0u);
    m->machine = NULL;
    if (!machine) fprintf(stderr, "model: out of memory for the simulator\n");
    else if (model_init(m, machine) != 0) fprintf(stderr, "model: %s\n", m->error);
    else return 0;
    m->machine = machine;
    return 1;
}

static void engine_close(model *m) {
    ax_close(m->machine);
    m->machine = NULL;
}

/* The simulator has measured already. */
static int engine_measure(model *m, const engine_options *o, const void *const *inputs, void *const *outputs) {
    (void)m, (void)o, (void)inputs, (void)outputs;
    return 0;
}

static void engine_print(const model *m, const engine_options *o) {
    (void)o;
    for (int i = 0; i < MODEL_PRODUCTS; i++) printf("%12lld cycles  %s\n", (long long)m->cycles[i], model_products[i]);
    printf("%12lld cycles in all\n", (long long)ax_cycles(m->machine));
}

/* Members of a JSON object. */
static void engine_report(const model *m, const engine_options *o, FILE *out) {
    (void)o;
    fprintf(out, "\"simulation\": ");
    ax_report_json(m->machine, out);
    fprintf(out, ", \"products\": [");
    for (int i = 0; i < MODEL_PRODUCTS; i++) {
        fprintf(out, "%s{\"name\": ", i ? ", " : "");
        put_text(out, model_products[i]);
        fprintf(out, ", \"cycles\": %lld}", (long long)m->cycles[i]);
    }
    fprintf(out, "]");
}

/* Files that were asked for; 0, or 1 after a message. */
static int engine_files(const model *m, const engine_options *o) {
    if (!o->trace || ax_write_trace(m->machine, o->trace) == 0) return 0;
    fprintf(stderr, "model: %s: cannot write: %s\n", o->trace, strerror(errno));
    return 1;
}
