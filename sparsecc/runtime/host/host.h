/* Operators of the host: what the accelerator does not do. C11 and libm; no memory is allocated.
 * Written by `python -m sparsecc.host.ops`; change the declarations there.
 *
 * Arrays are flat and do not overlap, except where an operand may be the result itself, which the declaration
 * says. Extents are at least 0, and all arguments are checked where the call is written, not here. A walk is
 * rank (1 to 6), extents [rank], then for each operand its strides [rank], in elements; 0 repeats an element.
 * Build with -ffp-contract=off: then results are the same everywhere, but for the last digits of libm. */
#ifndef HOST_H
#define HOST_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Windows over x [outer, height, width, inner]; results are [outer, out_height, out_width, inner]. The lower and
 * right pads matter only for averages that count them. */
typedef struct {
    int64_t outer, height, width, inner, out_height, out_width, kernel_h, kernel_w, stride_h, stride_w,
        dilation_h, dilation_w, pad_top, pad_left, pad_bottom, pad_right;
} host_window;

/* y [m, n] = a [m, k] b [k, n], and how far rows and columns lie apart. */
typedef struct {
    int64_t m, n, k, y_row, y_col, a_row, a_col, b_row, b_col, a_zero_step, b_zero_step;
} host_product;

/* Activations of recurrent steps. */
enum { HOST_RELU = 0, HOST_SIGMOID = 1, HOST_TANH = 2, HOST_SOFTSIGN = 3, HOST_HARD_SIGMOID = 4 };

/* ---- Element by element ---- */

/* y[i] = f(x[i]); max and sign keep NaN. */
void host_relu_f32(float *y, const float *x, int64_t n);
void host_neg_f32(float *y, const float *x, int64_t n);
void host_abs_f32(float *y, const float *x, int64_t n);
void host_reciprocal_f32(float *y, const float *x, int64_t n);
void host_sqrt_f32(float *y, const float *x, int64_t n);
void host_ceil_f32(float *y, const float *x, int64_t n);
void host_floor_f32(float *y, const float *x, int64_t n);
void host_round_f32(float *y, const float *x, int64_t n);
void host_sign_f32(float *y, const float *x, int64_t n);
void host_softsign_f32(float *y, const float *x, int64_t n);

/* y[i] = f(x[i]), evaluated in f64 and rounded once. */
void host_exp_f32(float *y, const float *x, int64_t n);
void host_log_f32(float *y, const float *x, int64_t n);
void host_erf_f32(float *y, const float *x, int64_t n);
void host_sin_f32(float *y, const float *x, int64_t n);
void host_cos_f32(float *y, const float *x, int64_t n);
void host_tanh_f32(float *y, const float *x, int64_t n);
void host_sigmoid_f32(float *y, const float *x, int64_t n);
void host_silu_f32(float *y, const float *x, int64_t n);
void host_gelu_f32(float *y, const float *x, int64_t n);
void host_gelu_tanh_f32(float *y, const float *x, int64_t n);
void host_softplus_f32(float *y, const float *x, int64_t n);

/* x where positive, alpha x elsewhere. */
void host_leaky_relu_f32(float *y, const float *x, int64_t n, float alpha);

/* x where positive, alpha (exp(x) - 1) elsewhere. */
void host_elu_f32(float *y, const float *x, int64_t n, float alpha);

/* min(max(x, low), high); relu6 is 0, 6. */
void host_clip_f32(float *y, const float *x, int64_t n, float low, float high);

/* min(max(alpha x + beta, 0), 1). */
void host_hard_sigmoid_f32(float *y, const float *x, int64_t n, float alpha, float beta);

/* x min(max(alpha x + beta, 0), 1); ONNX has alpha 1/6, beta 0.5. */
void host_hard_swish_f32(float *y, const float *x, int64_t n, float alpha, float beta);

/* Integers wrap around. */
void host_relu_i32(int32_t *y, const int32_t *x, int64_t n);
void host_neg_i32(int32_t *y, const int32_t *x, int64_t n);
void host_abs_i32(int32_t *y, const int32_t *x, int64_t n);
void host_relu_i64(int64_t *y, const int64_t *x, int64_t n);
void host_neg_i64(int64_t *y, const int64_t *x, int64_t n);
void host_abs_i64(int64_t *y, const int64_t *x, int64_t n);
void host_relu_i8(int8_t *y, const int8_t *x, int64_t n);

/* Truths are bytes, 0 or 1. */
void host_not_b8(uint8_t *y, const uint8_t *x, int64_t n);

/* y = a op b over a walk (operands y, a, b). max and min keep NaN. Integers wrap around; integer division is
 * towards zero, a / 0 = 0 and the rest of a / 0 = 0; the rest of fmod has the sign of a, that of mod the sign of
 * b; comparisons give 0 or 1. */
void host_add_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_add_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_add_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_sub_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_sub_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_sub_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_mul_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_mul_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_mul_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_div_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_div_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_div_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_max_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_max_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_max_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_max_i8(int8_t *y, const int8_t *a, const int8_t *b, const int64_t *walk);
void host_max_u8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk);
void host_min_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_min_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_min_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_min_i8(int8_t *y, const int8_t *a, const int8_t *b, const int64_t *walk);
void host_min_u8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk);
void host_pow_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_fmod_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_fmod_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_fmod_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_mod_f32(float *y, const float *a, const float *b, const int64_t *walk);
void host_mod_i32(int32_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_mod_i64(int64_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_and_b8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk);
void host_or_b8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk);
void host_xor_b8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk);
void host_equal_f32(uint8_t *y, const float *a, const float *b, const int64_t *walk);
void host_equal_i32(uint8_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_equal_i64(uint8_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_greater_f32(uint8_t *y, const float *a, const float *b, const int64_t *walk);
void host_greater_i32(uint8_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_greater_i64(uint8_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);
void host_less_f32(uint8_t *y, const float *a, const float *b, const int64_t *walk);
void host_less_i32(uint8_t *y, const int32_t *a, const int32_t *b, const int64_t *walk);
void host_less_i64(uint8_t *y, const int64_t *a, const int64_t *b, const int64_t *walk);

/* a where the condition is not 0, b elsewhere, over a walk (operands y, condition, a, b); by bytes. */
void host_where_1(void *y, const uint8_t *condition, const void *a, const void *b, const int64_t *walk);
void host_where_2(void *y, const uint8_t *condition, const void *a, const void *b, const int64_t *walk);
void host_where_4(void *y, const uint8_t *condition, const void *a, const void *b, const int64_t *walk);
void host_where_8(void *y, const uint8_t *condition, const void *a, const void *b, const int64_t *walk);

/* x as elements of another type. Floats to integers towards zero by way of int64_t; what that does not hold, NaN
 * too, is its least value. Integers wrap around. f16 and bf16, given as their bits, are rounded to nearest even.
 * b8 is 1 where x is not 0, and is read as u8. */
void host_cast_f32_f16(uint16_t *y, const float *x, int64_t n);
void host_cast_f16_f32(float *y, const uint16_t *x, int64_t n);
void host_cast_f32_bf16(uint16_t *y, const float *x, int64_t n);
void host_cast_bf16_f32(float *y, const uint16_t *x, int64_t n);
void host_cast_f32_i8(int8_t *y, const float *x, int64_t n);
void host_cast_f32_u8(uint8_t *y, const float *x, int64_t n);
void host_cast_f32_i32(int32_t *y, const float *x, int64_t n);
void host_cast_f32_i64(int64_t *y, const float *x, int64_t n);
void host_cast_f32_b8(uint8_t *y, const float *x, int64_t n);
void host_cast_i8_f32(float *y, const int8_t *x, int64_t n);
void host_cast_i8_u8(uint8_t *y, const int8_t *x, int64_t n);
void host_cast_i8_i32(int32_t *y, const int8_t *x, int64_t n);
void host_cast_i8_i64(int64_t *y, const int8_t *x, int64_t n);
void host_cast_i8_b8(uint8_t *y, const int8_t *x, int64_t n);
void host_cast_u8_f32(float *y, const uint8_t *x, int64_t n);
void host_cast_u8_i8(int8_t *y, const uint8_t *x, int64_t n);
void host_cast_u8_i32(int32_t *y, const uint8_t *x, int64_t n);
void host_cast_u8_i64(int64_t *y, const uint8_t *x, int64_t n);
void host_cast_u8_b8(uint8_t *y, const uint8_t *x, int64_t n);
void host_cast_i32_f32(float *y, const int32_t *x, int64_t n);
void host_cast_i32_i8(int8_t *y, const int32_t *x, int64_t n);
void host_cast_i32_u8(uint8_t *y, const int32_t *x, int64_t n);
void host_cast_i32_i64(int64_t *y, const int32_t *x, int64_t n);
void host_cast_i32_b8(uint8_t *y, const int32_t *x, int64_t n);
void host_cast_i64_f32(float *y, const int64_t *x, int64_t n);
void host_cast_i64_i8(int8_t *y, const int64_t *x, int64_t n);
void host_cast_i64_u8(uint8_t *y, const int64_t *x, int64_t n);
void host_cast_i64_i32(int32_t *y, const int64_t *x, int64_t n);
void host_cast_i64_b8(uint8_t *y, const int64_t *x, int64_t n);

/* ---- Reductions and normalisation: x is [outer, axis, inner] ---- */

/* y [outer, inner] from x [outer, axis, inner]. Sums and products go in ascending order; integers wrap around, but
 * the mean of i32 is exact; means of integers are rounded down. max and min keep NaN; they need axis > 0. */
void host_reduce_sum_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_sum_i32(int32_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_sum_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_mean_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_mean_i32(int32_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_mean_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_prod_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_prod_i32(int32_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_prod_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_max_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_max_i32(int32_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_max_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_max_i8(int8_t *y, const int8_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_max_u8(uint8_t *y, const uint8_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_min_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_min_i32(int32_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_min_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_min_i8(int8_t *y, const int8_t *x, int64_t outer, int64_t axis, int64_t inner);
void host_reduce_min_u8(uint8_t *y, const uint8_t *x, int64_t outer, int64_t axis, int64_t inner);

/* reduce_mean_f32 of the dequantised x, quantised: as DequantizeLinear, ReduceMean, QuantizeLinear. */
void host_reduce_mean_q_i8(int8_t *y, const int8_t *x, int64_t outer, int64_t axis, int64_t inner, float x_scale,
                           int32_t x_zero, float y_scale, int32_t y_zero);
void host_reduce_mean_q_u8(uint8_t *y, const uint8_t *x, int64_t outer, int64_t axis, int64_t inner, float x_scale,
                           int32_t x_zero, float y_scale, int32_t y_zero);

/* Where the extreme along axis > 0 lies: the first place, or the last if `last` is not 0; a NaN comes before all
 * numbers. */
void host_argmax_f32(int64_t *y, const float *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmin_f32(int64_t *y, const float *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmax_i32(int64_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmin_i32(int64_t *y, const int32_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmax_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmin_i64(int64_t *y, const int64_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmax_i8(int64_t *y, const int8_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmin_i8(int64_t *y, const int8_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmax_u8(int64_t *y, const uint8_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);
void host_argmin_u8(int64_t *y, const uint8_t *x, int64_t outer, int64_t axis, int64_t inner, int32_t last);

/* exp(x - max) / sum along the axis, or x - max - log(sum): exp and log in f64 and rounded, the sum in ascending
 * order in f32. */
void host_softmax_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);
void host_log_softmax_f32(float *y, const float *x, int64_t outer, int64_t axis, int64_t inner);

/* (x - mean) / sqrt(variance + epsilon) along the axis, times scale [axis], plus bias [axis]; either may be NULL.
 * */
void host_layer_norm_f32(float *y, const float *x, const float *scale, const float *bias, int64_t outer, int64_t
                         axis, int64_t inner, float epsilon);

/* (x - mean) / sqrt(variance + epsilon) * scale + bias, all [axis]. */
void host_batch_norm_f32(float *y, const float *x, const float *scale, const float *bias, const float *mean, const
                         float *variance, int64_t outer, int64_t axis, int64_t inner, float epsilon);

/* ---- Windows ---- */

/* The largest element of each window; padding is smaller than all, NaN larger. */
void host_max_pool_f32(float *y, const float *x, const host_window *window);
void host_max_pool_i8(int8_t *y, const int8_t *x, const host_window *window);
void host_max_pool_u8(uint8_t *y, const uint8_t *x, const host_window *window);

/* The sum of each window, row by row, / its elements: of x, or with count_padding of its padding too, but never of
 * what lies beyond it. */
void host_average_pool_f32(float *y, const float *x, const host_window *window, int32_t count_padding);

/* Patches: y [count, out_height * out_width * inner], where row (channel, i, j) = channel * kernel + i * kernel_w
 * + j is what element (i, j) of the kernel sees of that channel (`outer`); all such rows from 0 on, or those
 * listed. Convolution is then a product with weights [M, rows]; the rows of a group of channels are adjacent.
 * Beyond x lies `fill`, as bits. */
void host_im2col_1(void *y, const void *x, const host_window *window, const int32_t *rows, int64_t count, uint32_t
                   fill);
void host_im2col_2(void *y, const void *x, const host_window *window, const int32_t *rows, int64_t count, uint32_t
                   fill);
void host_im2col_4(void *y, const void *x, const host_window *window, const int32_t *rows, int64_t count, uint32_t
                   fill);

/* Depthwise convolution: `outer` counts the channels of y (times images); `multiplier` of them see one channel of
 * x, and the weights [channels, kernel] and bias [channels] (or NULL) repeat every `channels`. Sums row by row,
 * from 0, zeros of the weight left out, then the bias. Integers: x less x_zero times weights (their zero point
 * already taken off), wrapping around; padding counts as x_zero. */
void host_depthwise_f32(float *y, const float *x, const float *weight, const float *bias, const host_window
                        *window, int64_t channels, int64_t multiplier);
void host_depthwise_i8(int32_t *y, const int8_t *x, const int16_t *weight, const int32_t *bias, const host_window
                       *window, int64_t channels, int64_t multiplier, int32_t x_zero);
void host_depthwise_u8(int32_t *y, const uint8_t *x, const int16_t *weight, const int32_t *bias, const host_window
                       *window, int64_t channels, int64_t multiplier, int32_t x_zero);

/* Depthwise convolution of bytes whose sums are requantised: `scales` of them, 1 or one for each of the channels.
 * Weights fit a byte, and `inner` is at most 4096. */
void host_depthwise_q_i8(int8_t *y, const int8_t *x, const int16_t *weight, const int32_t *bias, const host_window
                         *window, int64_t channels, int64_t multiplier, int32_t x_zero, const float *scale, int64_t
                         scales, int32_t y_zero);
void host_depthwise_q_u8(uint8_t *y, const uint8_t *x, const int16_t *weight, const int32_t *bias, const
                         host_window *window, int64_t channels, int64_t multiplier, int32_t x_zero, const float
                         *scale, int64_t scales, int32_t y_zero);

/* ---- Moving elements; names end in their bytes ---- */

/* y = x over a walk (operands y, x): transpose, concat, split, slice, flip, broadcast; no overlap. */
void host_copy_1(void *y, const void *x, const int64_t *walk);
void host_copy_2(void *y, const void *x, const int64_t *walk);
void host_copy_4(void *y, const void *x, const int64_t *walk);
void host_copy_8(void *y, const void *x, const int64_t *walk);

/* y[o, p, q, i] = x[o, rows[p], columns[q], i], `fill` (as bits) where either is negative: padding of all modes,
 * resizing to nearest, constant indices, [height, width] as one or two axes. NULL is the identity: columns then
 * needs out_width = width. */
void host_remap_1(void *y, const void *x, int64_t outer, int64_t height, int64_t width, int64_t inner, int64_t
                  out_height, int64_t out_width, const int32_t *rows, const int32_t *columns, uint64_t fill);
void host_remap_2(void *y, const void *x, int64_t outer, int64_t height, int64_t width, int64_t inner, int64_t
                  out_height, int64_t out_width, const int32_t *rows, const int32_t *columns, uint64_t fill);
void host_remap_4(void *y, const void *x, int64_t outer, int64_t height, int64_t width, int64_t inner, int64_t
                  out_height, int64_t out_width, const int32_t *rows, const int32_t *columns, uint64_t fill);
void host_remap_8(void *y, const void *x, int64_t outer, int64_t height, int64_t width, int64_t inner, int64_t
                  out_height, int64_t out_width, const int32_t *rows, const int32_t *columns, uint64_t fill);

/* y [outer, count, inner] = x [outer, axis, inner] at indices [count], which count from the end when negative. If
 * one is outside nothing is written, and 1 + its place is returned; otherwise 0. */
int64_t host_gather_1_i32(void *y, const void *x, const int32_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_2_i32(void *y, const void *x, const int32_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_4_i32(void *y, const void *x, const int32_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_8_i32(void *y, const void *x, const int32_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_1_i64(void *y, const void *x, const int64_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_2_i64(void *y, const void *x, const int64_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_4_i64(void *y, const void *x, const int64_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);
int64_t host_gather_8_i64(void *y, const void *x, const int64_t *indices, int64_t outer, int64_t axis, int64_t
                          inner, int64_t count);

/* ---- Products ---- */

/* y = a b for each place of the walk `batch` (operands y, a, b; one axis of extent 1 for a single product); sums
 * in ascending order of k from 0. Batch last, where the last axis of the walk has stride 1 in y, is computed side
 * by side. */
void host_matmul_f32(float *y, const float *a, const float *b, const host_product *product, const int64_t *batch);

/* y = (a - a_zero) (b - b_zero) as matmul, in i32, wrapping around; a_zero is NULL, one number or [m], b_zero
 * NULL, one number or [n], as the steps in the product say. */
void host_matmul_i8_i8(int32_t *y, const int8_t *a, const int8_t *b, const int8_t *a_zero, const int8_t *b_zero,
                       const host_product *product, const int64_t *batch);
void host_matmul_i8_u8(int32_t *y, const int8_t *a, const uint8_t *b, const int8_t *a_zero, const uint8_t *b_zero,
                       const host_product *product, const int64_t *batch);
void host_matmul_u8_i8(int32_t *y, const uint8_t *a, const int8_t *b, const uint8_t *a_zero, const int8_t *b_zero,
                       const host_product *product, const int64_t *batch);
void host_matmul_u8_u8(int32_t *y, const uint8_t *a, const uint8_t *b, const uint8_t *a_zero, const uint8_t
                       *b_zero, const host_product *product, const int64_t *batch);

/* y [m, n] = W x + bias [m] (or NULL), W sparse: points row_first[i] to row_first[i + 1] - 1 are row i, in columns
 * `column`, with these values; rows of x and y are a pitch apart. Sums in the order of the points from 0, then the
 * bias. Integers: x less x_zero times values in 16 bits (their zero point already taken off), wrapping around. */
void host_spmm_f32(float *y, const float *values, const float *x, const float *bias, const int32_t *row_first,
                   const int32_t *column, int64_t m, int64_t n, int64_t y_pitch, int64_t x_pitch);
void host_spmm_i8(int32_t *y, const int16_t *values, const int8_t *x, const int32_t *bias, const int32_t
                  *row_first, const int32_t *column, int64_t m, int64_t n, int64_t y_pitch, int64_t x_pitch,
                  int32_t x_zero);
void host_spmm_u8(int32_t *y, const int16_t *values, const uint8_t *x, const int32_t *bias, const int32_t
                  *row_first, const int32_t *column, int64_t m, int64_t n, int64_t y_pitch, int64_t x_pitch,
                  int32_t x_zero);

/* a b at the points of a pattern only, in their order; sums in ascending order of k from 0. */
void host_sddmm_f32(float *values, const float *a, const float *b, const int32_t *row_first, const int32_t *column,
                    const host_product *product);

/* softmax(scale x) along the rows of a sparse pattern: x and y [outer, points, inner]. What a mask leaves out is
 * no point; a row without points gives nothing. */
void host_csr_softmax_f32(float *y, const float *x, const int32_t *row_first, int64_t outer, int64_t m, int64_t
                          inner, float scale);

/* ---- Quantisation ---- */

/* round(x / scale) + zero, ties to even, saturated, NaN to 0; scale and zero (NULL: 0) [axis] of [outer, axis,
 * inner]; axis 1 for one scale. */
void host_quantize_i8(int8_t *y, const float *x, const float *scale, const int8_t *zero, int64_t outer, int64_t
                      axis, int64_t inner);
void host_quantize_u8(uint8_t *y, const float *x, const float *scale, const uint8_t *zero, int64_t outer, int64_t
                      axis, int64_t inner);

/* (x - zero) * scale, the difference exact; scale and zero as in quantize. */
void host_dequantize_i8(float *y, const int8_t *x, const float *scale, const int8_t *zero, int64_t outer, int64_t
                        axis, int64_t inner);
void host_dequantize_u8(float *y, const uint8_t *x, const float *scale, const uint8_t *zero, int64_t outer, int64_t
                        axis, int64_t inner);
void host_dequantize_i32(float *y, const int32_t *x, const float *scale, const int32_t *zero, int64_t outer,
                         int64_t axis, int64_t inner);

/* Sums in i32 back to bytes: round(f32(x) * multiplier) + zero, ties to even, saturated; multiplier [axis] is the
 * scales of the operands / that of the result. */
void host_requantize_i8(int8_t *y, const int32_t *x, const float *multiplier, int64_t outer, int64_t axis, int64_t
                        inner, int32_t zero);
void host_requantize_u8(uint8_t *y, const int32_t *x, const float *multiplier, int64_t outer, int64_t axis, int64_t
                        inner, int32_t zero);

/* a op b over a walk, operands dequantised, combined in f32, quantised: as the QDQ form of QLinear. */
void host_add_q_i8(int8_t *y, const int8_t *a, const int8_t *b, const int64_t *walk, float a_scale, int32_t a_zero,
                   float b_scale, int32_t b_zero, float y_scale, int32_t y_zero);
void host_mul_q_i8(int8_t *y, const int8_t *a, const int8_t *b, const int64_t *walk, float a_scale, int32_t a_zero,
                   float b_scale, int32_t b_zero, float y_scale, int32_t y_zero);
void host_add_q_u8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk, float a_scale, int32_t
                   a_zero, float b_scale, int32_t b_zero, float y_scale, int32_t y_zero);
void host_mul_q_u8(uint8_t *y, const uint8_t *a, const uint8_t *b, const int64_t *walk, float a_scale, int32_t
                   a_zero, float b_scale, int32_t b_zero, float y_scale, int32_t y_zero);

/* y[i] = table[x[i] as uint8_t], 256 elements: an activation between bytes, or from bytes to words. */
void host_lookup_1(void *y, const void *x, int64_t n, const void *table);
void host_lookup_4(void *y, const void *x, int64_t n, const void *table);

/* DynamicQuantizeLinear: scale [1] and zero [1] so that 0 and all of the (finite) x fit, and x quantised; a scale
 * of 1 where all x are 0. */
void host_dynamic_quantize_u8(uint8_t *y, float *scale, uint8_t *zero, const float *x, int64_t n);

/* ---- Steps of recurrent layers ---- */

/* First half of a step of an LSTM: the cell, from gates x + r, each [outer, 4 hidden, inner], and the cell before
 * [outer, hidden, inner]; peephole [3 hidden] of i, o, f, or NULL. Activations f of the gates, g of the cell's
 * input; limit > 0 limits what they see. c may be c_before. */
void host_lstm_cell_f32(float *c, const float *x, const float *r, const float *c_before, const float *peephole,
                        int64_t outer, int64_t hidden, int64_t inner, int32_t f, int32_t g, float limit, int32_t
                        input_forget);

/* Second half: the state, from the gates and the new cell, which `final` is taken of. h may be c. */
void host_lstm_state_f32(float *h, const float *x, const float *r, const float *c, const float *peephole, int64_t
                         outer, int64_t hidden, int64_t inner, int32_t f, int32_t final, float limit);

/* One step of a GRU with linear_before_reset: x and r [outer, 3 hidden, inner], states [outer, hidden, inner]. h
 * may be h_before. */
void host_gru_f32(float *h, const float *x, const float *r, const float *h_before, int64_t outer, int64_t hidden,
                  int64_t inner, int32_t f, int32_t g, float limit);

/* First half of a step of a GRU without linear_before_reset: the state times the reset gate, which the recurrent
 * weight of h multiplies next; x [outer, 3 hidden, inner], r [outer, 2 hidden, inner] of z and r. kept may be
 * h_before. */
void host_gru_kept_f32(float *kept, const float *x, const float *r, const float *h_before, int64_t outer, int64_t
                       hidden, int64_t inner, int32_t f, float limit);

/* Second half: the next state, from x and r as before and the product of_kept [outer, hidden, inner] with what
 * gru_kept kept. h may be h_before. */
void host_gru_update_f32(float *h, const float *x, const float *r, const float *of_kept, const float *h_before,
                         int64_t outer, int64_t hidden, int64_t inner, int32_t f, int32_t g, float limit);

#ifdef __cplusplus
}
#endif

#endif
