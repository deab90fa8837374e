/* C[70, 40] = W[70, 200] X[200, 40], 1209 nonzeros in W, on gemmini16
 *
 * Written by sparsecc: a program for axsim, the instruction-set simulator beside it. Each AX(...) is one
 * instruction or a function of them; it returns at once when an error occurred.
 */
#include <stdint.h>

#include "model.h"

#define AX(call) \
    do { \
        if ((call) != 0) return -1; \
    } while (0)
#define AX_MIN(a, b) ((a) < (b) ? (a) : (b))

_Static_assert(AX_ROWS == 16 && AX_COLS == 16, "made for gemmini16");
_Static_assert(AX_SPAD_ROWS >= 16384 && AX_ACC_ROWS >= 384, "made for gemmini16");

#ifndef AX_DATA
#define AX_DATA const
#endif
extern AX_DATA int8_t weights[2240]; /* 140 x 16 */
static const int32_t gather[125] = {
    12, 14, 22, 29, 30, 37, 45, 48, 54, 59, 66, 68, 94, 97, 100, 101, 123, 129, 137, 139, 169, 181, 189,
    192, 199, 12, 14, 22, 29, 30, 37, 45, 48, 54, 59, 66, 68, 94, 97, 100, 101, 123, 129, 137, 139, 169,
    181, 189, 192, 199, 12, 14, 22, 29, 30, 37, 45, 48, 54, 59, 66, 68, 94, 97, 100, 101, 123, 129, 137,
    139, 169, 181, 189, 192, 199, 12, 14, 22, 29, 30, 37, 45, 48, 54, 59, 66, 68, 94, 97, 100, 101, 123,
    129, 137, 139, 169, 181, 189, 192, 199, 12, 14, 22, 29, 30, 37, 45, 48, 54, 59, 66, 68, 94, 97, 100,
    101, 123, 129, 137, 139, 169, 181, 189, 192, 199,
};
static const int32_t block_first[6] = {0, 1, 2, 3, 4, 5};
static const int32_t block_row[5] = {0, 16, 32, 48, 64};
static const int32_t block_rows[5] = {16, 16, 16, 16, 6};
static const int32_t step_first[6] = {0, 2, 4, 6, 8, 10};
static const int32_t fetch_first[6] = {0, 2, 4, 6, 8, 10};
static const int32_t step_rows[5] = {16, 16, 16, 16, 6};
static const int32_t step_weight[5] = {0, 32, 64, 96, 128};
static const int32_t tile_x[10] = {256, 304, 352, 400, 448, 496, 544, 592, 640, 688};
static const int32_t tile_rows[10] = {16, 9, 16, 9, 16, 9, 16, 9, 16, 9};
static const int32_t load_x[10] = {256, 304, 352, 400, 448, 496, 544, 592, 640, 688};
static const int32_t load_row[10] = {0, 16, 25, 41, 50, 66, 75, 91, 100, 116};
static const int32_t load_rows[10] = {16, 9, 16, 9, 16, 9, 16, 9, 16, 9};

static int fetch(ax_machine *m, int x, int w, int g, int64_t step, int64_t column, int64_t columns) {
    AX(ax_ld(m, AX_SPAD(step % 8 * 32), 0, w, (int64_t)step_weight[step] * 16, 16, ((int64_t)step_first[step + 1] - (int64_t)step_first[step]) * (int64_t)step_rows[step], 16)); /* weights of this step */
    for (int64_t i = fetch_first[step]; i < fetch_first[step + 1]; i++) {
        AX(ax_ldg(m, AX_SPAD(load_x[i]), 16, x, column, 40, g, load_row[i], load_rows[i], columns)); /* gathered rows of X */
    }
    return 0;
}

int model_infer(ax_machine *m, int x, int y) {
    const int w = ax_buffer(m, "weights", (void *)(uintptr_t)weights, 2240, AX_I8);
    const int g = ax_buffer(m, "gather", (void *)(uintptr_t)gather, 125, AX_I32);
    for (int64_t s = 0; s < 5; s++) {
        AX(fetch(m, x, w, g, s, 0, 40));
    }
    for (int64_t b = 0; b < 5; b++) {
        const int64_t base = b % 8 * 48;
        for (int64_t s2 = block_first[b]; s2 < block_first[b + 1]; s2++) {
            const int64_t rows = step_rows[s2];
            const int64_t first = step_first[s2];
            const int64_t slot = s2 % 8 * 32;
            for (int64_t t = first; t < step_first[s2 + 1]; t++) {
                const int64_t a = slot + (t - first) * rows;
                const int64_t x2 = tile_x[t];
                const int64_t rows2 = tile_rows[t];
                const int64_t accumulate = first < t;
                for (int64_t j = 0; j < 3; j++) {
                    AX(ax_pre(m, AX_SPAD(x2 + j * 16), rows2, AX_MIN(16, 40 - j * 16))); /* a tile of X stays */
                    AX(ax_mm(m, AX_ACC(base + j * 16), AX_SPAD(a), rows, accumulate)); /* rows of W stream */
                }
            }
        }
        AX(ax_st(m, y, (int64_t)block_row[b] * 40, 40, AX_ACC(base), 16, block_rows[b], 40, 0)); /* store the block */
    }
    return 0;
}
