/* A program for the sanitizers: every instruction, type and way to fail, on arrays of awkward sizes. Exits 0 when
 * all integer results are right and every error is found. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "axsim.h"

enum { ROWS = 5, COLS = 7, M = 9, K = 12, N = 17 };

static int failures;

static void expect(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "failed: %s\n", what);
        failures++;
    }
}

static ax_config target(ax_array_kind kind, ax_type in)
{
    return (ax_config){
        .name = "self \"test\"", .clock_ghz = 1, .kind = kind, .rows = ROWS, .cols = COLS, .in = in,
        .acc = in == AX_I8 ? AX_I32 : AX_F32, .pe_double_buffer = 1, .mma_m = 4, .mma_n = 4, .mma_k = 4,
        .mma_interval = 2, .mma_latency = 3, .spad_bytes = 1 << 13, .acc_bytes = 1 << 13,
        .l0a_bytes = kind == AX_MMA ? 1 << 12 : 0, .l0b_bytes = kind == AX_MMA ? 1 << 12 : 0, .line_rows = 3,
        .dma_bytes_per_cycle = 16, .dma_latency = 10, .dma_max_burst = 64, .dma_row_overhead = 1,
        .dma_gather_overhead = 2, .move_bytes_per_cycle = INFINITY, .vector_lanes = 4, .queue_load = 2,
        .queue_execute = 3, .queue_store = 1, .scatter_add = 1, .scatter_add_cycles = 1, .scatter_add_pj = 0.5,
        .kept_of_4 = kind == AX_MMA ? 1 << 2 : 0, .kept_of_2 = kind == AX_MMA ? 1 << 1 : 0, .issue_gap = 1, .mac_pj = 1, .dram_pj_per_byte = 2,
    };
}

static int bytes_of(ax_type type) { return type == AX_I8 ? 1 : type == AX_F32 || type == AX_I32 ? 4 : 2; }

/* Element i of an array, as off-chip. */
static void put_number(unsigned char *array, ax_type type, int i, int value)
{
    static const uint16_t half[] = {0x0000, 0x3c00, 0x4000, 0x4200}, brain[] = {0x0000, 0x3f80, 0x4000, 0x4040};
    const float as_float = (float)value;
    unsigned char *to = array + i * bytes_of(type);
    if (type == AX_I8)
        *to = (unsigned char)value;
    else if (type == AX_F32)
        memcpy(to, &as_float, 4);
    else
        memcpy(to, type == AX_F16 ? &half[value] : &brain[value], 2);
}

/* x[M, K] * w[K, N] by tiles of the stationary array, or in one TU.MMA; small numbers, the same in every type. */
static void product(ax_array_kind kind, ax_type in)
{
    const ax_config config = target(kind, in);
    const int size = bytes_of(in);
    unsigned char *x = malloc((size_t)(M * K * size)), *w = malloc((size_t)(K * N * size));
    int32_t *index = malloc(M * sizeof *index);
    void *y = calloc(M * N, 4), *z = calloc(M * N, 1);
    int failed = 0;
    for (int i = 0; i < M * K + K * N; i++)
        put_number(i < M * K ? x : w, in, i < M * K ? i : i - M * K, i * 7 % 4);
    for (int i = 0; i < M; i++)
        index[i] = M - 1 - i;

    ax_machine *m = ax_open(&config, AX_TRACE);
    const int bx = ax_buffer(m, "x", x, M * K, in), bw = ax_buffer(m, "w", w, K * N, in);
    const int by = ax_buffer(m, "y", y, M * N, config.acc), bz = ax_buffer(m, "z", z, M * N, AX_I8);
    const int bi = ax_buffer(m, "index", index, M, AX_I32);
    const int relu = ax_output(m, AX_I8, 0.5, AX_ACT_RELU);
    ax_scope(m, "a \"product\"\n");
    if (kind == AX_WS) {
        for (int k = 0; k < K; k += ROWS)
            for (int n = 0; n < N; n += COLS) {
                const int kt = K - k < ROWS ? K - k : ROWS, nt = N - n < COLS ? N - n : COLS;
                failed |= ax_ldg(m, AX_SPAD(0), 0, bx, k, K, bi, 0, M, kt);
                failed |= ax_ld(m, AX_SPAD(M), 0, bw, k * N + n, N, kt, nt);
                failed |= ax_pre(m, AX_SPAD(M), kt, nt);
                failed |= ax_mm(m, AX_ACC(n / COLS * M), AX_SPAD(0), M, k > 0);
            }
    } else {
        failed |= ax_ldg(m, AX_SPAD(0), M, bx, 0, K, bi, 0, M, K);
        failed |= ax_ld(m, AX_SPAD(40), K, bw, 0, N, K, N);
        failed |= ax_mv(m, AX_L0A(1), M + 1, AX_SPAD(0), M, M, 2);
        failed |= ax_mv(m, AX_L0B(2), K, AX_SPAD(40), K, K, 3);
        failed |= ax_mma(m, AX_ACC(0), M, AX_L0A(1), M + 1, AX_L0B(2), K, M, N, K, 0);
    }
    failed |= ax_fence(m);
    failed |= ax_sts(m, by, 0, N, bi, 0, AX_ACC(0), M, M, N, 0, 0);
    failed |= ax_sts(m, by, 0, N, bi, 0, AX_ACC(0), M, M, N, 0, 1);
    failed |= ax_st(m, bz, 0, N, AX_ACC(0), M, M, N, relu);
    failed |= ax_fill(m, AX_SPAD(100), 3, -3);
    for (int op = AX_ADD; op <= AX_SCALE; op++)
        failed |= ax_vop(m, (ax_vop_kind)op, AX_SPAD(103), AX_SPAD(100), AX_SPAD(0), 3, 1.5);
    expect(!failed, ax_error(m) ? ax_error(m) : "an instruction");

    for (int r = 0; r < M; r++)
        for (int n = 0; n < N; n++) {
            int sum = 0;
            for (int k = 0; k < K; k++)
                sum += (r * K + k) * 7 % 4 * ((M * K + k * N + n) * 7 % 4);
            const double found = in == AX_I8 ? ((int32_t *)y)[r * N + n] : (double)((float *)y)[r * N + n];
            expect(found == 2 * sum, "an element of the product, added twice");
            const float clipped = rintf(0.5f * (float)sum) > 127 ? 127 : rintf(0.5f * (float)sum);
            expect(((int8_t *)z)[(M - 1 - r) * N + n] == clipped, "an element after its conversion");
        }

    FILE *out = tmpfile();
    ax_report_json(m, out);
    ax_report_text(m, out);
    expect(!ferror(out) && ftell(out) > 1000, "the reports");
    fclose(out);
    expect(ax_write_trace(m, "/dev/null") == 0, "the trace");
    expect(ax_write_trace(m, "/nonexistent/trace.json") == -1, "the trace to nowhere");
    ax_close(m);
    free(x);
    free(w);
    free(index);
    free(y);
    free(z);
}

/* A list of rows as off-chip: numbers of two bytes, as many as fit in each row. */
static void put_list(unsigned char *to, ax_type in, const int *numbers, int count)
{
    const int row_bytes = COLS * bytes_of(in), each = row_bytes / 2;
    for (int i = 0; i < count; i++) {
        to[i / each * row_bytes + i % each * 2] = (unsigned char)(numbers[i] & 255);
        to[i / each * row_bytes + i % each * 2 + 1] = (unsigned char)(numbers[i] >> 8);
    }
}

/* Rows of x as the tile and sums by index, with rows named twice, and the last row of each memory. */
static void product_by_index(ax_type in, unsigned flags)
{
    enum { ADDED = 40, LIST = 40 / 3 + 1, SUMS = (1 << 13) / (4 * COLS) };
    ax_config config = target(AX_WS, in);
    config.indexed = 1;
    config.indexed_read_cycles = config.indexed_accumulate_cycles = 1;
    config.indexed_read_pj = config.indexed_accumulate_pj = 0.5;
    const int size = bytes_of(in), last = (1 << 13) / (COLS * size) - 1;
    const int named[ROWS] = {last, 1, 3, 1, 0};
    int added[ADDED];
    unsigned char *x = malloc((size_t)(ADDED * COLS * size));
    unsigned char *lists = calloc(2 * LIST, (size_t)(COLS * size));
    void *y = calloc(SUMS * COLS, 4);
    int failed = 0;
    for (int i = 0; i < ADDED * COLS; i++)
        put_number(x, in, i, i * 7 % 4);
    for (int i = 0; i < ADDED; i++)
        added[i] = i % 7 == 0 ? SUMS - 1 : i * 5 % 11;
    put_list(lists, in, named, ROWS);
    put_list(lists + LIST * COLS * size, in, added, ADDED);

    ax_machine *m = ax_open(&config, AX_TRACE | flags);
    const int bx = ax_buffer(m, "x", x, ADDED * COLS, in), bl = ax_buffer(m, "lists", lists, 2 * LIST * COLS, in);
    const int by = ax_buffer(m, "y", y, SUMS * COLS, config.acc);
    failed |= ax_ld(m, AX_SPAD(0), 0, bx, 0, COLS, ADDED, COLS);
    failed |= ax_ld(m, AX_SPAD(ADDED), 0, bl, 0, COLS, 2 * LIST, COLS);
    failed |= ax_ld(m, AX_SPAD(last), 0, bx, 2 * COLS, COLS, 1, COLS);
    failed |= ax_fill(m, AX_ACC(0), SUMS, 1);
    failed |= ax_prex(m, AX_SPAD(0), AX_SPAD(ADDED), ROWS, COLS - 1);
    failed |= ax_mmx(m, AX_ACC(0), AX_SPAD(0), AX_SPAD(ADDED + LIST), ADDED);
    failed |= ax_st(m, by, 0, COLS, AX_ACC(0), 0, SUMS, COLS, 0);
    expect(!failed, ax_error(m) ? ax_error(m) : "an instruction by index");
    for (int c = 0; c < SUMS && !(flags & AX_NO_DATA); c++)
        for (int n = 0; n < COLS; n++) {
            int sum = 1;
            for (int r = 0; r < ADDED; r++)
                for (int k = 0; k < ROWS && added[r] == c && n < COLS - 1; k++)
                    sum += (r * COLS + k) * 7 % 4 * (((named[k] == last ? 2 : named[k]) * COLS + n) * 7 % 4);
            const double found = in == AX_I8 ? ((int32_t *)y)[c * COLS + n] : (double)((float *)y)[c * COLS + n];
            expect(found == sum, "a sum by index");
        }
    expect(ax_write_trace(m, "/dev/null") == 0, "the trace of rows by index");
    expect(ax_prex(m, AX_SPAD(1), AX_SPAD(ADDED), ROWS, COLS) == -1, "a row beyond SPAD by index");
    ax_close(m);
    free(x);
    free(lists);
    free(y);
}

/* Of every 4 columns of the left operand columns 1 and 3 are there; all numbers are 1, so each sum is their count. */
static void product_of_kept(ax_type in, unsigned flags)
{
    enum { KEPT = 6, COLUMNS = 11, META_ROWS = M }; /* column 11 of the last group is not */
    const ax_config config = target(AX_MMA, in);
    const int size = bytes_of(in), row_bytes = COLS * size, stride = (COLS * 2 + 7) / 8;
    unsigned char *ones = malloc((size_t)(COLUMNS * N * size)), *meta = calloc(META_ROWS, (size_t)row_bytes);
    int32_t *y = calloc(M * N, sizeof *y);
    for (int i = 0; i < COLUMNS * N; i++)
        put_number(ones, in, i, 1);
    memset(meta, 0xdd, (size_t)(M * stride));
    ax_machine *m = ax_open(&config, AX_TRACE | flags);
    const int bo = ax_buffer(m, "ones", ones, COLUMNS * N, in), bm = ax_buffer(m, "meta", meta, META_ROWS * COLS, in);
    const int by = ax_buffer(m, "y", y, M * N, config.acc), out = ax_output(m, AX_I32, 1, AX_ACT_NONE);
    const int bi = ax_buffer(m, "y as int", y, M * N, AX_I32);
    int failed = ax_ld(m, AX_L0A(1), 0, bo, 0, KEPT, M, KEPT);
    failed |= ax_ld(m, AX_L0A(1 + M), 0, bm, 0, COLS, META_ROWS, COLS);
    failed |= ax_ld(m, AX_L0B(2), COLUMNS, bo, 0, N, COLUMNS, N);
    for (int twice = 0; twice < 2; twice++)
        failed |= ax_spmma(m, AX_ACC(0), M, AX_L0A(1), AX_L0A(1 + M), AX_L0B(2), COLUMNS, M, N, COLUMNS, 2, 4, twice);
    failed |= in == AX_I8 ? ax_st(m, by, 0, N, AX_ACC(0), M, M, N, 0) : ax_st(m, bi, 0, N, AX_ACC(0), M, M, N, out);
    expect(!failed && !ax_error(m), ax_error(m) ? ax_error(m) : "no error");
    for (int i = 0; i < M * N && !flags; i++)
        expect(y[i] == 2 * (KEPT - 1), "the product of kept elements");
    ax_close(m);
    free(ones);
    free(meta);
    free(y);
}

static void bad_config(void)
{
    const ax_config config = {.name = NULL};
    ax_machine *m = ax_open(&config, 0);
    expect(ax_error(m) != NULL && ax_buffer(m, "data", NULL, 1, AX_I8) == -1 && ax_output(m, AX_I8, 1, 0) == -1 &&
               ax_fence(m) == -1,
           "an error that stays");
    ax_close(m);
}

/* Each wrong call on a machine of its own, so that it is the first. */
static void wrong_calls(void)
{
    enum { CASES = 20 };
    for (int i = 0; i < CASES; i++) {
        ax_config config = target(AX_WS, AX_I8);
        config.indexed = i > 13;
        config.scatter_add = i != 17;
        int8_t data[8] = {0};
        int32_t index[2] = {-1, INT32_MAX};
        ax_machine *m = ax_open(&config, 0);
        const int b = ax_buffer(m, "data", data, 8, AX_I8), x = ax_buffer(m, "index", index, 2, AX_I32);
        int result = 0;
        switch (i) {
        case 0: result = ax_ld(m, AX_SPAD(0), 0, b, INT64_MAX, INT64_MAX, 2, 2); break;
        case 1: result = ax_ld(m, AX_SPAD(0), 0, b, 0, INT64_MIN, 2, 2); break;
        case 2: result = ax_ldg(m, AX_SPAD(0), 0, b, 0, 1, x, 0, 1, 1); break;
        case 3: result = ax_ldg(m, AX_SPAD(0), 0, b, 0, 1, x, 1, 1, 1); break;
        case 4: result = ax_ldg(m, AX_SPAD(0), 0, b, 0, 1, x, INT64_MAX, 2, 1); break;
        case 5: result = ax_ld(m, AX_SPAD(0), INT32_MIN, b, 0, 1, INT32_MAX, INT32_MAX); break;
        case 6: result = ax_mv(m, AX_SPAD(0), INT32_MAX, AX_SPAD(0), INT32_MAX, INT32_MAX, INT32_MAX); break;
        case 7: result = ax_pre(m, AX_SPAD(0), ROWS, COLS); break;
        case 8: result = ax_mm(m, AX_ACC(0), AX_SPAD(0), 1, 0); break;
        case 9: result = ax_fill(m, AX_ACC(0), 1, NAN); break;
        case 10: result = ax_vop(m, (ax_vop_kind)77, AX_ACC(0), AX_ACC(0), AX_ACC(0), 1, 0); break;
        case 11: result = ax_st(m, b, 0, 1, AX_SPAD(0), 0, 1, 1, 7); break;
        case 12: result = ax_mma(m, AX_ACC(0), 0, AX_L0A(0), 0, AX_L0B(0), 0, 1, 1, 1, 0); break;
        case 13: result = ax_mmx(m, AX_ACC(0), AX_SPAD(0), AX_SPAD(0), 1); break;
        case 14: result = ax_mmx(m, AX_ACC(0), AX_SPAD(0), AX_SPAD(0), INT32_MAX); break;
        case 15: result = ax_prex(m, AX_SPAD(0), AX_SPAD(0x3fffffff), ROWS, COLS); break;
        case 16:
            ax_fill(m, AX_SPAD(0), 2, -1);
            result = ax_prex(m, AX_SPAD(0), AX_SPAD(0), ROWS, COLS);
            break;
        case 17:
            index[0] = 0;
            ax_fill(m, AX_SPAD(0), 1, 1);
            result = ax_sts(m, b, 0, 1, x, 0, AX_SPAD(0), 0, 1, 1, 0, 1);
            break;
        case 18:
            result = ax_spmma(m, AX_ACC(0), 0, AX_L0A(0), AX_L0A(0), AX_L0B(0), 0, 1, 1, 1, 2, INT32_MIN, 0);
            break;
        default: result = ax_ld(m, AX_SPAD(0), 0, -1, 0, 1, 1, 1); break;
        }
        expect(result == -1 && ax_error(m) && strlen(ax_error(m)) > 40, "an error of its own");
        ax_close(m);
    }
}

int main(void)
{
    const ax_type types[] = {AX_I8, AX_F16, AX_BF16, AX_F32};
    for (int i = 0; i < 4; i++) {
        product(AX_WS, types[i]);
        product(AX_MMA, types[i]);
        product_by_index(types[i], 0);
        product_by_index(types[i], AX_NO_DATA);
        product_of_kept(types[i], 0);
        product_of_kept(types[i], AX_NO_DATA);
    }
    bad_config();
    wrong_calls();
    ax_close(NULL);
    return failures != 0;
}
