/* A program for the sanitizers: every instruction of the crossbars, either encoding, bit by bit and exactly, with
 * noise, faults and operation units, and many ways to fail. Exits 0 when all results are right and every error is
 * found. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "crossbar.h"

enum { ROWS = 21, COLS = 13, N = 11, WIDTH = 4, PANELS = 3 };

static int failures;

static void expect(int condition, const char *what)
{
    if (!condition) {
        fprintf(stderr, "failed: %s\n", what);
        failures++;
    }
}

static ax_crossbar target(ax_encoding encoding)
{
    return (ax_crossbar){
        .base = {.name = "self \"test\"", .clock_ghz = 1, .kind = AX_XB, .rows = ROWS, .cols = COLS, .in = AX_I8,
                 .acc = AX_I32, .spad_bytes = 1 << 10, .acc_bytes = 1 << 12, .line_rows = 3, .dma_bytes_per_cycle = 16,
                 .dma_latency = 10, .dma_max_burst = 64, .move_bytes_per_cycle = 16, .vector_lanes = 4,
                 .queue_load = 2, .queue_execute = 3, .queue_store = 1, .issue_gap = 1},
        .row_elements = WIDTH, .arrays = 5, .shapes = 2, .shape_rows = {ROWS, 2 * ROWS}, .shape_cols = {COLS, COLS},
        .cell_bits = 2, .in_bits = 8, .encoding = encoding, .read_cycles = 10, .dac_bits = 1, .adc_bits = 9,
        .adc_lanes = 2, .adc_arrays = 2, .adc_cycles_per_bit = 0.5, .stages = 3, .index_cycles = 1,
        .row_write_cycles = 20, .pulses = 2, .program_lanes = 2, .endurance = 1, .dac_pj = 1, .array_pj = 100,
        .adc_pj_per_bit = 0.2, .shift_add_pj = 0.1, .write_pj = 2, .index_pj = 0.5,
    };
}

/* All of it once: two arrays side by side, of which the second adds to what the first gave. */
static void product(ax_encoding encoding, unsigned flags, int ou, int apart, const ax_noise *noise)
{
    ax_crossbar config = target(encoding);
    static int8_t x[ROWS * N], w[2][ROWS * COLS];
    static int32_t y[COLS * N], tables[2 * (ROWS + COLS)];
    config.digitised_separately = apart;
    config.ou_rows = ou ? 9 : 0;
    config.ou_cols = ou ? 8 : 0;
    for (int i = 0; i < ROWS * N; i++)
        x[i] = (int8_t)(i * 37 % 255 - 127);
    for (int i = 0; i < ROWS * COLS; i++)
        for (int a = 0; a < 2; a++)
            w[a][i] = (int8_t)((i * 5 + a) % (encoding == AX_OFFSET ? 4 : 7) - (encoding == AX_OFFSET ? 0 : 3));
    int32_t *in_index = tables, *out_index = in_index + ROWS, *doubled = out_index + COLS, *flipped = doubled + ROWS;
    for (int i = 0; i < ROWS; i++) {
        in_index[i] = ROWS - 1 - i;
        doubled[i] = i % 3 == 0;
    }
    for (int j = 0; j < COLS; j++) {
        out_index[j] = COLS - 1 - j;
        flipped[j] = j % 2;
    }

    ax_machine *m = ax_open_crossbar(&config, flags | AX_TRACE);
    int failed = noise ? ax_xb_noise(m, noise) | ax_xb_fault(m, 0, 1, 1, 0, 1) : 0;
    const int bx = ax_buffer(m, "x", x, ROWS * N, AX_I8), by = ax_buffer(m, "y", y, COLS * N, AX_I32);
    const int bt = ax_buffer(m, "tables", tables, 2 * (ROWS + COLS), AX_I32);
    failed |= ax_xb_shape(m, 4, 1, 2 * ROWS, COLS);
    for (int a = 0; a < 2; a++) {
        const int bw = ax_buffer(m, "w", w[a], ROWS * COLS, AX_I8);
        failed |= ax_xb_prog(m, a, 0, ROWS, 0, COLS, bw, 0, COLS);
        failed |= ax_xb_cfg(m, 7 * a, a, 0, ROWS, 0, COLS, 0, 0, a, 9, a, bt, a ? 0 : -1, a ? ROWS : -1,
                            a ? ROWS + COLS : -1, a && encoding == AX_OFFSET ? 2 * ROWS + COLS : -1);
    }
    const int left = ou ? COLS : COLS / 3; /* without operation units, one array as a bundle of two blocks */
    failed |= ax_xb_cfg(m, 8, 2, 0, ROWS, 0, left, 0, 0, 0, 9, 0, bt, -1, -1, -1, -1);
    if (!ou)
        failed |= ax_xb_cfg(m, 9, 2, 0, ROWS, left, COLS - left, 0, left, 0, 9, 0, bt, -1, -1, -1, -1);
    failed |= ax_xb_prog(m, 2, 0, ROWS, 0, COLS, ax_buffer(m, "w2", w[0], ROWS * COLS, AX_I8), 0, COLS);
    failed |= ax_xb_done(m);
    failed |= ax_ld(m, AX_SPAD(1), ROWS, bx, 0, N, ROWS, N);
    failed |= ax_xb_mvm(m, 0, AX_SPAD(1), ROWS, AX_ACC(2), COLS, N, 0);
    failed |= ax_xb_mvmg(m, 7, ou ? 2 : 3, AX_SPAD(1), ROWS, AX_ACC(2), COLS, N, 1);
    failed |= ax_xb_cfg(m, 7, 1, 3, 2, 1, 2, 0, 0, 0, 9, 0, 0, -1, -1, -1, -1);
    failed |= ax_st(m, by, 0, N, AX_ACC(2), COLS, COLS, N, 0);
    expect(!failed, ax_error(m) ? ax_error(m) : "an instruction");

    for (int j = 0; j < COLS && !noise && !(flags & AX_NO_DATA); j++)
        for (int v = 0; v < N; v++) {
            int sum = 0, inputs = 0, second = 0;
            for (int i = 0; i < ROWS; i++) {
                const int twice = (doubled[i] ? 2 : 1) * x[in_index[i] * N + v];
                sum += 2 * w[0][i * COLS + j] * x[i * N + v];
                inputs += twice;
                second += twice * w[1][i * COLS + out_index[j]];
            }
            if (encoding == AX_OFFSET && flipped[out_index[j]])
                second = 3 * inputs - second;
            expect(y[j * N + v] == sum + 2 * second - inputs, "an element of the product");
        }

    FILE *out = tmpfile();
    ax_report_json(m, out);
    ax_report_text(m, out);
    expect(!ferror(out) && ftell(out) > 1000, "the reports");
    fclose(out);
    expect(ax_write_trace(m, "/dev/null") == 0, "the trace");
    ax_close(m);
}

/* One wrong call each, on a machine that is ready. */
static void errors(void)
{
    static int8_t levels[ROWS * COLS];
    static int32_t tables[COLS] = {-1};
    const ax_crossbar config = target(AX_DIFFERENTIAL);
    for (int which = 0; which < 20; which++) {
        ax_machine *m = ax_open_crossbar(&config, 0);
        const int b = ax_buffer(m, "levels", levels, ROWS * COLS, AX_I8), t = ax_buffer(m, "t", tables, COLS, AX_I32);
        ax_xb_prog(m, 0, 0, ROWS, 0, COLS, b, 0, COLS);
        ax_xb_cfg(m, 0, 0, 0, ROWS, 0, COLS, 0, 0, 0, 9, 0, 0, -1, -1, -1, -1);
        ax_fill(m, AX_SPAD(0), ROWS, 1);
        expect(!ax_error(m), "nothing wrong so far");
        int result = 0;
        switch (which) {
        case 0: result = ax_xb_prog(m, 5, 0, 1, 0, 1, b, 0, 1); break;
        case 1: result = ax_xb_prog(m, 0, INT32_MAX, INT32_MAX, 0, 1, b, 0, 1); break;
        case 2: result = ax_xb_prog(m, 0, 0, 1, 0, 1, b, ROWS * COLS, 1); break;
        case 3: result = ax_xb_cfg(m, -1, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 0, -1, -1, -1, -1); break;
        case 4: result = ax_xb_cfg(m, 1, 0, 0, 1, 0, 1, 0, 0, 31, 9, 0, 0, -1, -1, -1, -1); break;
        case 5: result = ax_xb_cfg(m, 1, 0, 0, 1, 0, 1, 0, 0, 0, 10, 0, 0, -1, -1, -1, -1); break;
        case 6: result = ax_xb_cfg(m, 1, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, t, 0, -1, -1, -1); break;
        case 7: result = ax_xb_cfg(m, 1, 0, 0, 1, 0, 2, 0, 0, 0, 9, 0, t, -1, COLS - 1, -1, -1); break;
        case 8: result = ax_xb_cfg(m, 1, 0, 0, 1, 0, 2, 0, 0, 0, 9, 0, t, -1, 1, -1, -1); break;
        case 9: result = ax_xb_cfg(m, 1, 0, 0, 1, 0, 1, 0, 0, 0, 9, 0, 99, -1, -1, 0, -1); break;
        case 10: result = ax_xb_mvm(m, 1, AX_SPAD(0), 1, AX_ACC(0), 1, 1, 0); break;
        case 11: result = ax_xb_mvm(m, -1, AX_SPAD(0), 1, AX_ACC(0), 1, 1, 0); break;
        case 12: result = ax_xb_mvmg(m, 0, INT32_MAX, AX_SPAD(0), 1, AX_ACC(0), 1, 1, 0); break;
        case 13: result = ax_xb_mvm(m, 0, AX_SPAD(0x3fffffff), 1, AX_ACC(0), 1, 1, 0); break;
        case 14: result = ax_xb_mvm(m, 0, AX_SPAD(0), 1, AX_ACC(0), 1, N, 0); break;
        case 15: result = ax_xb_mvm(m, 0, AX_SPAD(0), 1, AX_ACC(0), 1, 0, 0); break;
        case 16: result = ax_xb_shape(m, 0, 1, 2 * ROWS, COLS); break;
        case 17: result = ax_xb_shape(m, 3, INT32_MAX, ROWS, COLS); break;
        case 18: result = ax_xb_fault(m, 0, 0, 0, 0, 0); break;
        default: result = ax_xb_noise(m, &(ax_noise){.read_sigma = NAN}); break;
        }
        expect(result == -1 && ax_error(m), "an error is found");
        expect(ax_xb_done(m) == -1, "an error stays");
        ax_close(m);
    }
    ax_config plain = config.base;
    plain.kind = AX_WS;
    ax_machine *m = ax_open(&plain, 0);
    expect(ax_xb_mvm(m, 0, 0, 1, AX_ACC(0), 1, 1, 0) == -1 && ax_error(m), "a machine without crossbars");
    ax_close(m);
    m = ax_open(&config.base, 0);
    expect(ax_error(m) != NULL, "crossbars need ax_open_crossbar");
    ax_close(m);
}

int main(void)
{
    const ax_noise noise = {.seed = 1, .program_sigma = 0.1, .lognormal = 1, .read_sigma = 0.1, .stuck_low = 0.1,
                            .stuck_high = 0.1};
    for (int ou = 0; ou < 2; ou++)
        for (int serial = 0; serial < 2; serial++) {
            const unsigned flags = serial ? AX_BIT_SERIAL : 0;
            product(AX_DIFFERENTIAL, flags, ou, 0, NULL);
            product(AX_DIFFERENTIAL, flags, ou, 1, NULL);
            product(AX_OFFSET, flags, ou, 0, NULL);
        }
    product(AX_DIFFERENTIAL, 0, 1, 0, &noise);
    product(AX_DIFFERENTIAL, 0, 0, 1, &noise);
    product(AX_OFFSET, 0, 0, 0, &noise);
    product(AX_OFFSET, AX_NO_DATA, 1, 0, NULL);
    errors();
    return failures != 0;
}
