/* Pooling and patches: windows over [outer, height, width, inner]. */
#include "windows.h"

#define LARGER_FLOAT(t, v) (t) = host_larger(v, t)
#define LARGER(t, v) (t) = (v) > (t) ? (v) : (t)

/* Bytes of the vectors that rows are compared by. */
enum { POOLED = 4096, ABREAST = 64, LEAST_ABREAST = 16 };

/* Whether the rows of windows, with their padding, fit into a buffer. */
static bool pools_by_rows(const host_window *w)
{
    const int64_t reach = (w->out_width - 1) * w->stride_w + (w->kernel_w - 1) * w->dilation_w + 1;
    const int64_t longest = reach > w->pad_left + w->width ? reach : w->pad_left + w->width;
    return w->stride_w > 1 && w->pad_left >= 0 && longest * w->inner <= POOLED && w->inner > 0 && w->out_width > 0;
}

#define GREATER(a, b) ((a) > (b) ? (a) : (b))

/* With a stride along rows: first the rows of a window, then windows at every place of a row, all of which lie side
 * by side, and of these every so many-th. LEAST: what padding counts as; LARGER_OF(a, b): the larger one.
 * max_into: to = the larger of to and from; some elements twice, which changes nothing. */
#define MAX_POOL(S, T, LEAST, LARGER_OF, STEP)                                                                     \
    static inline void some_##S(T *restrict to, const T *restrict from, size_t bytes)                              \
    {                                                                                                              \
        for (size_t i = 0; i < bytes / sizeof *to; i++)                                                            \
            to[i] = (T)LARGER_OF(from[i], to[i]);                                                                  \
    }                                                                                                              \
                                                                                                                   \
    static void max_into_##S(T *restrict to, const T *restrict from, int64_t n)                                    \
    {                                                                                                              \
        const int64_t step = ABREAST / sizeof *to, least = LEAST_ABREAST / sizeof *to;                             \
        int64_t i = 0;                                                                                             \
        for (; i + step <= n; i += step)                                                                           \
            some_##S(to + i, from + i, ABREAST);                                                                   \
        for (; i + least <= n; i += least)                                                                         \
            some_##S(to + i, from + i, LEAST_ABREAST);                                                             \
        if (i < n && n >= least)                                                                                   \
            some_##S(to + n - least, from + n - least, LEAST_ABREAST);                                             \
        else                                                                                                       \
            for (; i < n; i++)                                                                                     \
                to[i] = (T)LARGER_OF(from[i], to[i]);                                                              \
    }                                                                                                              \
                                                                                                                   \
    static void by_rows_##S(T *restrict y, const T *restrict x, const host_window *w)                              \
    {                                                                                                              \
        T rows[POOLED + ABREAST], windows[POOLED + ABREAST];                                                       \
        const int64_t inner = w->inner, row = w->width * inner, first = w->pad_left * inner;                       \
        const int64_t places = ((w->out_width - 1) * w->stride_w + 1) * inner;                                     \
        const int64_t reach = places + (w->kernel_w - 1) * w->dilation_w * inner;                                  \
        const int64_t filled = reach > first + row ? reach : first + row;                                          \
        for (int64_t q = 0; q < filled + ABREAST; q++)                                                             \
            rows[q] = (LEAST);                                                                                     \
        for (int64_t o = 0; o < w->outer; o++)                                                                     \
            for (int64_t p = 0; p < w->out_height; p++) {                                                          \
                bool some = false;                                                                                 \
                for (int64_t i = 0; i < w->kernel_h; i++) {                                                        \
                    const int64_t h = p * w->stride_h + i * w->dilation_h - w->pad_top;                            \
                    if (h < 0 || h >= w->height)                                                                   \
                        continue;                                                                                  \
                    const T *from = x + (o * w->height + h) * row;                                                 \
                    if (some)                                                                                      \
                        max_into_##S(rows + first, from, row);                                                     \
                    else                                                                                           \
                        memcpy(rows + first, from, (size_t)row * sizeof *from);                                    \
                    some = true;                                                                                   \
                }                                                                                                  \
                for (int64_t q = 0; !some && q < row; q++)                                                         \
                    rows[first + q] = (LEAST);                                                                     \
                memcpy(windows, rows, (size_t)places * sizeof *rows + ABREAST);                                    \
                for (int64_t j = 1; j < w->kernel_w; j++)                                                          \
                    for (int64_t q = 0; q < places; q += ABREAST / (int64_t)sizeof *rows)                          \
                        some_##S(windows + q, rows + j * w->dilation_w * inner + q, ABREAST);                      \
                T *restrict to = y + (o * w->out_height + p) * w->out_width * inner;                               \
                if (inner == 4)                                                                                    \
                    for (int64_t q = 0; q < w->out_width; q++)                                                     \
                        memcpy(to + q * 4, windows + q * w->stride_w * 4, 4 * sizeof *to);                         \
                else if (inner > 1)                                                                                \
                    for (int64_t q = 0; q < w->out_width; q++)                                                     \
                        memcpy(to + q * inner, windows + q * w->stride_w * inner, (size_t)inner * sizeof *to);     \
                else if (w->stride_w == 2)                                                                         \
                    for (int64_t q = 0; q < w->out_width; q++)                                                     \
                        to[q] = windows[q * 2];                                                                    \
                else                                                                                               \
                    for (int64_t q = 0; q < w->out_width; q++)                                                     \
                        to[q] = windows[q * w->stride_w];                                                          \
            }                                                                                                      \
    }                                                                                                              \
                                                                                                                   \
    void host_max_pool_##S(T *restrict y, const T *restrict x, const host_window *w)                               \
    {                                                                                                              \
        const int64_t multiplier = 1;                                                                              \
        if (pools_by_rows(w)) {                                                                                    \
            by_rows_##S(y, x, w);                                                                                  \
            return;                                                                                                \
        }                                                                                                          \
        WINDOWS(T, T, LEAST, EACH(T, STEP), (void)0)                                                               \
    }

MAX_POOL(f32, float, -INFINITY, host_larger, LARGER_FLOAT)
MAX_POOL(i8, int8_t, INT8_MIN, GREATER, LARGER)
MAX_POOL(u8, uint8_t, 0, GREATER, LARGER)

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

/* Patches whose rows of results are short: each is copied by one vector from a padded channel, the columns of whose
 * rows are sorted by what remains of dividing them by the stride; what is written beyond it comes later. False where
 * rows are longer. */
static bool short_patches(uint8_t *restrict y, const uint8_t *restrict x, const host_window *w, const int32_t *rows,
                          int64_t count, uint8_t fill)
{
    enum { SHORT = 32 };
    uint8_t plane[POOLED + SHORT];
    const int64_t inner = w->inner, row = w->out_width * inner, stride = w->stride_w;
    const int64_t columns = (w->out_width - 1) * stride + (w->kernel_w - 1) * w->dilation_w + 1;
    const int64_t segment = (columns + stride - 1) / stride * inner, pitch = stride * segment;
    const int64_t needed = (w->out_height - 1) * w->stride_h + (w->kernel_h - 1) * w->dilation_h + 1;
    if (w->pad_top < 0 || w->pad_left < 0 || row > SHORT || row <= 0 || w->out_height <= 0 || w->pad_left >= columns ||
        needed * pitch > POOLED)
        return false;
    const int64_t width = host_least(w->width, columns - w->pad_left);
    const int64_t height = host_least(w->height, needed - w->pad_top);
    const uint8_t *const end = y + count * w->out_height * row;
    memset(plane, fill, sizeof plane);
    int64_t there = -1;
    for (int64_t r = 0; r < count; r++) {
        const int64_t k = rows == NULL ? r : rows[r], j = k % w->kernel_w;
        const int64_t i = k / w->kernel_w % w->kernel_h, channel = k / w->kernel_w / w->kernel_h;
        for (int64_t h = 0; channel != there && h < height; h++) {
            const uint8_t *seen = x + (channel * w->height + h) * w->width * inner;
            uint8_t *to = plane + (h + w->pad_top) * pitch;
            if (stride == 1)
                memcpy(to + w->pad_left * inner, seen, (size_t)(width * inner));
            else
                for (int64_t q = 0; q < width * inner; q++) {
                    const int64_t column = q / inner + w->pad_left;
                    to[column % stride * segment + column / stride * inner + q % inner] = seen[q];
                }
        }
        there = channel;
        const int64_t column = j * w->dilation_w;
        const uint8_t *from = plane + i * w->dilation_h * pitch + column % stride * segment + column / stride * inner;
        for (int64_t p = 0; p < w->out_height; p++, y += row, from += w->stride_h * pitch) {
            if (end - y >= SHORT)
                memcpy(y, from, SHORT);
            else
                memcpy(y, from, (size_t)row);
        }
    }
    return true;
}

/* y [rows, out_height * out_width * inner]. Row (channel, i, j) is what element (i, j) of the kernel sees. */
#define IM2COL(BYTES, FIRST)                                                                                       \
    void host_im2col_##BYTES(void *y, const void *x, const host_window *w, const int32_t *rows, int64_t count,     \
                             uint32_t fill)                                                                        \
    {                                                                                                              \
        typedef host_moved_##BYTES moved;                                                                          \
        FIRST;                                                                                                     \
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
                else if (inner == 1 && w->stride_w == 2)                                                           \
                    for (int64_t q = low; q < high; q++)                                                           \
                        to[q] = from[q * 2 + offset];                                                              \
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

IM2COL(1, if (short_patches(y, x, w, rows, count, (uint8_t)fill)) return)
IM2COL(2, (void)0)
IM2COL(4, (void)0)
