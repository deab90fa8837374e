/* axsim: an instruction-set simulator for accelerators with dense tensor units.
 *
 * Functional, timed and with energy. A program is a sequence of the calls below; each call is one
 * instruction. Values are computed when the call is made (program order); time is kept apart from them
 * by decoupled in-order engines and a scoreboard on memory lines, so values never depend on time.
 *
 * Every instruction returns 0, or -1 after the first error, which ax_error() describes and which stays.
 *
 * On-chip addresses are rows. A row holds `cols` elements (C of the array): input elements in SPAD, L0A
 * and L0B, accumulators in ACC. Only where a stationary array has more rows than columns, a row of SPAD holds
 * `rows` elements, so that it can feed them all. The top two bits of an address name the memory.
 * Off-chip operands are a buffer handle from ax_buffer() and an element offset; strides count elements.
 * Where an operand is wider than one row, column block b of it lies `step` rows further on: row r,
 * column c is at address + (c / cols) * step + r. With one block the step does not matter.
 *
 * Arithmetic: int8 products are summed exactly into int32, which wraps around (counted). Floats are chains of
 * fused multiply-adds into f32 in the order of k, from the accumulator or from 0. Compile as C11 (-std=c11):
 * extensions that fuse other operations would change rounding.
 */
#ifndef AXSIM_H
#define AXSIM_H

#include <stdint.h>
#include <stdio.h>

#define AX_VERSION 1

#define AX_SPAD(row) ((uint32_t)(row))
#define AX_ACC(row) ((uint32_t)(row) | 0x40000000u)
#define AX_L0A(row) ((uint32_t)(row) | 0x80000000u)
#define AX_L0B(row) ((uint32_t)(row) | 0xC0000000u)

typedef enum { AX_I8, AX_F16, AX_BF16, AX_F32, AX_I32 } ax_type;
typedef enum { AX_WS, AX_MMA, AX_XB } ax_array_kind; /* AX_XB: see crossbar.h */
typedef enum { AX_ACT_NONE, AX_ACT_RELU } ax_act;
typedef enum { AX_ADD, AX_MUL, AX_MAX, AX_RELU, AX_SCALE } ax_vop_kind;

/* A target, as the compiler writes it to target.h. Cycles and picojoules; INFINITY is allowed for widths. */
typedef struct ax_config {
    const char *name;
    double clock_ghz;
    /* array */
    ax_array_kind kind;
    int rows, cols; /* R x C of the stationary operand: k and n of one instruction */
    ax_type in, acc;
    int pe_double_buffer;  /* the next stationary tile loads while the present one is used */
    int fill_in_occupancy; /* a TU.MM holds the array while it fills and drains, as SCALE-Sim counts */
    int min_rows;          /* a TU.MM of fewer rows takes as long as one of so many */
    int mma_m, mma_n, mma_k, mma_interval, mma_latency;
    /* memories, in bytes; 0: absent */
    int64_t spad_bytes, acc_bytes, l0a_bytes, l0b_bytes;
    int line_rows; /* rows of one scoreboard line */
    /* memory channels */
    double dma_bytes_per_cycle; /* each direction */
    int dma_latency;
    int dma_max_burst; /* bytes of a request at most; 0: no limit */
    int dma_row_overhead, dma_gather_overhead; /* cycles for each request of LD, ST and of LDG, STS */
    double move_bytes_per_cycle;
    int move_latency;
    int vector_lanes, vector_latency;
    int queue_load, queue_execute, queue_store, issue_gap;
    int report_last_index; /* report the index of the last cycle (SCALE-Sim) instead of their number */
    /* energy, picojoules */
    double mac_pj, reg_pj_per_byte, spad_pj_per_byte, acc_pj_per_byte, l0_pj_per_byte, dram_pj_per_byte, alu_pj;
    /* rows of SPAD and ACC by index: TU.PREX and TU.MMX; AX_WS only */
    int indexed;
    int indexed_read_cycles, indexed_accumulate_cycles; /* more for each row of a TU.PREX, of a TU.MMX */
    double indexed_read_pj, indexed_accumulate_pj;      /* for each such row */
    /* TU.SPMMA; AX_MMA only. Bit N: of every 2, 4, 8 or 16 columns of the left operand the unit takes N */
    int kept_of_2, kept_of_4, kept_of_8, kept_of_16;
    /* STS that adds: more for each row, besides reading what is there */
    int scatter_add;
    int scatter_add_cycles;
    double scatter_add_pj; /* for each element */
} ax_config;

typedef struct ax_machine ax_machine;

enum { AX_NO_DATA = 1, AX_TRACE = 2 }; /* flags of ax_open: time only; record a trace */

ax_machine *ax_open(const ax_config *config, unsigned flags); /* NULL when out of memory */
void ax_close(ax_machine *m);
const char *ax_error(const ax_machine *m); /* NULL, or one sentence: instruction, operands, scope, cause */
/* Where the following instructions come from. Not copied: a name must outlive the machine's use of it (errors,
 * the trace). */
void ax_scope(ax_machine *m, const char *name);

/* Registers an off-chip array; returns its handle, or -1. `data` may be NULL with AX_NO_DATA; indices that are
 * there are checked even so. The same array under the same name keeps its handle. */
int ax_buffer(ax_machine *m, const char *name, void *data, int64_t elements, ax_type type);
/* Registers an output conversion and returns its handle, or -1: value = type(act(float(acc) * float(scale))), ties
 * to even; integers saturate (NaN gives 0), and floats too large become infinite, both counted. At scale 1, int32
 * to int32 is exact. Handle 0 is "as it is". */
int ax_output(ax_machine *m, ax_type type, double scale, ax_act act);

/* LD: rows x cols elements, off-chip to on-chip; the last row block is padded with zeros. */
int ax_ld(ax_machine *m, uint32_t dst, int32_t step, int buffer, int64_t offset, int64_t stride, int32_t rows,
          int32_t cols);
/* LDG: the same, row r coming from offset + index[index_offset + r] * stride; index is an AX_I32 buffer. */
int ax_ldg(ax_machine *m, uint32_t dst, int32_t step, int buffer, int64_t offset, int64_t stride, int index,
           int64_t index_offset, int32_t rows, int32_t cols);
/* ST, STS: on-chip to off-chip; STS scatters rows by index and may add to what is there, where scatter_add is set. */
int ax_st(ax_machine *m, int buffer, int64_t offset, int64_t stride, uint32_t src, int32_t step, int32_t rows,
          int32_t cols, int output);
int ax_sts(ax_machine *m, int buffer, int64_t offset, int64_t stride, int index, int64_t index_offset, uint32_t src,
           int32_t step, int32_t rows, int32_t cols, int output, int add);
/* MV: `blocks` blocks of `rows` rows between on-chip memories of the same element type. */
int ax_mv(ax_machine *m, uint32_t dst, int32_t dst_step, uint32_t src, int32_t src_step, int32_t rows, int32_t blocks);
/* FILL: rows rows of one value. VOP: dst = op(a, b) row by row; RELU and SCALE ignore b, SCALE uses imm as an
 * output conversion does. int8 saturates, int32 wraps around, both counted. */
int ax_fill(ax_machine *m, uint32_t dst, int32_t rows, double value);
int ax_vop(ax_machine *m, ax_vop_kind op, uint32_t dst, uint32_t a, uint32_t b, int32_t rows, double imm);
/* TU.PRE: the stationary tile becomes the rows x cols elements at b, the rest of the array zero. */
int ax_pre(ax_machine *m, uint32_t b, int32_t rows, int32_t cols);
/* TU.MM: c[rows, C] (+)= a[rows, R] * stationary[R, C]. */
int ax_mm(ax_machine *m, uint32_t c, uint32_t a, int32_t rows, int accumulate);
/* TU.PREX: as TU.PRE, row r of the tile being row b + idx[r] of SPAD. idx are unsigned 16-bit little-endian numbers
 * in the bytes of the rows of SPAD from `index` on, in whole pairs of bytes of each row; LD brings bytes unchanged.
 * Time depends on them: with AX_NO_DATA they must come by LD or LDG from a buffer that has data. */
int ax_prex(ax_machine *m, uint32_t b, uint32_t index, int32_t rows, int32_t cols);
/* TU.MMX: for each r in order, row c + idx[r] of ACC += a[r, R] * stationary[R, C]; a row may be named twice. */
int ax_mmx(ax_machine *m, uint32_t c, uint32_t a, uint32_t index, int32_t rows);
/* TU.MMA: c[mm, n] (+)= a[mm, k] * b[k, n]; operands in L0A, L0B, ACC, their column blocks `step` rows apart.
 * Targets without L0A or L0B take the operand from SPAD. */
int ax_mma(ax_machine *m, uint32_t c, int32_t c_step, uint32_t a, int32_t a_step, uint32_t b, int32_t b_step,
           int32_t mm, int32_t n, int32_t k, int accumulate);
/* TU.SPMMA: the same, of every `group` columns of a only `keep` being there: row r holds ceil(k / group) * keep
 * elements, in one row of its memory. Rows of the same memory from `meta` on hold log2(group) bits for each element,
 * the lowest first: its column in its group, rising inside a group. Those of row r begin at byte
 * r * ceil(cols * log2(group) / 8). Elements in columns from k on are not used. */
int ax_spmma(ax_machine *m, uint32_t c, int32_t c_step, uint32_t a, uint32_t meta, uint32_t b, int32_t b_step,
             int32_t mm, int32_t n, int32_t k, int32_t keep, int32_t group, int accumulate);
/* FENCE: what follows starts after everything before has completed. */
int ax_fence(ax_machine *m);

int64_t ax_cycles(const ax_machine *m);
double ax_energy(const ax_machine *m); /* picojoules so far */
/* One JSON object: cycles, engines (busy, stalls by cause), instructions, bytes, energy, memory peaks, warnings.
 * For each engine, busy + the stalls + drain = span_cycles, which is cycles (+ 1 with report_last_index). */
void ax_report_json(const ax_machine *m, FILE *out);
/* The same for people: a table with units. */
void ax_report_text(const ax_machine *m, FILE *out);
/* The recorded trace in Chrome's JSON format (1 us = 1000 * clock_ghz cycles); 0, or -1 with errno set. */
int ax_write_trace(const ax_machine *m, const char *path);

#endif
