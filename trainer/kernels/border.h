// The structs that cross the border between Rust and C++. Both languages use the same names. Both check the layout when
// they are compiled: here, and at the end of `trainer/src/kernel.rs`.
#pragma once
#include <cstddef>
#include <cstdint>

namespace at {
class Tensor;
}

namespace lamina {

/// The tensors of a weight matrix, `[out, in]`. A null pointer stands for a tensor that does not exist.
struct MatrixView {
    const at::Tensor* value;
    /// The values in bfloat16, which the products of bfloat16 activations need.
    const at::Tensor* half;
    /// The buffer in which backward passes add up the gradient: float32, with the sizes of `value`. Where it is null,
    /// the gradient goes back to the graph.
    const at::Tensor* gradient;
    /// One uint8 on the CPU: 1 once `gradient` holds something. Whoever takes the gradient out clears it.
    const at::Tensor* written;
};

/// Dropout at one site of the model in one step: draw i of a site is a function of `words`, `site` and i.
struct Dropout {
    uint32_t words[4];
    uint32_t site;
    /// Probability that an element is dropped. The kernels round it to 1/65536.
    double rate;
};

/// One AdamW update with bias correction (Loshchilov & Hutter 2019).
struct Adam {
    /// Learning rate.
    double rate;
    double beta1, beta2, epsilon, weight_decay;
    /// Number of updates of these moments, including this one.
    int64_t updates;
};

static_assert(sizeof(MatrixView) == 32 && offsetof(MatrixView, value) == 0 && offsetof(MatrixView, half) == 8 &&
              offsetof(MatrixView, gradient) == 16 && offsetof(MatrixView, written) == 24);
static_assert(sizeof(Dropout) == 32 && offsetof(Dropout, words) == 0 && offsetof(Dropout, site) == 16 &&
              offsetof(Dropout, rate) == 24);
static_assert(sizeof(Adam) == 48 && offsetof(Adam, rate) == 0 && offsetof(Adam, beta1) == 8 &&
              offsetof(Adam, beta2) == 16 && offsetof(Adam, epsilon) == 24 && offsetof(Adam, weight_decay) == 32 &&
              offsetof(Adam, updates) == 40);

}  // namespace lamina
