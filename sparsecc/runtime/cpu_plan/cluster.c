/* Orders rows so that those of a group share columns: see sparsecc/cpu/rows.py. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

/* Rows by falling count, equal ones in their order: a counting sort. */
static void by_count(int64_t m, int64_t k, const int64_t *begin, int32_t *rows, int64_t *first) {
    memset(first, 0, sizeof *first * (size_t)(k + 2));
    for (int64_t r = 0; r < m; r++) first[k - (begin[r + 1] - begin[r]) + 1]++;
    for (int64_t c = 0; c <= k; c++) first[c + 1] += first[c];
    for (int64_t r = 0; r < m; r++) rows[first[k - (begin[r + 1] - begin[r])]++] = (int32_t)r;
}

/* The rows of each column: starts [k + 1] and rows. */
static void transpose(int64_t m, int64_t k, const int64_t *begin, const int32_t *columns, int64_t *starts, int32_t *rows) {
    memset(starts, 0, sizeof *starts * (size_t)(k + 2));
    for (int64_t i = 0; i < begin[m]; i++) starts[columns[i] + 2]++;
    for (int64_t c = 0; c < k; c++) starts[c + 2] += starts[c + 1];
    for (int64_t r = 0; r < m; r++)
        for (int64_t i = begin[r]; i < begin[r + 1]; i++) rows[starts[columns[i] + 1]++] = (int32_t)r;
}

/* What speaks for a row with `count` columns, `shared` of which the group uses: `gain` for each of these, less one for
 * each of all; with gain 0 their share of all. */
static int64_t score_of(int64_t shared, int64_t count, int64_t gain) {
    return gain ? gain * shared - count : shared * 65536 / (count + 1);
}

/* order [m]: groups of `height` rows, one after the other. A group begins with the longest row left, and takes the
 * row of the best score; of equal ones the longest. The matrix is m x k in CSR. Returns 0, or -1 without memory. */
int sc_cluster(int64_t m, int64_t k, const int64_t *begin, const int32_t *columns, int64_t height, int64_t gain,
               int32_t *order) {
    int32_t *left = malloc(sizeof *left * (size_t)(m + 1)), *shared = malloc(sizeof *shared * (size_t)(m + 1));
    int64_t *starts = malloc(sizeof *starts * (size_t)(k + 2)), *used = malloc(sizeof *used * (size_t)(k + 1));
    int32_t *rows = malloc(sizeof *rows * (size_t)(begin[m] + 1));
    const int ready = left && shared && starts && used && rows;
    if (ready) {
        by_count(m, k, begin, left, starts);
        transpose(m, k, begin, columns, starts, rows);
        memset(used, 0, sizeof *used * (size_t)(k + 1));
    }
    int64_t count = m, placed = 0;
    for (int64_t group = 1; ready && count > 0; group++) {
        memset(shared, 0, sizeof *shared * (size_t)m);
        int64_t chosen = 0;
        for (int64_t taken = 0; taken < height && count > 0; taken++) {
            const int32_t row = left[chosen];
            order[placed++] = row;
            memmove(left + chosen, left + chosen + 1, sizeof *left * (size_t)(--count - chosen));
            for (int64_t i = begin[row]; i < begin[row + 1]; i++) {
                const int32_t column = columns[i];
                if (used[column] == group) continue;
                used[column] = group;
                for (int64_t j = starts[column]; j < starts[column + 1]; j++) shared[rows[j]]++;
            }
            int64_t best = INT64_MIN;
            for (int64_t i = 0; i < count; i++) {
                const int32_t r = left[i];
                const int64_t score = score_of(shared[r], begin[r + 1] - begin[r], gain);
                if (score > best) best = score, chosen = i;
            }
        }
    }
    free(left);
    free(shared);
    free(starts);
    free(used);
    free(rows);
    return ready ? 0 : -1;
}
