/* Speed of the simulator of crossbars: prints one figure, in thousands of multiplications of 128 x 128 per second.
 * Usage: crossbar_bench CASE SECONDS */
#define _POSIX_C_SOURCE 200809L
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "crossbar.h"

enum { SIZE = 128, ARRAYS = 8, ROW = 32 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static int run(unsigned flags, int vectors, int adc_bits, double noise, double seconds)
{
    static int8_t levels[SIZE * SIZE], x[SIZE * ROW];
    const ax_crossbar config = {
        .base = {.name = "bench128", .clock_ghz = 1, .kind = AX_XB, .rows = SIZE, .cols = SIZE, .in = AX_I8,
                 .acc = AX_I32, .spad_bytes = 1 << 18, .acc_bytes = 1 << 18, .line_rows = 16,
                 .dma_bytes_per_cycle = 32, .move_bytes_per_cycle = 32, .vector_lanes = 32, .queue_load = 16,
                 .queue_execute = 64, .queue_store = 16, .issue_gap = 1},
        .row_elements = ROW, .arrays = ARRAYS, .cell_bits = 2, .in_bits = 8, .encoding = AX_DIFFERENTIAL,
        .read_cycles = 100, .dac_bits = 1, .adc_bits = 10, .adc_lanes = 1, .adc_arrays = 1, .adc_cycles = 1,
        .stages = 3, .row_write_cycles = 80, .pulses = 1, .program_lanes = 1, .endurance = 1e9};
    ax_machine *m = ax_open_crossbar(&config, flags);
    if (!m)
        return -1;
    for (int i = 0; i < SIZE * SIZE; i++)
        levels[i] = (int8_t)(i * 37 % 61 % 7 - 3);
    for (int i = 0; i < SIZE * ROW; i++)
        x[i] = (int8_t)(i * 29 % 255 - 127);
    const int w = ax_buffer(m, "levels", levels, SIZE * SIZE, AX_I8), in = ax_buffer(m, "x", x, SIZE * ROW, AX_I8);
    const ax_noise with = {.seed = 1, .read_sigma = noise};
    int failed = noise > 0 ? ax_xb_noise(m, &with) : 0;
    for (int a = 0; a < ARRAYS; a++)
        failed |= ax_xb_prog(m, a, 0, SIZE, 0, SIZE, w, 0, SIZE) ||
                  ax_xb_cfg(m, a, a, 0, SIZE, 0, SIZE, 0, 0, 0, adc_bits, 0, 0, -1, -1, -1, -1);
    failed |= ax_ld(m, AX_SPAD(0), SIZE, in, 0, ROW, SIZE, ROW) || ax_xb_done(m);
    double done = 0, took = 0;
    for (const double start = now(); !failed && took < seconds; took = now() - start) {
        for (int i = 0; i < 64 && !failed; i++)
            failed |= ax_xb_mvm(m, i % ARRAYS, AX_SPAD(0), SIZE, AX_ACC(i % ARRAYS * SIZE), SIZE, vectors, 0);
        done += 64.0 * vectors;
    }
    if (failed)
        fprintf(stderr, "%s\n", ax_error(m));
    else
        printf("%.6g\n", done / took * 1e-3);
    ax_close(m);
    return failed ? -1 : 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    const double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    if (!strcmp(name, "exact"))
        return run(0, ROW, 10, 0, seconds) != 0;
    if (!strcmp(name, "exact_one_vector"))
        return run(0, 1, 10, 0, seconds) != 0;
    if (!strcmp(name, "bit_serial"))
        return run(AX_BIT_SERIAL, ROW, 10, 0, seconds) != 0;
    if (!strcmp(name, "bit_serial_one_vector"))
        return run(AX_BIT_SERIAL, 1, 10, 0, seconds) != 0;
    if (!strcmp(name, "bit_serial_clipped"))
        return run(0, ROW, 5, 0, seconds) != 0;
    if (!strcmp(name, "noise"))
        return run(0, ROW, 10, 0.01, seconds) != 0;
    if (!strcmp(name, "time_only"))
        return run(AX_NO_DATA, 1, 10, 0, seconds) != 0;
    fprintf(stderr, "unknown case '%s'\n", name);
    return 2;
}
