// The fused passes over plain memory, without libtorch: one table of functions per instruction set.
//
// Every function works on a range of rows (or elements), so that the caller may spread ranges over threads. What is summed
// over rows is added to the caller's buffer: one per range, summed by the caller in order, so that a result depends on the
// number of ranges and not on timing.
#pragma once
#include <cstddef>
#include <cstdint>

namespace lamina {

/// Bits of a bfloat16.
struct Half {
    uint16_t bits;
};

/// Names the draws of one dropout site: draw i of a site is a function of these words and i.
struct Key {
    uint32_t words[4];
    uint32_t site;
};

/// An element is dropped when its 16-bit draw is below `dropped`.
struct Dropout {
    Key key;
    uint32_t dropped;
    /// Factor on what is kept: the branch scale over the keep probability.
    float scale;
};

/// One layer's attention. Query, key and value of a token lie side by side, head after head in each: `[B, S, 3, A, D]`.
struct Attention {
    int64_t batch, length, heads, width;
    /// On query, key and value, `[3, A, D]`.
    const float* bias;
    /// `[B, S]`, 0 at padding; or null.
    const uint8_t* tokens;
    /// A query sees no later key.
    bool causal;
    /// On the weights, after softmax.
    Dropout dropout;
};

/// T is the type of activations: float or Half.
template <typename T>
struct Passes {
    /// y = (x - mean) / sqrt(var + eps) w + b over rows of n; `stats` gets mean and 1/sqrt of each row.
    void (*norm)(const float* x, const float* w, const float* b, float eps, int64_t rows, int64_t n, T* y, float* stats);
    /// dx = its gradient + `through` (or 0 where null); adds to dw and db.
    void (*norm_back)(const float* x, const float* w, const float* stats, const T* dy, const float* through, int64_t rows,
                      int64_t n, float* dx, float* dw, float* db);
    /// y = gelu(x + b)
    void (*gelu)(const T* x, const float* b, int64_t rows, int64_t n, T* y);
    /// Adds to db.
    void (*gelu_back)(const T* x, const float* b, const T* dy, int64_t rows, int64_t n, T* dx, float* db);
    /// out = residual + dropout(y + b); rows count from `first`.
    void (*drop)(const T* y, const float* b, const float* residual, Dropout, int64_t first, int64_t rows, int64_t n,
                 float* out);
    /// dy; adds to db.
    void (*drop_back)(const float* dout, Dropout, int64_t first, int64_t rows, int64_t n, T* dy, float* db);
    /// Attention of the heads first..last of B A; `out` `[B, S, A, D]`, `sums` `[B, A, S]` the logarithms of softmax's sums.
    void (*attend)(const Attention&, const T* qkv, int64_t first, int64_t last, T* out, float* sums);
    /// dqkv; adds to dbias.
    void (*attend_back)(const Attention&, const T* qkv, const float* sums, const T* dout, int64_t first, int64_t last,
                        T* dqkv, float* dbias);
    /// Negative log-likelihood of rows of n logits + b, summed. With `dbias`, leaves the gradient, times `scale`, in place
    /// of the logits, and adds to it.
    double (*likelihood)(T* logits, const float* b, const int64_t* labels, float scale, int64_t rows, int64_t n,
                         float* dbias);
};

/// One AdamW update (Loshchilov & Hutter 2019).
struct Adam {
    /// 1 - beta of each moment.
    float mix1, mix2;
    float epsilon;
    /// The learning rate over the first moment's correction.
    float rate;
    /// 1 / sqrt of the second moment's correction.
    float root;
    /// 1 - rate * weight decay
    float keep;
};

struct Kernels {
    const char* name;
    Passes<float> single;
    Passes<Half> half;
    /// 1 where an element of the site is kept, 0 where it is dropped.
    void (*kept)(Dropout, int64_t rows, int64_t n, float* out);
    /// Updates n elements by gradient * factor, and `shadow` (or null) with what became of them.
    void (*adam)(const Adam&, float factor, int64_t n, float* value, float* first, float* second, const float* gradient,
                 Half* shadow);
    double (*square_sum)(const float* x, int64_t n);
    /// sum += x
    void (*add)(const float* x, int64_t n, float* sum);
};

extern const Kernels portable, avx2, avx512;

}  // namespace lamina
