/* What programs that load the network as a library need besides model.h. */
#include <stddef.h>

#include "model.h"

/* Bytes of a model, which must begin at a multiple of 64. */
size_t model_size(void) {
    return sizeof(model);
}

const char *model_error(const model *m) {
    return m->error;
}

/* For the inferences that follow: at least 1. More than MODEL_THREADS are not started. */
void model_threads(model *m, int threads) {
    threads = threads < MODEL_THREADS ? threads : MODEL_THREADS;
    for (int i = 0; i < MODEL_VARIANTS; i++) m->parts[i].threads = threads;
    sc_start(threads);
}
