/* The trace: events kept as they are scheduled, and written in Chrome's JSON format. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "internal.h"

const char *const axi_engine_name[AXI_ENGINES] = {"LOAD", "STORE", "WPORT", "MAT", "MOVE", "VEC"};

void axi_record(ax_machine *m, const axi_insn *insn, int engine, int64_t start, int64_t duration)
{
    int64_t room = (int64_t)m->event_room;
    axi_event *grown = axi_grow(m->events, (int64_t)m->event_count, &room, sizeof *grown);
    if (!grown) {
        axi_fail(m, insn, "out of memory for the trace after %zu events", m->event_count);
        return;
    }
    m->events = grown;
    m->event_room = (size_t)room;
    m->events[m->event_count++] = (axi_event){*insn, m->scope, m->issued, start, duration, engine};
}

void axi_json_string(FILE *out, const char *text)
{
    putc('"', out);
    for (; *text; text++) {
        const unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\')
            fprintf(out, "\\%c", c);
        else if (c < 0x20)
            fprintf(out, "\\u%04x", c);
        else
            putc(c, out);
    }
    putc('"', out);
}

static void write_event(const ax_machine *m, const axi_event *event, FILE *out)
{
    const double us = 1 / (m->config.clock_ghz * 1000);
    char operands[512];
    axi_describe(m, &event->insn, operands, sizeof operands);
    fprintf(out, ",\n{\"name\":\"%s\",\"ph\":\"X\",\"pid\":1,\"tid\":%d,\"ts\":%.17g,\"dur\":%.17g,\"args\":{\"n\":%lld",
            axi_op_name[event->insn.op], event->engine + 1, (double)event->start * us,
            (double)event->duration * us, (long long)event->number);
    if (event->scope) {
        fputs(",\"scope\":", out);
        axi_json_string(out, event->scope);
    }
    fputs(",\"operands\":", out);
    axi_json_string(out, operands);
    fputs("}}", out);
}

static int same_scope(const char *a, const char *b)
{
    return a == b || (a && b && strcmp(a, b) == 0);
}

/* One span for all instructions that were issued one after another in one scope, above the engines. Scopes that
 * overlap would not nest in one track: each begins no sooner than the one before it ends. */
static void write_scopes(const ax_machine *m, FILE *out)
{
    const double us = 1 / (m->config.clock_ghz * 1000);
    int64_t free_from = 0;
    int named = 0;
    for (size_t i = 0, next; i < m->event_count; i = next) {
        const char *scope = m->events[i].scope;
        int64_t start = INT64_MAX, end = 0;
        for (next = i; next < m->event_count && same_scope(m->events[next].scope, scope); next++) {
            const axi_event *event = &m->events[next];
            if (event->start < start)
                start = event->start;
            if (event->start + event->duration > end)
                end = event->start + event->duration;
        }
        if (!scope)
            continue;
        if (!named++)
            fputs(",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":0,\"args\":{\"name\":\"layer\"}}", out);
        if (start < free_from)
            start = free_from;
        if (end < start)
            end = start;
        free_from = end;
        fputs(",\n{\"name\":", out);
        axi_json_string(out, scope);
        fprintf(out, ",\"ph\":\"X\",\"pid\":1,\"tid\":0,\"ts\":%.17g,\"dur\":%.17g,\"args\":{\"instructions\":%zu}}",
                (double)start * us, (double)(end - start) * us, next - i);
    }
}

int ax_write_trace(const ax_machine *m, const char *path)
{
    FILE *out = fopen(path, "w");
    if (!out)
        return -1;
    setvbuf(out, NULL, _IOFBF, 1 << 20);
    fputs("{\"displayTimeUnit\":\"ns\",\"otherData\":{\"target\":", out);
    axi_json_string(out, m->name);
    fprintf(out, ",\"clock_ghz\":%.17g,\"cycles\":%lld},\n\"traceEvents\":[\n", m->config.clock_ghz,
            (long long)ax_cycles(m));
    fputs("{\"name\":\"process_name\",\"ph\":\"M\",\"pid\":1,\"args\":{\"name\":", out);
    axi_json_string(out, m->name);
    fputs("}}", out);
    for (int e = 0; e < AXI_ENGINES; e++)
        fprintf(out, ",\n{\"name\":\"thread_name\",\"ph\":\"M\",\"pid\":1,\"tid\":%d,\"args\":{\"name\":\"%s\"}}", e + 1,
                axi_engine_name[e]);
    if (m->xb)
        axi_xb_trace_names(m, out);
    write_scopes(m, out);
    for (size_t i = 0; i < m->event_count; i++)
        write_event(m, &m->events[i], out);
    fputs("\n]}\n", out);
    const int failed = ferror(out) ? errno : 0;
    if (fclose(out))
        return -1;
    if (failed) {
        errno = failed;
        return -1;
    }
    return 0;
}
