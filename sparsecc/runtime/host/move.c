/* Operators that move elements: strided copies, maps along axes, gathers. Elements are 1, 2, 4 or 8 bytes. */
#include "loops.h"

enum { TILE = 16 };

/* The axis along which x is contiguous, where it is not the last one and y is contiguous along that; or -1. */
static int64_t crossed_axis(const int64_t *walk)
{
    const int64_t last = walk[0] - 1;
    if (last < 1 || host_stride(walk, 0, last) != 1)
        return -1;
    const int64_t stride = host_stride(walk, 1, last);
    if (stride == 1 || stride == 0)
        return -1;
    for (int64_t d = 0; d < last; d++)
        if (host_stride(walk, 1, d) == 1 && host_extent(walk, d) > 1)
            return d;
    return -1;
}

/* The walk with the axis moved before the last one. */
static void move_axis(int64_t *moved, const int64_t *walk, int64_t axis)
{
    const int64_t rank = walk[0];
    memcpy(moved, walk, (size_t)(1 + 3 * rank) * sizeof *moved);
    for (int64_t part = 0; part < 3; part++) {
        int64_t *row = moved + 1 + part * rank;
        for (int64_t d = axis; d < rank - 2; d++)
            row[d] = row[d + 1];
        row[rank - 2] = walk[1 + part * rank + axis];
    }
}

#define TRANSPOSED(BYTES)                                                                                           \
    /* rows x cols in tiles that stay in the cache, as x is read across its rows. */                               \
    static void transposed_##BYTES(host_moved_##BYTES *restrict to, const host_moved_##BYTES *restrict from,       \
                                   int64_t rows, int64_t cols, int64_t to_row, int64_t from_col)                   \
    {                                                                                                              \
        for (int64_t r = 0; r < rows; r += TILE)                                                                   \
            for (int64_t c = 0; c < cols; c += TILE) {                                                             \
                const int64_t last_row = host_least(rows, r + TILE), last_col = host_least(cols, c + TILE);        \
                for (int64_t i = r; i < last_row; i++)                                                             \
                    for (int64_t j = c; j < last_col; j++)                                                         \
                        to[i * to_row + j] = from[i + j * from_col];                                               \
            }                                                                                                      \
    }

TRANSPOSED(1)
TRANSPOSED(2)
TRANSPOSED(8)

#if defined(__has_builtin)
#if __has_builtin(__builtin_shufflevector)
#define HOST_SHUFFLES 1
#endif
#endif

#ifdef HOST_SHUFFLES
typedef uint32_t four __attribute__((vector_size(16)));
typedef uint32_t four_anywhere __attribute__((vector_size(16), aligned(4), may_alias));

/* Four rows of four elements, by shuffles. */
static inline void transposed_four(host_moved_4 *to, const host_moved_4 *from, int64_t to_row, int64_t from_col)
{
    const four a = *(const four_anywhere *)from, b = *(const four_anywhere *)(from + from_col);
    const four c = *(const four_anywhere *)(from + 2 * from_col), d = *(const four_anywhere *)(from + 3 * from_col);
    const four ab = __builtin_shufflevector(a, b, 0, 4, 1, 5), ba = __builtin_shufflevector(a, b, 2, 6, 3, 7);
    const four cd = __builtin_shufflevector(c, d, 0, 4, 1, 5), dc = __builtin_shufflevector(c, d, 2, 6, 3, 7);
    *(four_anywhere *)to = __builtin_shufflevector(ab, cd, 0, 1, 4, 5);
    *(four_anywhere *)(to + to_row) = __builtin_shufflevector(ab, cd, 2, 3, 6, 7);
    *(four_anywhere *)(to + 2 * to_row) = __builtin_shufflevector(ba, dc, 0, 1, 4, 5);
    *(four_anywhere *)(to + 3 * to_row) = __builtin_shufflevector(ba, dc, 2, 3, 6, 7);
}

enum { WIDE = 64 };

/* As the others, in wider tiles: every row of them is written as several whole lines of the cache. */
static void transposed_4(host_moved_4 *restrict to, const host_moved_4 *restrict from, int64_t rows, int64_t cols,
                         int64_t to_row, int64_t from_col)
{
    for (int64_t c = 0; c < cols; c += WIDE)
        for (int64_t r = 0; r < rows; r += TILE) {
            const int64_t last_row = host_least(rows, r + TILE), last_col = host_least(cols, c + WIDE);
            int64_t i = r;
            for (; i + 4 <= last_row; i += 4) {
                int64_t j = c;
                for (; j + 4 <= last_col; j += 4)
                    transposed_four(to + i * to_row + j, from + i + j * from_col, to_row, from_col);
                for (; j < last_col; j++)
                    for (int64_t k = i; k < i + 4; k++)
                        to[k * to_row + j] = from[k + j * from_col];
            }
            for (; i < last_row; i++)
                for (int64_t j = c; j < last_col; j++)
                    to[i * to_row + j] = from[i + j * from_col];
        }
}
#else
TRANSPOSED(4)
#endif

#define COPY(BYTES)                                                                                                 \
    void host_copy_##BYTES(void *y, const void *x, const int64_t *walk)                                            \
    {                                                                                                              \
        typedef host_moved_##BYTES moved;                                                                          \
        if (host_empty(walk))                                                                                      \
            return;                                                                                                \
        host_place place = {{0}, {0}};                                                                             \
        const int64_t last = walk[0] - 1, n = host_extent(walk, last), axis = crossed_axis(walk);                  \
        const int64_t sy = host_stride(walk, 0, last), sx = host_stride(walk, 1, last);                            \
        if (axis >= 0) {                                                                                           \
            int64_t crossed[1 + 3 * HOST_RANK];                                                                    \
            move_axis(crossed, walk, axis);                                                                        \
            do                                                                                                     \
                transposed_##BYTES((moved *)y + place.at[0], (const moved *)x + place.at[1],                       \
                                   host_extent(walk, axis), n, host_stride(walk, 0, axis), sx);                    \
            while (host_next(crossed, 2, 2, &place));                                                              \
            return;                                                                                                \
        }                                                                                                          \
        do {                                                                                                       \
            moved *restrict to = (moved *)y + place.at[0];                                                         \
            const moved *restrict from = (const moved *)x + place.at[1];                                           \
            if (sy == 1 && sx == 1)                                                                                \
                memcpy(to, from, (size_t)n * sizeof *to);                                                          \
            else                                                                                                   \
                for (int64_t i = 0; i < n; i++)                                                                    \
                    to[i * sy] = from[i * sx];                                                                     \
        } while (host_next(walk, 2, 1, &place));                                                                   \
    }

COPY(1)
COPY(2)
COPY(4)
COPY(8)

#define REMAP(BYTES)                                                                                               \
    void host_remap_##BYTES(void *y, const void *x, int64_t outer, int64_t height, int64_t width, int64_t inner,   \
                            int64_t out_height, int64_t out_width, const int32_t *rows, const int32_t *columns,    \
                            uint64_t fill)                                                                         \
    {                                                                                                              \
        typedef host_moved_##BYTES moved;                                                                          \
        moved *restrict to = y;                                                                                    \
        const int64_t row = out_width * inner;                                                                     \
        for (int64_t o = 0; o < outer; o++)                                                                        \
            for (int64_t p = 0; p < out_height; p++, to += row) {                                                  \
                const int64_t h = rows == NULL ? p : rows[p];                                                      \
                if (h < 0) {                                                                                       \
                    for (int64_t q = 0; q < row; q++)                                                              \
                        to[q] = (moved)fill;                                                                       \
                    continue;                                                                                      \
                }                                                                                                  \
                const moved *from = (const moved *)x + (o * height + h) * width * inner;                           \
                if (columns == NULL) {                                                                             \
                    memcpy(to, from, (size_t)row * sizeof *to);                                                    \
                    continue;                                                                                      \
                }                                                                                                  \
                for (int64_t q = 0; q < out_width; q++) {                                                          \
                    const int64_t c = columns[q];                                                                  \
                    for (int64_t l = 0; l < inner; l++)                                                            \
                        to[q * inner + l] = c < 0 ? (moved)fill : from[c * inner + l];                             \
                }                                                                                                  \
            }                                                                                                      \
    }

REMAP(1)
REMAP(2)
REMAP(4)
REMAP(8)

#define CHECK(S, T)                                                                                                \
    static int64_t first_outside_##S(const T *indices, int64_t count, int64_t axis)                                \
    {                                                                                                              \
        for (int64_t i = 0; i < count; i++)                                                                        \
            if (indices[i] < -axis || indices[i] >= axis)                                                          \
                return i + 1;                                                                                      \
        return 0;                                                                                                  \
    }

CHECK(i32, int32_t)
CHECK(i64, int64_t)

#define GATHER(BYTES, S, T)                                                                                        \
    int64_t host_gather_##BYTES##_##S(void *y, const void *x, const T *indices, int64_t outer, int64_t axis,       \
                                      int64_t inner, int64_t count)                                                \
    {                                                                                                              \
        typedef host_moved_##BYTES moved;                                                                          \
        const int64_t bad = first_outside_##S(indices, count, axis);                                               \
        if (bad != 0)                                                                                              \
            return bad;                                                                                            \
        moved *restrict to = y;                                                                                    \
        for (int64_t o = 0; o < outer; o++) {                                                                      \
            const moved *from = (const moved *)x + o * axis * inner;                                               \
            for (int64_t i = 0; i < count; i++, to += inner) {                                                     \
                const int64_t k = indices[i] < 0 ? (int64_t)indices[i] + axis : (int64_t)indices[i];               \
                if (inner == 1)                                                                                    \
                    to[0] = from[k];                                                                               \
                else                                                                                               \
                    memcpy(to, from + k * inner, (size_t)inner * sizeof *to);                                      \
            }                                                                                                      \
        }                                                                                                          \
        return 0;                                                                                                  \
    }

#define GATHERS(S, T) GATHER(1, S, T) GATHER(2, S, T) GATHER(4, S, T) GATHER(8, S, T)

GATHERS(i32, int32_t)
GATHERS(i64, int64_t)
