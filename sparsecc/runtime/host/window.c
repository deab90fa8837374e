/* Pooling, patches and depthwise convolution: windows over [outer, height, width, inner]. */
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

#define LARGER_FLOAT(t, v) (t) = host_larger(v, t)
#define LARGER(t, v) (t) = (v) > (t) ? (v) : (t)

enum { POOLED = 4096, ABREAST = 16 };

static inline void max_abreast(float *restrict to, const float *restrict from)
{
    for (int64_t i = 0; i < ABREAST; i++)
        to[i] = host_larger(from[i], to[i]);
}

/* to = the larger of to and from; some elements twice, which changes nothing. */
static void max_into(float *restrict to, const float *restrict from, int64_t n)
{
    int64_t i = 0;
    for (; i + ABREAST <= n; i += ABREAST)
        max_abreast(to + i, from + i);
    if (i < n && n >= ABREAST)
        max_abreast(to + n - ABREAST, from + n - ABREAST);
    else
        for (; i < n; i++)
            to[i] = host_larger(from[i], to[i]);
}

/* Whether the rows of windows, with their padding, fit into a buffer. */
static bool pools_by_rows(const host_window *w)
{
    const int64_t reach = (w->out_width - 1) * w->stride_w + (w->kernel_w - 1) * w->dilation_w + 1;
    const int64_t longest = reach > w->pad_left + w->width ? reach : w->pad_left + w->width;
    return w->stride_w > 1 && w->pad_left >= 0 && longest * w->inner <= POOLED && w->inner > 0 && w->out_width > 0;
}

/* With a stride along rows: first the rows of a window, then windows at every place of a row, all of which lie side
 * by side, and of these every so many-th. */
static void max_pool_by_rows(float *restrict y, const float *restrict x, const host_window *w)
{
    float rows[POOLED + ABREAST], windows[POOLED + ABREAST];
    const int64_t inner = w->inner, row = w->width * inner, first = w->pad_left * inner;
    const int64_t places = ((w->out_width - 1) * w->stride_w + 1) * inner;
    const int64_t reach = places + (w->kernel_w - 1) * w->dilation_w * inner;
    const int64_t filled = reach > first + row ? reach : first + row;
    for (int64_t q = 0; q < filled; q++)
        rows[q] = -INFINITY;
    for (int64_t o = 0; o < w->outer; o++)
        for (int64_t p = 0; p < w->out_height; p++) {
            bool some = false;
            for (int64_t i = 0; i < w->kernel_h; i++) {
                const int64_t h = p * w->stride_h + i * w->dilation_h - w->pad_top;
                if (h < 0 || h >= w->height)
                    continue;
                const float *from = x + (o * w->height + h) * row;
                if (some)
                    max_into(rows + first, from, row);
                else
                    memcpy(rows + first, from, (size_t)row * sizeof *from);
                some = true;
            }
            for (int64_t q = 0; !some && q < row; q++)
                rows[first + q] = -INFINITY;
            memcpy(windows, rows, (size_t)places * sizeof *rows);
            for (int64_t j = 1; j < w->kernel_w; j++)
                max_into(windows, rows + j * w->dilation_w * inner, places);
            float *restrict to = y + (o * w->out_height + p) * w->out_width * inner;
            if (inner == 4)
                for (int64_t q = 0; q < w->out_width; q++)
                    memcpy(to + q * 4, windows + q * w->stride_w * 4, 4 * sizeof *to);
            else if (inner > 1)
                for (int64_t q = 0; q < w->out_width; q++)
                    memcpy(to + q * inner, windows + q * w->stride_w * inner, (size_t)inner * sizeof *to);
            else if (w->stride_w == 2)
                for (int64_t q = 0; q < w->out_width; q++)
                    to[q] = windows[q * 2];
            else
                for (int64_t q = 0; q < w->out_width; q++)
                    to[q] = windows[q * w->stride_w];
        }
}

void host_max_pool_f32(float *restrict y, const float *restrict x, const host_window *w)
{
    const int64_t multiplier = 1;
    if (pools_by_rows(w)) {
        max_pool_by_rows(y, x, w);
        return;
    }
    WINDOWS(float, float, -INFINITY, EACH(float, LARGER_FLOAT), (void)0)
}

void host_max_pool_i8(int8_t *restrict y, const int8_t *restrict x, const host_window *w)
{
    const int64_t multiplier = 1;
    WINDOWS(int8_t, int8_t, INT8_MIN, EACH(int8_t, LARGER), (void)0)
}

void host_max_pool_u8(uint8_t *restrict y, const uint8_t *restrict x, const host_window *w)
{
    const int64_t multiplier = 1;
    WINDOWS(uint8_t, uint8_t, 0, EACH(uint8_t, LARGER), (void)0)
}

/* How many elements of a window of one axis count: those inside x or, with its padding, inside both. */
static int64_t counted(int64_t at, int64_t kernel, int64_t dilation, int64_t extent, int64_t before, int64_t after)
{
    int64_t low, high;
    host_inside(at + before, dilation, extent + before + after, kernel, &low, &high);
    return high - low;
}

static float window_size(const host_window *w, int32_t count_padding, int64_t p, int64_t q)
{
    const int64_t pads = count_padding ? 1 : 0;
    const int64_t high = counted(p * w->stride_h - w->pad_top, w->kernel_h, w->dilation_h, w->height,
                                 pads * w->pad_top, pads * w->pad_bottom);
    const int64_t wide = counted(q * w->stride_w - w->pad_left, w->kernel_w, w->dilation_w, w->width,
                                 pads * w->pad_left, pads * w->pad_right);
    return (float)(high * wide);
}

#define ADD(t, v) (t) += (v)
#define DIVIDE                                                                                                     \
    for (int64_t q = 0; q < w->out_width; q++) {                                                                   \
        const float size = window_size(w, count_padding, p, q);                                                    \
        for (int64_t l = 0; l < inner; l++)                                                                        \
            to[q * inner + l] /= size;                                                                             \
    }

void host_average_pool_f32(float *restrict y, const float *restrict x, const host_window *w, int32_t count_padding)
{
    const int64_t multiplier = 1;
    WINDOWS(float, float, 0.0f, EACH(float, ADD), DIVIDE)
}

/* Dequantised, pooled in f32, quantised; a block of columns of one result at a time. */
#define AVERAGE_POOL_Q(S, T, LOW, HIGH)                                                                            \
    void host_average_pool_q_##S(T *restrict y, const T *restrict x, const host_window *w, int32_t count_padding,  \
                                 float x_scale, int32_t x_zero, float y_scale, int32_t y_zero)                     \
    {                                                                                                              \
        for (int64_t o = 0; o < w->outer; o++)                                                                     \
            for (int64_t p = 0; p < w->out_height; p++)                                                            \
                for (int64_t q = 0; q < w->out_width; q++)                                                         \
                    for (int64_t first = 0; first < w->inner; first += HOST_BLOCK) {                               \
                        const int64_t n = host_least(HOST_BLOCK, w->inner - first);                                \
                        const float size = window_size(w, count_padding, p, q);                                    \
                        float total[HOST_BLOCK] = {0};                                                             \
                        for (int64_t i = 0; i < w->kernel_h; i++)                                                  \
                            for (int64_t j = 0; j < w->kernel_w; j++) {                                            \
                                const int64_t h = p * w->stride_h + i * w->dilation_h - w->pad_top;                \
                                const int64_t c = q * w->stride_w + j * w->dilation_w - w->pad_left;               \
                                if (h < 0 || h >= w->height || c < 0 || c >= w->width)                             \
                                    continue;                                                                      \
                                const T *from = x + ((o * w->height + h) * w->width + c) * w->inner + first;       \
                                for (int64_t l = 0; l < n; l++)                                                    \
                                    total[l] += (float)(from[l] - x_zero) * x_scale;                               \
                            }                                                                                      \
                        T *to = y + ((o * w->out_height + p) * w->out_width + q) * w->inner + first;               \
                        for (int64_t l = 0; l < n; l++)                                                            \
                            to[l] = (T)host_saturate(total[l] / size / y_scale, y_zero, LOW, HIGH);                \
                    }                                                                                              \
    }

AVERAGE_POOL_Q(i8, int8_t, INT8_MIN, INT8_MAX)
AVERAGE_POOL_Q(u8, uint8_t, 0, UINT8_MAX)

/* y [rows, out_height * out_width * inner]. Row (channel, i, j) is what element (i, j) of the kernel sees. */
#define IM2COL(BYTES)                                                                                              \
    void host_im2col_##BYTES(void *y, const void *x, const host_window *w, const int32_t *rows, int64_t count,     \
                             uint32_t fill)                                                                        \
    {                                                                                                              \
        typedef host_moved_##BYTES moved;                                                                          \
        const int64_t inner = w->inner, row = w->out_width * inner;                                                \
        moved *restrict to = y;                                                                                    \
        for (int64_t r = 0; r < count; r++) {                                                                      \
            const int64_t k = rows == NULL ? r : rows[r], j = k % w->kernel_w;                                     \
            const int64_t i = k / w->kernel_w % w->kernel_h, channel = k / w->kernel_w / w->kernel_h;              \
            const int64_t offset = j * w->dilation_w - w->pad_left;                                                \
            int64_t low, high;                                                                                     \
            host_inside(offset, w->stride_w, w->width, w->out_width, &low, &high);                                 \
            for (int64_t p = 0; p < w->out_height; p++, to += row) {                                               \
                const int64_t h = p * w->stride_h + i * w->dilation_h - w->pad_top;                                \
                const bool inside = h >= 0 && h < w->height;                                                       \
                const int64_t begin = inside ? low * inner : row, end = inside ? high * inner : row;               \
                for (int64_t q = 0; q < begin; q++)                                                                \
                    to[q] = (moved)fill;                                                                           \
                for (int64_t q = end; q < row; q++)                                                                \
                    to[q] = (moved)fill;                                                                           \
                if (begin == end)                                                                                  \
                    continue;                                                                                      \
                const moved *from = (const moved *)x + (channel * w->height + h) * w->width * inner;               \
                if (w->stride_w == 1)                                                                              \
                    memcpy(to + begin, from + begin + offset * inner, (size_t)(end - begin) * sizeof *to);         \
                else if (inner == 1)                                                                               \
                    for (int64_t q = low; q < high; q++)                                                           \
                        to[q] = from[q * w->stride_w + offset];                                                    \
                else                                                                                               \
                    for (int64_t q = low; q < high; q++)                                                           \
                        memcpy(to + q * inner, from + (q * w->stride_w + offset) * inner,                          \
                               (size_t)inner * sizeof *to);                                                        \
            }                                                                                                      \
        }                                                                                                          \
    }

IM2COL(1)
IM2COL(2)
IM2COL(4)

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
