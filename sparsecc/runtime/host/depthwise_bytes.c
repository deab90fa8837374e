/* Depthwise convolution of bytes that gives bytes: sums are scaled and rounded where they are made. */
#include "depthwise_same.h"
#include "loops.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__)
#include <immintrin.h>

/* Bytes of the padded parts of channels, and of a vector; words of a kernel's row, its rows; channels abreast. */
enum { PLANE = 8192, VECTOR = 64, LANES = 16, GROUPS = 2, MOST_ROWS = 16, ABREAST = 16 };

/* How a part of a channel lies in memory: padded, the columns of each row sorted by what remains of dividing them by
 * the stride, so that what an element of the kernel sees of a row of results is one run. */
typedef struct {
    int64_t phases, segment, pitch; /* bytes of one phase of a row, and of a row */
    int64_t rows, needed;           /* of results, and of the padded part */
    int64_t groups;                 /* of four elements of a kernel's row */
    int64_t at[4 * GROUPS];         /* from the first to each element of a kernel's row */
} layout;

static int64_t rows_for(const host_window *w, int64_t results)
{
    return (results - 1) * w->stride_h + (w->kernel_h - 1) * w->dilation_h + 1;
}

static bool lay_out(layout *l, const host_window *w)
{
    const int64_t columns = (w->out_width - 1) * w->stride_w + (w->kernel_w - 1) * w->dilation_w + 1;
    if (w->outer <= 0 || w->out_height <= 0 || w->out_width <= 0 || w->inner <= 0 || w->kernel_w <= 0 ||
        w->kernel_w > 4 * GROUPS || w->kernel_h <= 0 || w->kernel_h > MOST_ROWS)
        return false;
    l->phases = w->stride_w;
    l->segment = (columns + w->stride_w - 1) / w->stride_w * w->inner;
    l->pitch = l->phases * l->segment;
    l->rows = w->out_height;
    while (l->rows > 1 && rows_for(w, l->rows) * l->pitch > PLANE)
        l->rows--;
    l->needed = rows_for(w, l->rows);
    l->groups = (w->kernel_w + 3) / 4;
    for (int64_t j = 0; j < 4 * l->groups; j++) {
        /* Elements that only fill a word have weights of 0. */
        const int64_t column = host_least(j, w->kernel_w - 1) * w->dilation_w;
        l->at[j] = column % l->phases * l->segment + column / l->phases * w->inner;
    }
    return l->needed * l->pitch <= PLANE;
}

/* Rows of x from `top` on, which may lie beyond it, into a part whose other elements hold `fill`. end: of x. */
static void fill_plane(uint8_t *restrict plane, const uint8_t *x, const uint8_t *end, const host_window *w,
                       const layout *l, int64_t top, uint8_t fill)
{
    const int64_t inner = w->inner, row = w->width * inner;
    const int64_t low = top < 0 ? -top : 0, high = host_least(l->needed, w->height - top);
    if (l->phases > 1) {
        for (int64_t h = low; h < high; h++)
            for (int64_t phase = 0; phase < l->phases; phase++)
                for (int64_t q = 0; q < l->segment / inner; q++) {
                    const int64_t column = q * l->phases + phase - w->pad_left;
                    uint8_t *to = plane + h * l->pitch + phase * l->segment + q * inner;
                    if (column >= 0 && column < w->width)
                        memcpy(to, x + (top + h) * row + column * inner, (size_t)inner);
                }
        return;
    }
    const int64_t first = (w->pad_left > 0 ? w->pad_left : 0) * inner, skipped = first - w->pad_left * inner;
    const int64_t count = host_least(row - skipped, l->pitch - first);
    const __m128i padding = _mm_set1_epi8((char)fill);
    for (int64_t h = low; h < high && count > 0; h++) {
        const uint8_t *from = x + (top + h) * row + skipped;
        uint8_t *to = plane + h * l->pitch + first;
        if (count <= 16 && l->pitch - count <= 16 && end - from >= 16) {
            /* Two vectors instead of so many bytes; what they write beyond is padding, or comes later. */
            _mm_storeu_si128((__m128i *)(void *)to, _mm_loadu_si128((const __m128i *)(const void *)from));
            _mm_storeu_si128((__m128i *)(void *)(to + count), padding);
        } else {
            memcpy(to, from, (size_t)count);
        }
    }
}

/* Words of four bytes, `at` from each place of a part on; `flip` makes signed bytes unsigned ones. */
static void make_words(uint32_t *words, const uint8_t *plane, const int64_t at[4], int64_t count, __m512i flip)
{
    for (int64_t i = 0; i < count; i += VECTOR) {
        const __m512i a = _mm512_loadu_si512(plane + i + at[0]), b = _mm512_loadu_si512(plane + i + at[1]);
        const __m512i c = _mm512_loadu_si512(plane + i + at[2]), d = _mm512_loadu_si512(plane + i + at[3]);
        const __m512i ab = _mm512_unpacklo_epi8(a, b), ab2 = _mm512_unpackhi_epi8(a, b);
        const __m512i cd = _mm512_unpacklo_epi8(c, d), cd2 = _mm512_unpackhi_epi8(c, d);
        const __m512i p = _mm512_unpacklo_epi16(ab, cd), q = _mm512_unpackhi_epi16(ab, cd);
        const __m512i r = _mm512_unpacklo_epi16(ab2, cd2), s = _mm512_unpackhi_epi16(ab2, cd2);
        const __m512i pq = _mm512_shuffle_i32x4(p, q, 0x44), pq2 = _mm512_shuffle_i32x4(p, q, 0xee);
        const __m512i rs = _mm512_shuffle_i32x4(r, s, 0x44), rs2 = _mm512_shuffle_i32x4(r, s, 0xee);
        uint32_t *to = words + i;
        _mm512_storeu_si512(to, _mm512_xor_si512(_mm512_shuffle_i32x4(pq, rs, 0x88), flip));
        _mm512_storeu_si512(to + LANES, _mm512_xor_si512(_mm512_shuffle_i32x4(pq, rs, 0xdd), flip));
        _mm512_storeu_si512(to + 2 * LANES, _mm512_xor_si512(_mm512_shuffle_i32x4(pq2, rs2, 0x88), flip));
        _mm512_storeu_si512(to + 3 * LANES, _mm512_xor_si512(_mm512_shuffle_i32x4(pq2, rs2, 0xdd), flip));
    }
}

/* What is done to the sums of a channel. */
typedef struct {
    int32_t bias, zero;
    float scale, low, high; /* limits without the zero point */
    int64_t words;
    int64_t at[MOST_ROWS * GROUPS];      /* of the words that the kernel's words multiply */
    uint32_t factors[MOST_ROWS * GROUPS]; /* those that are not 0 */
} channel;

static inline __m128i finished(__m512i sums, const channel *c)
{
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), _mm512_set1_ps(c->scale));
    v = _mm512_min_ps(_mm512_max_ps(v, _mm512_set1_ps(c->low)), _mm512_set1_ps(c->high));
    return _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(v), _mm512_set1_epi32(c->zero)));
}

/* Results of one run. */
static void run_of(uint8_t *to, const uint32_t *words, int64_t count, const channel *c)
{
    for (int64_t q = 0; q < count; q += VECTOR, to += VECTOR, words += VECTOR) {
        __m512i sums[4];
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            sums[v] = _mm512_set1_epi32(c->bias);
        for (int64_t k = 0; k < c->words; k++) {
            const __m512i factor = _mm512_set1_epi32((int)c->factors[k]);
    #pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
                sums[v] = _mm512_dpbusd_epi32(sums[v], _mm512_loadu_si512(words + c->at[k] + v * LANES), factor);
        }
#pragma GCC unroll 4
        for (int v = 0; v < 4; v++)
            _mm_storeu_si128((__m128i *)(void *)(to + v * LANES), finished(sums[v], c));
    }
}

/* The words of a channel's kernel. zero: of unsigned x, what padding counts as. */
static void set_channel(channel *c, const int16_t *weight, const host_window *w, const layout *l, int32_t zero)
{
    uint32_t total = 0;
    c->words = 0;
    for (int64_t i = 0; i < w->kernel_h; i++)
        for (int64_t g = 0; g < l->groups; g++) {
            uint32_t factor = 0;
            for (int64_t j = 4 * g; j < host_least(4 * g + 4, w->kernel_w); j++) {
                total += (uint32_t)weight[i * w->kernel_w + j];
                factor |= (uint32_t)(uint8_t)weight[i * w->kernel_w + j] << 8 * (j - 4 * g);
            }
            if (factor == 0)
                continue;
            c->at[c->words] = g * (PLANE + VECTOR) + i * w->dilation_h * l->pitch;
            c->factors[c->words++] = factor;
        }
    c->bias = (int32_t)((uint32_t)c->bias - (uint32_t)zero * total);
}

/* Rows of results of a part, from where they lie a pitch apart. end: of all results. */
static void put_rows(uint8_t *y, const uint8_t *end, const uint8_t *from, int64_t pitch, int64_t rows, int64_t row)
{
    for (int64_t p = 0; p < rows; p++, y += row, from += pitch) {
        if (row <= 16 && end - y >= 16)
            /* What is written beyond comes later. */
            _mm_storeu_si128((__m128i *)(void *)y, _mm_loadu_si128((const __m128i *)(const void *)from));
        else
            memcpy(y, from, (size_t)row);
    }
}

/* False where a part of a channel does not fit. flip: 128 for signed bytes. */
static bool by_words(uint8_t *y, const uint8_t *x, const int16_t *weight, const int32_t *bias, const host_window *w,
                     int64_t channels, int64_t multiplier, int32_t x_zero, const float *scale, int64_t scales,
                     int32_t y_zero, int32_t flip)
{
    layout l;
    if (!lay_out(&l, w))
        return false;
    /* Elements are read one part beyond, and counted from whole vectors. Several channels take each step together: a
     * vector that was written in pieces is not read before these have reached the cache. */
    uint8_t plane[2 * PLANE + 2 * VECTOR], out[PLANE + VECTOR];
    uint32_t words[GROUPS * (PLANE + VECTOR)];
    channel kernels[ABREAST];
    const int64_t row = w->out_width * w->inner, all = l.needed * l.pitch, size = w->height * w->width * w->inner;
    const int64_t apart = (all + VECTOR - 1) / VECTOR * VECTOR + VECTOR;
    const int64_t most = host_least(ABREAST, (PLANE + VECTOR) / apart);
    const bool parts = l.rows < w->out_height;
    const uint8_t *const end = y + w->outer * w->out_height * row;
    const uint8_t *const x_end = x + (w->outer + multiplier - 1) / multiplier * size;
    const __m512i flips = _mm512_set1_epi8((char)flip);
    memset(plane, (uint8_t)x_zero, sizeof plane);
    for (int64_t o = 0; o < w->outer; o += most) {
        const int64_t count = host_least(most, w->outer - o);
        for (int64_t b = 0; b < count; b++) {
            const int64_t which = (o + b) % channels;
            channel *c = &kernels[b];
            c->bias = bias == NULL ? 0 : bias[which];
            c->scale = scale[scales == 1 ? 0 : which];
            c->zero = y_zero;
            c->low = (float)((flip ? INT8_MIN : 0) - y_zero);
            c->high = (float)((flip ? INT8_MAX : UINT8_MAX) - y_zero);
            set_channel(c, weight + which * w->kernel_h * w->kernel_w, w, &l, x_zero + flip);
        }
        for (int64_t p = 0; p < w->out_height; p += l.rows) {
            const int64_t rows = host_least(l.rows, w->out_height - p);
            /* Runs over all rows of results, or over one after another. */
            const int64_t runs = w->stride_h == 1 ? 1 : rows, step = runs == 1 ? l.pitch : row;
            const int64_t length = runs == 1 ? (rows - 1) * l.pitch + row : row;
            for (int64_t b = 0; b < count; b++) {
                if (parts)
                    memset(plane + b * apart, (uint8_t)x_zero, (size_t)all);
                fill_plane(plane + b * apart, x + (o + b) / multiplier * size, x_end, w, &l,
                           p * w->stride_h - w->pad_top, (uint8_t)x_zero);
            }
            for (int64_t b = 0; b < count; b++)
                for (int64_t g = 0; g < l.groups; g++)
                    make_words(words + g * (PLANE + VECTOR) + b * apart, plane + b * apart, l.at + 4 * g, apart, flips);
            for (int64_t b = 0; b < count; b++)
                for (int64_t s = 0; s < runs; s++)
                    run_of(out + b * apart + s * row, words + b * apart + s * w->stride_h * l.pitch, length, &kernels[b]);
            for (int64_t b = 0; b < count; b++)
                put_rows(y + ((o + b) * w->out_height + p) * row, end, out + b * apart, step, rows, row);
        }
    }
    return true;
}
#else
#define by_words(...) false
#endif

/* Sums that are scaled together. */
enum { SUMS = 4096 };

/* Some rows and columns of a channel's results at a time: they are those of windows with other pads. */
#define DEPTHWISE_Q(S, T, FLIP)                                                                                    \
    void host_depthwise_q_##S(T *restrict y, const T *restrict x, const int16_t *restrict weight,                  \
                              const int32_t *restrict bias, const host_window *w, int64_t channels,                \
                              int64_t multiplier, int32_t x_zero, const float *restrict scale, int64_t scales,     \
                              int32_t y_zero)                                                                      \
    {                                                                                                              \
        if (depthwise_same((uint8_t *)y, (const uint8_t *)x, weight, bias, w, channels, multiplier, x_zero, scale, \
                           scales, y_zero, FLIP) ||                                                                \
            by_words((uint8_t *)y, (const uint8_t *)x, weight, bias, w, channels, multiplier, x_zero, scale,       \
                     scales, y_zero, FLIP))                                                                        \
            return;                                                                                                \
        int32_t sums[SUMS];                                                                                        \
        T out[SUMS];                                                                                               \
        const int64_t inner = w->inner, kernel = w->kernel_h * w->kernel_w, size = w->height * w->width * inner;   \
        if (inner <= 0 || w->out_width <= 0)                                                                       \
            return;                                                                                                \
        const int64_t columns = host_least(w->out_width, SUMS / inner), rows = SUMS / (columns * inner);           \
        for (int64_t o = 0; o < w->outer; o++)                                                                     \
            for (int64_t p = 0; p < w->out_height; p += rows)                                                      \
                for (int64_t q = 0; q < w->out_width; q += columns) {                                              \
                    host_window part = *w;                                                                         \
                    const int64_t c = o % channels;                                                                \
                    part.outer = 1;                                                                                \
                    part.out_height = host_least(rows, w->out_height - p);                                         \
                    part.out_width = host_least(columns, w->out_width - q);                                        \
                    part.pad_top -= p * w->stride_h;                                                               \
                    part.pad_left -= q * w->stride_w;                                                              \
                    host_depthwise_##S(sums, x + o / multiplier * size, weight + c * kernel,                       \
                                       bias == NULL ? NULL : bias + c, &part, 1, 1, x_zero);                       \
                    const int64_t row = part.out_width * inner;                                                    \
                    host_requantize_##S(out, sums, scale + (scales == 1 ? 0 : c), 1, 1, part.out_height * row,     \
                                        y_zero);                                                                   \
                    for (int64_t r = 0; r < part.out_height; r++)                                                  \
                        memcpy(y + ((o * w->out_height + p + r) * w->out_width + q) * inner, out + r * row,        \
                               (size_t)row);                                                                       \
                }                                                                                                  \
    }

DEPTHWISE_Q(i8, int8_t, 128)
DEPTHWISE_Q(u8, uint8_t, 0)
