/* What the files of the crossbars share. Nothing here is for users: see crossbar.h. */
#ifndef AXSIM_CROSSBAR_INTERNAL_H
#define AXSIM_CROSSBAR_INTERNAL_H

#include "area.h"
#include "crossbar.h"

/* Why an array stands still. */
typedef enum {
    AXI_XB_ISSUE, /* the front end had not got to its instruction, for whatever reason */
    AXI_XB_RAW,
    AXI_XB_WAR,
    AXI_XB_WAW,
    AXI_XB_GROUP, /* another array of the group was busy */
    AXI_XB_ADC,   /* arrays that share its converters had them */
    AXI_XB_PROGRAM, /* the write circuits were at another array */
    AXI_XB_STALLS
} axi_xb_stall;

enum { AXI_POSITIVE, AXI_NEGATIVE }; /* the devices of a pair */
enum { AXI_STUCK_LOW = 1, AXI_STUCK_HIGH = 2 };

typedef struct {
    int32_t rows, cols;
    bool claimed; /* its share of the cells of the chip */
    int8_t *levels;        /* NULL until it is programmed, and without data */
    uint16_t *writes;      /* of each cell; NULL until it is programmed */
    unsigned char *faults; /* of each cell, two bits for each device; NULL: none */
    int64_t first_fault, last_fault; /* of those given one by one: 1 + their number, 0 for none */
    int64_t version;       /* of its cells */
    int64_t free, busy, stalls[AXI_XB_STALLS];
    int64_t vectors, clipped;
    int64_t group; /* the last that it was in */
    bool used;
} axi_array;

/* A fault given by its place. It takes effect when its array, which then has its shape, is first programmed. */
typedef struct {
    int32_t row, col;
    unsigned char device, fault;
    int64_t next; /* of the same array: 1 + its number */
} axi_named_fault;

/* Converters that some arrays share, and what the blocks of one group do with them at once. */
typedef struct {
    int64_t free;  /* when they are next free */
    int64_t group; /* the last that used them */
    bool placed;   /* in time */
    int64_t steps; /* of the block that has most, operation units included */
    int64_t rows;  /* the same */
    int64_t columns; /* to convert in one step */
    double cycles;   /* of those conversions, one after the other */
} axi_pool;

typedef struct {
    bool set, any_doubled;
    int32_t array, row0, rows, col0, cols, in_row, out_row, shift, adc_bits, offset;
    int32_t *in_index, *out_index, in_last, out_last; /* NULL: in order; the largest of each */
    unsigned char *doubled, *flipped;                 /* NULL: none */
    /* from the cells of the array, at their version */
    int64_t version;
    bool exact; /* no sum can be clipped, nor is there noise */
    int32_t groups, group_rows, k_pad, n_pad;
    int16_t *packed[2]; /* for each group of rows; the second for what negative devices hold, digitised apart */
    int16_t *whole;     /* with doubled rows counted twice: for the exact path */
    float *analog[2];   /* with noise: what goes through the ADC at once, as it really is */
    float *squares[2];  /* and the squares of its devices; NULL without noise of reading */
    int64_t vectors;    /* multiplied so far: the number of a read */
} axi_block;

typedef struct {
    int64_t cycles;
    double energy_pj;
    bool done;
} axi_programmed;

typedef struct axi_crossbar {
    ax_crossbar config;
    ax_noise noise;
    bool noisy, faulty, bit_serial;
    axi_named_fault *named;
    int64_t named_count, named_room;
    axi_array *arrays;
    int32_t array_count; /* more than the chip's, where it has smaller shapes */
    axi_block *blocks;
    int64_t block_count, block_room;
    int64_t claimed_cells; /* of the chip's: by arrays with a shape of their own, or programmed */
    axi_pool *pools;
    int64_t groups_started;
    int64_t *touched, touches; /* of each row of ACC, the last bundle that added there; how many were counted */
    int64_t program_free, program_busy, program_idle, program_waits;
    void *scratch;
    size_t scratch_size;
    axi_programmed programmed;
    /* counters */
    int64_t dac_steps, device_reads, shift_adds, conversions[AX_ADC_BITS + 1], clips[AX_ADC_BITS + 1];
    int64_t device_pulses, cell_writes, indexed_rows, table_bytes, exact_vectors, serial_vectors;
} axi_crossbar;

/* crossbar_values.c */
int axi_xb_prepare(ax_machine *m, const axi_insn *insn, axi_block *block);
int axi_xb_multiply(ax_machine *m, const axi_insn *insn, axi_block *block);
void axi_xb_clear(ax_machine *m, const axi_insn *insn, const axi_block *block);
void axi_xb_forget(axi_block *block);

/* crossbar_noise.c */
int axi_xb_set_faults(ax_machine *m, const axi_insn *insn, int32_t number); /* of the cells of an array */
int axi_xb_level(const axi_crossbar *xb, const axi_array *array, size_t cell, int device);
float axi_xb_written(const axi_crossbar *xb, const axi_block *block, const axi_array *array, int32_t r, int32_t c,
                     int device);
double axi_xb_read_noise(const axi_crossbar *xb, const axi_block *block, int32_t first, int32_t j, int64_t vector,
                         int part);

/* crossbar_mvm.c */
/* Whether a block stands on the word lines of the one before it in a group, and is read with it. */
bool axi_xb_joins(const axi_block *before, const axi_block *block);

/* crossbar_time.c */
int axi_xb_steps(const axi_crossbar *xb, const axi_block *block);
int64_t axi_xb_ou_steps(const axi_crossbar *xb, const axi_block *block);
/* Starts blocks first .. first + count - 1 on n vectors, after the hazards; returns the start, and when the last
 * result is there. */
int64_t axi_xb_start(ax_machine *m, const axi_insn *insn, const axi_hazards *hazards, int64_t *done);
/* Starts to write rows of an array. */
void axi_xb_program(ax_machine *m, const axi_insn *insn, axi_array *array, int64_t bytes);
/* Reads tables for the controller. */
void axi_xb_configure(ax_machine *m, const axi_insn *insn, int64_t bytes);

static inline int axi_xb_devices(const axi_crossbar *xb) { return xb->config.encoding == AX_DIFFERENTIAL ? 2 : 1; }
static inline int axi_xb_level_max(const axi_crossbar *xb) { return (1 << xb->config.cell_bits) - 1; }
static inline int axi_xb_sums(const axi_crossbar *xb) { return xb->config.digitised_separately ? 2 : 1; }

/* Where row r, column c of a block is among the cells of its array. */
static inline size_t axi_xb_cell(const axi_block *block, const axi_array *array, int32_t r, int32_t c)
{
    return (size_t)(block->row0 + r) * (size_t)array->cols + (size_t)(block->col0 + c);
}

/* Positions beyond one row of a memory lie in blocks of rows. */
static inline int64_t axi_xb_panels(const ax_machine *m, int64_t n)
{
    return axi_ceil_div(n, m->memory[AXI_SPAD].width);
}

#endif
