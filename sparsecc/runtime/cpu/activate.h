/* Activations of one vector, in f32. Exponentials, tanh and the normal distribution are polynomials fitted to them by
 * weighted least squares; errors are a few units in the last place, of GELU of its argument. NaN stays. */
#ifndef SC_ACTIVATE_H
#define SC_ACTIVATE_H

#include "internal.h"

static inline sc_vec sc_select(sc_ivec mask, sc_vec yes, sc_vec no) {
    return (sc_vec)(((sc_ivec)yes & mask) | ((sc_ivec)no & ~mask));
}

static inline sc_vec sc_between(sc_vec v, float low, float high) {
    v = sc_select(v < sc_spread(low), sc_spread(low), v);
    return sc_select(v > sc_spread(high), sc_spread(high), v);
}

/* e^x for x in [-87, 88], what is beyond as if it were there: x = n ln 2 + r, and e^r a polynomial. */
static inline sc_vec sc_exp(sc_vec x) {
    const float magic = 12582912.0f; /* 3 * 2^22: what is added to it loses its fraction */
    x = sc_between(x, -87.0f, 88.0f);
    const sc_vec moved = x * 1.44269504088896341f + magic, n = moved - magic;
    const sc_vec r = (x - n * 0.693145751953125f) - n * 1.42860682030941723e-6f;
    sc_vec p = r * 0.001394123332010242f + 0.008363248863765186f;
    p = p * r + 0.04166637392088959f;
    p = p * r + 0.16666576563346522f;
    p = p * r + 0.5000000027117311f;
    p = (p * r) * r + r + 1.0f;
    return p * (sc_vec)(((sc_ivec)moved << 23) + (127 << 23));
}

static inline sc_vec sc_sigmoid(sc_vec x) {
    return 1.0f / (1.0f + sc_exp(-x));
}

static inline sc_vec sc_tanh(sc_vec x) {
    const sc_vec z = x * x;
    sc_vec p = z * 0.002299108263210595f - 0.008350186955453327f;
    p = p * z + 0.02177106548464582f;
    p = p * z - 0.05395956216687221f;
    p = p * z + 0.13333305065464618f;
    p = p * z - 0.3333333318496522f;
    const sc_vec large = 1.0f - 2.0f / (sc_exp(2.0f * x) + 1.0f);
    return sc_select(z < sc_spread(0.390625f), (p * z) * x + x, large);
}

/* x times the share of the standard normal distribution below x; the tail beyond |x| is e^(-x^2 / 2) times a
 * polynomial of 1 / (1 + |x| / 4). */
static inline sc_vec sc_gelu(sc_vec x) {
    const sc_vec a = sc_select(x < 0.0f, -x, x), t = 1.0f / (1.0f + 0.25f * a);
    sc_vec p = t * -0.09070605227553352f + 0.33636294150782714f;
    p = p * t - 0.2544958284252464f;
    p = p * t + 0.26562361497522036f;
    p = p * t + 0.03546851982137616f;
    p = p * t + 0.1083647450927f;
    p = p * t + 0.0993820538039955f;
    const sc_vec tail = (p * t) * sc_exp(-0.5f * (a * a));
    return x * sc_select(x < 0.0f, tail, 1.0f - tail);
}

static inline sc_vec sc_gelu_tanh(sc_vec x) {
    /* (1 + tanh(u)) / 2 is the sigmoid of 2 u. */
    return x * sc_sigmoid(1.59576912160573071f * (x + 0.044715f * x * x * x));
}

static inline sc_vec sc_activated(const sc_activation *f, float slope, sc_vec v) {
    switch (f->kind) {
        case SC_CLIP: return sc_between(v, f->a, f->b);
        case SC_LEAKY_RELU: return sc_select(v < 0.0f, slope * v, v);
        case SC_HARD_SIGMOID: return sc_between(f->a * v + f->b, 0.0f, 1.0f);
        case SC_HARD_SWISH: return v * sc_between(f->a * v + f->b, 0.0f, 1.0f);
        case SC_SIGMOID: return sc_sigmoid(v);
        case SC_TANH: return sc_tanh(v);
        case SC_SILU: return v * sc_sigmoid(v);
        case SC_GELU: return sc_gelu(v);
        case SC_GELU_TANH: return sc_gelu_tanh(v);
        default: return v;
    }
}

#endif
