/* C[40, 20] = W[40, 60] X[60, 20], 91 nonzeros in W, on ascend910
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

_Static_assert(AX_ROWS == 16 && AX_COLS == 16, "made for ascend910");
_Static_assert(AX_SPAD_ROWS >= 32768 && AX_ACC_ROWS >= 256, "made for ascend910");

#ifndef AX_DATA
#define AX_DATA const
#endif
extern AX_DATA uint16_t weights[624]; /* 39 x 16 */
static const int32_t gather[42] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
    28, 29, 30, 31, 32, 33, 34, 35, 36, 38, 39, 1, 12, 47,
};
static const int32_t scatter[40] = {
    0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27,
    28, 29, 30, 31, 32, 33, 34, 35, 36, 38, 39, 37,
};
static const int32_t block_first[4] = {0, 1, 2, 3};
static const int32_t block_row[3] = {0, 16, 32};
static const int32_t block_rows[3] = {16, 16, 8};
static const int32_t zero_first[4] = {0, 0, 0, 1};
static const int32_t step_first[4] = {0, 1, 2, 3};
static const int32_t fetch_first[4] = {0, 1, 1, 1};
static const int32_t step_rows[3] = {16, 16, 7};
static const int32_t step_weight[3] = {0, 16, 32};

static int fetch(ax_machine *m, int x, int w, int g, int64_t step, int64_t column, int64_t columns) {
    AX(ax_ld(m, AX_SPAD(step % 8 * 32), 0, w, (int64_t)step_weight[step] * 16, 16, ((int64_t)step_first[step + 1] - (int64_t)step_first[step]) * (int64_t)step_rows[step], 16)); /* weights of this step */
    for (int64_t i = fetch_first[step]; i < fetch_first[step + 1]; i++) {
        AX(ax_ldg(m, AX_SPAD(256), 16, x, column, 20, g, 39, 3, columns)); /* gathered rows of X */
    }
    return 0;
}

int model_infer(ax_machine *m, int x, int y) {
    const int w = ax_buffer(m, "weights", (void *)(uintptr_t)weights, 624, AX_F16);
    const int g = ax_buffer(m, "gather", (void *)(uintptr_t)gather, 42, AX_I32);
    const int scatter2 = ax_buffer(m, "scatter", (void *)(uintptr_t)scatter, 40, AX_I32);
    for (int64_t s = 0; s < 3; s++) {
        AX(fetch(m, x, w, g, s, 0, 20));
    }
    for (int64_t b = 0; b < 3; b++) {
        const int64_t base = b % 8 * 32;
        for (int64_t z = zero_first[b]; z < zero_first[b + 1]; z++) {
            for (int64_t j = 0; j < 2; j++) {
                AX(ax_fill(m, AX_ACC(base + j * 16 + 7), 1, 0)); /* rows nobody writes */
            }
        }
        for (int64_t s2 = block_first[b]; s2 < block_first[b + 1]; s2++) {
            const int64_t rows = step_rows[s2];
            const int64_t first = step_first[s2];
            const int64_t first2 = step_first[s2 + 1];
            const int64_t a_base = s2 % 2 * 1024;
            AX(ax_mv(m, AX_L0A(a_base), 0, AX_SPAD(s2 % 8 * 32), 0, (first2 - first) * rows, 1)); /* weights */
            for (int64_t t = first; t < first2; t++) {
                const uint32_t v = AX_L0B(t % 2 * 1024);
                AX(ax_mv(m, v, 16, AX_SPAD(256), 16, 3, 2)); /* a tile of X */
                AX(ax_mma(m, AX_ACC(base), 16, AX_L0A(a_base + (t - first) * rows), 0, v, 16, rows, 20, 3, first < t));
            }
        }
        AX(ax_sts(m, y, 0, 20, scatter2, block_row[b], AX_ACC(base), 16, block_rows[b], 20, 0, 0)); /* scatter the block */
    }
    return 0;
}
