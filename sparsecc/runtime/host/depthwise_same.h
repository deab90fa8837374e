/* Depthwise convolution of bytes with results that lie as x does: stride 1, and padding that keeps the width.
 *
 * The word of four elements of a kernel's row that a result sees begins as far from it as every other's: words are
 * shuffled out of x where it lies, and a mask, the same for all channels, tells what of them is padding. */
#ifndef HOST_DEPTHWISE_SAME_H
#define HOST_DEPTHWISE_SAME_H

#include "loops.h"

#if defined(__AVX512VNNI__) && defined(__AVX512BW__) && defined(__AVX512VL__)
#include <immintrin.h>

/* Results of a step, a quarter of them in each vector of sums; masks of all steps; the most rows, columns and words
 * of a kernel, whose rows have one word or two; bytes of a channel with its margins. */
enum { STEP = 64, MASKS = 256, EXTENT = 240, KERNEL_ROWS = 16, CHANNEL = 16384, BYTE = 256 };

/* What every channel has in common. Quarter v of a step has results 4 v to 4 v + 3 of every 16. */
typedef struct {
    int64_t steps, words;         /* words of a kernel */
    int64_t first, last;          /* from a channel's start: the first byte that is read, and beyond the last */
    int64_t from[2 * KERNEL_ROWS]; /* of the first result's words */
    __mmask64 inside[MASKS][4];   /* by step and word: which bytes are elements of x */
} same_layout;

/* Four words of neighbouring bytes, from the `first` of every 16 on. */
static inline __m512i same_shuffle(int8_t first)
{
    const __m128i window = _mm_setr_epi8(0, 1, 2, 3, 1, 2, 3, 4, 2, 3, 4, 5, 3, 4, 5, 6);
    return _mm512_broadcast_i32x4(_mm_add_epi8(window, _mm_set1_epi8(first)));
}

static bool same_lay_out(same_layout *l, const host_window *w)
{
    const int64_t groups = w->kernel_w > 4 ? 2 : 1, results = w->out_height * w->out_width;
    if (w->stride_h != 1 || w->stride_w != 1 || w->dilation_w != 1 || w->inner != 1 || w->out_width != w->width ||
        w->out_width > EXTENT || w->height > EXTENT || w->out_height > EXTENT || results <= 0 || w->height <= 0 ||
        w->kernel_w <= 0 || w->kernel_w > 8 || w->kernel_h <= 0 || w->kernel_h > KERNEL_ROWS ||
        w->pad_left < 0 || w->pad_left > 7 || w->pad_top < 0)
        return false;
    l->steps = (results + STEP - 1) / STEP;
    l->words = w->kernel_h * groups;
    if (l->steps * l->words > MASKS)
        return false;
    for (int64_t k = 0; k < l->words; k++) {
        const int64_t row = k / groups * w->dilation_h - w->pad_top;
        /* Rows are compared as bytes, in which those before the first come after all others. */
        if (row + BYTE < w->height || row + w->out_height > BYTE)
            return false;
        l->from[k] = row * w->width + k % groups * 4 - w->pad_left;
    }
    l->first = l->from[0];
    l->last = l->steps * STEP + l->from[l->words - 1] + 4;
    const int64_t size = w->height * w->width;
    if ((l->last > size ? l->last : size) - l->first > CHANNEL)
        return false;
    uint8_t rows[STEP], columns[STEP];
    const __m512i in_word = _mm512_set1_epi32(0x03020100), height = _mm512_set1_epi8((char)w->height);
    const __m512i width = _mm512_set1_epi8((char)w->width);
    int64_t p = 0, q = 0;
    for (int64_t s = 0; s < l->steps; s++) {
        for (int64_t r = 0; r < STEP; r++) {
            rows[r] = (uint8_t)p;
            columns[r] = (uint8_t)q;
            if (++q == w->out_width) {
                q = 0;
                p++;
            }
        }
        for (int64_t v = 0; v < 4; v++) {
            const __m128i quarter = _mm_setr_epi8(0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 3);
            const __m512i each = _mm512_broadcast_i32x4(_mm_add_epi8(quarter, _mm_set1_epi8((char)(4 * v))));
            const __m512i row = _mm512_shuffle_epi8(_mm512_loadu_si512(rows), each);
            const __m512i shown = _mm512_shuffle_epi8(_mm512_loadu_si512(columns), each);
            const __m512i column = _mm512_add_epi8(shown, in_word);
            for (int64_t k = 0; k < l->words; k++) {
                const __m512i h = _mm512_set1_epi8((char)(k / groups * w->dilation_h - w->pad_top));
                const __m512i c = _mm512_set1_epi8((char)(k % groups * 4 - w->pad_left));
                l->inside[s * l->words + k][v] = _mm512_cmplt_epu8_mask(_mm512_add_epi8(row, h), height) &
                                                 _mm512_cmplt_epu8_mask(_mm512_add_epi8(column, c), width);
            }
        }
    }
    return true;
}

/* The words of a channel's kernel; returns the sum of its elements. */
static inline int32_t same_factors(uint32_t *factors, const int16_t *weight, const host_window *w)
{
    const __mmask8 some = (__mmask8)((1u << w->kernel_w) - 1);
    __m128i total = _mm_setzero_si128();
    for (int64_t i = 0; i < w->kernel_h; i++) {
        const __m128i row = _mm_cvtepi16_epi8(_mm_maskz_loadu_epi16(some, weight + i * w->kernel_w));
        total = _mm_dpbusd_epi32(total, _mm_set1_epi8(1), row);
        if (w->kernel_w > 4)
            _mm_storel_epi64((__m128i *)(void *)(factors + 2 * i), row);
        else
            factors[i] = (uint32_t)_mm_cvtsi128_si32(row);
    }
    return _mm_cvtsi128_si32(total) + _mm_extract_epi32(total, 1);
}

/* Sums scaled, rounded and limited to 16 bits. */
static inline __m512i same_rounded(__m512i a, __m512i b, __m512 scale, __m512i zero)
{
    /* What is too small for an int32_t becomes the smallest. */
    const __m512 most = _mm512_set1_ps(0x1p21f);
    const __m512 p = _mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(a), scale), most);
    const __m512 q = _mm512_min_ps(_mm512_mul_ps(_mm512_cvtepi32_ps(b), scale), most);
    return _mm512_adds_epi16(_mm512_packs_epi32(_mm512_cvtps_epi32(p), _mm512_cvtps_epi32(q)), zero);
}

/* All results of a channel; room: bytes that may be written. */
static inline void same_channel(uint8_t *y, int64_t room, const uint8_t *x, const uint32_t *factors, int32_t bias,
                                float scale, int32_t zero, const same_layout *l, uint8_t flip, uint8_t fill)
{
    const __m512i flips = _mm512_set1_epi8((char)flip), padding = _mm512_set1_epi8((char)(fill ^ flip));
    const __m512i first = same_shuffle(0), second = same_shuffle(4), third = same_shuffle(8);
    const __m512i zeros = _mm512_set1_epi16((int16_t)zero);
    const __m512 scales = _mm512_set1_ps(scale);
    const __mmask64(*inside)[4] = l->inside;
    for (int64_t s = 0; s < l->steps; s++, x += STEP, y += STEP, room -= STEP) {
        __m512i a = _mm512_set1_epi32(bias), b = a, c = a, d = a;
        for (int64_t k = 0; k < l->words; k++, inside++) {
            const __m512i factor = _mm512_set1_epi32((int)factors[k]);
            const __m512i near = _mm512_xor_si512(_mm512_loadu_si512(x + l->from[k]), flips);
            /* The last quarter's words reach beyond their 16 bytes. */
            const __m512i far = _mm512_xor_si512(_mm512_loadu_si512(x + l->from[k] + 4), flips);
            a = _mm512_dpbusd_epi32(a, _mm512_mask_shuffle_epi8(padding, (*inside)[0], near, first), factor);
            b = _mm512_dpbusd_epi32(b, _mm512_mask_shuffle_epi8(padding, (*inside)[1], near, second), factor);
            c = _mm512_dpbusd_epi32(c, _mm512_mask_shuffle_epi8(padding, (*inside)[2], near, third), factor);
            d = _mm512_dpbusd_epi32(d, _mm512_mask_shuffle_epi8(padding, (*inside)[3], far, third), factor);
        }
        const __m512i ab = same_rounded(a, b, scales, zeros), cd = same_rounded(c, d, scales, zeros);
        const __m512i bytes = flip ? _mm512_packs_epi16(ab, cd) : _mm512_packus_epi16(ab, cd);
        if (room >= STEP)
            _mm512_storeu_si512(y, bytes);
        else
            _mm512_mask_storeu_epi8(y, ((__mmask64)1 << room) - 1, bytes);
    }
}

/* As host_depthwise_q; false for other windows. flip: 128 for signed bytes. */
static bool depthwise_same(uint8_t *y, const uint8_t *x, const int16_t *weight, const int32_t *bias,
                           const host_window *w, int64_t channels, int64_t multiplier, int32_t x_zero,
                           const float *scale, int64_t scales, int32_t y_zero, uint8_t flip)
{
    same_layout l;
    if (!same_lay_out(&l, w))
        return false;
    uint32_t factors[2 * KERNEL_ROWS];
    uint8_t copy[CHANNEL];
    const int64_t size = w->height * w->width, results = w->out_height * w->out_width;
    const int64_t all = w->outer * results, given = (w->outer + multiplier - 1) / multiplier * size;
    const int64_t margin = -l.first, end = l.last > size ? l.last : size;
    bool clean = false;
    for (int64_t o = 0; o < w->outer; o++) {
        const int64_t which = o % channels, at = o / multiplier * size;
        const int32_t total = same_factors(factors, weight + which * w->kernel_h * w->kernel_w, w);
        const uint32_t shift = (uint32_t)(x_zero + flip) * (uint32_t)total;
        const uint8_t *from = x + at;
        if (at + l.first < 0 || at + l.last > given) {
            if (!clean)
                memset(copy, 0, (size_t)(margin + end));
            clean = true;
            memcpy(copy + margin, from, (size_t)size);
            from = copy + margin;
        }
        /* What is written beyond a channel comes later. */
        same_channel(y + o * results, all - o * results, from, factors,
                     (int32_t)((bias == NULL ? 0 : (uint32_t)bias[which]) - shift), scale[scales == 1 ? 0 : which],
                     y_zero, &l, flip, (uint8_t)x_zero);
    }
    return true;
}
#else
#define depthwise_same(...) false
#endif

#endif
