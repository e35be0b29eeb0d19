// Attention is computed one head at a time, so that scores, weights and their gradients stay in the caches.
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

/// Memory that a thread keeps from call to call. This is not a std::vector: its functions would be compiled for this
/// file's instruction set, and the linker could use that copy in the whole program, also on processors without these
/// instructions.
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

/// The three parts of a layer's buffer.
constexpr int64_t QUERY_PART = 0, KEY_PART = 1, VALUE_PART = 2;

/// One head of one sequence. Its matrices, one row per token, are padded with zeros to `[rows, columns]`, both
/// multiples of LANES.
template <typename T>
struct OneHead {
    typedef Format<T> F;
    typedef typename F::Element E;
    const AttentionLayer& layer;
    int64_t sequence, head, rows, columns;
    /// The number of this head's first query, counted over all sequences and heads. It decides which dropout draws the
    /// queries get.
    int64_t first_query;

    OneHead(const AttentionLayer& layer, int64_t index)
        : layer(layer), sequence(index / layer.heads), head(index % layer.heads), rows(padded(layer.length)),
          columns(padded(layer.width)), first_query(index * layer.length) {}

    /// The offset in the layer's buffer of the first token's query, key or value.
    int64_t start(int64_t part) const {
        return ((sequence * layer.length * 3 + part) * layer.heads + head) * layer.width;
    }
    /// The distance between two tokens in that buffer.
    int64_t stride() const { return 3 * layer.heads * layer.width; }
    const float* bias(int64_t part) const { return layer.bias + (part * layer.heads + head) * layer.width; }

    /// Writes (x + bias) * scale to `out` as a padded matrix. `bias` may be null, and counts as 0 then. `stride` is the
    /// distance between two tokens in x.
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
    /// Writes x * scale to `out`, whose tokens are `stride` apart; x is the first `count` rows of a padded matrix. Adds
    /// the sum over the rows to `sums` `[width]` if that is not null.
    void scatter(const float* x, int64_t count, float scale, T* out, int64_t stride, float* sums) const {
        for (int64_t token = 0; token < count; ++token, x += columns, out += stride)
            for (int64_t i = 0; i < layer.width; i += LANES) {
                const Floats vector = load(x + i) * scale;
                store(out + i, vector, layer.width - i);
                if (sums) add(sums + i, vector, layer.width - i);
            }
    }

    /// Lane l has all bits set if `query` sees the key i + l, and no bit otherwise.
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

/// Computes the attention of the heads `first` to `last - 1` of the B A heads. `qkv` is `[B, S, 3, A, D]`, as in
/// AttentionLayer. `out` `[B, S, A, D]` gets the values, mixed with the weights. `log_sums` `[B, A, S]` gets, for each
/// query, the logarithm of the sum of exp(score) over the keys that it sees; the backward pass computes the weights
/// from it again.
template <typename T>
void attend(const AttentionLayer& layer, const T* qkv, int64_t first, int64_t last, T* out, float* log_sums) {
    typedef OneHead<T> Head;
    typedef typename Head::F F;
    typedef typename Head::E E;
    const float kept_scale = kept_factor(layer.dropout, 1);
    for (int64_t index = first; index < last; ++index) {
        const Head head(layer, index);
        // The padded number of tokens and the padded width of the head.
        const int64_t s = head.rows, d = head.columns;
        Scratch scratch(4 * s * d + 2 * BLOCK * s + BLOCK * d);
        float* plain = scratch.take<float>(s * d);
        E *q = scratch.take<E>(s * d), *k = scratch.take<E>(s * d), *v = scratch.take<E>(s * d);
        float *scores = scratch.take<float>(BLOCK * s), *mixed = scratch.take<float>(BLOCK * d);
        E* weights = scratch.take<E>(BLOCK * s);

        // The memory of the queries holds the keys until they are transposed.
        head.gather(qkv + head.start(KEY_PART), head.stride(), head.bias(KEY_PART), 1, plain);
        pack_rows<F>(plain, s, d, q);
        transpose(q, s, d / F::VALUES, k);
        head.gather(qkv + head.start(VALUE_PART), head.stride(), head.bias(VALUE_PART), 1, plain);
        pack_columns<F>(plain, s, d, v);
        head.gather(qkv + head.start(QUERY_PART), head.stride(), head.bias(QUERY_PART), head.scale(), plain);
        pack_rows<F>(plain, s, d, q);

        for (int64_t first_row = 0; first_row < layer.length; first_row += BLOCK) {
            const int64_t rows = std::min(BLOCK, layer.length - first_row), words = d / F::VALUES;
            multiply<F>(rows, s, words, q + first_row * words, words, 1, k, s, scores, s, false);
            for (int64_t r = 0; r < rows; ++r) {
                const int64_t query = first_row + r;
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
                // A query that sees no key has the weights 0. INFINITY says the same to the backward pass, which
                // computes a weight as exp(score - log_sum). A sum that is NaN stays NaN.
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
            const int64_t token = head.sequence * layer.length + first_row;
            head.scatter(mixed, rows, 1, out + (token * layer.heads + head.head) * layer.width,
                         layer.heads * layer.width, nullptr);
        }
    }
}

/// Computes the gradients of the heads `first` to `last - 1`. `dout` is the gradient by what `attend` wrote to `out`;
/// `qkv` and `log_sums` are as there. Writes the gradient by `qkv` to `dqkv`, and adds its sum over the tokens to
/// `dbias` `[3, A, D]`.
template <typename T>
void attend_backward(const AttentionLayer& layer, const T* qkv, const float* log_sums, const T* dout, int64_t first,
                     int64_t last, T* dqkv, float* dbias) {
    typedef OneHead<T> Head;
    typedef typename Head::F F;
    typedef typename Head::E E;
    const float kept_scale = kept_factor(layer.dropout, 1);
    for (int64_t index = first; index < last; ++index) {
        const Head head(layer, index);
        // The padded number of tokens, the padded width of the head, and the number of elements that hold a row.
        const int64_t s = head.rows, d = head.columns, words = d / F::VALUES;
        Scratch scratch(11 * s * d + 5 * BLOCK * s);
        float* plain = scratch.take<float>(s * d);
        float *dq = scratch.take<float>(s * d), *dk = scratch.take<float>(s * d), *dv = scratch.take<float>(s * d);
        E *q = scratch.take<E>(s * d), *q_columns = scratch.take<E>(s * d);
        E *k = scratch.take<E>(s * d), *k_columns = scratch.take<E>(s * d), *v = scratch.take<E>(s * d);
        E *dmixed = scratch.take<E>(s * d), *dmixed_columns = scratch.take<E>(s * d);
        float *weights = scratch.take<float>(BLOCK * s), *slopes = scratch.take<float>(BLOCK * s);
        E *slope_rows = scratch.take<E>(BLOCK * s), *slope_columns = scratch.take<E>(BLOCK * s);
        E* weight_columns = scratch.take<E>(BLOCK * s);

        // The memory of the queries holds the keys, and then the values, until they are transposed.
        head.gather(qkv + head.start(KEY_PART), head.stride(), head.bias(KEY_PART), 1, plain);
        pack_rows<F>(plain, s, d, q);
        transpose(q, s, words, k);
        pack_columns<F>(plain, s, d, k_columns);
        head.gather(qkv + head.start(VALUE_PART), head.stride(), head.bias(VALUE_PART), 1, plain);
        pack_rows<F>(plain, s, d, q);
        transpose(q, s, words, v);
        head.gather(qkv + head.start(QUERY_PART), head.stride(), head.bias(QUERY_PART), head.scale(), plain);
        pack_rows<F>(plain, s, d, q);
        pack_columns<F>(plain, s, d, q_columns);
        const int64_t first_token = head.sequence * layer.length;
        head.gather(dout + (first_token * layer.heads + head.head) * layer.width, layer.heads * layer.width, nullptr, 1,
                    plain);
        pack_rows<F>(plain, s, d, dmixed);
        pack_columns<F>(plain, s, d, dmixed_columns);

        // The loop includes the padding. dk and dv are sums over queries, which PairedFormat takes two at a time, and
        // the number of queries may be odd. The queries of the padding add 0.
        for (int64_t first_row = 0; first_row < s; first_row += BLOCK) {
            const int64_t rows = std::min(BLOCK, s - first_row);
            multiply<F>(rows, s, words, q + first_row * words, words, 1, k, s, weights, s, false);
            multiply<F>(rows, s, words, dmixed + first_row * words, words, 1, v, s, slopes, s, false);
            for (int64_t r = 0; r < rows; ++r) {
                // The scores are S, the weights P = softmax(S), and the weights after dropout D = dropout(P). Their
                // gradients are dD, dP = dropout(dD) and dS = P (dP - sum(P dP)). `weight` holds S, then P, negated
                // where it is dropped, and then D. `slope` holds dD, then dP, and then dS.
                float *weight = weights + r * s, *slope = slopes + r * s;
                const int64_t query = first_row + r;
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
                const float weighted_sum = sum(total);
                for (int64_t i = 0; i < s; i += LANES) {
                    const Floats p = load(weight + i);
                    const Ints dropped = p < 0.0f;
                    store(slope + i, (load(slope + i) - weighted_sum) * select(dropped, -p, p));
                    store(weight + i, select(dropped, Floats{}, p * kept_scale));
                }
            }
            pack_rows<F>(slopes, rows, s, slope_rows);
            pack_columns<F>(slopes, rows, s, slope_columns);
            pack_columns<F>(weights, rows, s, weight_columns);
            const int64_t depth = rows / F::VALUES, from = first_row / F::VALUES * d;
            multiply<F>(rows, d, s / F::VALUES, slope_rows, s / F::VALUES, 1, k_columns, d, dq + first_row * d, d,
                        false);
            multiply<F>(s, d, depth, slope_columns, 1, s, q_columns + from, d, dk, d, first_row > 0);
            multiply<F>(s, d, depth, weight_columns, 1, s, dmixed_columns + from, d, dv, d, first_row > 0);
        }
        const auto scatter = [&](int64_t part, const float* gradient, float scale) {
            head.scatter(gradient, layer.length, scale, dqkv + head.start(part), head.stride(),
                         dbias + (part * layer.heads + head.head) * layer.width);
        };
        scatter(QUERY_PART, dq, head.scale());
        scatter(KEY_PART, dk, 1);
        scatter(VALUE_PART, dv, 1);
    }
}

}  // namespace
}  // namespace lamina
