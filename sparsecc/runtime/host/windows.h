/* Loops over windows, for pooling and depthwise convolution. Not part of the interface. */
#ifndef HOST_WINDOWS_H
#define HOST_WINDOWS_H

#include "loops.h"

/* All elements of one row of results that the kernel's element (i, j) reaches: `t` is the result, `v` the
 * element of x. With stride 1 they are one contiguous run, whatever `inner` is. */
#define EACH(T, STEP)                                                                                              \
    do {                                                                                                           \
        if (w->stride_w == 1) {                                                                                    \
            const T *run = from + (low + offset) * inner;                                                          \
            for (int64_t q = 0; q < (high - low) * inner; q++) {                                                   \
                const T v = run[q];                                                                                \
                STEP(to[low * inner + q], v);                                                                      \
            }                                                                                                      \
        } else if (inner == 1) {                                                                                   \
            for (int64_t q = low; q < high; q++) {                                                                 \
                const T v = from[q * w->stride_w + offset];                                                        \
                STEP(to[q], v);                                                                                    \
            }                                                                                                      \
        } else {                                                                                                   \
            for (int64_t q = low; q < high; q++)                                                                   \
                for (int64_t l = 0; l < inner; l++) {                                                              \
                    const T v = from[(q * w->stride_w + offset) * inner + l];                                      \
                    STEP(to[q * inner + l], v);                                                                    \
                }                                                                                                  \
        }                                                                                                          \
    } while (0)

/* BODY for every element (i, j) of the kernel, row by row, and every row of results: `to` is the row, `from`
 * the row of x it sees there, [low, high) the results that see an element of x. `multiplier` channels of
 * results share one of x. */
#define WINDOWS(R, T, FIRST, BODY, LAST)                                                                           \
    const int64_t inner = w->inner, row = w->out_width * inner;                                                    \
    for (int64_t o = 0; o < w->outer; o++)                                                                         \
        for (int64_t p = 0; p < w->out_height; p++) {                                                              \
            R *restrict to = y + (o * w->out_height + p) * row;                                                    \
            for (int64_t q = 0; q < row; q++)                                                                      \
                to[q] = (FIRST);                                                                                   \
            for (int64_t i = 0; i < w->kernel_h; i++) {                                                            \
                const int64_t h = p * w->stride_h + i * w->dilation_h - w->pad_top;                                \
                if (h < 0 || h >= w->height)                                                                       \
                    continue;                                                                                      \
                const T *restrict from = x + (o / multiplier * w->height + h) * w->width * inner;                  \
                for (int64_t j = 0; j < w->kernel_w; j++) {                                                        \
                    const int64_t offset = j * w->dilation_w - w->pad_left;                                        \
                    int64_t low, high;                                                                             \
                    host_inside(offset, w->stride_w, w->width, w->out_width, &low, &high);                         \
                    BODY;                                                                                          \
                }                                                                                                  \
            }                                                                                                      \
            LAST;                                                                                                  \
        }

#endif
