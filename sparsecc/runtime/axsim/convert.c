/* Element types: conversions between them, and between off-chip arrays and the form elements have here. */
#include <limits.h>
#include <math.h>

#include "internal.h"

#if defined(__SSE2__) && !defined(AX_PORTABLE)
#include <emmintrin.h>
#endif

static uint32_t bits_of(float f)
{
    uint32_t u;
    memcpy(&u, &f, sizeof u);
    return u;
}

static float of_bits(uint32_t u)
{
    float f;
    memcpy(&f, &u, sizeof f);
    return f;
}

float axi_f16_to_f32(uint16_t h)
{
    const uint32_t sign = (uint32_t)(h & 0x8000u) << 16, exponent = h >> 10 & 31u, fraction = h & 0x3ffu;
    if (exponent == 31)
        return of_bits(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0)
        return of_bits(sign | (exponent + 112) << 23 | fraction << 13);
    return of_bits(sign | bits_of((float)fraction * 0x1p-24f)); /* subnormal: exact as a product */
}

uint16_t axi_f32_to_f16(float f)
{
    const uint32_t u = bits_of(f), a = u & 0x7fffffffu;
    const uint32_t sign = u >> 16 & 0x8000u;
    uint32_t result, rest, half;
    if (a > 0x7f800000u) { /* NaN: keep what fits of the payload, but keep it a NaN */
        result = a >> 13 & 0x3ffu;
        return (uint16_t)(sign | 0x7c00u | (result ? result : 0x200u));
    }
    if (a >= 0x47800000u)
        return (uint16_t)(sign | 0x7c00u);
    if (a >= 0x38800000u) { /* normal; a carry of the rounding may well reach the exponent */
        result = (a - 0x38000000u) >> 13;
        rest = a & 0x1fffu;
        half = 0x1000u;
    } else if (a >= 0x33000000u) { /* subnormal: multiples of 2^-24 */
        const uint32_t shift = 126 - (a >> 23), mantissa = (a & 0x7fffffu) | 0x800000u;
        result = mantissa >> shift;
        rest = mantissa & ((1u << shift) - 1);
        half = 1u << (shift - 1);
    } else {
        return (uint16_t)sign;
    }
    if (rest > half || (rest == half && (result & 1)))
        result++;
    return (uint16_t)(sign | result);
}

float axi_bf16_to_f32(uint16_t h) { return of_bits((uint32_t)h << 16); }

uint16_t axi_f32_to_bf16(float f)
{
    const uint32_t u = bits_of(f);
    if ((u & 0x7fffffffu) > 0x7f800000u)
        return (uint16_t)(u >> 16 | (u & 0x7f0000u ? 0 : 0x40u));
    return (uint16_t)((u + 0x7fffu + (u >> 16 & 1)) >> 16);
}

int8_t axi_to_i8(float value, int64_t *saturated)
{
    if (!(value >= -128.5f && value < 127.5f)) { /* -128.5 ties to -128, 127.5 to 128; NaN comes here, too */
        ++*saturated;
        return value > 0 ? 127 : value < 0 ? -128 : 0;
    }
#if defined(__SSE2__) && !defined(AX_PORTABLE)
    return (int8_t)_mm_cvtss_si32(_mm_set_ss(value));
#else
    return (int8_t)lrintf(value);
#endif
}

int32_t axi_to_i32(float value, int64_t *saturated)
{
    if (!(value >= -0x1p31f && value < 0x1p31f)) {
        ++*saturated;
        return value > 0 ? INT32_MAX : value < 0 ? INT32_MIN : 0;
    }
    return (int32_t)rintf(value);
}

float axi_round_to(ax_type type, float value)
{
    if (type == AX_F16)
        return axi_f16_to_f32(axi_f32_to_f16(value));
    if (type == AX_BF16)
        return axi_bf16_to_f32(axi_f32_to_bf16(value));
    return value;
}

void axi_import(void *to, const void *from, ax_type type, int64_t count)
{
    if (type != AX_F16 && type != AX_BF16) {
        memcpy(to, from, (size_t)count * axi_kept_bytes(type));
        return;
    }
    const unsigned char *source = from;
    float *values = to;
    for (int64_t i = 0; i < count; i++) {
        uint16_t h;
        memcpy(&h, source + 2 * i, sizeof h);
        values[i] = type == AX_F16 ? axi_f16_to_f32(h) : axi_bf16_to_f32(h);
    }
}

/* Floats to `type`, in place of whatever lies at `to`. A finite value that becomes infinite has saturated. */
static void narrow(ax_machine *m, unsigned char *to, ax_type type, const float *values, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        if (type == AX_I8) {
            const int8_t v = axi_to_i8(values[i], &m->output_saturation);
            memcpy(to + i, &v, sizeof v);
        } else if (type == AX_I32) {
            const int32_t v = axi_to_i32(values[i], &m->output_saturation);
            memcpy(to + 4 * i, &v, sizeof v);
        } else if (type == AX_F32) {
            memcpy(to + 4 * i, &values[i], sizeof values[i]);
        } else {
            const uint16_t v = type == AX_F16 ? axi_f32_to_f16(values[i]) : axi_f32_to_bf16(values[i]);
            const uint16_t infinity = type == AX_F16 ? 0x7c00 : 0x7f80;
            m->output_saturation += (v & 0x7fff) == infinity && !isinf(values[i]);
            memcpy(to + 2 * i, &v, sizeof v);
        }
    }
}

/* int32 to int32 at scale 1 stays exact: a float would not hold the value. */
static void copy_i32(unsigned char *to, const int32_t *from, ax_act act, int64_t count)
{
    for (int64_t i = 0; i < count; i++) {
        const int32_t v = act == AX_ACT_RELU && from[i] < 0 ? 0 : from[i];
        memcpy(to + 4 * i, &v, sizeof v);
    }
}

void axi_export(ax_machine *m, void *to, ax_type to_type, const void *from, ax_type from_type,
                const axi_output *output, int64_t count)
{
    enum { CHUNK = 64 };
    float values[CHUNK];
    unsigned char *target = to;
    if (output && from_type == AX_I32 && to_type == AX_I32 && output->scale == 1.0f) {
        copy_i32(target, from, output->act, count);
        return;
    }
    if (!output && to_type != AX_F16 && to_type != AX_BF16) {
        memcpy(to, from, (size_t)count * axi_kept_bytes(to_type));
        return;
    }
    for (int64_t at = 0; at < count; at += CHUNK) {
        const int64_t n = count - at < CHUNK ? count - at : CHUNK;
        if (from_type == AX_I8) {
            for (int64_t i = 0; i < n; i++)
                values[i] = (float)((const int8_t *)from)[at + i];
        } else if (from_type == AX_I32) {
            for (int64_t i = 0; i < n; i++)
                values[i] = (float)((const int32_t *)from)[at + i];
        } else {
            memcpy(values, (const float *)from + at, (size_t)n * sizeof values[0]);
        }
        if (output) {
            for (int64_t i = 0; i < n; i++)
                values[i] *= output->scale;
            if (output->act == AX_ACT_RELU)
                for (int64_t i = 0; i < n; i++)
                    values[i] = values[i] < 0 ? 0 : values[i];
        }
        narrow(m, target + at * axi_type_bytes(to_type), to_type, values, n);
    }
}

void axi_add_to(ax_machine *m, void *to, const void *from, ax_type type, int64_t count)
{
    unsigned char *target = to;
    const unsigned char *source = from;
    const size_t size = (size_t)axi_type_bytes(type);
    for (int64_t i = 0; i < count; i++, target += size, source += size) {
        if (type == AX_I32) {
            int32_t a, b, sum;
            memcpy(&a, target, size);
            memcpy(&b, source, size);
            m->int32_overflow += __builtin_add_overflow(a, b, &sum);
            memcpy(target, &sum, size);
        } else if (type == AX_I8) {
            int8_t a, b;
            memcpy(&a, target, size);
            memcpy(&b, source, size);
            const int8_t sum = axi_to_i8((float)(a + b), &m->output_saturation);
            memcpy(target, &sum, size);
        } else {
            float a, b;
            axi_import(&a, target, type, 1);
            axi_import(&b, source, type, 1);
            const float sum = a + b;
            narrow(m, target, type, &sum, 1);
        }
    }
}
