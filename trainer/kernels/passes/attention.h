// Attention, one head at a time, so that scores, weights and their gradients stay in the caches.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <new>

#include "products.h"

namespace lamina {
namespace {

/// The number of queries in a block, whose scores are computed together.
constexpr int64_t BLOCK = 64;

/// n rounded up to a multiple of LANES.
INLINE int64_t padded(int64_t n) { return (n + LANES - 1) / LANES * LANES; }

/// Memory that a thread keeps from call to call. A std::vector will not do: the linker could take this instruction
/// set's copy of its functions for the whole program.
struct ThreadMemory {
    float* start = nullptr;
    int64_t floats = 0;

    ~ThreadMemory() { free(start); }
    void reserve(int64_t count) {
        if (count <= floats) return;
        free(start);
        start = static_cast<float*>(aligned_alloc(64, (count * sizeof(float) + 63) / 64 * 64));
        floats = start ? count : 0;
        if (!start) throw std::bad_alloc();
    }
};

/// Hands out the thread's memory piece by piece.
struct Scratch {
    explicit Scratch(int64_t floats) {
        thread_local ThreadMemory memory;
        memory.reserve(floats);
        next = memory.start;
    }
    template <typename E>
    E* take(int64_t count) {
        E* piece = (E*)next;
        next += count;
        return piece;
    }
    float* next;
};

/// One head of one sequence. Its matrices are padded with zeros to `[rows, columns]`, multiples of LANES.
template <typename T>
struct OneHead {
    typedef Format<T> F;
    typedef typename F::Element E;
    const AttentionLayer& layer;
    int64_t sequence, head, rows, columns;
    /// The number of the first query among the B A S queries, which decides the draws.
    int64_t first_query;

    OneHead(const AttentionLayer& layer, int64_t index)
        : layer(layer), sequence(index / layer.heads), head(index % layer.heads), rows(padded(layer.length)),
          columns(padded(layer.width)), first_query(index * layer.length) {}

    /// The place of the first token's query (part 0), key (1) or value (2) in the layer's buffer.
    int64_t start(int64_t part) const {
        return ((sequence * layer.length * 3 + part) * layer.heads + head) * layer.width;
    }
    /// The distance between two tokens in that buffer.
    int64_t stride() const { return 3 * layer.heads * layer.width; }
    const float* bias(int64_t part) const { return layer.bias + (part * layer.heads + head) * layer.width; }

    /// Writes (x + bias) scale as a padded matrix. `bias` may be null.
    void gather(const T* x, int64_t stride, const float* bias, float scale, float* out) const {
        for (int64_t token = 0; token < rows; ++token, out += columns)
            for (int64_t i = 0; i < columns; i += LANES) {
                Floats vector{};
                if (token < layer.length) {
                    vector = load(x + token * stride + i, layer.width - i);
                    if (bias) vector += load(bias + i, layer.width - i);
                    vector = select(first_lanes(layer.width - i), vector * scale, Floats{});
                }
                store(out + i, vector);
            }
    }
    /// Writes x scale, `count` rows of a padded matrix, to the layer's buffer. Adds them to `sums` if that is not null.
    void scatter(const float* x, int64_t count, float scale, T* out, int64_t stride, float* sums) const {
        for (int64_t token = 0; token < count; ++token, x += columns, out += stride)
            for (int64_t i = 0; i < layer.width; i += LANES) {
                const Floats vector = load(x + i) * scale;
                store(out + i, vector, layer.width - i);
                if (sums) add(sums + i, vector, layer.width - i);
            }
    }

    /// All bits set in the lanes of the keys, from key i on, that `query` sees.
    Ints seen_keys(int64_t query, int64_t i) const {
        Ints seen = first_lanes(layer.causal ? query + 1 - i : layer.length - i);
        if (layer.tokens) {
            const uint8_t* tokens = layer.tokens + sequence * layer.length + i;
            Ints is_token;
            for (int64_t lane = 0; lane < LANES; ++lane)
                is_token[lane] = i + lane < layer.length && tokens[lane] ? -1 : 0;
            seen &= is_token;
        }
        return seen;
    }

    float scale() const { return 1.0f / std::sqrt((float)layer.width); }
};

template <typename T>
void attend(const AttentionLayer& layer, const T* qkv, int64_t first, int64_t last, T* out, float* log_sums) {
    typedef OneHead<T> Head;
    typedef typename Head::F F;
    typedef typename Head::E E;
    const float kept_scale = kept_factor(layer.dropout, 1);
    for (int64_t index = first; index < last; ++index) {
        const Head head(layer, index);
        const int64_t s = head.rows, d = head.columns;
        Scratch scratch(4 * s * d + 2 * BLOCK * s + BLOCK * d);
        float* plain = scratch.take<float>(s * d);
        E *q = scratch.take<E>(s * d), *k = scratch.take<E>(s * d), *v = scratch.take<E>(s * d);
        float *scores = scratch.take<float>(BLOCK * s), *mixed = scratch.take<float>(BLOCK * d);
        E* weights = scratch.take<E>(BLOCK * s);

        head.gather(qkv + head.start(1), head.stride(), head.bias(1), 1, plain);
        pack_rows<F>(plain, s, d, q);
        transpose(q, s, d / F::VALUES, k);
        head.gather(qkv + head.start(2), head.stride(), head.bias(2), 1, plain);
        pack_columns<F>(plain, s, d, v);
        head.gather(qkv + head.start(0), head.stride(), head.bias(0), head.scale(), plain);
        pack_rows<F>(plain, s, d, q);

        for (int64_t block = 0; block < layer.length; block += BLOCK) {
            const int64_t rows = std::min(BLOCK, layer.length - block);
            multiply<F>(rows, s, d / F::VALUES, q + block * (d / F::VALUES), d / F::VALUES, 1, k, s, scores, s, false);
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t query = block + r;
                float* score = scores + r * s;
                Floats maxima = broadcast(-INFINITY), total{};
                for (int64_t i = 0; i < s; i += LANES)
                    maxima = maximum(maxima, select(head.seen_keys(query, i), load(score + i), broadcast(-INFINITY)));
                const float peak = largest(maxima);
                for (int64_t i = 0; i < s; i += LANES) {
                    const Floats exp = exponential(load(score + i) - peak);
                    const Floats weight = select(head.seen_keys(query, i), exp, Floats{});
                    store(score + i, weight);
                    total += weight;
                }
                // A query that sees no key has the weights 0. A sum that is NaN stays NaN.
                const float softmax_sum = sum(total);
                log_sums[head.first_query + query] =
                    softmax_sum > 0 ? peak + std::log(softmax_sum) : softmax_sum == 0 ? INFINITY : softmax_sum;
                const float factor = (softmax_sum == 0 ? 0 : 1 / softmax_sum) * kept_scale;
                for_kept(layer.dropout, head.first_query + query, layer.length, [&](int64_t i, int64_t, Ints kept) {
                    store(score + i, select(kept, load(score + i) * factor, Floats{}));
                });
            }
            pack_rows<F>(scores, rows, s, weights);
            multiply<F>(rows, d, s / F::VALUES, weights, s / F::VALUES, 1, v, d, mixed, d, false);
            const int64_t place = ((head.sequence * layer.length + block) * layer.heads + head.head) * layer.width;
            head.scatter(mixed, rows, 1, out + place, layer.heads * layer.width, nullptr);
        }
    }
}

template <typename T>
void attend_backward(const AttentionLayer& layer, const T* qkv, const float* log_sums, const T* dout, int64_t first,
                     int64_t last, T* dqkv, float* dbias) {
    typedef OneHead<T> Head;
    typedef typename Head::F F;
    typedef typename Head::E E;
    const float kept_scale = kept_factor(layer.dropout, 1);
    for (int64_t index = first; index < last; ++index) {
        const Head head(layer, index);
        const int64_t s = head.rows, d = head.columns, words = d / F::VALUES;
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
        pack_rows<F>(plain, s, d, q);
        transpose(q, s, words, k);
        pack_columns<F>(plain, s, d, k_columns);
        head.gather(qkv + head.start(2), head.stride(), head.bias(2), 1, plain);
        pack_rows<F>(plain, s, d, q);
        transpose(q, s, words, v);
        head.gather(qkv + head.start(0), head.stride(), head.bias(0), head.scale(), plain);
        pack_rows<F>(plain, s, d, q);
        pack_columns<F>(plain, s, d, q_columns);
        const int64_t place = (head.sequence * layer.length * layer.heads + head.head) * layer.width;
        head.gather(dout + place, layer.heads * layer.width, nullptr, 1, plain);
        pack_rows<F>(plain, s, d, mixed);
        pack_columns<F>(plain, s, d, mixed_columns);

        for (int64_t block = 0; block < s; block += BLOCK) {
            const int64_t rows = std::min(BLOCK, s - block);
            multiply<F>(rows, s, words, q + block * words, words, 1, k, s, weights, s, false);
            multiply<F>(rows, s, words, mixed + block * words, words, 1, v, s, slopes, s, false);
            for (int64_t r = 0; r < rows; ++r) {
                // With the scores S, the weights P = softmax(S) and D = dropout(P): dP = dropout(dD), dS = P (dP -
                // sum(P dP)). `weight` turns from S into P, negated where it is dropped, and then D; `slope` from dD
                // into dP, and then dS.
                float *weight = weights + r * s, *slope = slopes + r * s;
                const int64_t query = block + r;
                if (query >= layer.length) {
                    memset(weight, 0, s * sizeof(float));
                    memset(slope, 0, s * sizeof(float));
                    continue;
                }
                const float log_sum = log_sums[head.first_query + query];
                Floats total{};
                for_kept(layer.dropout, head.first_query + query, layer.length, [&](int64_t i, int64_t, Ints kept) {
                    const Floats exp = exponential(load(weight + i) - log_sum);
                    const Floats p = select(head.seen_keys(query, i), exp, Floats{});
                    const Floats dp = select(kept, load(slope + i) * kept_scale, Floats{});
                    total += p * dp;
                    store(slope + i, dp);
                    store(weight + i, select(kept, p, -p));
                });
                const float mean = sum(total);
                for (int64_t i = 0; i < s; i += LANES) {
                    const Floats p = load(weight + i);
                    const Ints dropped = p < 0.0f;
                    store(slope + i, (load(slope + i) - mean) * select(dropped, -p, p));
                    store(weight + i, select(dropped, Floats{}, p * kept_scale));
                }
            }
            pack_rows<F>(slopes, rows, s, packed);
            pack_columns<F>(slopes, rows, s, slope_columns);
            pack_columns<F>(weights, rows, s, weight_columns);
            const int64_t depth = rows / F::VALUES, from = block / F::VALUES * d;
            multiply<F>(rows, d, s / F::VALUES, packed, s / F::VALUES, 1, k_columns, d, dq + block * d, d, false);
            multiply<F>(s, d, depth, slope_columns, 1, s, q_columns + from, d, dk, d, block > 0);
            multiply<F>(s, d, depth, weight_columns, 1, s, mixed_columns + from, d, dv, d, block > 0);
        }
        float* parts[3] = {dq, dk, dv};
        for (int64_t part = 0; part < 3; ++part)
            head.scatter(parts[part], layer.length, part == 0 ? head.scale() : 1, dqkv + head.start(part),
                         head.stride(), dbias + (part * layer.heads + head.head) * layer.width);
    }
}

}  // namespace
}  // namespace lamina
