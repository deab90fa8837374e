/* C[40, 20] = W[40, 100] X[100, 20], 2002 nonzeros in W, on nvidia-tc
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

_Static_assert(AX_ROWS == 16 && AX_COLS == 16, "made for nvidia-tc");
_Static_assert(AX_SPAD_ROWS >= 3200 && AX_ACC_ROWS >= 256, "made for nvidia-tc");

#ifndef AX_DATA
#define AX_DATA const
#endif
extern AX_DATA uint16_t weights[3024]; /* 189 x 16 */
static const int32_t block_first[4] = {0, 3, 6, 9};
static const int32_t block_row[3] = {0, 16, 32};
static const int32_t block_rows[3] = {16, 16, 8};
static const int32_t step_first[10] = {0, 2, 3, 4, 5, 7, 8, 10, 11, 12};
static const int32_t fetch_first[10] = {0, 2, 3, 4, 4, 4, 4, 4, 4, 4};
static const int32_t step_rows[9] = {16, 16, 16, 16, 16, 16, 8, 8, 8};
static const int32_t step_weight[9] = {0, 36, 54, 70, 102, 138, 154, 172, 181};
static const int32_t step_band_start[9] = {1, 0, 0, 1, 0, 0, 1, 0, 0};
static const int32_t tile_x[12] = {512, 576, 640, 704, 512, 576, 640, 704, 512, 576, 640, 704};
static const int32_t tile_rows[12] = {32, 32, 32, 4, 32, 32, 32, 4, 32, 32, 32, 4};
static const int32_t load_x[4] = {512, 576, 640, 704};
static const int32_t load_row[4] = {0, 32, 64, 96};
static const int32_t load_rows[4] = {32, 32, 32, 4};
static const int32_t step_tile_rows[9] = {18, 18, 16, 32, 18, 16, 9, 9, 8};
static const int32_t step_compressed[9] = {1, 1, 0, 0, 1, 0, 1, 1, 0};

static int fetch(ax_machine *m, int x, int w, int64_t step, int64_t column, int64_t columns) {
    AX(ax_ld(m, AX_SPAD(step % 8 * 64), 0, w, (int64_t)step_weight[step] * 16, 16, ((int64_t)step_first[step + 1] - (int64_t)step_first[step]) * (int64_t)step_tile_rows[step], 16)); /* weights of this step */
    for (int64_t i = fetch_first[step]; i < fetch_first[step + 1]; i++) {
        AX(ax_ld(m, AX_SPAD(load_x[i]), 32, x, (int64_t)load_row[i] * 20 + column, 20, load_rows[i], columns)); /* rows of X */
    }
    return 0;
}

int model_infer(ax_machine *m, int x, int y) {
    const int w = ax_buffer(m, "weights", (void *)(uintptr_t)weights, 3024, AX_F16);
    for (int64_t s = 0; s < 7; s++) {
        AX(fetch(m, x, w, s, 0, 20));
    }
    for (int64_t b = 0; b < 3; b++) {
        const int64_t base = b % 8 * 32;
        for (int64_t s2 = block_first[b]; s2 < block_first[b + 1]; s2++) {
            const int64_t ahead = s2 + 7;
            if (ahead < 9) {
                AX(fetch(m, x, w, ahead, 0, 20));
            }
            const int64_t rows = step_rows[s2];
            const int64_t first = step_first[s2];
            const int64_t first2 = step_first[s2 + 1];
            const int64_t continues = 1 - (int64_t)step_band_start[s2];
            const int64_t a_base = s2 % 2 * 256;
            const int64_t tile_rows2 = step_tile_rows[s2];
            AX(ax_mv(m, AX_L0A(a_base), 0, AX_SPAD(s2 % 8 * 64), 0, (first2 - first) * tile_rows2, 1)); /* weights */
            for (int64_t t = first; t < first2; t++) {
                const int64_t a = a_base + (t - first) * tile_rows2;
                const int64_t rows2 = tile_rows[t];
                const int64_t accumulate = 0 < continues + (first < t);
                const uint32_t v = AX_L0B(t % 2 * 256);
                const uint32_t sums = AX_ACC(base);
                const uint32_t left = AX_L0A(a);
                AX(ax_mv(m, v, 32, AX_SPAD(tile_x[t]), 32, rows2, 2)); /* a tile of X */
                if (0 < step_compressed[s2]) {
                    AX(ax_spmma(m, sums, 16, left, AX_L0A(a + rows), v, 32, rows, 20, rows2, 2, 4, accumulate)); /* 2:4 values of W */
                } else {
                    AX(ax_mma(m, sums, 16, left, rows, v, 32, rows, 20, rows2, accumulate));
                }
            }
        }
        AX(ax_st(m, y, (int64_t)block_row[b] * 20, 20, AX_ACC(base), 16, block_rows[b], 20, 0)); /* store the block */
    }
    return 0;
}
