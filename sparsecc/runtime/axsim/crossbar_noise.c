/* What makes the devices of crossbars differ from their levels: faults, errors of writing, noise of reading. */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "crossbar_internal.h"

/* Random numbers: a hash (the finalizer of splitmix64) of the seed, what the number is for, and the place. */
typedef enum { AXI_FOR_FAULT = 1, AXI_FOR_PROGRAM, AXI_FOR_READ } axi_purpose;

static uint64_t mix(uint64_t x)
{
    x += 0x9e3779b97f4a7c15u;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9u;
    x = (x ^ x >> 27) * 0x94d049bb133111ebu;
    return x ^ x >> 31;
}

static uint64_t hash(const axi_crossbar *xb, axi_purpose purpose, int32_t array, int32_t row, int32_t col,
                     int64_t number, int part)
{
    uint64_t h = mix(xb->noise.seed ^ (uint64_t)purpose << 56);
    h = mix(h ^ (uint64_t)(uint32_t)array << 32 ^ (uint64_t)(uint32_t)row);
    h = mix(h ^ (uint64_t)(uint32_t)col << 32 ^ (uint64_t)(uint32_t)part);
    return mix(h ^ (uint64_t)number);
}

/* Above 0, at most 1. */
static double uniform(uint64_t h) { return ((double)(h >> 11) + 1) * 0x1p-53; }

/* Box and Muller's normal number. */
static double normal(uint64_t h)
{
    return sqrt(-2 * log(uniform(h))) * cos(6.283185307179586 * uniform(mix(h)));
}

static int random_faults(const axi_crossbar *xb, int32_t array, int32_t row, int32_t col)
{
    int faults = 0;
    for (int device = 0; device < axi_xb_devices(xb); device++) {
        const double u = uniform(hash(xb, AXI_FOR_FAULT, array, row, col, 0, device));
        const int fault = u <= xb->noise.stuck_low                           ? AXI_STUCK_LOW
                          : u <= xb->noise.stuck_low + xb->noise.stuck_high ? AXI_STUCK_HIGH
                                                                             : 0;
        faults |= fault << 2 * device;
    }
    return faults;
}

/* The level one device of a cell is at, faults included. */
int axi_xb_level(const axi_crossbar *xb, const axi_array *array, size_t cell, int device)
{
    const int fault = array->faults ? array->faults[cell] >> 2 * device & 3 : 0;
    if (fault)
        return fault == AXI_STUCK_HIGH ? axi_xb_level_max(xb) : 0;
    const int level = array->levels[cell];
    if (device == AXI_NEGATIVE)
        return level < 0 ? -level : 0;
    return level > 0 ? level : 0;
}

/* Where writing has left a device: a little beside its level. */
float axi_xb_written(const axi_crossbar *xb, const axi_block *block, const axi_array *array, int32_t r,
                           int32_t c, int device)
{
    const size_t cell = axi_xb_cell(block, array, r, c);
    const double level = axi_xb_level(xb, array, cell, device), sigma = xb->noise.program_sigma;
    if (level == 0 || sigma == 0)
        return (float)level;
    const double error = sigma * normal(hash(xb, AXI_FOR_PROGRAM, block->array, block->row0 + r, block->col0 + c,
                                             array->writes[cell], device));
    return (float)(level * (xb->noise.lognormal ? exp(error) : 1 + error));
}

/* A normal number for one sum: of the column j and the rows from `first` on of a block, in one read. */
double axi_xb_read_noise(const axi_crossbar *xb, const axi_block *block, int32_t first, int32_t j, int64_t vector,
                         int part)
{
    return normal(hash(xb, AXI_FOR_READ, block->array, block->row0 + first, block->col0 + j, vector, part));
}

int ax_xb_noise(ax_machine *m, const ax_noise *noise)
{
    if (m->failed)
        return -1;
    if (!m->xb)
        return axi_fail_config(m, "noise needs a target with crossbars");
    const struct {
        const char *key;
        double value, most;
    } numbers[] = {{"program_sigma", noise->program_sigma, 10},
                   {"read_sigma", noise->read_sigma, 10},
                   {"stuck_low", noise->stuck_low, 1},
                   {"stuck_high", noise->stuck_high, 1},
                   {"stuck_low + stuck_high", noise->stuck_low + noise->stuck_high, 1}};
    for (size_t i = 0; i < sizeof numbers / sizeof *numbers; i++)
        if (!(numbers[i].value >= 0 && numbers[i].value <= numbers[i].most))
            return axi_fail_config(m, "%s must be from 0 to %g, found %g", numbers[i].key, numbers[i].most,
                                   numbers[i].value);
    if (m->xb->cell_writes)
        return axi_fail_config(m, "noise must be set before the first XB.PROG");
    m->xb->noise = *noise;
    m->xb->noisy = noise->program_sigma > 0 || noise->read_sigma > 0;
    m->xb->faulty = noise->stuck_low > 0 || noise->stuck_high > 0 || m->xb->named_count > 0;
    return 0;
}

int ax_xb_noise_text(ax_machine *m, const char *text)
{
    ax_noise noise = {0};
    for (const char *at = text; *at;) {
        char key[16];
        double value;
        int length = 0;
        if (sscanf(at, "%15[a-z_]=%lf%n", key, &value, &length) != 2 || (at[length] && at[length] != ','))
            return axi_fail_config(m, "noise '%.100s': key=number, ... needed at '%.20s'", text, at);
        if (!strcmp(key, "seed") && value >= 0 && value < 0x1p53 && value == floor(value))
            noise.seed = (uint64_t)value;
        else if (!strcmp(key, "program"))
            noise.program_sigma = value;
        else if (!strcmp(key, "lognormal"))
            noise.lognormal = value != 0;
        else if (!strcmp(key, "read"))
            noise.read_sigma = value;
        else if (!strcmp(key, "stuck_low"))
            noise.stuck_low = value;
        else if (!strcmp(key, "stuck_high"))
            noise.stuck_high = value;
        else
            return axi_fail_config(m, "noise '%.100s': seed (a whole number), program, lognormal, read, stuck_low, "
                                   "stuck_high needed, found '%s'", text, key);
        at += length + (at[length] == ',');
    }
    return ax_xb_noise(m, &noise);
}

int axi_xb_set_faults(ax_machine *m, const axi_insn *insn, int32_t number)
{
    const axi_crossbar *xb = m->xb;
    axi_array *array = &xb->arrays[number];
    if (array->faults || !xb->faulty)
        return 0;
    array->faults = calloc((size_t)array->rows * (size_t)array->cols, 1);
    if (!array->faults)
        return axi_fail(m, insn, "out of memory for the faults of array %d", (int)number);
    if (xb->noise.stuck_low > 0 || xb->noise.stuck_high > 0)
        for (int32_t r = 0; r < array->rows; r++)
            for (int32_t c = 0; c < array->cols; c++)
                array->faults[(size_t)r * (size_t)array->cols + (size_t)c] =
                    (unsigned char)random_faults(xb, number, r, c);
    for (int64_t i = array->first_fault; i; i = xb->named[i - 1].next) {
        const axi_named_fault *named = &xb->named[i - 1];
        if (named->row >= array->rows || named->col >= array->cols)
            return axi_fail(m, insn, "a fault is beyond array %d of %d x %d cells: found row %d, column %d", (int)number,
                            (int)array->rows, (int)array->cols, (int)named->row, (int)named->col);
        unsigned char *fault = &array->faults[(size_t)named->row * (size_t)array->cols + (size_t)named->col];
        const int place = 2 * named->device;
        *fault = (unsigned char)((*fault & ~(3 << place)) | named->fault << place);
    }
    return 0;
}

/* Whether an array may get a shape that has this cell. */
static bool has_cell(const axi_crossbar *xb, const axi_array *array, int32_t row, int32_t col)
{
    if (row < 0 || col < 0)
        return false;
    bool inside = row < array->rows && col < array->cols;
    for (int i = 0; i < xb->config.shapes; i++)
        inside |= row < xb->config.shape_rows[i] && col < xb->config.shape_cols[i];
    return inside;
}

int ax_xb_fault(ax_machine *m, int32_t array, int32_t row, int32_t col, int negative, int high)
{
    if (m->failed)
        return -1;
    if (!m->xb)
        return axi_fail_config(m, "a fault needs a target with crossbars");
    if (array < 0 || array >= m->xb->array_count)
        return axi_fail_config(m, "a fault is in array %d, and the target has arrays 0 to %d", (int)array,
                               (int)m->xb->array_count - 1);
    axi_array *a = &m->xb->arrays[array];
    if (!has_cell(m->xb, a, row, col))
        return axi_fail_config(m, "a fault is beyond array %d of %d x %d cells: found row %d, column %d", (int)array,
                               (int)a->rows, (int)a->cols, (int)row, (int)col);
    if (negative && axi_xb_devices(m->xb) == 1)
        return axi_fail_config(m, "a fault is in the negative device of a cell, and cells with offset encoding have "
                               "one device");
    if (a->writes)
        return axi_fail_config(m, "a fault must be set before the first XB.PROG of its array, found array %d "
                               "programmed", (int)array);
    axi_crossbar *xb = m->xb;
    if (xb->named_count == xb->named_room) {
        const int64_t room = xb->named_room ? 2 * xb->named_room : 64;
        axi_named_fault *more = realloc(xb->named, (size_t)room * sizeof *more);
        if (!more)
            return axi_fail_config(m, "out of memory for faults");
        xb->named = more;
        xb->named_room = room;
    }
    xb->named[xb->named_count++] =
        (axi_named_fault){row, col, negative ? AXI_NEGATIVE : AXI_POSITIVE, high ? AXI_STUCK_HIGH : AXI_STUCK_LOW, 0};
    if (a->last_fault)
        xb->named[a->last_fault - 1].next = xb->named_count;
    else
        a->first_fault = xb->named_count;
    a->last_fault = xb->named_count;
    xb->faulty = true;
    return 0;
}

int ax_xb_fault_file(ax_machine *m, const char *path)
{
    FILE *in = fopen(path, "r");
    if (!in)
        return axi_fail_config(m, "faults: cannot read '%.200s'", path);
    int status = 0, array, row, col, negative, high, found;
    for (long entry = 1; status == 0; entry++) {
        found = fscanf(in, "%d%d%d%d%d", &array, &row, &col, &negative, &high);
        if (found == EOF)
            break;
        status = found == 5 ? ax_xb_fault(m, array, row, col, negative, high)
                            : axi_fail_config(m, "faults '%.200s', entry %ld: array, row, column, negative and high "
                                              "needed", path, entry);
    }
    fclose(in);
    return status;
}
