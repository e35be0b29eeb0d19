// What the operators share: checks, threads, products, and values that libtorch's graph keeps for the backward pass.
#pragma once
#include <ATen/ATen.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>

#include "../choice.h"
#include "operators.h"

namespace at::native {
// No header of libtorch declares this function. It computes out = beta out + alpha a b through oneDNN.
void mkldnn_matmul(const Tensor& a, const Tensor& b, const Tensor& out, float beta, float alpha);
}  // namespace at::native

namespace lamina {
namespace {

using at::Tensor;
using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// A tensor, possibly undefined, that has no gradient. The graph does not look into this struct.
struct NoGradient {
    const Tensor& tensor;
};

int64_t width(const Tensor& x) { return x.size(-1); }
int64_t row_count(const Tensor& x) { return x.numel() / width(x); }

template <typename T>
T* data(const Tensor& x) { return static_cast<T*>(x.data_ptr()); }
float* floats(const Tensor& x) { return x.data_ptr<float>(); }

/// Refuses `x` unless the kernels can go through its memory as `n` elements of `type`.
void check(const char* name, const Tensor& x, int64_t n, at::ScalarType type) {
    TORCH_CHECK(x.scalar_type() == type && x.numel() == n && x.is_contiguous(), name, ": expected ", n,
                " contiguous elements of ", type, ", got ", x.toString(), " ", x.sizes());
}

/// Calls `work` with a zero of the element type of the activations `x`: float or Half.
template <typename Work>
void with_element_type(const Tensor& x, Work work) {
    if (x.scalar_type() == at::kFloat) return work(0.0f);
    TORCH_CHECK(x.scalar_type() == at::kBFloat16, "activations are float32 or bfloat16, not ", x.scalar_type());
    work(Half{});
}

/// The number of ranges into which `total` rows are divided: one per thread. Sums over ranges depend on it.
int64_t range_count(int64_t total) { return std::max<int64_t>(1, std::min<int64_t>(at::get_num_threads(), total)); }

/// Calls `work(range, first, last)` for each range of the rows 0..total, in several threads.
template <typename Work>
void for_ranges(int64_t total, Work work) {
    const int64_t count = range_count(total);
    at::parallel_for(0, count, 1, [&](int64_t from, int64_t to) {
        for (int64_t range = from; range < to; ++range) work(range, total * range / count, total * (range + 1) / count);
    });
}

/// Zeros for the sums of each range of `total` rows: `[range_count, n]`, float32.
Tensor range_sums(int64_t total, int64_t n) { return at::zeros({range_count(total), n}, at::kFloat); }

/// True if oneDNN is called directly for a b. For float32, `at::mm` calls MKL, which is up to a third slower on
/// processors that are not Intel's.
bool is_single(const Tensor& a, const Tensor& b) {
    const bool single = a.scalar_type() == at::kFloat && b.scalar_type() == at::kFloat;
    return a.is_cpu() && single && a.numel() && b.numel() && a.size(1) == b.size(0);
}

/// a b
Tensor product(const Tensor& a, const Tensor& b) {
    if (!is_single(a, b)) return at::mm(a, b);
    const Tensor out = at::empty({a.size(0), b.size(1)}, a.options());
    at::native::mkldnn_matmul(a, b, out, 0, 1);
    return out;
}

/// The tensor that products with activations of the type of `x` use.
Tensor operand(const MatrixView& matrix, const Tensor& x) {
    if (x.scalar_type() != at::kBFloat16) return *matrix.value;
    TORCH_CHECK(matrix.half, "activations in bfloat16 need the matrix in bfloat16");
    return *matrix.half;
}

/// The place for a matrix's gradient, as a node of the graph keeps it. The backward pass adds the gradient to the
/// matrix's buffer, or gives it back to the graph if the matrix has no buffer.
struct Sink {
    Tensor gradient, written;

    static void save(AutogradContext* context, const MatrixView& matrix) {
        if (!matrix.gradient) return;
        // The backward pass writes to these by a pointer, so they are checked here.
        TORCH_CHECK(matrix.written, "the buffer of a gradient needs a flag that says whether it is written");
        const Tensor &gradient = *matrix.gradient, &written = *matrix.written;
        TORCH_CHECK(gradient.device() == matrix.value->device() && gradient.scalar_type() == at::kFloat &&
                        gradient.is_contiguous() && gradient.sizes() == matrix.value->sizes(),
                    "the buffer for the gradient of a matrix ", matrix.value->sizes(),
                    ": expected contiguous float32 of the same sizes and device, got ", gradient.toString(), " ",
                    gradient.sizes());
        TORCH_CHECK(written.is_cpu() && written.scalar_type() == at::kByte && written.numel() == 1,
                    "the flag that says whether a gradient is written: expected one uint8 on the CPU, got ",
                    written.toString(), " ", written.sizes());
        // Saved variables may not change before the backward pass; these do.
        context->saved_data["gradient"] = gradient;
        context->saved_data["written"] = written;
    }
    explicit Sink(AutogradContext* context) {
        const auto found = context->saved_data.find("gradient");
        if (found == context->saved_data.end()) return;
        gradient = found->second.toTensor();
        written = context->saved_data["written"].toTensor();
    }

    /// Marks the buffer as written. True if it was not written before.
    bool claim() const { return !std::exchange(*data<uint8_t>(written), 1); }

    /// Adds x to the buffer. Returns what goes back to the graph.
    Tensor put(const Tensor& x) const {
        if (!gradient.defined()) return x.to(at::kFloat);
        claim() ? gradient.copy_(x) : gradient.add_(x);
        return {};
    }

    /// Adds a b to the buffer. Returns what goes back to the graph.
    Tensor put_product(const Tensor& a, const Tensor& b) const {
        if (!gradient.defined() || !is_single(a, b)) return put(product(a, b));
        at::native::mkldnn_matmul(a, b, gradient, claim() ? 0 : 1, 1);
        return {};
    }
};

void save(AutogradContext* context, const Dropout& dropout) {
    const uint32_t* words = dropout.words;
    const std::vector<int64_t> numbers{words[0], words[1], words[2], words[3], dropout.site};
    context->saved_data["draws"] = numbers;
    context->saved_data["rate"] = dropout.rate;
}
Dropout saved_dropout(AutogradContext* context) {
    const auto numbers = context->saved_data["draws"].toIntVector();
    Dropout dropout{{}, (uint32_t)numbers[4], context->saved_data["rate"].toDouble()};
    for (int i = 0; i < 4; ++i) dropout.words[i] = (uint32_t)numbers[i];
    return dropout;
}

/// Seeds libtorch's generators for a dropout site. libtorch's operators draw from these.
void seed(const Dropout& dropout) {
    const uint32_t* words = dropout.words;
    const uint64_t low = words[0] ^ (uint64_t)words[1] << 32, high = words[2] ^ (uint64_t)words[3] << 32;
    at::manual_seed((low + high * 0x9E3779B97F4A7C15u + dropout.site * 0xD1B54A32D192ED03u) >> 1);
}

/// Dropout by libtorch's operators. On a CPU, where these run only for comparison, with the draws of the kernels.
Tensor dropped(const Tensor& x, const Dropout& dropout) {
    if (!threshold(dropout)) return x;
    if (!x.is_cpu()) {
        seed(dropout);
        return at::dropout(x, dropout.rate, true);
    }
    return x * kept(dropout, row_count(x), width(x)).view(x.sizes()) * kept_factor(dropout, 1);
}

}  // namespace
}  // namespace lamina
