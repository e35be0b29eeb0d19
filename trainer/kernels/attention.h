// Attention of one head at a time: scores, softmax, dropout and the weighted sum while they lie in the caches.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <new>

#include "products.h"

namespace lamina {
namespace {

/// Queries that are worked on together.
constexpr int64_t BLOCK = 64;

INLINE int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/// Memory that a thread keeps from call to call. No std::vector: the linker would have this instruction set's copy of its
/// functions serve the whole program.
struct Kept {
    float* start = nullptr;
    int64_t floats = 0;

    ~Kept() { free(start); }
    void hold(int64_t wanted) {
        if (wanted <= floats) return;
        free(start);
        start = static_cast<float*>(aligned_alloc(64, (wanted * sizeof(float) + 63) / 64 * 64));
        floats = start ? wanted : 0;
        if (!start) throw std::bad_alloc();
    }
};

/// A thread's memory, handed out in pieces.
struct Scratch {
    explicit Scratch(int64_t floats) {
        thread_local Kept kept;
        kept.hold(floats);
        next = kept.start;
    }
    template <typename E>
    E* take(int64_t count) {
        E* piece = (E*)next;
        next += count;
        return piece;
    }
    float* next;
};

/// One head of one sequence. Matrices are padded with zeros to `[long_, wide]`, multiples of LANES.
template <typename T>
struct OneHead {
    typedef Kind<T> K;
    typedef typename K::Element E;
    const Attention& of;
    int64_t sequence, head, long_, wide, row;

    OneHead(const Attention& of, int64_t index)
        : of(of), sequence(index / of.heads), head(index % of.heads), long_(padded(of.length)), wide(padded(of.width)),
          row(index * of.length) {}

    /// Where the head's query (0), key (1) or value (2) of the first token lies, and how far the next token is.
    int64_t start(int64_t part) const {
        return ((sequence * of.length * 3 + part) * of.heads + head) * of.width;
    }
    int64_t stride() const { return 3 * of.heads * of.width; }
    const float* bias(int64_t part) const { return of.bias + (part * of.heads + head) * of.width; }

    /// (x + bias) scale as a padded matrix; `bias` may be null.
    void gather(const T* x, int64_t stride, const float* bias, float scale, float* out) const {
        for (int64_t token = 0; token < long_; ++token, out += wide)
            for (int64_t i = 0; i < wide; i += LANES) {
                Floats at{};
                if (token < of.length) {
                    at = load(x + token * stride + i, of.width - i);
                    if (bias) at += load(bias + i, of.width - i);
                    at = select(first(of.width - i), at * scale, Floats{});
                }
                store(out + i, at);
            }
    }
    void scatter(const float* x, int64_t rows, float scale, T* out, int64_t stride, float* sums) const {
        for (int64_t token = 0; token < rows; ++token, x += wide, out += stride)
            for (int64_t i = 0; i < of.width; i += LANES) {
                const Floats at = load(x + i) * scale;
                store(out + i, at, of.width - i);
                if (sums) add(sums + i, at, of.width - i);
            }
    }

    /// All ones where `query` may look at the keys from i on.
    Ints sees(int64_t query, int64_t i) const {
        Ints seen = lamina::first(of.causal ? query + 1 - i : of.length - i);
        if (of.tokens) {
            const uint8_t* tokens = of.tokens + sequence * of.length + i;
            Ints token;
            for (int64_t lane = 0; lane < LANES; ++lane) token[lane] = i + lane < of.length && tokens[lane] ? -1 : 0;
            seen &= token;
        }
        return seen;
    }

    float scale() const { return 1.0f / std::sqrt((float)of.width); }
};

template <typename T>
void attend(const Attention& of, const T* qkv, int64_t first, int64_t last, T* out, float* sums) {
    typedef OneHead<T> Head;
    typedef typename Head::K K;
    typedef typename Head::E E;
    for (int64_t index = first; index < last; ++index) {
        const Head head(of, index);
        const int64_t s = head.long_, d = head.wide;
        Scratch scratch(4 * s * d + 2 * BLOCK * s + BLOCK * d);
        float* plain = scratch.take<float>(s * d);
        E *q = scratch.take<E>(s * d), *k = scratch.take<E>(s * d), *v = scratch.take<E>(s * d);
        float *scores = scratch.take<float>(BLOCK * s), *mixed = scratch.take<float>(BLOCK * d);
        E* weights = scratch.take<E>(BLOCK * s);

        head.gather(qkv + head.start(1), head.stride(), head.bias(1), 1, plain);
        pack_rows<K>(plain, s, d, q);
        transpose(q, s, d / K::PER, k);
        head.gather(qkv + head.start(2), head.stride(), head.bias(2), 1, plain);
        pack_columns<K>(plain, s, d, v);
        head.gather(qkv + head.start(0), head.stride(), head.bias(0), head.scale(), plain);
        pack_rows<K>(plain, s, d, q);

        for (int64_t block = 0; block < of.length; block += BLOCK) {
            const int64_t rows = std::min(BLOCK, of.length - block);
            multiply<K>(rows, s, d / K::PER, q + block * (d / K::PER), d / K::PER, 1, k, s, scores, s, false);
            for (int64_t r = 0; r < rows; ++r) {
                float* score = scores + r * s;
                Floats most = all(-INFINITY), total{};
                for (int64_t i = 0; i < s; i += LANES)
                    most = larger(most, select(head.sees(block + r, i), load(score + i), all(-INFINITY)));
                const float peak = largest(most);
                for (int64_t i = 0; i < s; i += LANES) {
                    const Floats weight = select(head.sees(block + r, i), exponential(load(score + i) - peak), Floats{});
                    store(score + i, weight);
                    total += weight;
                }
                const float whole = sum(total);
                sums[head.row + block + r] = whole > 0 ? peak + std::log(whole) : whole == 0 ? INFINITY : whole;
                const float factor = (whole == 0 ? 0 : 1 / whole) * of.dropout.scale;
                over_row(of.dropout, head.row + block + r, of.length, [&](int64_t i, int64_t, Ints kept) {
                    store(score + i, select(kept, load(score + i) * factor, Floats{}));
                });
            }
            pack_rows<K>(scores, rows, s, weights);
            multiply<K>(rows, d, s / K::PER, weights, s / K::PER, 1, v, d, mixed, d, false);
            const int64_t at = ((head.sequence * of.length + block) * of.heads + head.head) * of.width;
            head.scatter(mixed, rows, 1, out + at, of.heads * of.width, nullptr);
        }
    }
}

template <typename T>
void attend_back(const Attention& of, const T* qkv, const float* sums, const T* dout, int64_t first, int64_t last, T* dqkv,
                 float* dbias) {
    typedef OneHead<T> Head;
    typedef typename Head::K K;
    typedef typename Head::E E;
    for (int64_t index = first; index < last; ++index) {
        const Head head(of, index);
        const int64_t s = head.long_, d = head.wide, words = d / K::PER;
        Scratch scratch(11 * s * d + 5 * BLOCK * s);
        float* plain = scratch.take<float>(s * d);
        float *dq = scratch.take<float>(s * d), *dk = scratch.take<float>(s * d), *dv = scratch.take<float>(s * d);
        E *q = scratch.take<E>(s * d), *q_columns = scratch.take<E>(s * d);
        E *k = scratch.take<E>(s * d), *k_columns = scratch.take<E>(s * d), *v = scratch.take<E>(s * d);
        E *mixed = scratch.take<E>(s * d), *mixed_columns = scratch.take<E>(s * d);
        float *weights = scratch.take<float>(BLOCK * s), *slopes = scratch.take<float>(BLOCK * s);
        E *packed = scratch.take<E>(BLOCK * s), *slope_columns = scratch.take<E>(BLOCK * s);
        E* weight_columns = scratch.take<E>(BLOCK * s);

        head.gather(qkv + head.start(1), head.stride(), head.bias(1), 1, plain);
        pack_rows<K>(plain, s, d, q);
        transpose(q, s, words, k);
        pack_columns<K>(plain, s, d, k_columns);
        head.gather(qkv + head.start(2), head.stride(), head.bias(2), 1, plain);
        pack_rows<K>(plain, s, d, q);
        transpose(q, s, words, v);
        head.gather(qkv + head.start(0), head.stride(), head.bias(0), head.scale(), plain);
        pack_rows<K>(plain, s, d, q);
        pack_columns<K>(plain, s, d, q_columns);
        const int64_t at = (head.sequence * of.length * of.heads + head.head) * of.width;
        head.gather(dout + at, of.heads * of.width, nullptr, 1, plain);
        pack_rows<K>(plain, s, d, mixed);
        pack_columns<K>(plain, s, d, mixed_columns);

        for (int64_t block = 0; block < s; block += BLOCK) {
            const int64_t rows = std::min(BLOCK, s - block);
            multiply<K>(rows, s, words, q + block * words, words, 1, k, s, weights, s, false);
            multiply<K>(rows, s, words, mixed + block * words, words, 1, v, s, slopes, s, false);
            for (int64_t r = 0; r < rows; ++r) {
                // With P the weights and D the dropped ones: dP = dropout(dD), dS = P (dP - sum(P dP)).
                float *weight = weights + r * s, *slope = slopes + r * s;
                const int64_t query = block + r;
                if (query >= of.length) {
                    memset(weight, 0, s * sizeof(float));
                    memset(slope, 0, s * sizeof(float));
                    continue;
                }
                const float whole = sums[head.row + query];
                Floats total{};
                over_row(of.dropout, head.row + query, of.length, [&](int64_t i, int64_t, Ints kept) {
                    const Floats p = select(head.sees(query, i), exponential(load(weight + i) - whole), Floats{});
                    const Floats dp = select(kept, load(slope + i) * of.dropout.scale, Floats{});
                    total += p * dp;
                    store(slope + i, dp);
                    store(weight + i, select(kept, p, -p));
                });
                const float mean = sum(total);
                for (int64_t i = 0; i < s; i += LANES) {
                    const Floats p = load(weight + i);
                    const Ints dropped = p < 0.0f;
                    store(slope + i, (load(slope + i) - mean) * select(dropped, -p, p));
                    store(weight + i, select(dropped, Floats{}, p * of.dropout.scale));
                }
            }
            pack_rows<K>(slopes, rows, s, packed);
            pack_columns<K>(slopes, rows, s, slope_columns);
            pack_columns<K>(weights, rows, s, weight_columns);
            const int64_t deep = rows / K::PER, from = block / K::PER * d;
            multiply<K>(rows, d, s / K::PER, packed, s / K::PER, 1, k_columns, d, dq + block * d, d, false);
            multiply<K>(s, d, deep, slope_columns, 1, s, q_columns + from, d, dk, d, block > 0);
            multiply<K>(s, d, deep, weight_columns, 1, s, mixed_columns + from, d, dv, d, block > 0);
        }
        float* parts[3] = {dq, dk, dv};
        for (int64_t part = 0; part < 3; ++part)
            head.scatter(parts[part], of.length, part == 0 ? head.scale() : 1, dqkv + head.start(part), head.stride(),
                         dbias + (part * of.heads + head.head) * of.width);
    }
}

}  // namespace
}  // namespace lamina
