/* Products on arrays in panels, as they pass from layer to layer inside a network: SC_PANEL positions of a row stand
 * together, then those of the next row, so that every vector is aligned and a panel is one stretch of memory.
 * X [panels][K][SC_PANEL], Y and the residual [panels][M][SC_PANEL]. All positions are computed. */
#ifndef SC_PANELS_H
#define SC_PANELS_H

#include "sc.h"

enum { SC_PANEL = 16 };

typedef struct sc_panels {
    const float *x;
    float *y;
    size_t panels;
    const float *residual; /* that is added, or NULL */
} sc_panels;

/* As sc_line_run and its like. */
int sc_line_panels(const sc_line *w, const sc_panels *call, int threads);
int sc_csr_panels(const sc_csr *w, const sc_panels *call, int threads);
int sc_dense_panels(const sc_dense *w, const sc_panels *call, int threads);

/* Positions part.n0 to part.n1, which are multiples of SC_PANEL; rows as sc_line_part counts them. */
int sc_line_panels_part(const sc_line *w, const sc_panels *call, sc_part part);

/* As sc_array_run, for contiguous panels; f->aligned.run takes an sc_panels. */
int sc_array_panels(const sc_array_call *f, const char *x, const char *y, int threads);

#endif
