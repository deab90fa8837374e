/* Convolution by straight-line code that finds patches by address: no patch is ever written.
 *
 * Every row of patches is one (channel, kernel row, kernel column), and what it holds for one row of results is a run
 * of a row of the padded image. So the code of sc_line has the places of these runs, relative to the first, where
 * others have rows of X, and is called once for every vector of every row of results.
 */
#ifndef SC_CONV_H
#define SC_CONV_H

#include "sc.h"

/* An image [channels, height, width, inner], inner: images that lie element by element beside each other. */
typedef struct sc_image {
    int64_t channels, height, width, inner;
    int64_t top, left;   /* padding with zeros before the first row and column */
    int64_t rows;        /* of a padded channel */
    int64_t phases;      /* the stride along a row: columns are sorted by what remains of dividing by it */
    int64_t segment;     /* elements of a padded row that belong to one phase */
    int64_t in_place;    /* nothing to pad and to sort: the image is used where it lies */
} sc_image;

typedef struct sc_conv {
    const sc_line *line; /* one block of columns */
    sc_image image;
    int64_t strips;      /* rows of results */
    int64_t width;       /* positions of each */
    int64_t step;        /* elements of the padded image from one to the next */
} sc_conv;

/* Floats of memory for the padded image, and of scratch panels of each thread; multiples of 16. */
size_t sc_conv_padded(const sc_conv *c);
size_t sc_conv_scratch(const sc_conv *c);
/* x the image, y [m, strips * width] with contiguous rows, as is the residual, which is not y. padded and scratch
 * begin at multiples of 64 bytes; each: floats of scratch panels of a thread. */
int sc_conv_at(const sc_conv *c, const float *x, float *y, const float *residual, int threads, float *padded,
               float *scratch, size_t each);

/* For sc_time: everything in one argument. */
typedef struct sc_conv_call {
    const sc_conv *conv;
    const float *x;
    float *y;
    const float *residual;
    float *padded, *scratch;
    size_t each;
} sc_conv_call;
int sc_conv_run(const void *call, const sc_call *unused, int threads);

#endif
