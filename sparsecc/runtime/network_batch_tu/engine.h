/* What main.c asks of the engine: here a tensor unit, on the simulator, whose cycles were foretold. */
#define ENGINE_WHAT "simulated accelerator"
#define ENGINE_USAGE ""
#define ENGINE_COST "cycles"

extern const int64_t model_cycles[MODEL_MAX_BATCH + 1];

/* Where the value of an option of this engine goes; NULL for others. */
static const char **engine_option(const char *name) {
    (void)name;
    return NULL;
}

/* One inference on a machine of its own; its cycles, or -1 after a message. */
static int64_t engine_run(model *m, int64_t rows, const void *const *inputs, void *const *outputs) {
    int64_t cycles = -1;
    ax_machine *machine = ax_open(&ax_target, 0u);
    if (!machine) fprintf(stderr, "model: out of memory for the simulator\n");
    else if (model_init(m, machine) != 0 || model_infer(m, rows, inputs, outputs) != 0) fprintf(stderr, "model: %s\n", m->error);
    else cycles = ax_cycles(machine);
    ax_close(machine);
    return cycles;
}

/* What a batch should cost; -1 where nobody can tell. */
static int64_t engine_foretold(int64_t rows) {
    return model_cycles[rows];
}

/* Further members of the JSON object of a batch: none. */
static void engine_report(FILE *out) {
    (void)out;
}
