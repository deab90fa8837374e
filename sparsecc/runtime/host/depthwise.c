/* Depthwise convolution: windows over [outer, height, width, inner], a channel at a time. */
#include "windows.h"

/* `outer` counts channels of the result: each of x makes `multiplier` of them, and weights repeat every
 * `channels`. Zeros of the weight are left out. */
#define DEPTHWISE(R, T, W, STEP, ADD_BIAS)                                                                         \
    WINDOWS(                                                                                                       \
        R, T, 0,                                                                                                   \
        {                                                                                                          \
            const W factor = weight[(o % channels * w->kernel_h + i) * w->kernel_w + j];                           \
            if (factor != 0)                                                                                       \
                EACH(T, STEP);                                                                                     \
        },                                                                                                         \
        for (int64_t q = 0; bias != NULL && q < row; q++) ADD_BIAS(to[q], bias[o % channels]))

#define TIMES(t, v) (t) += factor * (v)
#define ADD(t, v) (t) += (v)
/* Integers wrap around. */
#define TIMES_SHIFTED(t, v) (t) = (int32_t)((uint32_t)(t) + (uint32_t)(factor * ((v)-x_zero)))
#define ADD_WRAPPED(t, v) (t) = (int32_t)((uint32_t)(t) + (uint32_t)(v))

enum { PLANE = 4096, SHORT_ROW = 128 };

/* Short rows: a channel with its padding lies in a buffer, so that every element of the kernel sees one run of it,
 * over all rows of results and what is between them. */
static void depthwise_by_planes(float *restrict y, const float *restrict x, const float *restrict weight,
                                const float *restrict bias, const host_window *w, int64_t channels, int64_t multiplier)
{
    float plane[PLANE], sums[PLANE];
    const int64_t inner = w->inner, row = w->out_width * inner, columns = w->out_width + (w->kernel_w - 1) * w->dilation_w;
    const int64_t pitch = columns * inner, rows = w->out_height + (w->kernel_h - 1) * w->dilation_h;
    const int64_t run = (w->out_height - 1) * pitch + row;
    const int64_t width = host_least(w->width, columns - w->pad_left), height = host_least(w->height, rows - w->pad_top);
    memset(plane, 0, (size_t)(rows * pitch) * sizeof *plane);
    for (int64_t o = 0; o < w->outer; o++) {
        const float *from = x + o / multiplier * w->height * w->width * inner, *factors;
        for (int64_t h = 0; h < height; h++)
            memcpy(plane + (h + w->pad_top) * pitch + w->pad_left * inner, from + h * w->width * inner,
                   (size_t)(width * inner) * sizeof *plane);
        memset(sums, 0, (size_t)run * sizeof *sums);
        factors = weight + o % channels * w->kernel_h * w->kernel_w;
        for (int64_t i = 0; i < w->kernel_h; i++)
            for (int64_t j = 0; j < w->kernel_w; j++) {
                const float factor = factors[i * w->kernel_w + j];
                const float *seen = plane + i * w->dilation_h * pitch + j * w->dilation_w * inner;
                for (int64_t q = 0; factor != 0 && q < run; q++)
                    sums[q] += factor * seen[q];
            }
        const float more = bias == NULL ? 0 : bias[o % channels];
        float *restrict to = y + o * w->out_height * row;
        for (int64_t p = 0; p < w->out_height; p++)
            for (int64_t q = 0; q < row; q++)
                to[p * row + q] = sums[p * pitch + q] + more;
    }
}

/* The same for bytes, less their zero point; sums wrap. */
#define PLANES_OF_BYTES(S, T)                                                                                      \
    static void planes_of_##S(int32_t *restrict y, const T *restrict x, const int16_t *restrict weight,            \
                              const int32_t *restrict bias, const host_window *w, int64_t channels,                \
                              int64_t multiplier, int32_t x_zero)                                                  \
    {                                                                                                              \
        int32_t plane[PLANE];                                                                                      \
        uint32_t sums[PLANE];                                                                                      \
        const int64_t inner = w->inner, row = w->out_width * inner;                                                \
        const int64_t columns = w->out_width + (w->kernel_w - 1) * w->dilation_w, pitch = columns * inner;         \
        const int64_t rows = w->out_height + (w->kernel_h - 1) * w->dilation_h;                                    \
        const int64_t run = (w->out_height - 1) * pitch + row;                                                     \
        const int64_t width = host_least(w->width, columns - w->pad_left) * inner;                                 \
        const int64_t height = host_least(w->height, rows - w->pad_top);                                           \
        memset(plane, 0, (size_t)(rows * pitch) * sizeof *plane);                                                  \
        for (int64_t o = 0; o < w->outer; o++) {                                                                   \
            const T *from = x + o / multiplier * w->height * w->width * inner;                                     \
            for (int64_t h = 0; h < height; h++) {                                                                 \
                int32_t *restrict to = plane + (h + w->pad_top) * pitch + w->pad_left * inner;                     \
                for (int64_t q = 0; q < width; q++)                                                                \
                    to[q] = from[h * w->width * inner + q] - x_zero;                                               \
            }                                                                                                      \
            memset(sums, 0, (size_t)run * sizeof *sums);                                                           \
            const int16_t *factors = weight + o % channels * w->kernel_h * w->kernel_w;                            \
            for (int64_t i = 0; i < w->kernel_h; i++)                                                              \
                for (int64_t j = 0; j < w->kernel_w; j++) {                                                        \
                    const int32_t factor = factors[i * w->kernel_w + j];                                           \
                    const int32_t *seen = plane + i * w->dilation_h * pitch + j * w->dilation_w * inner;           \
                    for (int64_t q = 0; factor != 0 && q < run; q++)                                               \
                        sums[q] += (uint32_t)(factor * seen[q]);                                                   \
                }                                                                                                  \
            const uint32_t more = bias == NULL ? 0 : (uint32_t)bias[o % channels];                                 \
            int32_t *restrict to = y + o * w->out_height * row;                                                    \
            for (int64_t p = 0; p < w->out_height; p++)                                                            \
                for (int64_t q = 0; q < row; q++)                                                                  \
                    to[p * row + q] = (int32_t)(sums[p * pitch + q] + more);                                       \
        }                                                                                                          \
    }

PLANES_OF_BYTES(i8, int8_t)
PLANES_OF_BYTES(u8, uint8_t)

static bool has_short_rows(const host_window *w)
{
    const int64_t pitch = (w->out_width + (w->kernel_w - 1) * w->dilation_w) * w->inner;
    const int64_t rows = w->out_height + (w->kernel_h - 1) * w->dilation_h;
    const bool unit = w->stride_h == 1 && w->stride_w == 1 && w->pad_top >= 0 && w->pad_left >= 0;
    return unit && w->out_width * w->inner <= SHORT_ROW && rows * pitch <= PLANE && w->pad_top < rows &&
           w->pad_left * w->inner < pitch && w->out_height > 0 && w->out_width > 0;
}

void host_depthwise_f32(float *restrict y, const float *restrict x, const float *restrict weight,
                        const float *restrict bias, const host_window *w, int64_t channels, int64_t multiplier)
{
    if (has_short_rows(w)) {
        depthwise_by_planes(y, x, weight, bias, w, channels, multiplier);
        return;
    }
    DEPTHWISE(float, float, float, TIMES, ADD)
}

void host_depthwise_i8(int32_t *restrict y, const int8_t *restrict x, const int16_t *restrict weight,
                       const int32_t *restrict bias, const host_window *w, int64_t channels, int64_t multiplier,
                       int32_t x_zero)
{
    if (has_short_rows(w)) {
        planes_of_i8(y, x, weight, bias, w, channels, multiplier, x_zero);
        return;
    }
    DEPTHWISE(int32_t, int8_t, int16_t, TIMES_SHIFTED, ADD_WRAPPED)
}

void host_depthwise_u8(int32_t *restrict y, const uint8_t *restrict x, const int16_t *restrict weight,
                       const int32_t *restrict bias, const host_window *w, int64_t channels, int64_t multiplier,
                       int32_t x_zero)
{
    if (has_short_rows(w)) {
        planes_of_u8(y, x, weight, bias, w, channels, multiplier, x_zero);
        return;
    }
    DEPTHWISE(int32_t, uint8_t, int16_t, TIMES_SHIFTED, ADD_WRAPPED)
}
