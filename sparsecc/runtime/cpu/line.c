/* Straight-line code over panels of X: loops, scratch panels for what does not fill a vector, threads. */
#include "internal.h"
#include "panels.h"
#include "share.h"

/* Between packed panels, so that equal rows of neighbouring panels do not fall into one set of the cache. */
enum { GAP = 16 };

/* Full panels are copied vector by vector, row by row of X, which reads memory in order. */
#define PACK_PANELS(name, type)                                                                                       \
    static void name(float *to, size_t step, const float *x, size_t ldx, size_t rows, size_t panels) {                \
        const size_t lanes = sizeof(type) / sizeof(float);                                                            \
        for (size_t k = 0; k < rows; k++)                                                                             \
            for (size_t p = 0; p < panels; p++)                                                                       \
                *(type *)(void *)(to + p * step + k * lanes) = *(const type *)(const void *)(x + k * ldx + p * lanes); \
    }
typedef float vec8 __attribute__((vector_size(32), aligned(4), may_alias));
typedef float vec16 __attribute__((vector_size(64), aligned(4), may_alias));
PACK_PANELS(pack8, vec8)
PACK_PANELS(pack16, vec16)

/* Older GCC has no __builtin_shufflevector. */
#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define SHUFFLES 1
typedef float vec4 __attribute__((vector_size(16), aligned(4), may_alias));
#endif
#endif

/* `count` positions of `rows` elements, ldx from one to the next, to rows of `width` floats. */
static void pack_turned(float *to, size_t width, const float *x, size_t ldx, size_t rows, size_t count) {
    size_t n = 0;
#ifdef SHUFFLES
    for (; n + 4 <= count; n += 4, x += 4 * ldx) {
        size_t k = 0;
        for (; k + 4 <= rows; k += 4) {
            const vec4 a = *(const vec4 *)(const void *)(x + k), b = *(const vec4 *)(const void *)(x + ldx + k);
            const vec4 c = *(const vec4 *)(const void *)(x + 2 * ldx + k), d = *(const vec4 *)(const void *)(x + 3 * ldx + k);
            const vec4 ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ba = __builtin_shufflevector(a, b, 2, 6, 3, 7);
            const vec4 cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), dc = __builtin_shufflevector(c, d, 2, 6, 3, 7);
            float *const place = to + k * width + n;
            *(vec4 *)(void *)place = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
            *(vec4 *)(void *)(place + width) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
            *(vec4 *)(void *)(place + 2 * width) = __builtin_shufflevector(ba, dc, 0, 1, 4, 5);
            *(vec4 *)(void *)(place + 3 * width) = __builtin_shufflevector(ba, dc, 2, 3, 6, 7);
        }
        for (; k < rows; k++)
            for (size_t i = 0; i < 4; i++) to[k * width + n + i] = x[i * ldx + k];
    }
#endif
    for (; n < count; n++, x += ldx)
        for (size_t k = 0; k < rows; k++) to[k * width + n] = x[k];
}

static const char *code_of(const sc_line *w, size_t chunk) {
    return (const char *)(uintptr_t)w->table[chunk].run;
}

static const char *values_of(const sc_line *w, size_t chunk) {
    return (const char *)(w->values + w->table[chunk].first);
}

/* What code fetches while it runs: share `panel` of w->fetches of what runs so many chunks later, or nothing new. */
typedef struct later {
    size_t chunks, panel;
} later;
static const later NOTHING = {0, 0};

/* A batch of groups on one panel: x the panel's rows of the block, y and source its positions. */
static void run_groups(const sc_line *w, int64_t block, size_t g0, size_t g1, const float *x, size_t ldx, float *y,
                       size_t ldy, const float *source, size_t lds, later fetched) {
    const size_t chunks = (size_t)(w->blocks * w->groups);
    for (size_t g = g0; g < g1; g++) {
        const size_t now = (size_t)(block * w->groups) + g, then = now + fetched.chunks;
        const sc_chunk *chunk = &w->table[now];
        const char *code = code_of(w, now), *values = values_of(w, now);
        if (fetched.chunks && then < chunks) {
            const size_t panels = (size_t)w->fetches, panel = fetched.panel;
            code = code_of(w, then) + (size_t)(code_of(w, then + 1) - code_of(w, then)) * panel / panels;
            values = values_of(w, then) + (size_t)(values_of(w, then + 1) - values_of(w, then)) * panel / panels;
        }
        chunk->run((const char *)x, values_of(w, now) + w->ahead, (char *)y, ldy * sizeof *y, (const char *)source,
                   lds * sizeof *source, ldx * sizeof *x, code, values);
        if (w->epilogue.activation.kind && block + 1 == w->blocks) {
            const size_t first = g * (size_t)w->height, rows = sc_min((size_t)w->height, (size_t)w->m - first);
            sc_activate(&w->epilogue, w->rows, first, rows, y, ldy, (size_t)w->lanes);
        }
    }
}

/* More bytes come from beyond the second cache. */
enum { CACHE_LINE = 64, FAR = 512 << 10, BEYOND = 16 << 20 };

/* From memory itself loads bring more at a time than prefetches: the core's own prefetcher follows them. */
static inline void fetch(const char *from, const char *end, int beyond) {
    if (beyond)
        for (; from < end; from += CACHE_LINE) (void)*(const volatile char *)from;
    else
        for (; from < end; from += CACHE_LINE) __builtin_prefetch(from, 0, 2);
}

/* Bytes of code of groups g0 to g1 in all blocks: nearly all instructions are as long as those that multiply. */
static size_t code_of_groups(const sc_line *w, size_t g0, size_t g1) {
    size_t bytes = 0;
    for (size_t b = 0, groups = (size_t)w->groups; b < (size_t)w->blocks; b++)
        bytes += (size_t)(code_of(w, b * groups + g1) - code_of(w, b * groups + g0));
    return bytes;
}

/* Where share `part` of `parts` begins: the group, and the panel in it. */
static void begin_of_share(const sc_line *w, size_t part, size_t parts, size_t panels, size_t *group, size_t *panel) {
    const size_t groups = (size_t)w->groups, before = code_of_groups(w, 0, groups) * part / parts;
    size_t low = 0, high = groups;
    while (high - low > 1) {
        const size_t middle = (low + high) / 2;
        if (code_of_groups(w, 0, middle) <= before) low = middle;
        else high = middle;
    }
    *group = part < parts ? low : groups;
    *panel = part < parts ? (before - code_of_groups(w, 0, low)) * panels / code_of_groups(w, low, low + 1) : 0;
}

size_t sc_line_share(const sc_line *w, size_t part, size_t parts, size_t panels, sc_part pieces[SC_LINE_PIECES]) {
    const size_t groups = (size_t)w->groups, cut = (size_t)w->cut;
    size_t group, panel, last, end, count = 0;
    if (cut < groups) {
        pieces[0] = part == 0 ? (sc_part){0, panels, 0, cut} : (sc_part){0, panels, cut, groups};
        return 1;
    }
    begin_of_share(w, part, parts, panels, &group, &panel);
    begin_of_share(w, part + 1, parts, panels, &last, &end);
    if (group == last) {
        if (panel < end) pieces[count++] = (sc_part){panel, end, group, group + 1};
        return count;
    }
    if (panel > 0) {
        pieces[count++] = (sc_part){panel, panels, group, group + 1};
        group++;
    }
    if (group < last) pieces[count++] = (sc_part){0, panels, group, last};
    if (end > 0) pieces[count++] = (sc_part){0, end, last, last + 1};
    return count;
}

int sc_line_has_shares(const sc_line *w, size_t parts) {
    return w->cut == w->groups || (w->cut > 0 && parts == 2);
}

int sc_line_is_far(const sc_line *w) {
    return code_of_groups(w, 0, (size_t)w->groups) + sizeof *w->values * w->table[w->blocks * w->groups].first > FAR;
}

/* Fetches a share, `part` of `parts`, of the code and values of `count` chunks from `first` on to the second cache:
 * by itself a core asks for instructions too late to hide where they come from. */
static void fetch_chunks(const sc_line *w, size_t first, size_t count, size_t part, size_t parts,
                         int beyond) {
    const size_t last = sc_min(first + count, (size_t)(w->blocks * w->groups));
    if (first >= last) return;
    const char *code = code_of(w, first), *values = values_of(w, first);
    const size_t bytes = (size_t)(code_of(w, last) - code), more = (size_t)(values_of(w, last) - values);
    fetch(code + bytes * part / parts, code + bytes * (part + 1) / parts, beyond);
    fetch(values + more * part / parts, values + more * (part + 1) / parts, beyond);
}

/* Where position n of a row is: beside the others, or, where `panel` is not 0, in the panel it belongs to; panels are
 * `panel` elements apart. */
static inline size_t place(size_t n, size_t panel) {
    return panel ? n / SC_PANEL * panel + n % SC_PANEL : n;
}

/* Positions n0 to n1, a multiple of the lanes. x_panel, y_panel: elements from panel to panel of X and Y; 0: rows. */
static int run_panels(const sc_line *w, const sc_call *c, sc_part part, size_t x_panel, size_t y_panel) {
    const size_t lanes = (size_t)w->lanes, width = (size_t)w->width, all = (part.n1 - part.n0) / lanes;
    const size_t most = sc_min(all, (size_t)w->panels), step = width * lanes + GAP;
    const size_t code = (size_t)(code_of(w, (size_t)(w->blocks * w->groups)) - code_of(w, 0));
    const int far = code > FAR, beyond = code + sizeof *w->values * w->table[w->blocks * w->groups].first > BEYOND;
    float *packed = NULL;
    if (w->pack && !x_panel && !(packed = sc_take(c, most * step))) return -1;
    for (size_t p0 = 0; p0 < all; p0 += most) {
        const size_t panels = sc_min(most, all - p0), n0 = part.n0 + p0 * lanes;
        for (int64_t block = 0; block < w->blocks; block++) {
            const size_t k0 = (size_t)block * width, rows = sc_min(width, (size_t)w->k - k0);
            const float *x = c->x + k0 * (c->turned ? 1 : c->ldx);
            for (size_t p = 0; c->turned && p < panels; p++)
                pack_turned(packed + p * step, lanes, x + (n0 + p * lanes) * c->ldx, c->ldx, rows, lanes);
            if (packed && !c->turned) (lanes == 16 ? pack16 : pack8)(packed, step, x + n0, c->ldx, rows, panels);
            /* Later blocks add to what is in Y. */
            const float *source = block == 0 && c->residual ? c->residual : c->y;
            const size_t lds = block == 0 && c->residual ? c->ldr : c->ldy;
            for (size_t g = part.r0; g < part.r1; g += (size_t)w->batch) {
                const size_t end = sc_min(g + (size_t)w->batch, part.r1);
                /* Of a share of the groups the next block's first ones run after its last. */
                const size_t jump = end == part.r1 ? (size_t)w->groups - (part.r1 - part.r0) : 0;
                for (size_t p = 0; p < panels; p++) {
                    /* Over fewer panels than code was written for it cannot fetch all. */
                    const int own = w->fetches && panels >= (size_t)w->fetches;
                    if (far && !own) fetch_chunks(w, (size_t)(block * w->groups) + end + jump, end - g, p, panels, beyond);
                    const later fetched = own && p < (size_t)w->fetches ? (later){end - g + jump, p} : NOTHING;
                    const size_t n = n0 + p * lanes, at = place(n, y_panel);
                    run_groups(w, block, g, end, packed ? packed + p * step : x + place(n, x_panel),
                               packed ? lanes : c->ldx, c->y + at, c->ldy, source + at, lds, fetched);
                }
            }
        }
    }
    sc_give(c, packed);
    return 0;
}

/* Positions n0 to n1, fewer than the lanes: on copies filled up with zeros. */
static int run_rest(const sc_line *w, const sc_call *c, sc_part part) {
    const size_t lanes = (size_t)w->lanes, count = part.n1 - part.n0, k = (size_t)w->k, m = (size_t)w->m;
    float *const x = sc_take(c, (k + m) * lanes);
    if (!x) return -1;
    float *const y = x + k * lanes;
    if (c->turned) {
        memset(x, 0, k * lanes * sizeof *x);
        pack_turned(x, lanes, c->x + part.n0 * c->ldx, c->ldx, k, count);
    } else {
        sc_pack(x, lanes, c->x + part.n0, c->ldx, k, count);
    }
    const size_t first = part.r0 * (size_t)w->height, last = sc_min(part.r1 * (size_t)w->height, m);
    if (c->residual)
        for (size_t i = first; i < last; i++) {
            const size_t row = (size_t)w->rows[i];
            sc_pack(y + row * lanes, lanes, c->residual + row * c->ldr + part.n0, c->ldr, 1, count);
        }
    for (int64_t block = 0; block < w->blocks; block++)
        run_groups(w, block, part.r0, part.r1, x + (size_t)(block * w->width) * lanes, lanes, y, lanes, y, lanes, NOTHING);
    for (size_t i = first; i < last; i++) {
        const size_t row = (size_t)w->rows[i];
        memcpy(c->y + row * c->ldy + part.n0, y + row * lanes, count * sizeof *y);
    }
    sc_give(c, x);
    return 0;
}

size_t sc_line_scratch(const sc_line *w, size_t n, size_t ldx) {
    const size_t lanes = (size_t)w->lanes, full = n / lanes;
    const size_t packed = w->pack ? sc_min(full, (size_t)w->panels) * ((size_t)w->width * lanes + GAP) : 0;
    const size_t rest = n % lanes ? (size_t)(w->k + w->m) * lanes : 0;
    (void)ldx;
    return packed > rest ? packed : rest;
}

int sc_line_part(const sc_line *w, const sc_call *call, sc_part part) {
    if (call->turned && !w->pack) return -1;
    const size_t full = part.n0 + (part.n1 - part.n0) / (size_t)w->lanes * (size_t)w->lanes;
    if (full > part.n0 && run_panels(w, call, (sc_part){part.n0, full, part.r0, part.r1}, 0, 0) != 0) return -1;
    if (full < part.n1 && run_rest(w, call, (sc_part){full, part.n1, part.r0, part.r1}) != 0) return -1;
    sc_leave_vectors();
    return 0;
}

int sc_line_panels_part(const sc_line *w, const sc_panels *call, sc_part part) {
    const sc_call rows = {call->x, SC_PANEL, call->y, SC_PANEL, part.n1, call->residual, SC_PANEL, NULL, 0, 0};
    const int status = run_panels(w, &rows, part, (size_t)w->k * SC_PANEL, (size_t)w->m * SC_PANEL);
    sc_leave_vectors();
    return status;
}
