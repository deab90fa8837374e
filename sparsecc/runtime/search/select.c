/* The largest of many small numbers, and overlaps of rows, of which only the largest count. */
#include <stdint.h>
#include <string.h>

#include "search.h"

/* The place-th smallest (from 0) of the values, which change their order (Hoare's selection). */
uint16_t search_nth_smallest(uint16_t *values, int64_t count, int64_t place)
{
    int64_t low = 0, high = count - 1;
    while (low < high) {
        const uint16_t pivot = values[(low + high) / 2];
        int64_t i = low, j = high;
        while (i <= j) {
            while (values[i] < pivot)
                i++;
            while (values[j] > pivot)
                j--;
            if (i <= j) {
                const uint16_t swap = values[i];
                values[i++] = values[j];
                values[j--] = swap;
            }
        }
        if (place <= j)
            high = j;
        else if (place >= i)
            low = i;
        else
            break;
    }
    return values[place];
}

/* Maxima of values that lie GROUPS apart: the count-th largest of them is no more than that of all values. */
enum { GROUPS = 64, RUN = 32 };

static uint16_t lower_bound(const uint16_t *sums, int64_t n, int64_t count)
{
    uint16_t most[GROUPS];
    if (n < 2 * GROUPS || count > GROUPS)
        return 1;
    memcpy(most, sums, sizeof most);
    for (int64_t i = GROUPS; i + GROUPS <= n; i += GROUPS)
        for (int64_t j = 0; j < GROUPS; j++)
            most[j] = most[j] > sums[i + j] ? most[j] : sums[i + j];
    const uint16_t found = search_nth_smallest(most, GROUPS, GROUPS - count);
    return found ? found : 1;
}

/* Copies the values above zero that may be among the `count` largest, and their places. Returns how many. */
int64_t search_candidates(const uint16_t *values, int64_t n, int64_t count, uint16_t *kept, int32_t *places)
{
    const uint16_t enough = lower_bound(values, n, count);
    int64_t near = 0;
    for (int64_t first = 0; first < n; first += RUN) {
        const int64_t end = first + RUN < n ? first + RUN : n;
        uint16_t most = 0;
        for (int64_t i = first; i < end; i++)
            most = most > values[i] ? most : values[i];
        /* Few runs hold any of the largest values. */
        for (int64_t i = most < enough ? end : first; i < end; i++) {
            places[near] = (int32_t)i;
            kept[near] = values[i];
            near += values[i] >= enough;
        }
    }
    return near;
}

/* For each row the sum of its `count` largest overlaps with other rows, as they are and each at most `cap` (see
 * cover/bound.py). work [2 m], places [m]: work space.
 */
void search_overlaps(int64_t m, const int64_t *first, const int32_t *columns, const int64_t *column_first,
                     const int32_t *rows, int64_t count, int64_t cap, int64_t *plain, int64_t *clipped, uint16_t *work,
                     int32_t *places)
{
    uint16_t *kept = work + m;
    for (int64_t r = 0; r < m; r++) {
        memset(work, 0, (size_t)m * sizeof *work);
        for (int64_t i = first[r]; i < first[r + 1]; i++)
            for (int64_t j = column_first[columns[i]]; j < column_first[columns[i] + 1]; j++)
                work[rows[j]]++;
        work[r] = 0; /* a row is no other row */
        const int64_t near = search_candidates(work, m, count, kept, places);
        const int64_t least = near > count ? search_nth_smallest(kept, near, near - count) : 0;
        int64_t equal = near < count ? near : count;
        plain[r] = clipped[r] = 0;
        for (int64_t i = 0; i < near; i++)
            if (kept[i] > least) {
                plain[r] += kept[i];
                clipped[r] += kept[i] < cap ? kept[i] : cap;
                equal--;
            }
        plain[r] += equal * least;
        clipped[r] += equal * (least < cap ? least : cap);
    }
}
