/* Steps of recurrent layers: from what the products with the input (x) and the state (r) gave to the next
 * state. Gates lie in ONNX's order; arrays are [outer, gates * hidden, inner] and [outer, hidden, inner]. */
#include "loops.h"

static float activation(int32_t kind, float x)
{
    const double v = x;
    double result;
    switch (kind) {
    case HOST_RELU:
        result = x < 0.0f ? 0.0 : v;
        break;
    case HOST_SIGMOID:
        result = 1.0 / (1.0 + exp(-v));
        break;
    case HOST_TANH:
        result = tanh(v);
        break;
    case HOST_SOFTSIGN:
        result = v / (1.0 + fabs(v));
        break;
    default: { /* HOST_HARD_SIGMOID */
        const double line = 0.2 * v + 0.5;
        result = line < 0.0 ? 0.0 : line > 1.0 ? 1.0 : line;
    }
    }
    return (float)result;
}

static float limited(float x, float limit)
{
    if (limit == 0.0f)
        return x;
    return x < -limit ? -limit : x > limit ? limit : x;
}

void host_lstm_cell_f32(float *c, const float *x, const float *r, const float *c_before, const float *peephole,
                        int64_t outer, int64_t hidden, int64_t inner, int32_t f, int32_t g, float limit,
                        int32_t input_forget)
{
    const int64_t gate = hidden * inner;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < hidden; k++) {
            const float of_i = peephole == NULL ? 0.0f : peephole[k];
            const float of_f = peephole == NULL ? 0.0f : peephole[2 * hidden + k];
            for (int64_t l = 0; l < inner; l++) {
                const int64_t at = o * gate + k * inner + l, p = 4 * o * gate + k * inner + l;
                const float before = c_before[at];
                const float in = activation(f, limited(x[p] + r[p] + of_i * before, limit));
                const float forget = x[p + 2 * gate] + r[p + 2 * gate] + of_f * before;
                const float keep = input_forget ? 1.0f - in : activation(f, limited(forget, limit));
                const float new = activation(g, limited(x[p + 3 * gate] + r[p + 3 * gate], limit));
                c[at] = keep * before + in * new;
            }
        }
}

void host_lstm_state_f32(float *h, const float *x, const float *r, const float *c, const float *peephole, int64_t outer,
                         int64_t hidden, int64_t inner, int32_t f, int32_t final, float limit)
{
    const int64_t gate = hidden * inner;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < hidden; k++) {
            const float of_o = peephole == NULL ? 0.0f : peephole[hidden + k];
            for (int64_t l = 0; l < inner; l++) {
                const int64_t at = o * gate + k * inner + l, p = (4 * o + 1) * gate + k * inner + l;
                const float cell = c[at];
                h[at] = activation(f, limited(x[p] + r[p] + of_o * cell, limit)) * activation(final, cell);
            }
        }
}

void host_gru_f32(float *h, const float *x, const float *r, const float *h_before, int64_t outer, int64_t hidden,
                  int64_t inner, int32_t f, int32_t g, float limit)
{
    const int64_t gate = hidden * inner;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < gate; k++) {
            const int64_t at = o * gate + k, p = 3 * o * gate + k;
            const float update = activation(f, limited(x[p] + r[p], limit));
            const float reset = activation(f, limited(x[p + gate] + r[p + gate], limit));
            const float new = activation(g, limited(x[p + 2 * gate] + reset * r[p + 2 * gate], limit));
            h[at] = (1.0f - update) * new + update * h_before[at];
        }
}

void host_gru_kept_f32(float *kept, const float *x, const float *r, const float *h_before, int64_t outer, int64_t hidden,
                       int64_t inner, int32_t f, float limit)
{
    const int64_t gate = hidden * inner;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < gate; k++) {
            const int64_t at = o * gate + k;
            const float sum = x[(3 * o + 1) * gate + k] + r[(2 * o + 1) * gate + k];
            kept[at] = activation(f, limited(sum, limit)) * h_before[at];
        }
}

void host_gru_update_f32(float *h, const float *x, const float *r, const float *of_kept, const float *h_before,
                         int64_t outer, int64_t hidden, int64_t inner, int32_t f, int32_t g, float limit)
{
    const int64_t gate = hidden * inner;
    for (int64_t o = 0; o < outer; o++)
        for (int64_t k = 0; k < gate; k++) {
            const int64_t at = o * gate + k;
            const float update = activation(f, limited(x[3 * o * gate + k] + r[2 * o * gate + k], limit));
            const float new = activation(g, limited(x[(3 * o + 2) * gate + k] + of_kept[at], limit));
            h[at] = (1.0f - update) * new + update * h_before[at];
        }
}
