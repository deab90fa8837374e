/* Calls on numpy arrays without a detour through Python: some are shorter than finding out an array's address there.
 *
 * The layout is that of PyArrayObject_fields, which numpy's C interface promises to its extensions. What is read here
 * is compared with what numpy says before it is used: sparsecc/cpu/array_call.py.
 */
#include "internal.h"

enum { WRITEABLE = 0x400 };

static int overlap(const char *a, size_t a_bytes, const char *b, size_t b_bytes) {
    return a < b + b_bytes && b < a + a_bytes;
}

const sc_array *sc_array_at(const char *object, size_t head) {
    return (const sc_array *)(const void *)(object + head);
}

/* Columns of an array with `rows` rows of contiguous floats, and elements from row to row; 0 if it is none. */
static int rows_of(const sc_array_call *f, const char *object, size_t rows, const sc_array **array, size_t *n, size_t *ld) {
    /* Every Python object has its type there; what follows is an array's only where the type says so. */
    void *type;
    memcpy(&type, object + f->head - sizeof type, sizeof type);
    if (type != f->array_type) return 0;
    const sc_array *a = *array = sc_array_at(object, f->head);
    if (a->descr != f->float32 || a->nd != 2 || a->dims[0] != (intptr_t)rows) return 0;
    const intptr_t width = a->dims[1], stride = a->strides[0];
    if (width < 1 || (a->strides[1] != 4 && width > 1) || stride < 4 * width || stride % 4 != 0) return 0;
    *n = (size_t)width;
    *ld = (size_t)stride / 4;
    return 1;
}

int sc_array_run(const sc_array_call *f, const char *x, const char *y, int threads) {
    const sc_array *from, *to;
    size_t n, width, ldx, ldy;
    const size_t m = (size_t)f->m, k = (size_t)f->k;
    if (threads < 1 || !rows_of(f, x, k, &from, &n, &ldx) || !rows_of(f, y, m, &to, &width, &ldy)) return 1;
    if (width != n || !(to->flags & WRITEABLE)) return 1;
    if (overlap(from->data, 4 * ((k - 1) * ldx + n), to->data, 4 * ((m - 1) * ldy + n))) return 1;
    const sc_call call = {(const float *)(const void *)from->data, ldx, (float *)(void *)to->data, ldy, n, NULL, 0};
    const sc_array_kernel *kernel = &f->aligned;
    if (n == 1) kernel = &f->single;
    else if ((((uintptr_t)from->data) | (4 * ldx)) & (size_t)f->alignment) kernel = &f->unaligned;
    return kernel->run ? kernel->run(kernel->w, &call, threads) : 1;
}
