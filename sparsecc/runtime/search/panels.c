/* Row orders: greedy panels, and exchanges of rows between panels.
 *
 * The same steps as cover/orders.py (_fill_panels) and cover/exchange.py (_Panels.improve) take with numpy, in whole
 * numbers, so that the results are equal. Patterns are in CSR form: by rows (first, columns) and by columns
 * (column_first, rows). All memory is the caller's.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "search.h"

/* Larger than any key, resp. any cost. */
#define TAKEN ((int64_t)1 << 62)
#define NONE ((int64_t)1 << 39)
/* Rows of a panel at most: there are two panels, and TABLE of exchange.py bounds their rows and columns together. */
#define PLACES ((int64_t)1 << 23)

/* Writes the rows in order. start: the key of each row in an empty panel (changed); key [m], used [k]: work space. */
void search_fill_panels(int64_t m, int64_t k, const int64_t *first, const int32_t *columns, const int64_t *column_first,
                        const int32_t *rows, int64_t height, int64_t first_height, int64_t *start, int64_t *key,
                        uint8_t *used, int32_t *order)
{
    const int64_t step = k + 2;
    int64_t room = first_height;
    for (int64_t filled = 0; filled < m; filled += room, room = height) {
        memset(used, 0, (size_t)k);
        memcpy(key, start, (size_t)m * sizeof *key);
        for (int64_t place = filled; place < filled + room && place < m; place++) {
            int64_t row = 0;
            for (int64_t i = 1; i < m; i++)
                if (key[i] < key[row])
                    row = i;
            order[place] = (int32_t)row;
            key[row] = start[row] = TAKEN;
            for (int64_t i = first[row]; i < first[row + 1]; i++) {
                const int32_t c = columns[i];
                if (used[c])
                    continue;
                used[c] = 1;
                for (int64_t j = column_first[c]; j < column_first[c + 1]; j++)
                    key[rows[j]] -= step;
            }
        }
    }
}

/* Rows in groups of like ones (1-SA, see jaccard_groups of cover/orders.py). Returns how many groups there are; group g
 * is order[bounds[g]] to order[bounds[g + 1] - 1]. common [m], used [k], taken [m]: work space.
 */
int64_t search_jaccard_groups(int64_t m, int64_t k, const int64_t *first, const int32_t *columns,
                              const int64_t *column_first, const int32_t *rows, double distance, int64_t *order,
                              int64_t *bounds, int64_t *common, uint8_t *used, uint8_t *taken)
{
    int64_t groups = 0, placed = 0;
    memset(taken, 0, (size_t)m);
    bounds[0] = 0;
    for (int64_t seed = 0; seed < m; seed++) {
        if (taken[seed])
            continue;
        int64_t uses = 0;
        memset(used, 0, (size_t)k);
        memset(common, 0, (size_t)m * sizeof *common);
        for (int64_t row = seed; row < m;) {
            order[placed++] = row;
            taken[row] = 1;
            for (int64_t i = first[row]; i < first[row + 1]; i++) {
                const int32_t c = columns[i];
                if (used[c])
                    continue;
                used[c] = 1;
                uses++;
                for (int64_t j = column_first[c]; j < column_first[c + 1]; j++)
                    common[rows[j]]++;
            }
            for (row++; row < m; row++) {
                const int64_t both = first[row + 1] - first[row] + uses - common[row];
                if (!taken[row] && (double)(both - common[row]) < distance * (double)both)
                    break;
            }
        }
        bounds[++groups] = placed;
    }
    return groups;
}

/* What each row costs in each panel, enter [panels, rows]. prices [k, panels], sums [panels]: work space. */
static void enter_costs(const search_exchange_state *s)
{
    const int64_t panels = s->panels;
    for (int64_t p = 0; p < panels; p++)
        for (int64_t c = 0; c < s->k; c++)
            s->prices[c * panels + p] = (int32_t)s->more[s->count[p * s->k + c]];
    for (int64_t r = 0; r < s->m; r++) {
        memset(s->sums, 0, (size_t)panels * sizeof *s->sums);
        for (int64_t i = s->first[r]; i < s->first[r + 1]; i++) {
            const int32_t *price = s->prices + s->columns[i] * panels;
            for (int64_t p = 0; p < panels; p++)
                s->sums[p] += price[p];
        }
        for (int64_t p = 0; p < panels; p++)
            s->enter[p * s->m + r] = (int64_t)s->sums[p] * s->heights[p];
    }
}

/* What each row of the panel saves where it leaves. */
static void leave_savings(const search_exchange_state *s, int64_t panel)
{
    const int32_t *count = s->count + panel * s->k;
    for (int64_t h = 0; h < s->height; h++) {
        const int64_t row = s->slot[panel * s->height + h];
        if (row < 0)
            continue;
        int64_t saved = 0;
        for (int64_t i = s->first[row]; i < s->first[row + 1]; i++)
            saved += s->less[count[s->columns[i]]];
        s->leave[row] = saved * s->heights[panel];
    }
}

/* The rows of panel a that cost least if they go to panel b, the cheapest first, of equal ones the first. */
static void least_costs(const search_exchange_state *s, int64_t a, int64_t b)
{
    const int64_t *slot = s->slot + a * s->height, *enter = s->enter + b * s->m;
    /* Cost and place in one number: equal costs are told apart by place. */
    int64_t least[SEARCH_TRIED];
    for (int64_t t = 0; t < SEARCH_TRIED; t++)
        least[t] = NONE * PLACES;
    for (int64_t h = 0; h < s->height && slot[h] >= 0; h++) {
        int64_t key = (enter[slot[h]] - s->leave[slot[h]]) * PLACES + h;
        for (int64_t t = 0; t < SEARCH_TRIED; t++) {
            const int64_t before = least[t];
            least[t] = key < before ? key : before;
            key = key < before ? before : key;
        }
    }
    for (int64_t t = 0; t < s->tried; t++) {
        const int64_t at = (a * s->tried + t) * s->panels + b, place = least[t] & (PLACES - 1);
        s->cost[at] = (least[t] - place) / PLACES;
        s->place[at] = (int32_t)place;
    }
}

static int by_value(const void *a, const void *b)
{
    const search_pair *x = a, *y = b;
    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return (x->number > y->number) - (x->number < y->number);
}

/* What is due on top of the costs of an exchange for the columns that both rows use. */
static int64_t due(const search_exchange_state *s, int64_t row, int64_t other, int64_t a, int64_t b)
{
    const int32_t *mine = s->count + a * s->k, *its = s->count + b * s->k;
    int64_t i = s->first[row], j = s->first[other], sum = 0;
    while (i < s->first[row + 1] && j < s->first[other + 1]) {
        const int32_t c = s->columns[i], d = s->columns[j];
        if (c == d)
            sum += (s->less[mine[c]] - s->more[mine[c]]) * s->heights[a] +
                   (s->less[its[c]] - s->more[its[c]]) * s->heights[b];
        i += c <= d;
        j += d <= c;
    }
    return sum;
}

/* The best exchange between the two panels of the pair. */
static void best_exchange(const search_exchange_state *s, search_pair *pair)
{
    const int64_t a = pair->left, b = pair->right, tried = s->tried;
    pair->value = NONE, pair->best = 0;
    for (int64_t t = 0; t < tried; t++)
        for (int64_t u = 0; u < tried; u++) {
            const int64_t mine = (a * tried + t) * s->panels + b, its = (b * tried + u) * s->panels + a;
            int64_t rise = s->cost[mine] + s->cost[its];
            /* What is due is never negative. */
            if (rise >= 0 || rise >= pair->value)
                continue;
            rise += due(s, s->slot[a * s->height + s->place[mine]], s->slot[b * s->height + s->place[its]], a, b);
            if (rise < pair->value)
                pair->value = rise, pair->best = (int32_t)(t * tried + u);
        }
}

/* One row more (by = 1) or less (-1) of the panel uses the column. */
static void recount(const search_exchange_state *s, int64_t panel, int32_t column, int32_t by)
{
    int32_t *count = s->count + panel * s->k + column;
    const int64_t before = s->more[*count];
    *count += by;
    const int64_t change = (s->more[*count] - before) * s->heights[panel];
    if (!change)
        return;
    int64_t *enter = s->enter + panel * s->m;
    for (int64_t j = s->column_first[column]; j < s->column_first[column + 1]; j++)
        enter[s->rows[j]] += change;
}

/* The rows in these places of two panels change places. */
static void swap_rows(const search_exchange_state *s, int64_t a, int64_t at, int64_t b, int64_t there)
{
    int64_t *mine = s->slot + a * s->height + at, *its = s->slot + b * s->height + there;
    const int64_t row = *mine, other = *its;
    *mine = other, *its = row;
    s->panel[row] = b, s->panel[other] = a;
    int64_t i = s->first[row], j = s->first[other];
    while (i < s->first[row + 1] || j < s->first[other + 1]) {
        const int32_t c = i < s->first[row + 1] ? s->columns[i] : INT32_MAX;
        const int32_t d = j < s->first[other + 1] ? s->columns[j] : INT32_MAX;
        if (c < d)
            recount(s, a, c, -1), recount(s, b, c, 1);
        else if (d < c)
            recount(s, b, d, -1), recount(s, a, d, 1);
        i += c <= d;
        j += d <= c;
    }
}

/* Exchanges between disjoint pairs of panels, the best pairs first. Returns how many panels changed. */
static int64_t exchange_once(const search_exchange_state *s)
{
    const int64_t panels = s->panels;
    int64_t pairs = 0, swapped = 0;
    for (int64_t a = 0; a < panels; a++)
        for (int64_t b = a + 1; b < panels; b++) {
            const int64_t bound = s->cost[a * s->tried * panels + b] + s->cost[b * s->tried * panels + a];
            if (bound < 0) {
                s->pairs[pairs] = (search_pair){bound, (int32_t)pairs, (int32_t)a, (int32_t)b, 0};
                pairs++;
            }
        }
    qsort(s->pairs, (size_t)pairs, sizeof *s->pairs, by_value);
    if (pairs > s->most_pairs)
        pairs = s->most_pairs;
    for (int64_t i = 0; i < pairs; i++) {
        s->pairs[i].number = (int32_t)i;
        best_exchange(s, s->pairs + i);
    }
    qsort(s->pairs, (size_t)pairs, sizeof *s->pairs, by_value);
    memset(s->changed, 0, (size_t)panels);
    for (int64_t i = 0; i < pairs && s->pairs[i].value < 0; i++) {
        const int64_t a = s->pairs[i].left, b = s->pairs[i].right, tried = s->tried;
        if (s->changed[a] || s->changed[b])
            continue;
        s->changed[a] = s->changed[b] = 1;
        swapped += 2;
        const int64_t t = s->pairs[i].best / tried, u = s->pairs[i].best % tried;
        swap_rows(s, a, s->place[(a * tried + t) * panels + b], b, s->place[(b * tried + u) * panels + a]);
    }
    return swapped;
}

/* Rounds of exchanges that lower the cost, until none does. */
void search_exchange(const search_exchange_state *s, int64_t rounds)
{
    enter_costs(s);
    memset(s->changed, 1, (size_t)s->panels);
    for (; rounds > 0; rounds--) {
        for (int64_t p = 0; p < s->panels; p++)
            if (s->changed[p])
                leave_savings(s, p);
        /* The costs to enter a panel stay in the cache. */
        for (int64_t b = 0; b < s->panels; b++)
            for (int64_t a = 0; a < s->panels; a++)
                if (a != b && (s->changed[a] || s->changed[b]))
                    least_costs(s, a, b);
        if (!exchange_once(s))
            return;
    }
}
