// Products of small matrices that lie in the caches, in float32 or, where the processor has them, in pairs of bfloat16.
#pragma once
#include <type_traits>

#include "vector.h"

namespace lamina {
namespace {

INLINE Words rounded(Floats x) {
    const Words u = (Words)x;
    return (x == x) ? u + 0x7fff + ((u >> 16) & 1) : Words{} + 0x7fc00000;
}

/// Elements of a product one by one.
struct Single {
    typedef float Element;
    static constexpr int64_t PER = 1;
    INLINE Floats product(float a, Floats b, Floats c) { return a * b + c; }
};

#if defined(__AVX512BF16__)
/// Neighbours along the summed dimension, two bfloat16 in a word.
struct Paired {
    typedef uint32_t Element;
    static constexpr int64_t PER = 2;
    INLINE Floats product(uint32_t a, Floats b, Floats c) {
        return (Floats)_mm512_dpbf16_ps((__m512)c, (__m512bh)_mm512_set1_epi32((int)a), (__m512bh)b);
    }
};
template <typename T>
using Kind = std::conditional_t<std::is_same_v<T, Half>, Paired, Single>;
#else
template <typename T>
using Kind = Single;
#endif

template <typename K>
INLINE Floats load_elements(const typename K::Element* p) {
    Floats x;
    memcpy(&x, p, sizeof x);
    return x;
}

template <typename K, int ROWS, int WIDE>
INLINE void tile(int64_t depth, const typename K::Element* a, int64_t a_row, int64_t a_column,
                 const typename K::Element* b, int64_t b_row, float* c, int64_t c_row, bool adds) {
    Floats sums[ROWS][WIDE];
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; ++v) sums[r][v] = adds ? load(c + r * c_row + v * LANES) : Floats{};
    for (int64_t k = 0; k < depth; ++k, a += a_column, b += b_row) {
        Floats right[WIDE];
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; ++v) right[v] = load_elements<K>(b + v * LANES);
#pragma GCC unroll 8
        for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
            for (int v = 0; v < WIDE; ++v) sums[r][v] = K::product(a[r * a_row], right[v], sums[r][v]);
    }
#pragma GCC unroll 8
    for (int r = 0; r < ROWS; ++r)
#pragma GCC unroll 8
        for (int v = 0; v < WIDE; ++v) store(c + r * c_row + v * LANES, sums[r][v]);
}

#if defined(__AVX512F__)
constexpr int TILE_ROWS = 4, TILE_VECTORS = 4;
#else
constexpr int TILE_ROWS = 4, TILE_VECTORS = 2;
#endif

template <typename K, int WIDE>
INLINE void columns(int64_t rows, int64_t depth, const typename K::Element* a, int64_t a_row, int64_t a_column,
                    const typename K::Element* b, int64_t b_row, float* c, int64_t c_row, bool adds) {
    int64_t r = 0;
    for (; r + TILE_ROWS <= rows; r += TILE_ROWS)
        tile<K, TILE_ROWS, WIDE>(depth, a + r * a_row, a_row, a_column, b, b_row, c + r * c_row, c_row, adds);
    for (; r < rows; ++r)
        tile<K, 1, WIDE>(depth, a + r * a_row, a_row, a_column, b, b_row, c + r * c_row, c_row, adds);
}

/// c (+)= a b: `[rows, n]` = `[rows, depth][depth, n]`, n a multiple of LANES, depth counted in K's elements. `a` may be read
/// along either dimension; rows of b and c lie together.
template <typename K>
void multiply(int64_t rows, int64_t n, int64_t depth, const typename K::Element* a, int64_t a_row, int64_t a_column,
              const typename K::Element* b, int64_t b_row, float* c, int64_t c_row, bool adds) {
    int64_t i = 0;
    for (; i + TILE_VECTORS * LANES <= n; i += TILE_VECTORS * LANES)
        columns<K, TILE_VECTORS>(rows, depth, a, a_row, a_column, b + i, b_row, c + i, c_row, adds);
    for (; i < n; i += LANES) columns<K, 1>(rows, depth, a, a_row, a_column, b + i, b_row, c + i, c_row, adds);
}

/// x `[rows, n]` as K's elements, neighbours of a row in one: `[rows, n / PER]`.
template <typename K>
INLINE void pack_rows(const float* x, int64_t rows, int64_t n, typename K::Element* out) {
    for (int64_t i = 0; i < rows * n; i += LANES)
        if constexpr (K::PER == 1)
            store(out + i, load(x + i));
        else
            store((Half*)out + i, load(x + i));
}

/// Neighbours of a column in one: `[rows / PER, n]`.
template <typename K>
INLINE void pack_columns(const float* x, int64_t rows, int64_t n, typename K::Element* out) {
    for (int64_t row = 0; row < rows; row += K::PER)
        for (int64_t i = 0; i < n; i += LANES, out += LANES)
            if constexpr (K::PER == 1)
                store(out, load(x + row * n + i));
            else {
                const Words low = rounded(load(x + row * n + i)) >> 16, high = rounded(load(x + (row + 1) * n + i));
                const Words pair = low | (high & 0xffff0000);
                memcpy(out, &pair, sizeof pair);
            }
}

/// Packed rows `[rows, words]` to `[words, rows]`.
template <typename E>
INLINE void transpose(const E* x, int64_t rows, int64_t words, E* out) {
    for (int64_t block = 0; block < rows; block += LANES)
        for (int64_t word = 0; word < words; ++word)
            for (int64_t row = block; row < block + LANES; ++row) out[word * rows + row] = x[row * words + word];
}

}  // namespace
}  // namespace lamina
