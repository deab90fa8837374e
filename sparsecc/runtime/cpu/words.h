/* Words: 32 bits of neighbours. Four int8, two bf16 or one f32 of one row of W and of one position of X make a word,
 * and a lane of a vector multiplies two words and adds up. Kernels for words are those for floats with another
 * multiplication; which one it is, and how many elements make a word, depends on the instructions at hand.
 */
#ifndef SC_WORDS_H
#define SC_WORDS_H

#include "internal.h"

#if defined(__AVX2__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

/* Unsigned: sums of int8 wrap. */
typedef uint32_t sc_word __attribute__((vector_size(4 * SC_LANES), aligned(4 * SC_LANES), may_alias));
typedef uint32_t sc_uword __attribute__((vector_size(4 * SC_LANES), aligned(4), may_alias));

/* A vector in a register, of which the compiler may assume nothing. */
#if defined(__x86_64__)
#define SC_OPAQUE(v) __asm__ volatile("" : "+x"(v))
#elif defined(__aarch64__)
#define SC_OPAQUE(v) __asm__ volatile("" : "+w"(v))
#else
#define SC_OPAQUE(v) __asm__ volatile("" : "+m"(v))
#endif

static inline sc_word sc_load_words(const uint32_t *p) {
    return *(const sc_uword *)(const void *)p;
}

static inline void sc_store_words(void *p, sc_word v) {
    *(sc_uword *)p = v;
}

static inline sc_word sc_spread_word(uint32_t word) {
    return word - (sc_word){0};
}

#if defined(__AVX512VNNI__)
/* Bytes of X are unsigned: X + 128. What that adds is constant for each row. */
#define SC_I8_DEPTH 4
#define SC_I8_OFFSET 128
static inline sc_word sc_dot_i8(sc_word sum, sc_word x, sc_word w) {
    return (sc_word)_mm512_dpbusd_epi32((__m512i)sum, (__m512i)x, (__m512i)w);
}
#elif defined(__AVX512BW__)
#define SC_I8_DEPTH 2
#define SC_I8_OFFSET 0
static inline sc_word sc_dot_i8(sc_word sum, sc_word x, sc_word w) {
    return sum + (sc_word)_mm512_madd_epi16((__m512i)x, (__m512i)w);
}
#elif defined(__AVX2__)
#define SC_I8_DEPTH 2
#define SC_I8_OFFSET 0
static inline sc_word sc_dot_i8(sc_word sum, sc_word x, sc_word w) {
    return sum + (sc_word)_mm256_madd_epi16((__m256i)x, (__m256i)w);
}
#elif defined(__ARM_FEATURE_DOTPROD)
#define SC_I8_DEPTH 4
#define SC_I8_OFFSET 0
static inline sc_word sc_dot_i8(sc_word sum, sc_word x, sc_word w) {
    return (sc_word)vdotq_s32((int32x4_t)sum, (int8x16_t)x, (int8x16_t)w);
}
#else
#define SC_I8_DEPTH 2
#define SC_I8_OFFSET 0
static inline sc_word sc_dot_i8(sc_word sum, sc_word x, sc_word w) {
    /* The lower halves, sign and all, times each other, and the upper ones. */
    const sc_ivec low = ((sc_ivec)(x << 16) >> 16) * ((sc_ivec)(w << 16) >> 16);
    const sc_ivec high = ((sc_ivec)x >> 16) * ((sc_ivec)w >> 16);
    return sum + (sc_word)low + (sc_word)high;
}
#endif

#if defined(__AVX512BF16__)
#define SC_BF16_DEPTH 2
static inline sc_word sc_dot_bf16(sc_word sum, sc_word x, sc_word w) {
    return (sc_word)_mm512_dpbf16_ps((__m512)sum, (__m512bh)(__m512i)x, (__m512bh)(__m512i)w);
}
#else
#define SC_BF16_DEPTH 1
#endif

static inline sc_word sc_dot_f32(sc_word sum, sc_word x, sc_word w) {
    return (sc_word)((sc_vec)sum + (sc_vec)x * (sc_vec)w);
}

/* Sums and the bits of their bias. */
static inline sc_word sc_with_bias(const sc_finish *f, sc_word sums, uint32_t bias) {
    return f->integers ? (sc_word)(sums + bias) : (sc_word)((sc_vec)sums + (sc_vec)sc_spread_word(bias));
}

/* SC_LANES f16 to f32, and back. Where there are no instructions for it, no target has the type. */
#if defined(__AVX512F__)
#define SC_HAS_F16 1
static inline void sc_widen_f16(void *to, const void *from) {
    _mm512_storeu_ps(to, _mm512_cvtph_ps(_mm256_loadu_si256(from)));
}
static inline void sc_narrow_f16(void *to, const void *from) {
    _mm256_storeu_si256(to, _mm512_cvtps_ph(_mm512_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC));
}
#elif defined(__F16C__)
#define SC_HAS_F16 1
static inline void sc_widen_f16(void *to, const void *from) {
    _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm_loadu_si128(from)));
}
static inline void sc_narrow_f16(void *to, const void *from) {
    _mm_storeu_si128(to, _mm256_cvtps_ph(_mm256_loadu_ps(from), _MM_FROUND_TO_NEAREST_INT));
}
#elif defined(__aarch64__)
#define SC_HAS_F16 1
static inline void sc_widen_f16(void *to, const void *from) {
    vst1q_u8(to, vreinterpretq_u8_f32(vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(from)))));
}
static inline void sc_narrow_f16(void *to, const void *from) {
    vst1_u8(to, vreinterpret_u8_f16(vcvt_f16_f32(vreinterpretq_f32_u8(vld1q_u8(from)))));
}
#else
#define SC_HAS_F16 0
#endif

/* Rows of X as words: `count` positions from n on, and zeros up to `padded`, [w->words][ld]. */
void sc_pack_words(const sc_words *w, const sc_call *call, size_t n, size_t count, uint32_t *to, size_t ld,
                   size_t padded);
/* What follows the sums of `count` positions from n on of one row: to where they belong in Y. */
void sc_finish_row(const sc_words *w, const sc_call *call, size_t row, size_t n, size_t count, const uint32_t *sums);

#endif
