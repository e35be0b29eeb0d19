// Vectors of floats in GCC's vector extension, as wide as a register of the instruction set. (For wider vectors GCC
// makes code that is ten times slower.)
#pragma once
#include <cmath>
#include <cstring>

#include "passes.h"
#if defined(__AVX512BF16__)
#include <immintrin.h>
#endif

#define INLINE static inline __attribute__((always_inline))

namespace lamina {
namespace {

#if defined(__AVX512F__)
constexpr int64_t LANES = 16;
#elif defined(__AVX2__)
constexpr int64_t LANES = 8;
#else
constexpr int64_t LANES = 4;
#endif
typedef float Floats __attribute__((vector_size(4 * LANES)));
typedef int32_t Ints __attribute__((vector_size(4 * LANES)));
typedef uint32_t Words __attribute__((vector_size(4 * LANES)));
typedef uint16_t Shorts __attribute__((vector_size(2 * LANES)));

INLINE Floats broadcast(float x) { return Floats{} + x; }
INLINE Floats select(Ints condition, Floats a, Floats b) { return condition ? a : b; }
INLINE Floats maximum(Floats a, Floats b) { return select(a < b, b, a); }

INLINE Floats load(const float* p) {
    Floats x;
    memcpy(&x, p, sizeof x);
    return x;
}
INLINE Floats load(const Half* p) {
    Shorts bits;
    memcpy(&bits, p, sizeof bits);
    return (Floats)(__builtin_convertvector(bits, Words) << 16);
}
INLINE void store(float* p, Floats x) { memcpy(p, &x, sizeof x); }
INLINE void store(Half* p, Floats x) {
#if defined(__AVX512BF16__)
    const __m256bh bits = _mm512_cvtneps_pbh((__m512)x);
#else
    // Rounds to the nearest, ties to even; NaN stays NaN.
    const Words u = (Words)x;
    const Words rounded = (x == x) ? (u + 0x7fff + ((u >> 16) & 1)) >> 16 : Words{} + 0x7fc0;
    const Shorts bits = __builtin_convertvector(rounded, Shorts);
#endif
    memcpy(p, &bits, sizeof bits);
}

/// The first `count` elements, zeros in the other lanes.
template <typename T>
INLINE Floats load(const T* p, int64_t count) {
    if (count >= LANES) return load(p);
    T part[LANES] = {};
    memcpy(part, p, count * sizeof(T));
    return load(part);
}
template <typename T>
INLINE void store(T* p, Floats x, int64_t count) {
    if (count >= LANES) return store(p, x);
    T part[LANES];
    store(part, x);
    memcpy(p, part, count * sizeof(T));
}
INLINE void add(float* p, Floats x, int64_t count) { store(p, load(p, count) + x, count); }

INLINE float sum(Floats x) {
    float part[LANES];
    memcpy(part, &x, sizeof x);
    for (int64_t half = LANES / 2; half; half /= 2)
        for (int64_t i = 0; i < half; ++i) part[i] += part[i + half];
    return part[0];
}
INLINE float largest(Floats x) {
    float found = x[0];
    for (int64_t i = 1; i < LANES; ++i) found = x[i] > found ? x[i] : found;
    return found;
}

/// 0, 1, 2, ...
INLINE Ints lanes() {
    Ints numbers{};
    for (int64_t lane = 0; lane < LANES; ++lane) numbers[lane] = (int32_t)lane;
    return numbers;
}

/// All bits set in the first `count` lanes.
INLINE Ints first_lanes(int64_t count) { return lanes() < (int32_t)count; }

/// e^x with an error of at most 2 ulp. Below -87, where the result is no normal number, 0.
INLINE Floats exponential(Floats x) {
    const Floats top = select(x > 88.0f, broadcast(88.0f), x);
    const Floats shifted = top * 1.44269504f + 12582912.0f;
    const Floats n = shifted - 12582912.0f;
    const Floats r = top - n * 0.693359375f + n * 2.12194440e-4f;
    Floats p = broadcast(1.9875691500e-4f);
    p = p * r + 1.3981999507e-3f;
    p = p * r + 8.3334519073e-3f;
    p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f;
    p = p * r + 5.0000001201e-1f;
    p = p * r * r + r + 1.0f;
    const Floats power = (Floats)(((Ints)shifted + 127) << 23);
    return select(x < -87.0f, Floats{}, p * power);
}

/// Phi(x), the distribution function of the normal distribution, to 1e-7 (Abramowitz & Stegun 7.1.26). On the way it
/// computes `gaussian`, exp(-x^2 / 2), which the derivative of GELU needs.
INLINE Floats normal_distribution(Floats x, Floats& gaussian) {
    gaussian = exponential(x * x * -0.5f);
    const Floats magnitude = select(x < 0.0f, -x, x);
    const Floats t = 1.0f / (1.0f + 0.23164190f * magnitude);
    Floats p = broadcast(1.061405429f);
    p = p * t - 1.453152027f;
    p = p * t + 1.421413741f;
    p = p * t - 0.284496736f;
    p = p * t + 0.254829592f;
    const Floats tail = 0.5f * p * t * gaussian;
    return select(x < 0.0f, tail, 1.0f - tail);
}

INLINE Words rotated(Words x, int by) { return (x << by) | (x >> (32 - by)); }

/// Draws are made in groups of 128 elements, eight from each of 16 counters, whatever the width of a vector: so every
/// instruction set draws the same.
constexpr int64_t COUNTERS = 16, GROUP = 8 * COUNTERS;
/// A group is this many vectors, made in this many steps.
constexpr int64_t VECTORS = GROUP / LANES, STEPS = COUNTERS / LANES;

/// Draws which elements of a group are kept, for the counters of one step. The generator is Threefry-4x32 with 12
/// rounds (Salmon et al. 2011, who found that 12 rounds pass BigCrush): one counter per lane gives four words, and each
/// element takes 16 bits. An element is kept if its draw is not below `threshold`.
INLINE void draw_step(const Dropout& dropout, uint32_t threshold, uint64_t group, int64_t step, Ints kept[VECTORS]) {
    static constexpr int ROTATIONS[8][2] = {{10, 26}, {11, 21}, {13, 27}, {23, 5},
                                            {6, 20},  {17, 11}, {25, 10}, {18, 20}};
    const uint32_t* k = dropout.words;
    const uint32_t key[5] = {k[0], k[1], k[2], k[3], 0x1BD11BDAu ^ k[0] ^ k[1] ^ k[2] ^ k[3]};
    Words x[4] = {(Words)lanes() + (uint32_t)(group * COUNTERS + step * LANES) + key[0],
                  Words{} + (uint32_t)(group >> 28) + key[1], Words{} + dropout.site + key[2], Words{} + key[3]};
#pragma GCC unroll 12
    for (int round = 0; round < 12; ++round) {
        const int a = round & 1 ? 3 : 1, b = round & 1 ? 1 : 3;
        x[0] += x[a];
        x[a] = rotated(x[a], ROTATIONS[round & 7][0]) ^ x[0];
        x[2] += x[b];
        x[b] = rotated(x[b], ROTATIONS[round & 7][1]) ^ x[2];
        if (round % 4 == 3) {
            const int injection = round / 4 + 1;
            for (int i = 0; i < 4; ++i) x[i] += key[(injection + i) % 5];
            x[3] += (uint32_t)injection;
        }
    }
#pragma GCC unroll 4
    for (int i = 0; i < 4; ++i) {
        kept[2 * i * STEPS + step] = (Ints)(x[i] & 0xffff) >= (int32_t)threshold;
        kept[(2 * i + 1) * STEPS + step] = (Ints)(x[i] >> 16) >= (int32_t)threshold;
    }
}

/// Calls `work(column, left, kept)` for each vector of a row of `n` elements: the first column of the vector, the
/// number of columns from there to the end of the row, and all bits set in the lanes that are kept. Each row begins a
/// new group.
template <typename Work>
INLINE void for_kept(const Dropout& dropout, int64_t row, int64_t n, Work work) {
    const int64_t groups = (n + GROUP - 1) / GROUP;
    const uint32_t below = threshold(dropout);
    for (int64_t group = 0; group < groups; ++group) {
        Ints kept[VECTORS];
        if (below)
            for (int64_t step = 0; step < STEPS; ++step)
                draw_step(dropout, below, (uint64_t)(row * groups + group), step, kept);
        else
            for (Ints& vector : kept) vector = Ints{} - 1;
        for (int64_t i = 0; i < VECTORS; ++i) {
            const int64_t column = group * GROUP + i * LANES;
            if (column >= n) break;
            work(column, n - column, kept[i]);
        }
    }
}

}  // namespace
}  // namespace lamina
