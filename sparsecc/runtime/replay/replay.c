/* Replays a program of the machine level for its time, without compiling it: reads it as numbers from standard
 * input and prints the simulator's report. The argument is the target's name.
 *
 * A program is, all in the byte order of the machine: the configuration (doubles, in the order of CONFIG); tables
 * of int32; buffers; conversions of stores (type, scale, activation, as doubles); registers (int64) with their
 * first values; code (int32). replay.py writes it. Each count is an int64 before what it counts. The first handles
 * are those of the buffers, in their order. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "axsim.h"
#include "replay.h" /* written by replay.py: the fields of the configuration, and the instructions */

#ifdef REPLAY_CROSSBARS /* set by replay.h, which includes crossbar.h then */
typedef ax_crossbar configuration;
#define FIRST {.base = {.kind = AX_XB, .in = AX_I8, .acc = AX_I32}}
#define NAME base.name
#define OPEN ax_open_crossbar
#else
typedef ax_config configuration;
#define FIRST {0}
#define NAME name
#define OPEN ax_open
#endif

#define COUNT(field) +1
enum { CONFIG_FIELDS = 0 CONFIG(COUNT) };

/* Operations, with their operands: registers, where nothing else is said. */
enum {
    OP_END,    /* of the program */
    OP_RETURN, /* from a function */
    OP_CALL,   /* place in the code */
    OP_JUMP,   /* place */
    OP_UNLESS, /* condition, place */
    OP_FROM,   /* to, a, place: go there unless to < a */
    OP_COPY,   /* to, a */
    OP_ADD,    /* to, a, b, as all below */
    OP_SUB,
    OP_MUL,
    OP_DIV,
    OP_REM,
    OP_MIN,
    OP_OR,
    OP_LESS,
    OP_SELECT, /* to, condition, a, b */
    OP_LOOKUP, /* to, table, a */
    OP_INSTRUCTION /* the first of the target's, with the operands of their C calls */
};
enum { DEPTH = 16 }; /* of calls */

typedef struct {
    int32_t *data;
    int64_t count;
} table;

typedef struct {
    configuration config;
    table *tables, *buffers, code;
    int64_t table_count, buffer_count, *registers;
} program;

static void stop(const char *why)
{
    fprintf(stderr, "replay: %s\n", why);
    exit(1);
}

static void take(void *to, size_t size, int64_t count)
{
    if (count > 0 && fread(to, size, (size_t)count, stdin) != (size_t)count)
        stop("the program is cut short");
}

static int64_t number(void)
{
    int64_t n;
    take(&n, sizeof n, 1);
    return n;
}

static void *room(int64_t count, size_t size)
{
    void *block = calloc((size_t)(count > 0 ? count : 1), size);
    if (!block)
        stop("out of memory");
    return block;
}

static table take_table(void)
{
    table t = {NULL, number()};
    t.data = room(t.count, sizeof *t.data);
    take(t.data, sizeof *t.data, t.count);
    return t;
}

static void take_config(configuration *c)
{
    double value[CONFIG_FIELDS];
    int at = 0;
    if (number() != CONFIG_FIELDS)
        stop("the configuration is of another version");
    take(value, sizeof *value, CONFIG_FIELDS);
    *c = (configuration)FIRST;
#define SET(field) c->field = value[at++];
    CONFIG(SET)
}

/* A buffer: its type, its elements, and the bytes of its data, as int32, or none. */
static table take_buffer(ax_machine *m)
{
    const ax_type type = (ax_type)number();
    const int64_t elements = number();
    const table data = take_table();
    if (ax_buffer(m, "buffer", data.count ? data.data : NULL, elements, type) < 0)
        stop(ax_error(m));
    return data;
}

static void take_outputs(ax_machine *m)
{
    const int64_t count = number();
    for (int64_t i = 0; i < count; i++) {
        double v[3];
        take(v, sizeof *v, 3);
        if (ax_output(m, (ax_type)v[0], v[1], (ax_act)v[2]) < 0)
            stop(ax_error(m));
    }
}

#define R(i) r[at[i]]
#define CASE(number, operands, call) case OP_INSTRUCTION + (number): failed = call; at += (operands); break;

static void run(ax_machine *m, const program *p)
{
    const int32_t *code = p->code.data, *at = code, *back[DEPTH];
    int64_t *r = p->registers;
    int depth = 0, failed = 0;
    for (;;) {
        const int op = *at++;
        switch (op) {
        case OP_END: return;
        case OP_RETURN: at = back[--depth]; break;
        case OP_CALL:
            if (depth == DEPTH)
                stop("functions call each other too deeply");
            back[depth++] = at + 1;
            at = code + at[0];
            break;
        case OP_JUMP: at = code + at[0]; break;
        case OP_UNLESS: at = R(0) ? at + 2 : code + at[1]; break;
        case OP_FROM: at = R(0) < R(1) ? at + 3 : code + at[2]; break;
        case OP_COPY: R(0) = R(1); at += 2; break;
        case OP_ADD: R(0) = R(1) + R(2); at += 3; break;
        case OP_SUB: R(0) = R(1) - R(2); at += 3; break;
        case OP_MUL: R(0) = R(1) * R(2); at += 3; break;
        case OP_DIV: R(0) = R(1) / R(2); at += 3; break;
        case OP_REM: R(0) = R(1) % R(2); at += 3; break;
        case OP_MIN: R(0) = R(1) < R(2) ? R(1) : R(2); at += 3; break;
        case OP_OR: R(0) = R(1) | R(2); at += 3; break;
        case OP_LESS: R(0) = R(1) < R(2); at += 3; break;
        case OP_SELECT: R(0) = R(1) ? R(2) : R(3); at += 4; break;
        case OP_LOOKUP: {
            const table *t = &p->tables[at[1]];
            const int64_t place = R(2);
            if (place < 0 || place >= t->count)
                stop("a place outside a table is looked up");
            R(0) = t->data[place];
            at += 3;
            break;
        }
        INSTRUCTIONS(CASE)
        default: stop("an operation is not known");
        }
        if (failed)
            stop(ax_error(m));
    }
}

int main(int argc, char **argv)
{
    program p;
    take_config(&p.config);
    p.config.NAME = argc > 1 ? argv[1] : "unnamed";
    ax_machine *m = OPEN(&p.config, AX_NO_DATA);
    if (!m || ax_error(m))
        stop(m ? ax_error(m) : "out of memory");
    p.table_count = number();
    p.tables = room(p.table_count, sizeof *p.tables);
    for (int64_t i = 0; i < p.table_count; i++)
        p.tables[i] = take_table();
    p.buffer_count = number();
    p.buffers = room(p.buffer_count, sizeof *p.buffers);
    for (int64_t i = 0; i < p.buffer_count; i++)
        p.buffers[i] = take_buffer(m);
    take_outputs(m);
    const int64_t registers = number();
    p.registers = room(registers, sizeof *p.registers);
    take(p.registers, sizeof *p.registers, registers);
    p.code = take_table();
    run(m, &p);
    ax_report_json(m, stdout);
    ax_close(m);
    for (int64_t i = 0; i < p.table_count; i++)
        free(p.tables[i].data);
    for (int64_t i = 0; i < p.buffer_count; i++)
        free(p.buffers[i].data);
    free(p.tables);
    free(p.buffers);
    free(p.registers);
    free(p.code.data);
    return 0;
}
