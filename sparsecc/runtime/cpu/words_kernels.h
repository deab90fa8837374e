/* Kernels over words for one multiplication: SC_KERNEL(name) names them, SC_DOT(sum, x, w) multiplies. Included once
 * for each. X lies in rows of `ld` words, padded to whole panels. Results of a row pass through a buffer to what
 * follows. */

/* Rows of words `vectors` vectors wide, driven by data. part.r0 and part.r1 count segments of SC_CSR_ROWS rows. */
static inline __attribute__((always_inline)) void SC_KERNEL(csr_panel)(const sc_words *w, const sc_call *c, sc_part part,
                                                                       const uint32_t *x, size_t ld, const int vectors) {
    const sc_csr *a = w->inner;
    const size_t count = part.n1 - part.n0;
    uint32_t sums[SC_WORDS_VECTORS * SC_LANES] __attribute__((aligned(SC_ALIGN)));
    for (size_t i = part.r0 * SC_CSR_ROWS; i < sc_min(part.r1 * SC_CSR_ROWS, (size_t)a->m); i++) {
        sc_word acc[SC_WORDS_VECTORS];
        for (int v = 0; v < vectors; v++) acc[v] = (sc_word){0};
        for (int64_t e = a->begin[i]; e < a->begin[i + 1]; e++) {
            uint32_t bits;
            memcpy(&bits, &a->entries[e].value, sizeof bits);
            const sc_word value = sc_spread_word(bits);
            const uint32_t *row = x + a->entries[e].column * ld;
            for (int v = 0; v < vectors; v++) acc[v] = SC_DOT(acc[v], sc_load_words(row + v * SC_LANES), value);
        }
        for (int v = 0; v < vectors; v++) sc_store_words(sums + v * SC_LANES, acc[v]);
        put_row(w, c, (size_t)a->rows[i], part.n0, count, sums);
    }
}

static void SC_KERNEL(csr)(const sc_words *w, const sc_call *c, sc_part part, const uint32_t *x, size_t ld) {
    for (size_t n = part.n0; n < part.n1;) {
        const size_t left = part.n1 - n, done = n - part.n0;
        const size_t some = sc_min(left, left > 2 * SC_LANES ? 4 * SC_LANES : left > SC_LANES ? 2 * SC_LANES : SC_LANES);
        const sc_part panel = {n, n + some, part.r0, part.r1};
        if (left > 2 * SC_LANES) SC_KERNEL(csr_panel)(w, c, panel, x + done, ld, 4);
        else if (left > SC_LANES) SC_KERNEL(csr_panel)(w, c, panel, x + done, ld, 2);
        else SC_KERNEL(csr_panel)(w, c, panel, x + done, ld, 1);
        n += some;
    }
}

/* Tiles of SC_DENSE_ROWS rows and `vectors` vectors. part.r0 and part.r1 count such tiles. */
static inline __attribute__((always_inline)) void SC_KERNEL(dense_panel)(const sc_words *w, const sc_call *c,
                                                                         sc_part part, const uint32_t *x, size_t ld,
                                                                         size_t tile, const int vectors) {
    const sc_dense *a = w->inner;
    const uint32_t *values = (const uint32_t *)(const void *)a->values + tile * (size_t)a->k * SC_DENSE_ROWS;
    const size_t first = tile * SC_DENSE_ROWS, rows = sc_min(SC_DENSE_ROWS, (size_t)a->m - first);
    sc_word acc[SC_DENSE_ROWS][SC_DENSE_VECTORS];
    for (int r = 0; r < SC_DENSE_ROWS; r++)
        for (int v = 0; v < vectors; v++) acc[r][v] = (sc_word){0};
    for (size_t k = 0; k < (size_t)a->k; k++, x += ld, values += SC_DENSE_ROWS) {
        sc_word b[SC_DENSE_VECTORS];
        for (int v = 0; v < vectors; v++) b[v] = sc_load_words(x + v * SC_LANES);
#pragma GCC unroll 16
        for (int r = 0; r < SC_DENSE_ROWS; r++) {
            const sc_word value = sc_spread_word(values[r]);
            for (int v = 0; v < vectors; v++) acc[r][v] = SC_DOT(acc[r][v], b[v], value);
        }
    }
    uint32_t sums[SC_DENSE_ROWS][SC_DENSE_VECTORS * SC_LANES] __attribute__((aligned(SC_ALIGN)));
    for (int r = 0; r < SC_DENSE_ROWS; r++)
        for (int v = 0; v < vectors; v++) sc_store_words(&sums[r][v * SC_LANES], acc[r][v]);
    for (size_t r = 0; r < rows; r++) put_row(w, c, first + r, part.n0, part.n1 - part.n0, sums[r]);
}

/* One position: lanes are the rows of a tile. */
static void SC_KERNEL(dense_vector)(const sc_words *w, const sc_call *c, sc_part part, const uint32_t *x, size_t ld) {
    enum { VECTORS = (SC_DENSE_ROWS + SC_LANES - 1) / SC_LANES, CHAINS = 4 };
    const sc_dense *a = w->inner;
    const size_t k = (size_t)a->k;
    for (size_t tile = part.r0; tile < part.r1; tile++) {
        const uint32_t *values = (const uint32_t *)(const void *)a->values + tile * k * SC_DENSE_ROWS;
        sc_word acc[CHAINS][VECTORS];
        for (int i = 0; i < CHAINS; i++)
            for (int v = 0; v < VECTORS; v++) acc[i][v] = (sc_word){0};
        size_t done = 0;
        /* A vector may reach into the values of the next columns, which the last ones do not have. */
        for (; done + CHAINS + 1 < k; done += CHAINS) {
            /* Memory brings it while some hundred words are multiplied. */
            for (size_t line = 0; line < CHAINS * SC_DENSE_ROWS; line += SC_ALIGN / 4)
                __builtin_prefetch(values + done * SC_DENSE_ROWS + SC_WORDS_AHEAD + line);
            for (int i = 0; i < CHAINS; i++)
                for (int v = 0; v < VECTORS; v++)
                    acc[i][v] = SC_DOT(acc[i][v], sc_spread_word(x[(done + (size_t)i) * ld]),
                                       sc_load_words(values + (done + (size_t)i) * SC_DENSE_ROWS + v * SC_LANES));
        }
        for (; done < k; done++) {
            uint32_t rest[VECTORS * SC_LANES] __attribute__((aligned(SC_ALIGN))) = {0};
            memcpy(rest, values + done * SC_DENSE_ROWS, SC_DENSE_ROWS * sizeof *rest);
            for (int v = 0; v < VECTORS; v++)
                acc[0][v] = SC_DOT(acc[0][v], sc_spread_word(x[done * ld]), sc_load_words(rest + v * SC_LANES));
        }
        uint32_t sums[VECTORS * SC_LANES] __attribute__((aligned(SC_ALIGN)));
        for (int v = 0; v < VECTORS; v++)
            sc_store_words(sums + v * SC_LANES, SC_SUM(SC_SUM(acc[0][v], acc[1][v]), SC_SUM(acc[2][v], acc[3][v])));
        const size_t first = tile * SC_DENSE_ROWS;
        put_column(w, c, first, sc_min(SC_DENSE_ROWS, (size_t)a->m - first), part.n0, sums);
    }
}

static void SC_KERNEL(dense)(const sc_words *w, const sc_call *c, sc_part part, const uint32_t *x, size_t ld) {
    const size_t width = SC_DENSE_VECTORS * SC_LANES, panels = (part.n1 - part.n0 + width - 1) / width;
    const size_t tiles = part.r1 - part.r0;
    const size_t bytes = tiles * SC_DENSE_ROWS * (size_t)((const sc_dense *)w->inner)->k * sizeof *x;
    if (part.n1 - part.n0 == 1) {
        SC_KERNEL(dense_vector)(w, c, part, x, ld);
        return;
    }
    /* What stays in the second cache passes several times, and the first holds the other: values of all rows by a
     * panel of X, or, where they are too many, all panels by a tile's values. */
    const int by_panel = bytes <= SC_WORDS_STAY;
    for (size_t i = 0; i < tiles * panels; i++) {
        const size_t tile = part.r0 + (by_panel ? i % tiles : i / panels);
        const size_t n = part.n0 + (by_panel ? i / tiles : i % panels) * width;
        const sc_part panel = {n, sc_min(part.n1, n + width), part.r0, part.r1};
        const uint32_t *from = x + (n - part.n0);
        if (panel.n1 - n > SC_LANES) SC_KERNEL(dense_panel)(w, c, panel, from, ld, tile, SC_DENSE_VECTORS);
        else SC_KERNEL(dense_panel)(w, c, panel, from, ld, tile, 1);
    }
}

#if SC_INTEGERS && defined(__AVX512F__)
/* What `count` full tiles of the same columns, which have a step for each, add to the `sums` of each. */
static inline __attribute__((always_inline)) void SC_KERNEL(full)(const int count, const uint32_t *values,
                                                                  const uint32_t *x, uint32_t *const *sums) {
    enum { TILE = SC_VECTOR_COLUMNS * SC_VECTOR_ROWS };
    sc_word acc[FULL];
    for (int t = 0; t < count; t++) acc[t] = sc_load_words(sums[t]);
    for (int s = 0; s < SC_VECTOR_COLUMNS; s++) {
        const sc_word from = sc_spread_word(x[s]);
        for (int t = 0; t < count; t++)
            acc[t] = SC_DOT(acc[t], from, sc_load_words(values + t * TILE + s * SC_VECTOR_ROWS));
    }
    for (int t = 0; t < count; t++) sc_store_words(sums[t], acc[t]);
}
#endif

#if defined(__AVX512F__)
/* What the lanes of a step take of a tile's words. Those without a value see 0, whatever else would stand there; of
 * integers a 0 of W makes a 0 of anything. */
static inline sc_word SC_KERNEL(pick)(const uint8_t *columns, const uint16_t *masks, int64_t s, __m512i low, __m512i high) {
    const __m512i at = _mm512_cvtepu8_epi32(_mm_loadu_si128((const __m128i *)(const void *)(columns + s * SC_VECTOR_ROWS)));
    return (sc_word)_mm512_maskz_permutex2var_epi32(SC_INTEGERS ? 0xffff : masks[s], low, at, high);
}
#endif

/* The steps of a tile: its 16 rows' sums, as words, become greater by what these hold. x: the tile's columns. */
static inline void SC_KERNEL(tile)(const uint32_t *values, const uint8_t *columns, const uint16_t *masks, int64_t steps,
                                   const uint32_t *x, uint32_t *sums) {
#if defined(__AVX512F__)
    const __m512i low = _mm512_loadu_si512(x), high = _mm512_loadu_si512(x + 16);
    sc_word even = sc_load_words(sums), odd = {0};
    int64_t s = 0;
    for (; s + 2 <= steps; s += 2) {
        even = SC_DOT(even, SC_KERNEL(pick)(columns, masks, s, low, high), sc_load_words(values + s * SC_VECTOR_ROWS));
        odd = SC_DOT(odd, SC_KERNEL(pick)(columns, masks, s + 1, low, high), sc_load_words(values + (s + 1) * SC_VECTOR_ROWS));
    }
    if (s < steps)
        even = SC_DOT(even, SC_KERNEL(pick)(columns, masks, s, low, high), sc_load_words(values + s * SC_VECTOR_ROWS));
    sc_store_words(sums, SC_SUM(even, odd));
#else
    for (int r = 0; r < SC_VECTOR_ROWS; r += SC_LANES) {
        sc_word acc = sc_load_words(sums + r);
        for (int64_t s = 0; s < steps; s++) {
            uint32_t from[SC_LANES] __attribute__((aligned(SC_ALIGN)));
            const int64_t at = s * SC_VECTOR_ROWS + r;
            for (int i = 0; i < SC_LANES; i++) from[i] = (masks[s] >> (r + i) & 1) ? x[columns[at + i]] : 0;
            acc = SC_DOT(acc, sc_load_words(from), sc_load_words(values + at));
        }
        sc_store_words(sums + r, acc);
    }
#endif
}

/* One position: lanes are rows, as in vector.c; x has whole tiles. part.r0 and part.r1 count slabs. */
static void SC_KERNEL(vector)(const sc_words *w, const sc_call *c, sc_part part, const uint32_t *x) {
    const sc_vector *a = w->inner;
    const uint32_t *values = (const uint32_t *)(const void *)a->values;
    for (const sc_slab *slab = a->slabs + part.r0; slab < a->slabs + part.r1; slab++) {
        uint32_t sums[SC_VECTOR_SLAB] __attribute__((aligned(SC_ALIGN))) = {0};
        int64_t tile = slab->tile, step = slab->step;
        for (int64_t i = slab->stretch; i < slab[1].stretch; i++) {
            const int64_t steps = a->stretches[i].steps, end = tile + a->stretches[i].tiles;
#if SC_INTEGERS && defined(__AVX512F__)
            while (steps == SC_VECTOR_COLUMNS && tile < end) {
                const sc_tile *t = a->places + tile;
                const uint32_t *from = x + t->tile * SC_VECTOR_COLUMNS, *own = values + step * SC_VECTOR_ROWS;
                uint32_t *to[FULL];
                int count = 0;
                for (; count < FULL && tile + count < end && t[count].tile == t->tile; count++)
                    to[count] = sums + t[count].group * SC_VECTOR_ROWS;
                if (count < FULL) count = 1;
                if (count == FULL) SC_KERNEL(full)(FULL, own, from, to);
                else SC_KERNEL(full)(1, own, from, to);
                tile += count;
                step += count * steps;
            }
#endif
            for (; tile < end; tile++, step += steps)
                SC_KERNEL(tile)(values + step * SC_VECTOR_ROWS, a->columns + step * SC_VECTOR_ROWS, a->masks + step, steps,
                                x + a->places[tile].tile * SC_VECTOR_COLUMNS,
                                sums + a->places[tile].group * SC_VECTOR_ROWS);
        }
        const int32_t *rows = a->rows + slab->group * SC_VECTOR_ROWS;
        const size_t count = (size_t)(slab[1].group - slab->group) * SC_VECTOR_ROWS;
        put_rows(w, c, rows, count, part.n0, sums);
    }
}
