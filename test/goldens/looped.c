/* C[64, 40] = W[64, 64] X[64, 40], 1016 nonzeros in W, on gemmini16
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
_Static_assert(AX_SPAD_ROWS >= 16384 && AX_ACC_ROWS >= 144, "made for gemmini16");

#ifndef AX_DATA
#define AX_DATA const
#endif
extern AX_DATA int8_t weights[1024]; /* 64 x 16 */
static const int32_t block_first[4] = {0, 1, 2, 3};
static const int32_t block_row[3] = {0, 32, 48};
static const int32_t step_first[4] = {0, 1, 2, 4};
static const int32_t fetch_first[4] = {0, 1, 1, 3};
static const int32_t step_weight[3] = {0, 16, 32};
static const int32_t tile_x[4] = {512, 512, 528, 544};
static const int32_t load_x[3] = {512, 528, 544};
static const int32_t load_row[3] = {16, 0, 48};
static const int32_t idle_first[5] = {0, 1, 1, 1, 1};

static int fetch(ax_machine *m, int x, int w, int64_t step, int64_t column, int64_t columns) {
    AX(ax_ld(m, AX_SPAD(step % 8 * 64), 0, w, (int64_t)step_weight[step] * 16, 16, ((int64_t)step_first[step + 1] - (int64_t)step_first[step]) * 16, 16)); /* weights of this step */
    for (int64_t i = fetch_first[step]; i < fetch_first[step + 1]; i++) {
        AX(ax_ld(m, AX_SPAD(load_x[i]), 16, x, (int64_t)load_row[i] * 40 + column, 40, 16, columns)); /* rows of X */
    }
    return 0;
}

int model_infer(ax_machine *m, int x, int y) {
    const int w = ax_buffer(m, "weights", (void *)(uintptr_t)weights, 1024, AX_I8);
    AX(ax_fill(m, AX_ACC(128), 16, 0)); /* zeros to store */
    for (int64_t p = 0; p < 3; p++) {
        const int64_t column = p * 16;
        const int64_t columns = AX_MIN(16, 40 - column);
        const int64_t column_tiles = (columns + 15) / 16;
        for (int64_t s = 0; s < 3; s++) {
            AX(fetch(m, x, w, s, column, columns));
        }
        for (int64_t b = 0; b < 3; b++) {
            const int64_t base = b % 8 * 16;
            for (int64_t s2 = block_first[b]; s2 < block_first[b + 1]; s2++) {
                for (int64_t i = idle_first[s2]; i < idle_first[s2 + 1]; i++) {
                    AX(ax_st(m, y, 640 + column, 40, AX_ACC(128), 16, 16, columns, 0)); /* store the zeros */
                }
                const int64_t first = step_first[s2];
                const int64_t slot = s2 % 8 * 64;
                for (int64_t t = first; t < step_first[s2 + 1]; t++) {
                    const int64_t a = slot + (t - first) * 16;
                    const int64_t x2 = tile_x[t];
                    const int64_t accumulate = first < t;
                    for (int64_t j = 0; j < column_tiles; j++) {
                        AX(ax_pre(m, AX_SPAD(x2 + j * 16), 16, AX_MIN(16, columns - j * 16))); /* a tile of X stays */
                        AX(ax_mm(m, AX_ACC(base + j * 16), AX_SPAD(a), 16, accumulate)); /* rows of W stream */
                    }
                }
            }
            AX(ax_st(m, y, (int64_t)block_row[b] * 40 + column, 40, AX_ACC(base), 16, 16, columns, 0)); /* store the block */
        }
    }
    return 0;
}
