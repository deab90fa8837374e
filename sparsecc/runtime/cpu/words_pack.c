/* X to words: the rows of neighbours interleave, position by position. */
#include "words.h"

typedef uint32_t uint_any __attribute__((aligned(1), may_alias));
typedef uint16_t half_any __attribute__((aligned(1), may_alias));

/* bf16 to nearest, ties to even; NaN stays one. */
static inline uint32_t bf16_of(uint32_t f32) {
    const uint32_t rounded = (f32 + 0x7fff + ((f32 >> 16) & 1)) >> 16;
    return (f32 & 0x7fffffff) > 0x7f800000 ? (f32 >> 16) | 0x40 : rounded;
}

#if SC_I8_DEPTH == 4
static void pack_i8(uint32_t *to, const char *const *row, size_t count) {
    const uint8_t *a = (const uint8_t *)row[0], *b = (const uint8_t *)row[1];
    const uint8_t *c = (const uint8_t *)row[2], *d = (const uint8_t *)row[3];
    size_t i = 0;
#if defined(__AVX512BW__)
    /* 64 positions: bytes, then pairs of them are interleaved in each quarter of a register, and quarters sorted. */
    const __m512i flip = _mm512_set1_epi8((char)SC_I8_OFFSET);
    for (; i < count; i += 64) {
        const size_t left = count - i;
        /* What is not there is not read. */
        const __mmask64 some = left < 64 ? ((__mmask64)1 << left) - 1 : ~(__mmask64)0;
        const __m512i va = _mm512_maskz_loadu_epi8(some, a + i), vb = _mm512_maskz_loadu_epi8(some, b + i);
        const __m512i vc = _mm512_maskz_loadu_epi8(some, c + i), vd = _mm512_maskz_loadu_epi8(some, d + i);
        const __m512i ab = _mm512_unpacklo_epi8(va, vb), ab2 = _mm512_unpackhi_epi8(va, vb);
        const __m512i cd = _mm512_unpacklo_epi8(vc, vd), cd2 = _mm512_unpackhi_epi8(vc, vd);
        const __m512i p = _mm512_unpacklo_epi16(ab, cd), q = _mm512_unpackhi_epi16(ab, cd);
        const __m512i r = _mm512_unpacklo_epi16(ab2, cd2), s = _mm512_unpackhi_epi16(ab2, cd2);
        const __m512i pq = _mm512_shuffle_i32x4(p, q, 0x44), pq2 = _mm512_shuffle_i32x4(p, q, 0xee);
        const __m512i rs = _mm512_shuffle_i32x4(r, s, 0x44), rs2 = _mm512_shuffle_i32x4(r, s, 0xee);
        const __m512i quarters[] = {
            _mm512_xor_si512(_mm512_shuffle_i32x4(pq, rs, 0x88), flip),
            _mm512_xor_si512(_mm512_shuffle_i32x4(pq, rs, 0xdd), flip),
            _mm512_xor_si512(_mm512_shuffle_i32x4(pq2, rs2, 0x88), flip),
            _mm512_xor_si512(_mm512_shuffle_i32x4(pq2, rs2, 0xdd), flip),
        };
#pragma GCC unroll 4
        for (size_t v = 0; v < 4; v++)
            _mm512_mask_storeu_epi32(to + i + 16 * v, (__mmask16)(some >> 16 * v), quarters[v]);
    }
#endif
    for (; i < count; i++)
        to[i] = (a[i] | (uint32_t)b[i] << 8 | (uint32_t)c[i] << 16 | (uint32_t)d[i] << 24) ^
                (SC_I8_OFFSET * 0x01010101u);
}
#else
static void pack_i8(uint32_t *to, const char *const *row, size_t count) {
    const int8_t *a = (const int8_t *)row[0], *b = (const int8_t *)row[1];
    for (size_t i = 0; i < count; i++) to[i] = ((uint32_t)a[i] & 0xffff) | (uint32_t)b[i] << 16;
}
#endif

#if SC_BF16_DEPTH == 2
static void pack_bf16(uint32_t *to, const char *const *row, size_t count) {
    const half_any *a = (const half_any *)(const void *)row[0], *b = (const half_any *)(const void *)row[1];
    for (size_t i = 0; i < count; i++) to[i] = a[i] | (uint32_t)b[i] << 16;
}

static void pack_f32_as_bf16(uint32_t *to, const char *const *row, size_t count) {
    const uint_any *a = (const uint_any *)(const void *)row[0], *b = (const uint_any *)(const void *)row[1];
    for (size_t i = 0; i < count; i++) to[i] = bf16_of(a[i]) | bf16_of(b[i]) << 16;
}
#else
static void pack_bf16(uint32_t *to, const char *const *row, size_t count) {
    const half_any *a = (const half_any *)(const void *)row[0];
    for (size_t i = 0; i < count; i++) to[i] = (uint32_t)a[i] << 16;
}

static void pack_f32_as_bf16(uint32_t *to, const char *const *row, size_t count) {
    const uint_any *a = (const uint_any *)(const void *)row[0];
    for (size_t i = 0; i < count; i++) to[i] = bf16_of(a[i]) << 16;
}
#endif

#if SC_HAS_F16
static void pack_f16(uint32_t *to, const char *const *row, size_t count) {
    uint16_t rest[SC_LANES];
    uint32_t whole[SC_LANES];
    const size_t full = count / SC_LANES * SC_LANES;
    for (size_t i = 0; i < full; i += SC_LANES) sc_widen_f16(to + i, row[0] + 2 * i);
    if (full == count) return;
    memset(rest, 0, sizeof rest);
    memcpy(rest, row[0] + 2 * full, 2 * (count - full));
    sc_widen_f16(whole, rest);
    memcpy(to + full, whole, 4 * (count - full));
}

static void pack_f32_as_f16(uint32_t *to, const char *const *row, size_t count) {
    uint16_t narrow[SC_LANES];
    uint32_t rest[SC_LANES];
    for (size_t i = 0; i < count; i += SC_LANES) {
        const size_t some = sc_min(SC_LANES, count - i);
        memset(rest, 0, sizeof rest);
        memcpy(rest, row[0] + 4 * i, 4 * some);
        sc_narrow_f16(narrow, rest);
        sc_widen_f16(rest, narrow);
        memcpy(to + i, rest, 4 * some);
    }
}
#else
#define pack_f16 NULL
#define pack_f32_as_f16 NULL
#endif

/* One position, which has no neighbours to load at once. */
static void pack_one_i8(const sc_words *w, const sc_call *call, size_t n, uint32_t *to, size_t ld) {
    const uint8_t *x = (const uint8_t *)(const void *)call->x + n;
    for (size_t k = 0; k < (size_t)w->words; k++, to += ld) {
        const int32_t *column = w->columns + k * SC_I8_DEPTH;
        uint32_t word = 0;
        for (int i = 0; i < SC_I8_DEPTH; i++) {
            const uint32_t byte = column[i] < 0 ? 0 : x[(size_t)column[i] * call->ldx];
            word |= (SC_I8_DEPTH == 4 ? byte ^ SC_I8_OFFSET : (uint32_t)(int8_t)byte & 0xffff) << (32 / SC_I8_DEPTH * i);
        }
        *to = word;
    }
}

typedef void packer(uint32_t *to, const char *const *row, size_t count);

void sc_pack_words(const sc_words *w, const sc_call *call, size_t n, size_t count, uint32_t *to, size_t ld,
                   size_t padded) {
    static packer *const packers[] = {
        [SC_X_I8] = pack_i8, [SC_X_BF16] = pack_bf16, [SC_X_F16] = pack_f16,
        [SC_X_F32_AS_BF16] = pack_f32_as_bf16, [SC_X_F32_AS_F16] = pack_f32_as_f16,
    };
    static const size_t sizes[] = {
        [SC_X_I8] = 1, [SC_X_BF16] = 2, [SC_X_F16] = 2, [SC_X_F32_AS_BF16] = 4, [SC_X_F32_AS_F16] = 4,
    };
    if (count == 1 && padded == 1 && w->x_type == SC_X_I8) {
        pack_one_i8(w, call, n, to, ld);
        return;
    }
    /* What stands beside the last elements. */
    static const uint32_t zeros[SC_WORDS_MOST];
    const size_t size = sizes[w->x_type], depth = (size_t)w->depth;
    const char *x = (const char *)call->x;
    for (size_t k = 0; k < (size_t)w->words; k++, to += ld) {
        const char *row[4];
        for (size_t i = 0; i < depth; i++) {
            const int32_t column = w->columns[k * depth + i];
            row[i] = column < 0 ? (const char *)zeros : x + ((size_t)column * call->ldx + n) * size;
        }
        packers[w->x_type](to, row, count);
        memset(to + count, 0, (padded - count) * sizeof *to);
    }
}
