/* Arrays of a network: from and to .npy files, and their elements as numbers. */
#ifndef ARRAYS_H
#define ARRAYS_H

#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model.h"

static void *fail(FILE *f, const char *path, const char *problem, const model_array *a) {
    fprintf(stderr, "model: %s: %s; needed a .npy file with a C-ordered array of %s, shape %s\n", path, problem, a->descr,
            a->shape);
    if (f) fclose(f);
    return NULL;
}

static void *read_npy(const char *path, const model_array *a) {
    FILE *f = fopen(path, "rb");
    if (!f) return fail(NULL, path, strerror(errno), a);
    unsigned char head[12];
    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY", 6) != 0) return fail(f, path, "not a .npy file", a);
    size_t length = head[8] | (size_t)head[9] << 8;
    if (head[6] > 1) {
        if (fread(head + 10, 1, 2, f) != 2) return fail(f, path, "cut short", a);
        length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    }
    char header[4096];
    if (length >= sizeof header || fread(header, 1, length, f) != length) return fail(f, path, "cut short", a);
    header[length] = '\0';
    if (!strstr(header, a->descr)) return fail(f, path, "has another element type", a);
    if (!strstr(header, "'fortran_order': False")) return fail(f, path, "is in Fortran order", a);
    if (!strstr(header, a->shape)) return fail(f, path, "has another shape", a);
    void *data = malloc((size_t)a->count * (size_t)a->size + 1);
    if (!data) return fail(f, path, "too large for the memory", a);
    if (fread(data, (size_t)a->size, (size_t)a->count, f) != (size_t)a->count) {
        free(data);
        return fail(f, path, "cut short", a);
    }
    fclose(f);
    return data;
}

static int write_npy(const char *path, const model_array *a, const void *data) {
    char header[512];
    int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': %s, }", a->descr, a->shape);
    /* The magic, the length and the header together fill a multiple of 64 bytes, ending with a newline. */
    while ((10 + length + 1) % 64 != 0) header[length++] = ' ';
    header[length++] = '\n';
    const unsigned char head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)(length & 255), (unsigned char)(length >> 8)};
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(head, 1, 10, f) == 10 && fwrite(header, 1, (size_t)length, f) == (size_t)length &&
             fwrite(data, (size_t)a->size, (size_t)a->count, f) == (size_t)a->count;
    if (f && fclose(f) != 0) ok = 0;
    if (ok) return 0;
    fprintf(stderr, "model: %s: cannot write: %s\n", path, strerror(errno));
    return -1;
}

static double element(const void *values, const char *descr, int64_t i) {
    switch (descr[1]) {
    case 'f': return (double)((const float *)values)[i];
    case 'b': return (double)((const uint8_t *)values)[i];
    case 'u': return (double)((const uint8_t *)values)[i];
    default: break;
    }
    switch (descr[2]) {
    case '1': return (double)((const int8_t *)values)[i];
    case '2': return (double)((const int16_t *)values)[i];
    case '4': return (double)((const int32_t *)values)[i];
    default: return (double)((const int64_t *)values)[i];
    }
}

#endif
