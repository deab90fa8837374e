/* What the files of axsim share. Nothing here is for users: see axsim.h. */
#ifndef AXSIM_INTERNAL_H
#define AXSIM_INTERNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "axsim.h"

#if defined(__GNUC__)
#define AXI_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define AXI_PRINTF(text, first)
#endif

/* The kernels work on whole vectors, so rows are kept padded to this many elements; the padding stays zero. */
#define AXI_PAD 16
/* An exact int32 dot product of int8 values must not overflow: k * 128 * 128 < 2^31. */
#define AXI_MAX_K 131071
#define AXI_ADDRESS_MASK 0x3fffffffu

enum { AXI_SPAD, AXI_ACC, AXI_L0A, AXI_L0B, AXI_MEMORIES };
enum { AXI_IN_SPAD = 1 << AXI_SPAD, AXI_IN_ACC = 1 << AXI_ACC, AXI_IN_L0A = 1 << AXI_L0A, AXI_IN_L0B = 1 << AXI_L0B,
       AXI_ANYWHERE = AXI_IN_SPAD | AXI_IN_ACC | AXI_IN_L0A | AXI_IN_L0B };

typedef enum { AXI_LOAD, AXI_STORE, AXI_WPORT, AXI_MAT, AXI_MOVE, AXI_VEC, AXI_ENGINES } axi_engine;
typedef enum { AXI_LOAD_QUEUE, AXI_EXECUTE_QUEUE, AXI_STORE_QUEUE, AXI_QUEUES } axi_queue_id;

/* Why an engine stands still. */
typedef enum {
    AXI_STALL_ISSUE, /* the front end had not got to the instruction */
    AXI_STALL_QUEUE_FULL,
    AXI_STALL_FENCE,
    AXI_STALL_RAW,
    AXI_STALL_WAR,
    AXI_STALL_WAW,
    AXI_STALL_WEIGHTS, /* TU.PRE waits for its place, or TU.MM for its TU.PRE */
    AXI_STALLS
} axi_stall;

typedef enum {
    AXI_OP_LD, AXI_OP_LDG, AXI_OP_ST, AXI_OP_STS, AXI_OP_MV, AXI_OP_FILL,
    AXI_OP_ADD, AXI_OP_MUL, AXI_OP_MAX, AXI_OP_RELU, AXI_OP_SCALE, /* in the order of ax_vop_kind */
    AXI_OP_PRE, AXI_OP_MM, AXI_OP_PREX, AXI_OP_MMX, AXI_OP_MMA, AXI_OP_SPMMA, AXI_OP_FENCE,
    AXI_OP_XB_SHAPE, AXI_OP_XB_PROG, AXI_OP_XB_CFG, AXI_OP_XB_MVM, AXI_OP_XB_MVMG, AXI_OP_XB_DONE,
    AXI_OPS
} axi_op;

/* An instruction with its operands, for messages and the trace. Fields an operation lacks are 0. */
typedef struct {
    axi_op op;
    uint32_t address[4];
    int32_t step[3];
    int32_t rows, cols, depth, keep, group;
    int buffer, index, output, flag;
    int64_t offset, stride, index_offset;
    double value;
} axi_insn;

/* When the last write of each kind to a line, and the last read, are over. Writes are told apart because those
 * of one pipelined engine stay in order among themselves and need not wait for each other. */
typedef struct {
    int64_t load, mat, other, read;
} axi_line;

typedef struct {
    const char *name;
    ax_type type;
    int64_t rows;      /* 0: the target has no such memory */
    int32_t width;     /* elements of a row */
    int32_t row_bytes; /* of the hardware */
    size_t pitch;      /* bytes of a row here: f16 and bf16 are kept as f32, and rows are padded */
    unsigned char *data;
    unsigned char *written; /* per row */
    unsigned char *known;   /* per row, where only SPAD's indices have values: it holds what LD brought; else NULL */
    int64_t written_before; /* all rows before this one were written: the usual case, and quickly seen */
    axi_line *lines;
    int64_t peak_rows, bytes_read, bytes_written;
} axi_memory;

typedef struct {
    char *name;
    unsigned char *data;
    int64_t elements;
    ax_type type;
} axi_buffer;

typedef struct {
    ax_type type;
    float scale;
    ax_act act;
} axi_output;

/* The ends of the `depth` instructions that leave the queue last, ascending from `head` and round: the first of
 * them is when the queue next has room. */
typedef struct {
    int64_t *ends;
    int depth, head;
} axi_queue;

typedef struct {
    axi_insn insn;
    const char *scope;
    int64_t number, start, duration;
    int engine; /* beyond axi_engine: the write circuits of crossbars, then their arrays */
} axi_event;

/* The times before which an instruction cannot start, by cause. */
typedef struct {
    int64_t raw, war, waw, weights;
} axi_hazards;

/* Blocks of rows of one memory: row r of block b is `row + b * step + r`. */
typedef struct {
    axi_memory *memory;
    int64_t row, step, rows, blocks;
} axi_area;

struct ax_machine {
    ax_config config;
    char *name;
    unsigned flags;
    bool failed;
    char error[1024];
    const char *scope;

    struct axi_crossbar *xb;  /* NULL: a machine without crossbars */
    int row_elements;         /* of SPAD and ACC; 0: as many as the array needs */
    axi_memory memory[AXI_MEMORIES];
    int line_shift; /* log2 of line_rows, or -1 */
    axi_buffer *buffers;
    int buffer_count, buffer_room;
    axi_output *outputs; /* outputs[0] is not used: handle 0 is "as it is" */
    int output_count, output_room;

    /* time */
    int64_t next_issue, last;
    axi_queue queue[AXI_QUEUES];
    int64_t free[AXI_ENGINES], busy[AXI_ENGINES];
    int64_t stalls[AXI_ENGINES][AXI_STALLS];
    /* Since an engine's last instruction: how long the front end stood at a full queue, or at a fence. */
    int64_t blocked_full[AXI_ENGINES], blocked_fence[AXI_ENGINES];

    /* the array */
    bool tile_loaded, tile_waiting; /* a TU.PRE came; no TU.MM has used it yet */
    int64_t tile_ready, tile_latched;
    int32_t k_pad, n_pad;
    void *tile; /* int8: pairs of int16 along k; else float rows */
    void *scratch_a, *scratch_b;
    size_t scratch_a_size, scratch_b_size;

    /* counters */
    int64_t issued, count[AXI_OPS];
    int64_t dram_read, dram_written, reg_written, macs, alu;
    int64_t indexed_read, indexed_accumulated; /* rows */
    int64_t scatter_added;                     /* elements */
    int64_t int32_overflow, output_saturation;

    axi_event *events;
    size_t event_count, event_room;
};

/* machine.c */
ax_machine *axi_open(const ax_config *config, unsigned flags, int row_elements);
int axi_fail_config(ax_machine *m, const char *format, ...) AXI_PRINTF(2, 3);
int axi_fail(ax_machine *m, const axi_insn *insn, const char *format, ...) AXI_PRINTF(3, 4);
void *axi_grow(void *items, int64_t count, int64_t *room, size_t size);
void *axi_scratch(ax_machine *m, const axi_insn *insn, void **block, size_t *size, size_t need);

/* describe.c */
extern const char *const axi_op_name[AXI_OPS];
extern const char *const axi_type_name[];
const char *axi_memory_name(uint32_t address);
void axi_describe(const ax_machine *m, const axi_insn *insn, char *text, size_t size);

/* time.c */
int axi_place(ax_machine *m, const axi_insn *insn, const char *operand, uint32_t address, unsigned allowed,
              int64_t rows, int64_t step, int64_t blocks, axi_area *area);
/* Issues and starts the instruction; it completes `latency` after its occupancy. Returns its start. */
int64_t axi_schedule(ax_machine *m, const axi_insn *insn, axi_engine engine, int64_t occupancy, int64_t latency,
                     const axi_hazards *hazards);

/* tensor.c */
int axi_need_kind(ax_machine *m, const axi_insn *insn, ax_array_kind kind);

/* The same in parts, for engines of their own: when it is issued to a queue; when it leaves it, and completes. */
int64_t axi_issue(ax_machine *m, axi_queue_id queue);
void axi_retire(ax_machine *m, const axi_insn *insn, axi_queue_id queue, int64_t end, int64_t done);
void axi_count(ax_machine *m, const axi_insn *insn); /* one that takes no time of an engine */

/* move.c */
axi_buffer *axi_find_buffer(ax_machine *m, const axi_insn *insn, int handle, const char *what);
int axi_check_strided(ax_machine *m, const axi_insn *insn, const axi_buffer *buffer);

/* crossbar.c, crossbar_report.c */
void axi_xb_close(struct axi_crossbar *xb);
void axi_xb_describe(const ax_machine *m, const axi_insn *insn, char *text, size_t size);
double axi_xb_energy(const ax_machine *m);
int64_t axi_xb_clipped(const ax_machine *m);
int axi_xb_notes(const ax_machine *m, const char **notes); /* at most 3; returns how many */
double axi_xb_utilization(const ax_machine *m);
void axi_xb_energy_json(const ax_machine *m, FILE *out);
void axi_xb_report_json(const ax_machine *m, FILE *out);
void axi_xb_report_text(const ax_machine *m, FILE *out);
void axi_xb_trace_names(const ax_machine *m, FILE *out);

/* trace.c */
void axi_record(ax_machine *m, const axi_insn *insn, int engine, int64_t start, int64_t duration);
extern const char *const axi_engine_name[AXI_ENGINES];
void axi_json_string(FILE *out, const char *text);

/* convert.c */
float axi_f16_to_f32(uint16_t h);
uint16_t axi_f32_to_f16(float f);
float axi_bf16_to_f32(uint16_t h);
uint16_t axi_f32_to_bf16(float f);
int8_t axi_to_i8(float value, int64_t *saturated);
int32_t axi_to_i32(float value, int64_t *saturated);
float axi_round_to(ax_type type, float value); /* to the nearest value of a float type */
/* Off-chip elements to the form they have here, and back with an optional conversion. */
void axi_import(void *to, const void *from, ax_type type, int64_t count);
void axi_export(ax_machine *m, void *to, ax_type to_type, const void *from, ax_type from_type,
                const axi_output *output, int64_t count);
void axi_add_to(ax_machine *m, void *to, const void *from, ax_type type, int64_t count);

/* kernel.c: c[rows, n] (+)= a[rows, k] * b[k, n] with b packed; pitches in elements */
void axi_pack_i8(int16_t *packed, int64_t k_pad, int64_t n_pad, const int8_t *b, size_t pitch, int64_t rows,
                 int64_t cols);
int64_t axi_mm_i8(int32_t *c, size_t c_pitch, const int8_t *a, size_t a_pitch, const int16_t *packed, int64_t rows,
                  int64_t k_pad, int64_t n_pad, bool accumulate);
void axi_mm_float(float *c, size_t c_pitch, const float *a, size_t a_pitch, const float *b, int64_t rows, int64_t k,
                  int64_t n_pad, bool accumulate, bool exact_products);

static inline int64_t axi_max(int64_t a, int64_t b) { return a > b ? a : b; }
static inline int64_t axi_ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }
static inline int64_t axi_pad(int64_t n) { return axi_ceil_div(n, AXI_PAD) * AXI_PAD; }

static inline int axi_type_bytes(ax_type type)
{
    return type == AX_I8 ? 1 : type == AX_F16 || type == AX_BF16 ? 2 : 4;
}

/* Bytes of an element as kept here. */
static inline size_t axi_kept_bytes(ax_type type) { return type == AX_I8 ? 1 : 4; }

static inline unsigned char *axi_row(const axi_memory *memory, int64_t row)
{
    return memory->data + (size_t)row * memory->pitch;
}

static inline bool axi_with_data(const ax_machine *m) { return !(m->flags & AX_NO_DATA); }

/* Starts every instruction: -1 once the machine has failed. */
static inline int axi_begin(const ax_machine *m) { return m->failed ? -1 : 0; }

static inline int64_t axi_area_rows(const axi_area *area) { return area->rows * area->blocks; }

static inline void axi_count_read(const axi_area *area)
{
    area->memory->bytes_read += axi_area_rows(area) * area->memory->row_bytes;
}

static inline void axi_count_written(const axi_area *area)
{
    area->memory->bytes_written += axi_area_rows(area) * area->memory->row_bytes;
}

#endif
