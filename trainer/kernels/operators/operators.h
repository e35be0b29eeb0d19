// The operators. Each has a forward and a backward pass and can be part of libtorch's graph. On a CPU they run in the
// kernels; elsewhere, libtorch's operators compute the same.
#pragma once
#include <ATen/core/Tensor.h>

#include <utility>

#include "../border.h"

namespace lamina {

/// LayerNorm of the float32 `x`, in bfloat16 if `half`; and `x` again, for the residual connection. If the residual
/// connection uses this second output, one backward pass computes both gradients of `x`.
std::pair<at::Tensor, at::Tensor> norm(const at::Tensor& x, const at::Tensor& weight, const at::Tensor& bias,
                                       double eps, bool half);
/// x W^T
at::Tensor multiply(const at::Tensor& x, const MatrixView&);
/// The rows of the matrix at `ids`, int64 of any shape: `[.., n]`, float32. The row `padding` gets no gradient; -1 for
/// none.
at::Tensor embed(const at::Tensor& ids, const MatrixView&, int64_t padding);
/// gelu(x + bias), exact and not by the tanh approximation.
at::Tensor gelu(const at::Tensor& x, const at::Tensor& bias);
/// residual + scale dropout(x + bias), float32.
at::Tensor drop(const at::Tensor& x, const at::Tensor& bias, const at::Tensor& residual, const Dropout&, double scale);
/// dropout(softmax(Q K^T / sqrt(D))) V of `qkv` `[B, S, 3 A D]`, to which `bias` `[3 A D]` is added: `[B, S, A D]`.
/// `tokens` `[B, S]`, bool, is false at padding; undefined if there is no padding.
at::Tensor attention(const at::Tensor& qkv, const at::Tensor& bias, int64_t heads, const at::Tensor& tokens,
                     bool causal, const Dropout&);
/// `scale` times the sum of the negative log-likelihoods of `labels` `[M]` under softmax(x W^T + bias), x `[M, H]`: a
/// float32 scalar.
at::Tensor likelihood(const at::Tensor& x, const MatrixView&, const at::Tensor& bias, const at::Tensor& labels,
                      double scale);
/// Updates `value` `[n]` by `gradient` times `factor` (undefined for 1). Weight decay applies to the first `decayed`
/// elements. `half`, if it is defined, gets the new values in bfloat16. The gradient may be overwritten.
void adam(const Adam&, const at::Tensor& factor, int64_t decayed, const at::Tensor& value, const at::Tensor& first,
          const at::Tensor& second, const at::Tensor& gradient, const at::Tensor& half);
/// The sum of the squares of a contiguous float32 tensor on a CPU.
double square_sum(const at::Tensor& x);
/// `[rows, n]`, on the CPU: 1 where an element of the site is kept and 0 where it is dropped.
at::Tensor kept(const Dropout&, int64_t rows, int64_t n);

}  // namespace lamina
