#include "npy.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char *descr(ax_type type) {
    switch (type) {
    case AX_I8: return "|i1";
    case AX_F16: return "<f2";
    case AX_I32: return "<i4";
    default: return "<f4"; /* numpy has no bf16: its values travel as f32 */
    }
}

static size_t file_bytes(ax_type type) {
    return type == AX_I8 ? 1 : type == AX_F16 ? 2 : 4;
}

/* f32 to bf16, in place, to nearest, ties to even. */
static void to_bf16(void *data, size_t count) {
    const unsigned char *from = data;
    unsigned char *to = data;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, from + 4 * i, 4);
        bits += 0x7fffu + (bits >> 16 & 1u);
        const uint16_t half = (uint16_t)(bits >> 16);
        memcpy(to + 2 * i, &half, 2);
    }
}

static void *fail(FILE *f, const char *path, const char *problem, const char *needed) {
    fprintf(stderr, "model: %s: %s; needed %s\n", path, problem, needed);
    if (f) fclose(f);
    return NULL;
}

void *npy_read(const char *path, ax_type type, int64_t rows, int64_t cols) {
    char needed[160], shape[64];
    snprintf(needed, sizeof needed, "a .npy file with a C-ordered array of %s, shape (%lld, %lld)", descr(type),
             (long long)rows, (long long)cols);
    FILE *f = fopen(path, "rb");
    if (!f) return fail(NULL, path, strerror(errno), needed);
    unsigned char head[12];
    if (fread(head, 1, 10, f) != 10 || memcmp(head, "\x93NUMPY", 6) != 0) return fail(f, path, "not a .npy file", needed);
    size_t length = head[8] | (size_t)head[9] << 8;
    if (head[6] > 1) {
        if (fread(head + 10, 1, 2, f) != 2) return fail(f, path, "cut short", needed);
        length |= (size_t)head[10] << 16 | (size_t)head[11] << 24;
    }
    char header[4096];
    if (length >= sizeof header || fread(header, 1, length, f) != length) return fail(f, path, "cut short", needed);
    header[length] = '\0';
    snprintf(shape, sizeof shape, "(%lld, %lld)", (long long)rows, (long long)cols);
    if (!strstr(header, descr(type))) return fail(f, path, "has another element type", needed);
    if (!strstr(header, "'fortran_order': False")) return fail(f, path, "is in Fortran order", needed);
    if (!strstr(header, shape)) return fail(f, path, "has another shape", needed);
    const size_t count = (size_t)(rows * cols);
    void *data = malloc(count ? count * file_bytes(type) : 1);
    if (!data) return fail(f, path, "too large for the memory", needed);
    if (fread(data, file_bytes(type), count, f) != count) {
        free(data);
        return fail(f, path, "cut short", needed);
    }
    fclose(f);
    if (type == AX_BF16) to_bf16(data, count);
    return data;
}

int npy_write(const char *path, const void *data, ax_type type, int64_t rows, int64_t cols) {
    char header[128];
    int length = snprintf(header, sizeof header, "{'descr': '%s', 'fortran_order': False, 'shape': (%lld, %lld), }",
                          descr(type), (long long)rows, (long long)cols);
    /* The magic, the length and the header together fill a multiple of 64 bytes, ending with a newline. */
    while ((10 + length + 1) % 64 != 0) header[length++] = ' ';
    header[length++] = '\n';
    const size_t count = (size_t)(rows * cols);
    const unsigned char head[10] = {0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0, (unsigned char)length, 0};
    FILE *f = fopen(path, "wb");
    int ok = f && fwrite(head, 1, 10, f) == 10 && fwrite(header, 1, (size_t)length, f) == (size_t)length &&
             fwrite(data, file_bytes(type), count, f) == count;
    if (f && fclose(f) != 0) ok = 0;
    if (!ok) {
        fprintf(stderr, "model: %s: cannot write: %s\n", path, strerror(errno));
        remove(path);
        return -1;
    }
    return 0;
}
