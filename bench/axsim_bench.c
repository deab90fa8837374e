/* Speed of the simulator: prints one figure, in millions of instructions or tiles per second.
 * Usage: axsim_bench CASE SECONDS */
#define _POSIX_C_SOURCE 200809L
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "axsim.h"

enum { SIZE = 16, TILES = 32 };

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

static ax_config target(ax_type in, ax_type acc)
{
    return (ax_config){
        .name = "bench16", .clock_ghz = 1, .kind = AX_WS, .rows = SIZE, .cols = SIZE, .in = in, .acc = acc,
        .pe_double_buffer = 1, .spad_bytes = 1 << 18, .acc_bytes = 1 << 16, .line_rows = SIZE,
        .dma_bytes_per_cycle = 16, .dma_latency = 100, .dma_max_burst = 64, .move_bytes_per_cycle = 64,
        .vector_lanes = SIZE, .queue_load = 8, .queue_execute = 16, .queue_store = 4, .issue_gap = 1,
    };
}

static int fail(const ax_machine *m)
{
    fprintf(stderr, "%s\n", ax_error(m));
    return -1;
}

/* Tiles of 16 x 16 x 16: a TU.PRE and a TU.MM each; with `moves`, also the LD of both operands and a ST. */
static int run(ax_config config, unsigned flags, int moves, double seconds, double per_tile)
{
    static _Alignas(64) unsigned char from[TILES * SIZE * SIZE * 4], to[SIZE * SIZE * 4];
    ax_machine *m = ax_open(&config, flags);
    if (!m)
        return -1;
    for (size_t i = 0; i < sizeof from; i++)
        from[i] = (unsigned char)(i * 37 % 61); /* as floats, too: small, and never infinite or NaN */
    const int source = ax_buffer(m, "from", from, (int64_t)TILES * SIZE * SIZE, config.in);
    const int result = ax_buffer(m, "to", to, (int64_t)SIZE * SIZE, config.acc);
    if (ax_ld(m, AX_SPAD(0), 0, source, 0, SIZE, TILES * SIZE, SIZE))
        return fail(m);
    double done = 0, start = now(), took;
    do {
        for (int i = 0; i < 4096; i++) {
            const uint32_t a = AX_SPAD(i % TILES * SIZE), b = AX_SPAD((i + 7) % TILES * SIZE);
            const uint32_t c = AX_ACC(i / 8 % TILES * SIZE);
            if (moves && (ax_ld(m, a, 0, source, i % TILES * SIZE * SIZE, SIZE, SIZE, SIZE) ||
                          ax_ld(m, b, 0, source, (i + 7) % TILES * SIZE * SIZE, SIZE, SIZE, SIZE)))
                return fail(m);
            if (ax_pre(m, b, SIZE, SIZE) || ax_mm(m, c, a, SIZE, i % 8 != 0))
                return fail(m);
            if (moves && ax_st(m, result, 0, SIZE, c, 0, SIZE, SIZE, 0))
                return fail(m);
        }
        done += 4096 * per_tile;
        took = now() - start;
    } while (took < seconds);
    printf("%.6g\n", done / took * 1e-6);
    ax_close(m);
    return 0;
}

int main(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    const double seconds = argc > 2 ? atof(argv[2]) : 0.5;
    if (!strcmp(name, "time_only_instructions"))
        return run(target(AX_I8, AX_I32), AX_NO_DATA, 0, seconds, 2) != 0;
    if (!strcmp(name, "time_only_instructions_with_moves"))
        return run(target(AX_I8, AX_I32), AX_NO_DATA, 1, seconds, 5) != 0;
    if (!strcmp(name, "i8_tiles"))
        return run(target(AX_I8, AX_I32), 0, 0, seconds, 1) != 0;
    if (!strcmp(name, "i8_tiles_with_moves"))
        return run(target(AX_I8, AX_I32), 0, 1, seconds, 1) != 0;
    if (!strcmp(name, "f16_tiles"))
        return run(target(AX_F16, AX_F32), 0, 0, seconds, 1) != 0;
    if (!strcmp(name, "f32_tiles"))
        return run(target(AX_F32, AX_F32), 0, 0, seconds, 1) != 0;
    fprintf(stderr, "unknown case '%s'\n", name);
    return 2;
}
