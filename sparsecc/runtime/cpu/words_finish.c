/* What follows a row's sums: bias, scale, residual, limits, the type of the result. sparsecc/epilogue.py says in
 * which order and how each is rounded. */
#include "activate.h"
#include "words.h"

/* A product that no addition may be fused to: that would round once instead of twice. */
static inline sc_vec rounded(sc_vec v) {
    SC_OPAQUE(v);
    return v;
}

/* To nearest, ties to even, of numbers below 2^22: what is added moves the fraction out of the register. */
static inline sc_ivec nearest(sc_vec v) {
    const float magic = 12582912.0f; /* 3 * 2^22 */
    return (sc_ivec)(v + magic) - (sc_ivec)sc_spread(magic);
}

static inline sc_vec bf16_bits(sc_vec v) {
    const sc_word bits = (sc_word)v, whole = (bits + 0x7fff + ((bits >> 16) & 1)) >> 16;
    return sc_select(v == v, (sc_vec)whole, (sc_vec)((bits >> 16) | 0x40));
}

/* One vector of results. out: SC_LANES elements of the result's type. */
static inline void finish(const sc_finish *f, sc_word sums, size_t row, const float *residual, char *out) {
    if (f->bias_type == SC_BIAS_I32) sums += ((const uint32_t *)f->bias)[row];
    if (f->out == SC_Y_I32) {
        sc_ivec v = (sc_ivec)sums;
        const sc_ivec low = (sc_ivec){0} + f->low_i32, high = (sc_ivec){0} + f->high_i32;
        v = (v & ~(v < low)) | (low & (v < low));
        v = (v & ~(v > high)) | (high & (v > high));
        sc_store_words(out, (sc_word)v);
        return;
    }
    sc_vec v = f->integers ? __builtin_convertvector((sc_ivec)sums, sc_vec) : (sc_vec)sums;
    if (f->bias_type == SC_BIAS_F32) v = rounded(v + ((const float *)f->bias)[row]);
    if (f->scale) v = rounded(v * f->scale[f->scale_rows ? row : 0]);
    if (residual) v += sc_load(residual);
    if (f->activation.kind != SC_NONE)
        v = sc_activated(&f->activation, f->activation.slopes ? f->activation.slopes[row] : f->activation.a, v);
    v = sc_between(v, f->low, f->high);
    switch (f->out) {
        case SC_Y_F32: sc_store((float *)(void *)out, v); break;
#if SC_HAS_F16
        case SC_Y_F16: sc_narrow_f16(out, &v); break;
#endif
        case SC_Y_BF16:
            v = bf16_bits(v);
            for (int i = 0; i < SC_LANES; i++) ((uint16_t *)(void *)out)[i] = (uint16_t)((sc_ivec)v)[i];
            break;
        default: {
            const float least = f->out == SC_Y_U8 ? 0 : -128, most = f->out == SC_Y_U8 ? 255 : 127;
            const float zero = (float)f->zero;
            const sc_ivec known = v == v;
            const sc_ivec whole = (nearest(sc_between(v, least - zero, most - zero)) + f->zero) & known;
#if defined(__AVX512F__)
            _mm_storeu_si128((__m128i *)(void *)out, _mm512_cvtepi32_epi8((__m512i)whole));
#else
            for (int i = 0; i < SC_LANES; i++) out[i] = (char)whole[i];
#endif
        }
    }
}

#if defined(__AVX512BW__)
static inline float within(float v, float low, float high) {
    return v < low ? low : v > high ? high : v;
}

/* The most common of all: int32 to bytes. Limits of both kinds are one; what is not there is neither read nor written. */
static void bytes_of_row(const sc_finish *f, size_t row, const uint32_t *sums, size_t count, char *y) {
    const float least = f->out == SC_Y_U8 ? 0 : -128, most = f->out == SC_Y_U8 ? 255 : 127, zero = (float)f->zero;
    const __m512 low = _mm512_set1_ps(within(f->low, least - zero, most - zero));
    const __m512 high = _mm512_set1_ps(within(f->high, least - zero, most - zero));
    const __m512i bias = _mm512_set1_epi32(f->bias_type == SC_BIAS_I32 ? ((const int32_t *)f->bias)[row] : 0);
    const __m512 scale = _mm512_set1_ps(f->scale ? f->scale[f->scale_rows ? row : 0] : 1.0f);
    for (size_t i = 0; i < count; i += SC_LANES) {
        const size_t left = count - i;
        const __mmask16 some = (__mmask16)(left < SC_LANES ? (1u << left) - 1 : 0xffff);
        const __m512i whole = _mm512_add_epi32(_mm512_maskz_loadu_epi32(some, sums + i), bias);
        const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(whole), scale);
        const __m512i near = _mm512_cvt_roundps_epi32(_mm512_min_ps(_mm512_max_ps(v, low), high),
                                                      _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
        _mm512_mask_cvtepi32_storeu_epi8(y + i, some, _mm512_add_epi32(near, _mm512_set1_epi32(f->zero)));
    }
}
#endif

size_t sc_finish_size(const sc_finish *f) {
    return f->out == SC_Y_I32 || f->out == SC_Y_F32 ? 4 : f->out == SC_Y_I8 || f->out == SC_Y_U8 ? 1 : 2;
}

void sc_finish_row(const sc_words *w, const sc_call *call, size_t row, size_t n, size_t count, const uint32_t *sums) {
    const sc_finish *f = &w->finish;
    const size_t size = sc_finish_size(f), full = count / SC_LANES * SC_LANES;
    char *y = (char *)call->y + (row * call->ldy + n) * size;
    const float *residual = call->residual ? call->residual + row * call->ldr + n : NULL;
#if defined(__AVX512BW__)
    const int bytes = f->integers && !residual && (f->out == SC_Y_I8 || f->out == SC_Y_U8);
    if (bytes && f->bias_type != SC_BIAS_F32 && f->activation.kind == SC_NONE) {
        bytes_of_row(f, row, sums, count, y);
        return;
    }
#endif
    for (size_t i = 0; i < full; i += SC_LANES)
        finish(f, sc_load_words(sums + i), row, residual ? residual + i : NULL, y + i * size);
    if (full == count) return;
    sc_vec rest = {0};
    char out[4 * SC_LANES] __attribute__((aligned(SC_ALIGN)));
    if (residual) memcpy(&rest, residual + full, (count - full) * sizeof *residual);
    /* Sums are padded to whole vectors. */
    finish(f, sc_load_words(sums + full), row, residual ? (const float *)(const void *)&rest : NULL, out);
    memcpy(y + full * size, out, (count - full) * size);
}
