/* Moves of the search for bicliques: the same as of Remainder in cover/biclique_search.py, with equal results.
 *
 * Sums of weights fit 16 bits: a block has at most max(um, uk) lines, and that many times the heaviest weight is less.
 */
#include <stdint.h>
#include <string.h>

#include "search.h"

static int64_t largest(int64_t a, int64_t b) { return a > b ? a : b; }

/* At most `count` places with the largest sums above zero, rising; of equal sums the last ones. Returns how many. */
static int64_t heaviest(uint16_t *sums, int64_t n, int64_t count, int32_t *places, int32_t *found, int64_t *total)
{
    uint16_t *kept = sums + n, least = 0;
    const int64_t near = search_candidates(sums, n, count, kept, places);
    int64_t taken = 0;
    int64_t surplus = 0;
    if (near > count) {
        least = search_nth_smallest(kept, near, near - count);
        surplus = -count;
        for (int64_t i = 0; i < near; i++)
            surplus += sums[places[i]] >= least;
    }
    *total = 0;
    for (int64_t i = 0; i < near; i++) {
        const uint16_t sum = sums[places[i]];
        if (sum < least || (sum == least && surplus-- > 0))
            continue;
        found[taken++] = places[i];
        *total += sum;
    }
    return taken;
}

/* Sums over these lines of a plane of n columns. */
static void add_lines(const uint8_t *plane, int64_t n, const int32_t *lines, int64_t count, uint16_t *sums)
{
    int64_t i = 0;
    memset(sums, 0, (size_t)n * sizeof *sums);
    for (; i + 4 <= count; i += 4) {
        const uint8_t *a = plane + lines[i] * n, *b = plane + lines[i + 1] * n;
        const uint8_t *c = plane + lines[i + 2] * n, *d = plane + lines[i + 3] * n;
        for (int64_t j = 0; j < n; j++)
            sums[j] = (uint16_t)(sums[j] + a[j] + b[j] + c[j] + d[j]);
    }
    for (; i < count; i++) {
        const uint8_t *a = plane + lines[i] * n;
        for (int64_t j = 0; j < n; j++)
            sums[j] = (uint16_t)(sums[j] + a[j]);
    }
}

static int64_t best_columns(const search_plane *p, search_block *block)
{
    int64_t total;
    add_lines(p->by_row, p->k, block->rows, block->row_count, p->sums);
    block->column_count = heaviest(p->sums, p->k, p->uk, p->lines, block->columns, &total);
    return total;
}

/* The rows that are best for the block's columns. Returns their weight. */
int64_t search_best_rows(const search_plane *p, search_block *block, int64_t count)
{
    int64_t total;
    add_lines(p->by_column, p->m, block->columns, block->column_count, p->sums);
    block->row_count = heaviest(p->sums, p->m, count, p->lines, block->rows, &total);
    return total;
}

int64_t search_alternate(const search_plane *p, search_block *block, int64_t rounds)
{
    int64_t best = -1;
    for (; rounds > 0; rounds--) {
        if (best_columns(p, block) <= best)
            break;
        best = search_best_rows(p, block, p->um);
    }
    return best;
}

int64_t search_grow(const search_plane *p, search_block *block, int64_t row)
{
    const uint8_t *line = p->by_row + row * p->k;
    const int64_t most = 65535 / p->heaviest;
    int64_t own = 0, total;
    int32_t *lines = p->lines;
    for (int64_t j = 0; j < p->k && own < most; j++)
        if (line[j])
            lines[own++] = (int32_t)j;
    block->row_count = block->column_count = 0;
    if (!own)
        return 0;
    add_lines(p->by_column, p->m, lines, own, p->sums);
    block->row_count = heaviest(p->sums, p->m, largest(1, p->um / 8), lines, block->rows, &total);
    for (int64_t part = 4; part > 0; part /= 2) {
        best_columns(p, block);
        search_best_rows(p, block, largest(1, p->um / part));
    }
    return search_alternate(p, block, 8);
}

int64_t search_weight(const search_plane *p, const search_block *block)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < block->row_count; i++)
        for (int64_t j = 0; j < block->column_count; j++)
            sum += p->by_row[block->rows[i] * p->k + block->columns[j]];
    return sum;
}

void search_add(const search_plane *p, const search_block *block)
{
    for (int64_t i = 0; i < block->row_count; i++)
        for (int64_t j = 0; j < block->column_count; j++) {
            const int64_t r = block->rows[i], c = block->columns[j];
            p->held[r * p->k + c]++;
            p->by_row[r * p->k + c] = p->by_column[c * p->m + r] = 0;
        }
}

/* Returns the weight that no other block holds. */
int64_t search_remove(const search_plane *p, const search_block *block)
{
    int64_t sum = 0;
    for (int64_t i = 0; i < block->row_count; i++)
        for (int64_t j = 0; j < block->column_count; j++) {
            const int64_t r = block->rows[i], c = block->columns[j], at = r * p->k + c;
            const uint8_t free = --p->held[at] ? 0 : p->weights[at];
            p->by_row[at] = p->by_column[c * p->m + r] = free;
            sum += free;
        }
    return sum;
}

static int64_t heaviest_row(const search_plane *p)
{
    int64_t best = 0;
    uint32_t most = 0;
    for (int64_t r = 0; r < p->m; r++) {
        const uint8_t *line = p->by_row + r * p->k;
        uint32_t sum = 0;
        for (int64_t j = 0; j < p->k; j++)
            sum += line[j];
        if (sum > most)
            most = sum, best = r;
    }
    return best;
}

/* Puts the block where it holds most of what the others leave; where nothing is left it stays. */
void search_fit(const search_plane *p, search_block *block)
{
    const int64_t row_count = block->row_count, column_count = block->column_count;
    if (search_remove(p, block)) {
        search_alternate(p, block, 2);
    } else {
        /* The block is kept behind the place of the new one. */
        int32_t *rows = block->rows + p->um, *columns = block->columns + p->uk;
        memcpy(rows, block->rows, (size_t)row_count * sizeof *rows);
        memcpy(columns, block->columns, (size_t)column_count * sizeof *columns);
        if (!search_grow(p, block, heaviest_row(p))) {
            memcpy(block->rows, rows, (size_t)row_count * sizeof *rows);
            memcpy(block->columns, columns, (size_t)column_count * sizeof *columns);
            block->row_count = row_count, block->column_count = column_count;
        }
    }
    search_add(p, block);
}
