/* C[20, 20] = W[20, 40] X[40, 20], 256 nonzeros in W, on gemmini16
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
_Static_assert(AX_SPAD_ROWS >= 16384 && AX_ACC_ROWS >= 288, "made for gemmini16");

#ifndef AX_DATA
#define AX_DATA const
#endif
extern AX_DATA int8_t weights[256]; /* 16 x 16 */

int model_infer(ax_machine *m, int x, int y) {
    AX(ax_fill(m, AX_ACC(256), 32, 0)); /* zeros to store */
    AX(ax_ld(m, AX_SPAD(0), 0, ax_buffer(m, "weights", (void *)(uintptr_t)weights, 256, AX_I8), 0, 16, 16, 16)); /* weights of this step */
    AX(ax_ld(m, AX_SPAD(256), 16, x, 320, 20, 16, 20)); /* rows of X */
    AX(ax_st(m, y, 320, 20, AX_ACC(256), 16, 4, 20, 0)); /* store the zeros */
    AX(ax_pre(m, AX_SPAD(256), 16, 16)); /* a tile of X stays */
    AX(ax_mm(m, AX_ACC(0), AX_SPAD(0), 16, 0)); /* rows of W stream */
    AX(ax_pre(m, AX_SPAD(272), 16, 4)); /* a tile of X stays */
    AX(ax_mm(m, AX_ACC(16), AX_SPAD(0), 16, 0)); /* rows of W stream */
    AX(ax_st(m, y, 0, 20, AX_ACC(0), 16, 16, 20, 0)); /* store the block */
    return 0;
}
