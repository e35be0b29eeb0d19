// Products of small matrices that fit in the caches: in float32, or in pairs of bfloat16 if the instruction set has
// them.
#pragma once
#include <type_traits>

#include "vector.h"

namespace lamina {
namespace {

/// The bits of x rounded to bfloat16, in the upper half of each word.
INLINE Words rounded(Floats x) {
    const Words u = (Words)x;
    return (x == x) ? u + 0x7fff + ((u >> 16) & 1) : Words{} + 0x7fc00000;
}

// A format says how the operands of a product lie in memory: as elements that each hold VALUES numbers.

/// One float32 number per element.
struct SingleFormat {
    typedef float Element;
    static constexpr int64_t VALUES = 1;
    INLINE Floats product(float a, Floats b, Floats c) { return a * b + c; }
};

#if defined(__AVX512BF16__)
/// Two bfloat16 numbers per element, neighbours along the summed dimension.
struct PairedFormat {
    typedef uint32_t Element;
    static constexpr int64_t VALUES = 2;
    INLINE Floats product(uint32_t a, Floats b, Floats c) {
        return (Floats)_mm512_dpbf16_ps((__m512)c, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
    }
};
template <typename T>
using Format = std::conditional_t<std::is_same_v<T, Half>, PairedFormat, SingleFormat>;
#else
template <typename T>
using Format = SingleFormat;
#endif

template <typename F>
INLINE Floats load_elements(const typename F::Element* p) {
    Floats x;
    memcpy(&x, p, sizeof x);
    return x;
}

/// Multiplies as `multiply` does, ROWS rows and COLUMNS vectors of columns: few enough for the sums to stay in
/// registers.
template <typename F, int ROWS, int COLUMNS>
INLINE void multiply_tile(int64_t depth, const typename F::Element* a, int64_t a_row, int64_t a_column,
                          const typename F::Element* b, int64_t b_row, float* c, int64_t c_row, bool adds) {
    Floats sums[ROWS][COLUMNS];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < COLUMNS; ++v) sums[r][v] = adds ? load(c + r * c_row + v * LANES) : Floats{};
    for (int64_t k = 0; k < depth; ++k, a += a_column, b += b_row) {
        Floats right[COLUMNS];
#pragma GCC unroll 8
        for (int v = 0; v < COLUMNS; ++v) right[v] = load_elements<F>(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < COLUMNS; ++v) sums[r][v] = F::product(a[r * a_row], right[v], sums[r][v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < COLUMNS; ++v) store(c + r * c_row + v * LANES, sums[r][v]);
}

#if defined(__AVX512F__)
constexpr int TILE_ROWS = 4, TILE_VECTORS = 4;
#else
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2;
#endif

/// Multiplies as `multiply` does, all rows of COLUMNS vectors of columns.
template <typename F, int COLUMNS>
INLINE void multiply_columns(int64_t rows, int64_t depth, const typename F::Element* a, int64_t a_row,
                             int64_t a_column, const typename F::Element* b, int64_t b_row, float* c, int64_t c_row,
                             bool adds) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS)
        multiply_tile<F, TILE_ROWS, COLUMNS>(depth, a + r * a_row, a_row, a_column, b, b_row, c + r * c_row, c_row,
                                             adds);
    for (; r < rows; ++r)
        multiply_tile<F, 1, COLUMNS>(depth, a + r * a_row, a_row, a_column, b, b_row, c + r * c_row, c_row, adds);
}

/// c = a b, or c += a b if `adds`: `[rows, n]` = `[rows, depth][depth, n]`. n is a multiple of LANES; depth counts
/// elements of the format. Element (r, k) of a lies at `r * a_row + k * a_column`; rows of b and c are `b_row` and
/// `c_row` apart.
template <typename F>
void multiply(int64_t rows, int64_t n, int64_t depth, const typename F::Element* a, int64_t a_row, int64_t a_column,
              const typename F::Element* b, int64_t b_row, float* c, int64_t c_row, bool adds) {
    int64_t i = 0;
    for (; i + TILE_VECTORS * LANES <= n; i += TILE_VECTORS * LANES)
        multiply_columns<F, TILE_VECTORS>(rows, depth, a, a_row, a_column, b + i, b_row, c + i, c_row, adds);
    for (; i < n; i += LANES) multiply_columns<F, 1>(rows, depth, a, a_row, a_column, b + i, b_row, c + i, c_row, adds);
}

/// x `[rows, n]` in elements that hold neighbours of a row: `[rows, n / VALUES]`.
template <typename F>
INLINE void pack_rows(const float* x, int64_t rows, int64_t n, typename F::Element* out) {
    for (int64_t i = 0; i < rows * n; i += LANES)
        if constexpr (F::VALUES == 1)
            store(out + i, load(x + i));
        else
            store((Half*)out + i, load(x + i));
}

/// x `[rows, n]` in elements that hold neighbours of a column: `[rows / VALUES, n]`.
template <typename F>
INLINE void pack_columns(const float* x, int64_t rows, int64_t n, typename F::Element* out) {
    for (int64_t row = 0; row < rows; row += F::VALUES)
        for (int64_t i = 0; i < n; i += LANES, out += LANES)
            if constexpr (F::VALUES == 1)
                store(out, load(x + row * n + i));
            else {
                const Words low = rounded(load(x + row * n + i)) >> 16, high = rounded(load(x + (row + 1) * n + i));
                const Words pair = low | (high & 0xffff0000);
                memcpy(out, &pair, sizeof pair);
            }
}

/// Packed rows `[rows, words]` to `[words, rows]`. `rows` is a multiple of LANES.
template <typename E>
INLINE void transpose(const E* x, int64_t rows, int64_t words, E* out) {
    for (int64_t block = 0; block < rows; block += LANES)
        for (int64_t word = 0; word < words; ++word)
            for (int64_t row = block; row < block + LANES; ++row) out[word * rows + row] = x[row * words + word];
}

}  // namespace
}  // namespace lamina
