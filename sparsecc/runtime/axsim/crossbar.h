/* axsim, memristor crossbars: arrays of cells that multiply in place.
 *
 * The memories, off-chip transfers and vector operations are those of axsim.h. SPAD holds inputs (int8) and ACC
 * sums (int32); a row of either holds `row_elements` elements, which are so many positions (vectors) of one feature:
 * activations are features x positions. Input i of vector v is element v of row i; vectors beyond one row lie in
 * blocks of rows `step` further on, as LD and ST lay them out. Bytes of SPAD and ACC that LD, ST and XB.MVM move are
 * counted element by element: these memories are read and written in words, not in rows of all positions.
 *
 * An array has rows (inputs) x columns (outputs) of cells. A cell holds a level of cell_bits bits: with
 * differential encoding a signed one, -(2^cell_bits - 1) to 2^cell_bits - 1, being a pair of devices of which one is
 * at 0; with offset encoding an unsigned one. A weight of several slices lies in several arrays (or columns), each of
 * which is a *block*: a rectangle of an array with its inputs, outputs, shift and ADC bits, set by XB.CFG.
 *
 * A multiplication is bit-serial. Differential: inputs are sign-magnitude, in_bits - 1 bits of magnitude, dac_bits in
 * one step; the sum of a step and column goes through the ADC, which clips it to +-(2^(adc_bits - 1) - 1); where
 * the devices of a pair are digitised apart, the sums of either are clipped. Offset: inputs are two's complement, one
 * bit in a step, the top one negative; the ADC clips to 0 .. 2^adc_bits - 1. The clipped sums are shifted and
 * added. Where operation units are smaller than the block, each ou_rows rows of it are a sum of their own.
 * Clipping is counted; it is never silent.
 */
#ifndef AXSIM_CROSSBAR_H
#define AXSIM_CROSSBAR_H

#include "axsim.h"

typedef enum { AX_DIFFERENTIAL, AX_OFFSET } ax_encoding;
typedef enum { AX_TIME_STAGES, AX_TIME_PIMSIM } ax_xb_timing;

enum { AX_SHAPES = 8, AX_ADC_BITS = 16 }; /* at most: shapes of arrays, bits of an ADC */
enum { AX_BIT_SERIAL = 4 }; /* one more flag of ax_open: no short cut where sums cannot be clipped */

/* A target with crossbars. In `base` count: name, clock, memories (line_rows too), dma, move, vector, queues, and the
 * energies of memories and alu; in and acc must be AX_I8 and AX_I32, kind AX_XB; rows and cols are those of an
 * array. Cycles and picojoules; what is fixed and what grows with the bits are added. */
typedef struct ax_crossbar {
    ax_config base;
    int row_elements; /* of a row of SPAD and ACC */
    /* arrays */
    int arrays; /* of the shape of base */
    int shapes, shape_rows[AX_SHAPES], shape_cols[AX_SHAPES]; /* XB.SHAPE takes one of these; 0: base's only */
    int cell_bits, in_bits;
    ax_encoding encoding;
    int digitised_separately;
    double read_cycles;   /* t_array: one step of an array */
    int ou_rows, ou_cols; /* rows and columns in use at once; 0: all */
    int dac_bits, dac_lanes; /* lanes: 0: one for each row; only AX_TIME_PIMSIM counts them */
    int adc_bits;            /* at most */
    int adc_lanes, adc_arrays; /* converters that so many arrays, one after the other, share */
    double adc_cycles, adc_cycles_per_bit; /* of one conversion */
    /* XB.MVM: vectors x steps x T, and (stages - 1) x T until complete; or PIMSIM-NN's front and back stages */
    ax_xb_timing timing;
    int stages;
    int input_buffer_cycles, dac_cycles, sample_hold_cycles, shift_add_cycles, output_buffer_cycles, pipelined;
    int io_cycles; /* more for each vector of an XB.MVM, not overlapped */
    int index_cycles; /* more for each input or output row by index, and vector */
    /* XB.PROG */
    double row_write_cycles; /* one pulse on one row */
    int pulses;              /* for each cell: writes and verifications */
    int program_lanes;       /* arrays written at once */
    double endurance;        /* writes of a cell; INFINITY: not known */
    double dac_pj;           /* one row and step */
    double array_pj;         /* one whole array of devices and step */
    double adc_pj, adc_pj_per_bit, shift_add_pj; /* one conversion */
    double write_pj;         /* one device and pulse */
    double index_pj;         /* one row by index */
} ax_crossbar;

/* What makes an array differ from its levels. Random numbers are a function of the seed, the place of the device and
 * the number of its writes (of programming) or reads, so they do not depend on the order of instructions. */
typedef struct ax_noise {
    uint64_t seed;
    double program_sigma;   /* of a device's level, relative to it, at each write */
    int lognormal;          /* level * exp(sigma * normal) instead of level * (1 + sigma * normal) */
    double read_sigma;      /* the same at each step of each vector */
    double stuck_low, stuck_high; /* share of devices that stay at level 0, and at the highest */
} ax_noise;

ax_machine *ax_open_crossbar(const ax_crossbar *config, unsigned flags); /* NULL when out of memory */
/* Before the first XB.PROG. */
int ax_xb_noise(ax_machine *m, const ax_noise *noise);
/* The same in words: "seed=3,program=0.1,lognormal=1,read=0.02,stuck_low=0.01,stuck_high=0.01", any of them. */
int ax_xb_noise_text(ax_machine *m, const char *text);
/* One faulty device: `negative` is that of a pair which counts negative; high: stuck at the highest level, else at
 * 0. Before the first XB.PROG of its array; of several for one device the last counts. */
int ax_xb_fault(ax_machine *m, int32_t array, int32_t row, int32_t col, int negative, int high);
/* Many of them, from a text file of their five numbers each. */
int ax_xb_fault_file(ax_machine *m, const char *path);

/* XB.SHAPE: arrays first .. first + count - 1 have this shape, which is one of the target's, before they are used;
 * arrays not named have the shape of `base`. There are as many arrays as the chip's cells make of the smallest shape;
 * those with a shape and those programmed together have at most the cells of the chip. */
int ax_xb_shape(ax_machine *m, int32_t first, int32_t count, int32_t rows, int32_t cols);
/* XB.PROG: cells [row0, row0 + rows) x [col0, col0 + cols) get the levels at `offset` of an AX_I8 buffer, rows
 * `stride` apart. */
int ax_xb_prog(ax_machine *m, int32_t array, int32_t row0, int32_t rows, int32_t col0, int32_t cols, int buffer,
               int64_t offset, int64_t stride);
/* XB.CFG: block number `block` (any from 0 to 2^24 - 1; may be set again) is that rectangle of that array.
 *   in_row, out_row   rows added to the addresses of an XB.MVM
 *   shift             results are shifted left by so many bits
 *   adc_bits          of each conversion
 *   offset            of the weights: offset * (sum of the inputs) is subtracted from each result, not shifted
 * The others are places of lists in the AX_I32 buffer `tables`; -1: none.
 *   in_index          rows numbers: input i is row in + in_row + in_index[i]
 *   out_index         cols numbers: output j is row out + out_row + out_index[j], all different
 *   doubled           rows flags: these inputs count twice, which takes one more step if there is any
 *   flipped           cols flags: level l stands for 2^cell_bits - 1 - l (offset encoding) */
int ax_xb_cfg(ax_machine *m, int32_t block, int32_t array, int32_t row0, int32_t rows, int32_t col0, int32_t cols,
              int32_t in_row, int32_t out_row, int32_t shift, int32_t adc_bits, int32_t offset, int tables,
              int64_t in_index, int64_t out_index, int64_t doubled, int64_t flipped);
/* XB.MVM: for each of n vectors, out[j] (+)= sum of in[i] * cell[i][j], shifted. */
int ax_xb_mvm(ax_machine *m, int32_t block, uint32_t in, int32_t in_step, uint32_t out, int32_t out_step, int32_t n,
              int accumulate);
/* XB.MVMG: blocks block .. block + count - 1 at once and on the same inputs; results that go to the same row are
 * added. Without accumulate, rows that any block names count from 0. They are of different arrays, or *bundled*: a
 * block that follows another of its array stands on the same word lines, further right, with the same inputs, doubled
 * alike. A bundle's inputs are read and its lines driven once, and results of its columns that go to the same row are
 * added by shift-and-add before they get to ACC. Not where operation units have fewer columns than an array. */
int ax_xb_mvmg(ax_machine *m, int32_t block, int32_t count, uint32_t in, int32_t in_step, uint32_t out,
               int32_t out_step, int32_t n, int accumulate);
/* XB.DONE: programming is over; a FENCE. What follows is reported as inference. */
int ax_xb_done(ax_machine *m);
/* Writes of cells so far. */
int64_t ax_xb_writes(const ax_machine *m);

#endif
