/* Two-dimensional arrays in numpy's .npy format, version 1 to 3, C order, little-endian. */
#ifndef NPY_H
#define NPY_H

#include <stdint.h>

#include "axsim.h"

/* An array of exactly this type and shape, to be freed; NULL after a message on stderr. bf16 is read from f4. */
void *npy_read(const char *path, ax_type type, int64_t rows, int64_t cols);
/* 0, or -1 after a message on stderr. */
int npy_write(const char *path, const void *data, ax_type type, int64_t rows, int64_t cols);

#endif
