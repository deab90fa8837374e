/* What main.c asks of the engine: here crossbars, on the simulator, whose cycles were foretold. Every layer has arrays
 * of its own, and so a machine of its own. They are written once, before the first batch. */
#define ENGINE_WHAT "simulated crossbars"
#define ENGINE_USAGE ""
#define ENGINE_COST "cycles"

extern const int64_t model_cycles[MODEL_MAX_BATCH + 1];

static ax_machine *engine_machines[MODEL_LAYERS + 1];
static double engine_energy; /* of the last inference, in picojoules */

/* Where the value of an option of this engine goes; NULL for others. */
static const char **engine_option(const char *name) {
    (void)name;
    return NULL;
}

static int engine_open(model *m) {
    static int open;
    if (open) return 0;
    for (int i = 0; i < MODEL_LAYERS; i++) {
        if (!(engine_machines[i] = ax_open_crossbar(&ax_target, 0u))) {
            fprintf(stderr, "model: out of memory for the simulator\n");
            return -1;
        }
    }
    if (model_init(m, engine_machines) != 0) {
        fprintf(stderr, "model: %s\n", m->error);
        return -1;
    }
    open = 1;
    return 0;
}

/* One inference; its cycles, those of all layers, or -1 after a message. */
static int64_t engine_run(model *m, int64_t rows, const void *const *inputs, void *const *outputs) {
    int64_t cycles = 0;
    if (engine_open(m) != 0) return -1;
    engine_energy = 0.0;
    for (int i = 0; i < MODEL_LAYERS; i++) {
        cycles -= ax_cycles(engine_machines[i]);
        engine_energy -= ax_energy(engine_machines[i]);
    }
    if (model_infer(m, rows, inputs, outputs) != 0) {
        fprintf(stderr, "model: %s\n", m->error);
        return -1;
    }
    for (int i = 0; i < MODEL_LAYERS; i++) {
        cycles += ax_cycles(engine_machines[i]);
        engine_energy += ax_energy(engine_machines[i]);
    }
    return cycles;
}

/* What a batch should cost; -1 where nobody can tell. */
static int64_t engine_foretold(int64_t rows) {
    return model_cycles[rows];
}

/* Further members of the JSON object of a batch. */
static void engine_report(FILE *out) {
    int64_t writes = 0;
    for (int i = 0; i < MODEL_LAYERS; i++) writes += ax_xb_writes(engine_machines[i]);
    fprintf(out, ", \"energy_pj\": %.17g, \"writes_so_far\": %lld", engine_energy, (long long)writes);
}
