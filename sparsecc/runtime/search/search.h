/* What cover/kernels.py calls; its structures are the same, field by field. */
#ifndef SPARSECC_SEARCH_H
#define SPARSECC_SEARCH_H

#include <stdint.h>

uint16_t search_nth_smallest(uint16_t *values, int64_t count, int64_t place);
int64_t search_candidates(const uint16_t *values, int64_t n, int64_t count, uint16_t *kept, int32_t *places);
void search_overlaps(int64_t m, const int64_t *first, const int32_t *columns, const int64_t *column_first,
                     const int32_t *rows, int64_t count, int64_t cap, int64_t *plain, int64_t *clipped, uint16_t *work,
                     int32_t *places);

/* Rows of a panel that are looked at for each other panel, at most. */
#define SEARCH_TRIED 3

/* Two panels, and the best exchange between them. */
typedef struct {
    int64_t value;
    int32_t number, left, right, best;
} search_pair;

/* Panels of rows under exchange (see cover/exchange.py). */
typedef struct {
    int64_t m, k, panels, height, tried, most_pairs;
    const int64_t *first;
    const int32_t *columns;
    const int64_t *column_first;
    const int32_t *rows;
    const int64_t *heights;
    const int64_t *more, *less; /* what one row more costs, one less saves, by count */
    int64_t *panel;             /* of each row */
    int64_t *slot;              /* [panels, height] */
    int32_t *count;             /* [panels, k] */
    /* Work space. */
    int64_t *enter;    /* [panels, m] */
    int64_t *leave;    /* [m] */
    int64_t *cost;     /* [panels, tried, panels] */
    int32_t *place;    /* the same */
    int32_t *prices;   /* [k, panels] */
    int32_t *sums;     /* [panels] */
    search_pair *pairs; /* [panels (panels - 1) / 2] */
    uint8_t *changed;  /* [panels] */
} search_exchange_state;

void search_fill_panels(int64_t m, int64_t k, const int64_t *first, const int32_t *columns, const int64_t *column_first,
                        const int32_t *rows, int64_t height, int64_t first_height, int64_t *start, int64_t *key,
                        uint8_t *used, int32_t *order);
int64_t search_jaccard_groups(int64_t m, int64_t k, const int64_t *first, const int32_t *columns,
                              const int64_t *column_first, const int32_t *rows, double distance, int64_t *order,
                              int64_t *bounds, int64_t *common, uint8_t *used, uint8_t *taken);
void search_exchange(const search_exchange_state *s, int64_t rounds);

/* The ones of a plane that no block holds yet, with their weights (see cover/biclique_search.py). */
typedef struct {
    int64_t m, k, um, uk, heaviest;
    const uint8_t *weights; /* [m, k] */
    int32_t *held;          /* [m, k] */
    uint8_t *by_row;        /* [m, k] */
    uint8_t *by_column;     /* [k, m] */
    uint16_t *sums;         /* [max(m, k)], and as much again for the selection */
    int32_t *lines;         /* [max(m, k)] */
} search_plane;

/* A block: its rows, at most um, and its columns, at most uk. */
typedef struct {
    int64_t row_count, column_count;
    int32_t *rows, *columns;
} search_block;

int64_t search_best_rows(const search_plane *p, search_block *block, int64_t count);
int64_t search_alternate(const search_plane *p, search_block *block, int64_t rounds);
int64_t search_grow(const search_plane *p, search_block *block, int64_t row);
int64_t search_weight(const search_plane *p, const search_block *block);
void search_add(const search_plane *p, const search_block *block);
int64_t search_remove(const search_plane *p, const search_block *block);
void search_fit(const search_plane *p, search_block *block);

#endif
