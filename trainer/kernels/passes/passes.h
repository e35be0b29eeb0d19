// The passes: loops over plain memory, without libtorch. There is one table of these functions per instruction set.
//
// Every function works on a range of rows (or elements), so that the caller can divide the rows among threads. Sums
// over rows are added to a buffer of the caller. The caller uses one buffer per range and adds the buffers up in order,
// so that a result depends on the number of ranges and not on timing.
#pragma once
#include "../border.h"

namespace lamina {

/// A bfloat16 number, by its bits.
struct Half {
    uint16_t bits;
};

// `static`: each instruction set keeps its own copy of these two, since the linker would take any one for all.

/// An element is dropped if its 16-bit draw is below this number.
static inline uint32_t threshold(const Dropout& dropout) {
    const double scaled = dropout.rate * 65536.0 + 0.5;
    return !(scaled > 0) ? 0 : scaled < 65535.0 ? (uint32_t)scaled : 65535;
}

/// The factor on elements that are kept: `scale` over the probability that an element is kept.
static inline float kept_factor(const Dropout& dropout, double scale) {
    return (float)(scale / (1.0 - threshold(dropout) / 65536.0));
}

/// The attention of one layer. Query, key and value of a token lie side by side, each with one head after the other:
/// `[B, S, 3, A, D]`, with batch B, length S, A heads and width D.
struct AttentionLayer {
    int64_t batch, length, heads, width;
    /// Bias of query, key and value, `[3, A, D]`.
    const float* bias;
    /// `[B, S]`, 0 at padding. Null if there is no padding.
    const uint8_t* tokens;
    /// True if a query sees no later key.
    bool causal;
    /// Dropout of the attention weights, after softmax.
    Dropout dropout;
};

/// T is the type of activations: float or Half.
template <typename T>
struct Passes {
    /// y = (x - mean) / sqrt(var + eps) w + b over rows of n. `stats` `[rows, 2]` gets mean and 1 / sqrt(var + eps) of
    /// each row.
    void (*norm)(const float* x, const float* w, const float* b, float eps, int64_t rows, int64_t n, T* y,
                 float* stats);
    /// dx = the gradient through the norm + `residual`, the gradient that comes along the residual connection (null for
    /// 0). Adds to dw and db.
    void (*norm_backward)(const float* x, const float* w, const float* stats, const T* dy, const float* residual,
                          int64_t rows, int64_t n, float* dx, float* dw, float* db);
    /// y = gelu(x + b)
    void (*gelu)(const T* x, const float* b, int64_t rows, int64_t n, T* y);
    /// Writes dx, adds to db.
    void (*gelu_backward)(const T* x, const float* b, const T* dy, int64_t rows, int64_t n, T* dx, float* db);
    /// out = residual + scale dropout(y + b). `first` is the number of the first row, which decides the draws.
    void (*drop)(const T* y, const float* b, const float* residual, const Dropout&, double scale, int64_t first,
                 int64_t rows, int64_t n, float* out);
    /// Writes dy, adds to db.
    void (*drop_backward)(const float* dout, const Dropout&, double scale, int64_t first, int64_t rows, int64_t n,
                          T* dy, float* db);
    /// The attention of the heads `first` to `last - 1` of the B A heads. Writes `out` `[B, S, A, D]`, and to
    /// `log_sums` `[B, A, S]` the logarithms of softmax's sums.
    void (*attend)(const AttentionLayer&, const T* qkv, int64_t first, int64_t last, T* out, float* log_sums);
    /// Writes dqkv, adds to dbias.
    void (*attend_backward)(const AttentionLayer&, const T* qkv, const float* log_sums, const T* dout, int64_t first,
                            int64_t last, T* dqkv, float* dbias);
    /// The negative log-likelihood of `labels` under the logits + b, summed over the rows. If `dbias` is not null,
    /// overwrites the logits with their gradient times `scale`, and adds that gradient to `dbias`.
    double (*likelihood)(T* logits, const float* b, const int64_t* labels, float scale, int64_t rows, int64_t n,
                         float* dbias);
};

/// The factors of an AdamW update, from the numbers in `Adam`.
struct AdamFactors {
    /// 1 - beta of each moment.
    float mix1, mix2;
    float epsilon;
    /// The learning rate over the bias correction of the first moment.
    float rate;
    /// 1 / sqrt of the bias correction of the second moment.
    float root;
    /// The factor of weight decay: 1 - rate * weight_decay.
    float decay;
};

/// The passes of one instruction set.
struct Kernels {
    const char* name;
    Passes<float> single;
    Passes<Half> half;
    /// Writes 1 where an element of the site is kept and 0 where it is dropped.
    void (*kept)(const Dropout&, int64_t rows, int64_t n, float* out);
    /// Updates n elements by gradient * factor. `half`, if not null, gets the new values.
    void (*adam)(const AdamFactors&, float factor, int64_t n, float* value, float* first, float* second,
                 const float* gradient, Half* half);
    double (*square_sum)(const float* x, int64_t n);
    /// sum += x
    void (*add)(const float* x, int64_t n, float* sum);
};

extern const Kernels portable, avx2, avx512;

}  // namespace lamina
