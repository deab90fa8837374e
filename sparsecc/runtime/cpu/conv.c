/* Padded images, and straight-line code over their rows. */
#include "conv.h"

#include "internal.h"

/* One row of an image with zeros around it, its columns sorted by phase. */
static void pad_row(float *to, const float *from, const sc_image *s) {
    const size_t inner = (size_t)s->inner, segment = (size_t)s->segment;
    if (s->phases == 1) {
        const size_t before = (size_t)s->left * inner, inside = sc_min((size_t)s->width * inner, segment - before);
        memset(to, 0, before * sizeof *to);
        memcpy(to + before, from, inside * sizeof *to);
        memset(to + before + inside, 0, (segment - before - inside) * sizeof *to);
        return;
    }
    for (int64_t phase = 0; phase < s->phases; phase++, to += segment) {
        const int64_t count = s->segment / s->inner;
        for (int64_t q = 0; q < count; q++) {
            const int64_t column = q * s->phases + phase - s->left;
            float *const place = to + (size_t)q * inner;
            if (column < 0 || column >= s->width) memset(place, 0, inner * sizeof *to);
            else if (inner == 1) *place = from[column];
            else memcpy(place, from + (size_t)column * inner, inner * sizeof *to);
        }
    }
}

static void pad(float *to, const float *x, const sc_image *s, int64_t first, int64_t end) {
    const size_t pitch = (size_t)(s->phases * s->segment), row = (size_t)(s->width * s->inner);
    to += (size_t)(first * s->rows) * pitch;
    for (int64_t c = first; c < end; c++)
        for (int64_t r = 0; r < s->rows; r++, to += pitch) {
            const int64_t h = r - s->top;
            if (h < 0 || h >= s->height) memset(to, 0, pitch * sizeof *to);
            else pad_row(to, x + (size_t)(c * s->height + h) * row, s);
        }
}

/* Code may read a vector beyond the end. */
size_t sc_conv_padded(const sc_conv *c) {
    const sc_image *s = &c->image;
    const int64_t floats = s->channels * s->rows * s->phases * s->segment + c->line->lanes;
    return s->in_place ? 0 : (size_t)((floats + 15) / 16 * 16);
}

/* Only strips narrower than a vector have results that would be written beyond the last. */
size_t sc_conv_scratch(const sc_conv *c) {
    return c->width < c->line->lanes ? (size_t)((c->line->m * c->line->lanes + 15) / 16 * 16) : 0;
}

typedef struct work {
    const sc_conv_call *call;
    const float *image;
    int64_t parts;
} work;

static int pad_part(const void *context, int index) {
    const work *w = context;
    const sc_image *s = &w->call->conv->image;
    pad(w->call->padded, w->call->x, s, s->channels * index / w->parts, s->channels * (index + 1) / w->parts);
    return 0;
}

static void run_chunk(const sc_line *w, size_t g, const float *x, float *y, size_t ldy, const float *residual, size_t ldr) {
    const sc_chunk *chunk = &w->table[g];
    chunk->run((const char *)x, (const char *)(w->values + chunk->first) + w->ahead, (char *)y, ldy * sizeof *y,
               (const char *)residual, ldr * sizeof *residual, 0, NULL, NULL);
    if (w->epilogue.activation.kind) {
        const size_t first = g * (size_t)w->height, rows = sc_min((size_t)w->height, (size_t)w->m - first);
        sc_activate(&w->epilogue, w->rows, first, rows, y, ldy, (size_t)w->lanes);
    }
}

/* Vectors first to end of the results, counted strip by strip. A vector that is wider than what is left of its strip
 * moves back to end with it, or, where strips are narrower than a vector, writes into the next strips, whose own values
 * come later. What would write beyond the last of them is written elsewhere first. */
static void run_vectors(const sc_conv *c, const work *w, int64_t first, int64_t end, size_t g0, size_t g1, float *tail) {
    const sc_line *line = c->line;
    const size_t lanes = (size_t)line->lanes, width = (size_t)c->width, n = (size_t)c->strips * width;
    const int64_t each = (c->width + line->lanes - 1) / line->lanes;
    for (int64_t v = first; v < end; v++) {
        const size_t strip = (size_t)(v / each), q = width < lanes ? 0 : sc_min((size_t)(v % each) * lanes, width - lanes);
        const float *x = w->image + strip * (size_t)c->step + q;
        const size_t at = strip * width + q;
        const float *residual = w->call->residual ? w->call->residual + at : NULL;
        if (width >= lanes || at + lanes <= (size_t)end * width) {
            for (size_t g = g0; g < g1; g++) run_chunk(line, g, x, w->call->y + at, n, residual, n);
            continue;
        }
        for (size_t i = g0 * (size_t)line->height; residual && i < sc_min(g1 * (size_t)line->height, (size_t)line->m); i++)
            memcpy(tail + (size_t)line->rows[i] * lanes, residual + (size_t)line->rows[i] * n, width * sizeof *tail);
        for (size_t g = g0; g < g1; g++) run_chunk(line, g, x, tail, lanes, tail, lanes);
        for (size_t i = g0 * (size_t)line->height; i < sc_min(g1 * (size_t)line->height, (size_t)line->m); i++)
            memcpy(w->call->y + (size_t)line->rows[i] * n + at, tail + (size_t)line->rows[i] * lanes, width * sizeof *tail);
    }
}

static int run_part(const void *context, int index) {
    const work *w = context;
    const sc_conv *c = w->call->conv;
    const sc_line *line = c->line;
    const int64_t each = (c->width + line->lanes - 1) / line->lanes, all = c->strips * each;
    const int64_t first = all * index / w->parts, end = all * (index + 1) / w->parts;
    if (sc_conv_scratch(c) > w->call->each) return -1;
    float *const tail = w->call->scratch + (size_t)index * w->call->each;
    for (size_t g = 0; g < (size_t)line->groups; g += (size_t)line->batch)
        run_vectors(c, w, first, end, g, sc_min(g + (size_t)line->batch, (size_t)line->groups), tail);
    sc_leave_vectors();
    return 0;
}

int sc_conv_run(const void *context, const sc_call *unused, int threads) {
    const sc_conv_call *call = context;
    const sc_conv *c = call->conv;
    (void)unused;
    const int64_t each = (c->width + c->line->lanes - 1) / c->line->lanes, all = c->strips * each;
    work w = {call, c->image.in_place ? call->x : call->padded, threads};
    if (w.parts > c->image.channels) w.parts = c->image.channels;
    if (!c->image.in_place && sc_parallel(pad_part, &w, (int)w.parts) != 0) return -1;
    w.parts = threads > all ? all : threads;
    return sc_parallel(run_part, &w, (int)w.parts);
}

int sc_conv_at(const sc_conv *c, const float *x, float *y, const float *residual, int threads, float *padded,
               float *scratch, size_t each) {
    const sc_conv_call call = {c, x, y, residual, padded, scratch, each};
    return sc_conv_run(&call, NULL, threads);
}
