// What the C++ files of the shim share: tensors as kernels see them, ranges of work, and the choice of the kernels.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>

#include "kernels.h"

namespace lamina {

/// The kernels of this processor, or those that a test has chosen.
const Kernels& kernels();

/// Whether `x` goes through the kernels. Elsewhere libtorch's own operators compute the same.
bool is_fused(const at::Tensor& x);

template <typename T>
const Passes<T>& passes();
template <>
inline const Passes<float>& passes<float>() { return kernels().single; }
template <>
inline const Passes<Half>& passes<Half>() { return kernels().half; }

template <typename T>
T* data(const at::Tensor& x) { return static_cast<T*>(x.data_ptr()); }
inline float* floats(const at::Tensor& x) { return x.data_ptr<float>(); }

/// Calls `work` with the element type of `x`: a null pointer to it.
template <typename Work>
void typed(const at::Tensor& x, Work work) {
    if (x.scalar_type() == at::kFloat) return work(static_cast<float*>(nullptr));
    TORCH_CHECK(x.scalar_type() == at::kBFloat16, "activations are float32 or bfloat16, not ", x.scalar_type());
    work(static_cast<Half*>(nullptr));
}

/// Number of ranges into which `total` is divided: one a thread. Sums over ranges depend on it.
inline int64_t ranges(int64_t total) { return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), total)); }

/// Calls `work(range, first, last)` for each range of 0..total.
template <typename Work>
void over(int64_t total, Work work) {
    const int64_t count = ranges(total);
    at::parallel_for(0, count, 1, [&](int64_t from, int64_t to) {
        for (int64_t range = from; range < to; ++range) work(range, total * range / count, total * (range + 1) / count);
    });
}

/// One zeroed `[n]` float32 buffer per range, for what is summed over `total`.
inline at::Tensor partial(int64_t total, int64_t n) { return at::zeros({ranges(total), n}, at::kFloat); }

/// Draws of one dropout site, as they cross the language border.
struct Noise {
    Key key;
    double rate;
};

/// Rates are rounded to 1/65536.
inline uint32_t dropped(double rate) { return (uint32_t)std::min(65535.0, std::max(0.0, rate * 65536.0 + 0.5)); }

inline Dropout dropout(const Noise& noise, double scale) {
    const uint32_t below = dropped(noise.rate);
    return {noise.key, below, (float)(scale / (1.0 - below / 65536.0))};
}

/// A matrix of weights.
struct Matrix {
    at::Tensor value;
    /// The same in bfloat16, where activations are; else undefined.
    at::Tensor half;
    /// Where its gradient is added up, float32, of its shape; undefined where the graph is to give it back.
    at::Tensor gradient;
    /// One uint8: whether something stands there. Cleared by whoever takes the gradient out.
    at::Tensor written;
};

/// One AdamW update, as it crosses the language border; the weight decay is 0 from some element on.
struct AdamRule {
    double rate, beta1, beta2, epsilon, decay;
    int64_t updates;
};

// The operators, differentiable.

/// LayerNorm of float32 rows, and x itself: in the backward pass both gradients come back in one. `half`: to bfloat16.
std::pair<at::Tensor, at::Tensor> norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias, double eps,
                                       bool half);
/// x W^T
at::Tensor multiply(const at::Tensor& x, const Matrix&);
/// The rows of the matrix at `ids`, any shape, float32: `[.., n]`. The row `padding`, if there is one, gets no gradient.
at::Tensor embed(const at::Tensor& ids, const Matrix&, int64_t padding);
/// gelu(x + bias), the exact one.
at::Tensor gelu(const at::Tensor& x, const at::Tensor& bias);
/// residual + scale dropout(x + bias), float32
at::Tensor drop(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual, const Noise&, double scale);
/// softmax(Q K^T / sqrt(D)) V of `qkv` `[B, S, 3 A D]` without its bias, to `[B, S, A D]`. `tokens` `[B, S]` bool, or undefined.
at::Tensor attention(const at::Tensor& qkv, const at::Tensor& bias, int64_t heads, const at::Tensor& tokens, bool causal,
                     const Noise&);
/// Sum of the negative log-likelihoods of `labels` `[M]` under softmax(x W^T + bias), x `[M, H]`, times `scale`: a float32
/// scalar.
at::Tensor likelihood(const at::Tensor& x, const Matrix&, const at::Tensor& bias, const at::Tensor& labels, double scale);
/// Moves `value` `[n]` by `gradient` times `factor` (undefined for 1), the first `decayed` elements with decay; `half`, if
/// defined, follows in bfloat16. What is left in the gradient has no meaning.
void adam(const AdamRule&, const at::Tensor& factor, int64_t decayed, const at::Tensor& value, const at::Tensor& first,
          const at::Tensor& second, const at::Tensor& gradient, const at::Tensor& half);
/// 1 where an element of the site is kept and 0 where it is dropped, `[rows, n]`.
at::Tensor kept(const Noise&, int64_t rows, int64_t n, const at::Device&);

}  // namespace lamina
