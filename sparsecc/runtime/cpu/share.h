/* How a call is cut to parts for threads. */
#ifndef SC_SHARE_H
#define SC_SHARE_H

#include "internal.h"

typedef struct sc_work {
    const void *context;
    /* Parts with another index may run at once. */
    int (*run)(const void *context, sc_part part, size_t index);
    size_t n, panel; /* positions; those of a panel, between which parts are cut */
    size_t rows;     /* of whatever the kernel counts as rows */
    int may_split_rows;  /* anywhere */
    const sc_line *line; /* straight-line code, whose groups are the rows; else NULL */
} sc_work;

/* 0; -1 where a part failed. */
int sc_share_out(const sc_work *work, int threads);

/* Whether code and values are more than a core's second cache is sure to hold. */
int sc_line_is_far(const sc_line *w);

/* Whether so many threads may share out its groups. */
int sc_line_has_shares(const sc_line *w, size_t parts);

/* The pieces of share `part` of `parts` with equally much code each, on `panels` panels; n0 and n1 count panels.
 * Between shares a group of rows is cut by panels, where groups may be cut anywhere. */
enum { SC_LINE_PIECES = 3 };
size_t sc_line_share(const sc_line *w, size_t part, size_t parts, size_t panels, sc_part pieces[SC_LINE_PIECES]);

#endif
