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

/* An array as C sees it. */
typedef struct rows {
    char *data;
    size_t n, ld, bytes; /* columns, elements from row to row, and from the first to the last */
    int flags;
} rows;

/* The array with `count` rows of contiguous elements of a type; 0 if the object is none. */
static int rows_of(const sc_array_call *f, const char *object, size_t count, const void *type, size_t size, rows *out) {
    /* Every Python object has its type there; what follows is an array's only where the type says so. */
    void *own;
    memcpy(&own, object + f->head - sizeof own, sizeof own);
    if (own != f->array_type) return 0;
    const sc_array *a = sc_array_at(object, f->head);
    if (a->descr != type || a->nd != 2 || a->dims[0] != (intptr_t)count) return 0;
    const intptr_t width = a->dims[1], stride = a->strides[0], each = (intptr_t)size;
    if (width < 1 || (a->strides[1] != each && width > 1) || stride < each * width || stride % each != 0) return 0;
    const size_t ld = (size_t)(stride / each), n = (size_t)width;
    *out = (rows){a->data, n, ld, size * ((count - 1) * ld + n), a->flags};
    return 1;
}

int sc_array_run(const sc_array_call *f, const char *x, const char *y, int threads) {
    rows from, to;
    if (threads < 1 || !rows_of(f, x, (size_t)f->k, f->x_type, (size_t)f->x_size, &from) ||
        !rows_of(f, y, (size_t)f->m, f->y_type, (size_t)f->y_size, &to))
        return 1;
    if (from.n != to.n || !(to.flags & WRITEABLE) || overlap(from.data, from.bytes, to.data, to.bytes)) return 1;
    const size_t n = from.n, ldx = from.ld;
    const sc_call call = {(const float *)(const void *)from.data, ldx, (float *)(void *)to.data, to.ld, n, NULL, 0, NULL, 0, 0};
    const sc_array_kernel *kernel = &f->aligned;
    if (n <= (size_t)f->few) kernel = &f->single;
    else if ((((uintptr_t)from.data) | (4 * ldx)) & (size_t)f->alignment) kernel = &f->unaligned;
    return kernel->run ? kernel->run(kernel->w, &call, threads) : 1;
}
