/* What crossbars compute. Two ways that agree where both apply: bit by bit through the ADC, and, where no sum can be
 * clipped and there is no noise, as a product of whole numbers. Both use the tensor unit's exact kernel. */
#include <math.h>
#include <stdlib.h>

#include "crossbar_internal.h"

void axi_xb_forget(axi_block *block)
{
    free(block->packed[0]);
    free(block->packed[1]);
    free(block->whole);
    block->packed[0] = block->packed[1] = block->whole = NULL;
    for (int part = 0; part < 2; part++) {
        free(block->analog[part]);
        free(block->squares[part]);
        block->analog[part] = block->squares[part] = NULL;
    }
    block->version = 0;
}

static int64_t limit_of(const axi_crossbar *xb, const axi_block *block)
{
    return xb->config.encoding == AX_DIFFERENTIAL ? (1LL << (block->adc_bits - 1)) - 1 : (1LL << block->adc_bits) - 1;
}

static int make_analog(ax_machine *m, const axi_insn *insn, axi_block *block, const axi_array *array)
{
    const axi_crossbar *xb = m->xb;
    const size_t count = (size_t)block->rows * (size_t)block->cols;
    const int parts = axi_xb_sums(xb), devices = axi_xb_devices(xb);
    for (int part = 0; part < parts; part++) {
        block->analog[part] = calloc(count, sizeof(float));
        if (xb->noise.read_sigma > 0)
            block->squares[part] = calloc(count, sizeof(float));
        if (!block->analog[part] || (xb->noise.read_sigma > 0 && !block->squares[part]))
            return axi_fail(m, insn, "out of memory for the levels of a block");
    }
    for (int device = 0; device < devices; device++) {
        const int part = parts == 2 ? device : 0;
        const float sign = device == AXI_NEGATIVE && parts == 1 ? -1 : 1;
        for (int32_t r = 0; r < block->rows; r++)
            for (int32_t c = 0; c < block->cols; c++) {
                const float level = axi_xb_written(xb, block, array, r, c, device);
                const size_t at = (size_t)r * (size_t)block->cols + (size_t)c;
                block->analog[part][at] += sign * level;
                if (block->squares[part])
                    block->squares[part][at] += level * level;
            }
    }
    return 0;
}

/* What of a block goes through the ADC at once, and the whole with doubled rows twice as large, for the exact path. */
typedef enum { AXI_FIRST_PART, AXI_SECOND_PART, AXI_WHOLE } axi_part;

static int16_t *pack(const axi_crossbar *xb, const axi_block *block, const axi_array *array, axi_part part)
{
    const bool apart = xb->config.digitised_separately && part != AXI_WHOLE;
    const int64_t group_size = (int64_t)block->k_pad * block->n_pad;
    int16_t *packed = malloc((size_t)(block->groups * group_size) * sizeof *packed);
    int8_t *levels = malloc((size_t)block->group_rows * (size_t)block->cols);
    if (!packed || !levels) {
        free(packed);
        free(levels);
        return NULL;
    }
    for (int32_t g = 0; g < block->groups; g++) {
        const int32_t first = g * block->group_rows;
        const int32_t rows = block->rows - first < block->group_rows ? block->rows - first : block->group_rows;
        for (int32_t r = 0; r < rows; r++)
            for (int32_t c = 0; c < block->cols; c++) {
                const size_t cell = axi_xb_cell(block, array, first + r, c);
                int level = array->levels[cell];
                if (apart)
                    level = axi_xb_level(xb, array, cell, part == AXI_FIRST_PART ? AXI_POSITIVE : AXI_NEGATIVE);
                else if (array->faults)
                    level = axi_xb_level(xb, array, cell, AXI_POSITIVE) -
                            (axi_xb_devices(xb) == 2 ? axi_xb_level(xb, array, cell, AXI_NEGATIVE) : 0);
                if (part == AXI_WHOLE && block->doubled && block->doubled[first + r])
                    level *= 2;
                levels[(size_t)r * (size_t)block->cols + (size_t)c] = (int8_t)level;
            }
        axi_pack_i8(packed + g * group_size, block->k_pad, block->n_pad, levels, (size_t)block->cols, rows,
                    block->cols);
    }
    free(levels);
    return packed;
}

/* Whether no inputs can make a sum too large: the largest digit in every row, with the sign that adds. */
static bool cannot_clip(const axi_crossbar *xb, const axi_block *block, const axi_array *array)
{
    const int64_t limit = limit_of(xb, block), digit = (1 << xb->config.dac_bits) - 1;
    const int devices = axi_xb_devices(xb);
    for (int32_t first = 0; first < block->rows; first += block->group_rows)
        for (int32_t c = 0; c < block->cols; c++) {
            int64_t sums[2] = {0, 0};
            for (int32_t r = first; r < block->rows && r < first + block->group_rows; r++) {
                const size_t cell = axi_xb_cell(block, array, r, c);
                const int positive = axi_xb_level(xb, array, cell, AXI_POSITIVE);
                const int negative = devices == 2 ? axi_xb_level(xb, array, cell, AXI_NEGATIVE) : 0;
                if (xb->config.digitised_separately) {
                    sums[0] += positive;
                    sums[1] += negative;
                } else {
                    sums[0] += abs(positive - negative);
                }
            }
            if (digit * sums[0] > limit || digit * sums[1] > limit)
                return false;
        }
    return true;
}

static bool pack_all(const axi_crossbar *xb, axi_block *block, const axi_array *array)
{
    if (block->exact)
        return (block->whole = pack(xb, block, array, AXI_WHOLE));
    block->packed[0] = pack(xb, block, array, AXI_FIRST_PART);
    if (xb->config.digitised_separately)
        block->packed[1] = pack(xb, block, array, AXI_SECOND_PART);
    return block->packed[0] && (block->packed[1] || !xb->config.digitised_separately);
}

/* Makes ready what the cells of a block, as they are now, need to be multiplied. */
int axi_xb_prepare(ax_machine *m, const axi_insn *insn, axi_block *block)
{
    axi_crossbar *xb = m->xb;
    const axi_array *array = &xb->arrays[block->array];
    if (block->version == array->version)
        return 0;
    axi_xb_forget(block);
    if (!array->writes)
        return axi_fail(m, insn, "array %d was never programmed", (int)block->array);
    for (int32_t r = 0; r < block->rows; r++)
        for (int32_t c = 0; c < block->cols; c++)
            if (!array->writes[axi_xb_cell(block, array, r, c)])
                return axi_fail(m, insn, "row %d, column %d of array %d was never programmed", (int)(block->row0 + r),
                                (int)(block->col0 + c), (int)block->array);
    const int32_t unit = xb->config.ou_rows;
    block->group_rows = unit && unit < block->rows ? unit : block->rows;
    block->groups = (int32_t)axi_ceil_div(block->rows, block->group_rows);
    block->k_pad = (int32_t)axi_pad(block->group_rows);
    block->n_pad = (int32_t)axi_pad(block->cols);
    block->exact = axi_with_data(m) && !xb->noisy && !xb->bit_serial && cannot_clip(xb, block, array);
    if (xb->noisy && axi_with_data(m) && make_analog(m, insn, block, array))
        return -1;
    if (axi_with_data(m) && !xb->noisy && !pack_all(xb, block, array))
        return axi_fail(m, insn, "out of memory for a block of %d x %d cells", (int)block->rows, (int)block->cols);
    block->version = array->version;
    return 0;
}

static int64_t input_row(const axi_block *block, int32_t i)
{
    return (int64_t)block->in_row + (block->in_index ? block->in_index[i] : i);
}

static int64_t output_row(const axi_block *block, int32_t j)
{
    return (int64_t)block->out_row + (block->out_index ? block->out_index[j] : j);
}

typedef struct {
    int64_t n, in_base, out_base; /* vectors, and the first rows of the operands, of one panel */
    int64_t pitch;                /* of a and digits: all groups, each padded */
    int8_t *a, *digits;           /* n x pitch */
    int32_t *sums, *results, *inputs; /* n x n_pad, twice; the sum of the inputs of each vector */
    double *analog;                   /* of one vector: sums, and the squares of what they add */
} axi_panel;

/* Vectors one after the other, from rows of SPAD that hold one input of each. */
static int gather(ax_machine *m, const axi_insn *insn, const axi_block *block, axi_panel *p)
{
    const axi_crossbar *xb = m->xb;
    const axi_memory *spad = &m->memory[AXI_SPAD];
    const int magnitude = 1 << (xb->config.in_bits - 1);
    const int least = xb->config.encoding == AX_DIFFERENTIAL ? 1 - magnitude : -magnitude;
    memset(p->a, 0, (size_t)(p->n * p->pitch));
    memset(p->inputs, 0, (size_t)p->n * sizeof *p->inputs);
    for (int32_t i = 0; i < block->rows; i++) {
        const int64_t row = p->in_base + input_row(block, i);
        const int8_t *from = (const int8_t *)axi_row(spad, row);
        int8_t *to = p->a + i / block->group_rows * block->k_pad + i % block->group_rows;
        const int times = block->doubled && block->doubled[i] ? 2 : 1;
        for (int64_t v = 0; v < p->n; v++) {
            const int x = from[v];
            if (x < least || x >= magnitude)
                return axi_fail(m, insn, "input %d of vector %lld is %d (row %lld of SPAD), and %s of %d bits go from "
                                "%d to %d", (int)i, (long long)v, x, (long long)row,
                                xb->config.encoding == AX_DIFFERENTIAL ? "sign-magnitude numbers" : "inputs",
                                xb->config.in_bits, least, magnitude - 1);
            to[v * p->pitch] = (int8_t)x;
            p->inputs[v] += times * x;
        }
    }
    return 0;
}

/* The digits of one step: of magnitudes with the sign of the input, or bits of two's complement. */
static void take_digits(const axi_crossbar *xb, const axi_block *block, axi_panel *p, int step)
{
    const int shift = step * xb->config.dac_bits, mask = (1 << xb->config.dac_bits) - 1;
    const bool differential = xb->config.encoding == AX_DIFFERENTIAL;
    for (int32_t g = 0; g < block->groups; g++)
        for (int64_t v = 0; v < p->n; v++) {
            const int8_t *from = p->a + v * p->pitch + (int64_t)g * block->k_pad;
            int8_t *to = p->digits + v * p->pitch + (int64_t)g * block->k_pad;
            const unsigned char *doubled = block->any_doubled ? block->doubled + g * block->group_rows : NULL;
            const int32_t rows = block->rows - g * block->group_rows;
            for (int32_t i = 0; i < block->group_rows && i < rows; i++) {
                const int x = doubled && doubled[i] ? 2 * from[i] : from[i];
                const int digit = (differential ? abs(x) : x) >> shift & mask;
                to[i] = (int8_t)(differential && x < 0 ? -digit : digit);
            }
        }
}

/* Adds sums, as the ADC lets them through, times 2^shift; returns how many it clipped. */
static int64_t convert(int32_t *results, const int32_t *sums, int64_t n, int64_t n_pad, int32_t least, int32_t most,
                       int shift, int sign)
{
    const int32_t factor = sign * (1 << shift);
    int64_t clipped = 0;
    for (int64_t v = 0; v < n; v++)
        for (int64_t j = 0; j < n_pad; j += AXI_PAD) {
            int32_t outside = 0;
            const int32_t *from = sums + v * n_pad + j;
            int32_t *to = results + v * n_pad + j;
            for (int i = 0; i < AXI_PAD; i++) { /* padding is 0, and never clipped */
                const int32_t s = from[i], c = s < least ? least : s > most ? most : s;
                outside += c != s;
                to[i] += c * factor;
            }
            clipped += outside;
        }
    return clipped;
}

/* Adds one row of levels for one digit, or nothing. */
static void add_row(double *sums, const float *row, int32_t cols, double factor)
{
    for (int32_t j = 0; j < cols; j++)
        sums[j] += factor * row[j];
}

/* Analog sums of one step, with the noise of this read, rounded by the ADC. */
static void read_analog(const axi_crossbar *xb, const axi_block *block, const axi_panel *p, int32_t group, int part,
                        int64_t first_vector, int step)
{
    const int32_t first = group * block->group_rows;
    const int32_t rows = block->rows - first < block->group_rows ? block->rows - first : block->group_rows;
    const double sigma = xb->noise.read_sigma, most = INT32_MAX / 2; /* far beyond any ADC */
    const size_t cols = (size_t)block->cols;
    for (int64_t v = 0; v < p->n; v++) {
        const int8_t *digits = p->digits + v * p->pitch + (int64_t)group * block->k_pad;
        int32_t *to = p->sums + v * block->n_pad;
        memset(p->analog, 0, 2 * cols * sizeof *p->analog);
        double *sums = p->analog, *squares = sums + cols;
        for (int32_t i = 0; i < rows; i++) {
            const double digit = digits[i];
            if (digit == 0)
                continue;
            add_row(sums, block->analog[part] + (size_t)(first + i) * cols, block->cols, digit);
            if (sigma > 0)
                add_row(squares, block->squares[part] + (size_t)(first + i) * cols, block->cols, digit * digit);
        }
        for (int32_t j = 0; j < block->cols; j++) {
            double sum = sums[j];
            if (squares[j] > 0) /* one normal number stands for those of all cells of the column */
                sum += sigma * sqrt(squares[j]) *
                       axi_xb_read_noise(xb, block, first, j, first_vector + v, step * 2 + part);
            to[j] = (int32_t)nearbyint(fmin(fmax(sum, -most), most));
        }
        memset(to + block->cols, 0, (size_t)(block->n_pad - block->cols) * sizeof *to);
    }
}

static void bit_serially(ax_machine *m, axi_block *block, axi_panel *p, int64_t first_vector)
{
    axi_crossbar *xb = m->xb;
    const int steps = axi_xb_steps(xb, block), parts = axi_xb_sums(xb);
    const bool differential = xb->config.encoding == AX_DIFFERENTIAL;
    const int32_t most = (int32_t)limit_of(xb, block), least = differential ? -most : 0;
    int64_t clipped = 0;
    memset(p->digits, 0, (size_t)(p->n * p->pitch));
    memset(p->results, 0, (size_t)(p->n * block->n_pad) * sizeof *p->results);
    for (int step = 0; step < steps; step++) {
        take_digits(xb, block, p, step);
        const int top = !differential && step == steps - 1 ? -1 : 1; /* the top bit of two's complement */
        for (int32_t g = 0; g < block->groups; g++)
            for (int part = 0; part < parts; part++) {
                if (xb->noisy)
                    read_analog(xb, block, p, g, part, first_vector, step);
                else
                    axi_mm_i8(p->sums, (size_t)block->n_pad, p->digits + (int64_t)g * block->k_pad, (size_t)p->pitch,
                              block->packed[part] + (int64_t)g * block->k_pad * block->n_pad, p->n, block->k_pad,
                              block->n_pad, false);
                clipped += convert(p->results, p->sums, p->n, block->n_pad, least, most, step * xb->config.dac_bits,
                                   part ? -top : top);
            }
    }
    xb->clips[block->adc_bits] += clipped;
    xb->arrays[block->array].clipped += clipped;
    xb->serial_vectors += p->n;
}

static void exactly(ax_machine *m, const axi_block *block, axi_panel *p)
{
    for (int32_t g = 0; g < block->groups; g++)
        axi_mm_i8(p->results, (size_t)block->n_pad, p->a + (int64_t)g * block->k_pad, (size_t)p->pitch,
                  block->whole + (int64_t)g * block->k_pad * block->n_pad, p->n, block->k_pad, block->n_pad, g > 0);
    m->xb->exact_vectors += p->n;
}

/* Digital: flipped columns, shift, the offset of the weights, and the sum. */
static void add_results(ax_machine *m, const axi_block *block, const axi_panel *p)
{
    const axi_memory *acc = &m->memory[AXI_ACC];
    const int64_t top = axi_xb_level_max(m->xb);
    for (int32_t j = 0; j < block->cols; j++) {
        int32_t *to = (int32_t *)(void *)axi_row(acc, p->out_base + output_row(block, j));
        const bool flipped = block->flipped && block->flipped[j];
        for (int64_t v = 0; v < p->n; v++) {
            int64_t value = p->results[v * block->n_pad + j];
            if (flipped)
                value = top * p->inputs[v] - value;
            value = value * (1LL << block->shift) - (int64_t)block->offset * p->inputs[v] + to[v];
            to[v] = (int32_t)(uint32_t)(uint64_t)value;
            m->int32_overflow += to[v] != value;
        }
    }
}

/* Gives out the scratch memory of a panel: its parts one after the other, each for whole vectors. */
static int make_panel(ax_machine *m, const axi_insn *insn, const axi_block *block, axi_panel *p, int64_t n)
{
    axi_crossbar *xb = m->xb;
    p->pitch = (int64_t)block->groups * block->k_pad;
    const size_t bytes = (size_t)axi_pad(n * p->pitch), words = (size_t)(n * block->n_pad) * sizeof(int32_t);
    const size_t analog = 2 * (size_t)block->cols * sizeof *p->analog;
    unsigned char *at = axi_scratch(m, insn, &xb->scratch, &xb->scratch_size,
                                    analog + 2 * bytes + 2 * words + (size_t)n * sizeof(int32_t));
    if (!at)
        return -1;
    p->analog = (double *)(void *)at;
    at += analog;
    p->a = (int8_t *)at;
    p->digits = (int8_t *)at + bytes;
    p->sums = (int32_t *)(void *)(at + 2 * bytes);
    p->results = (int32_t *)(void *)(at + 2 * bytes + words);
    p->inputs = (int32_t *)(void *)(at + 2 * bytes + 2 * words);
    return 0;
}

int axi_xb_multiply(ax_machine *m, const axi_insn *insn, axi_block *block)
{
    const int64_t width = m->memory[AXI_SPAD].width, n = insn->rows;
    axi_panel p;
    if (make_panel(m, insn, block, &p, n < width ? n : width))
        return -1;
    for (int64_t b = 0; b < axi_xb_panels(m, n); b++) {
        p.n = n - b * width < width ? n - b * width : width;
        p.in_base = (int64_t)(insn->address[0] & AXI_ADDRESS_MASK) + b * insn->step[0];
        p.out_base = (int64_t)(insn->address[1] & AXI_ADDRESS_MASK) + b * insn->step[1];
        if (gather(m, insn, block, &p))
            return -1;
        if (block->exact)
            exactly(m, block, &p);
        else
            bit_serially(m, block, &p, block->vectors + b * width);
        add_results(m, block, &p);
    }
    return 0;
}

/* The rows of sums that a block adds to, from 0. */
void axi_xb_clear(ax_machine *m, const axi_insn *insn, const axi_block *block)
{
    const axi_memory *acc = &m->memory[AXI_ACC];
    for (int64_t b = 0; b < axi_xb_panels(m, insn->rows); b++)
        for (int32_t j = 0; j < block->cols; j++)
            memset(axi_row(acc, (int64_t)(insn->address[1] & AXI_ADDRESS_MASK) + b * insn->step[1] +
                                    output_row(block, j)), 0, acc->pitch);
}
