// The operators as plain C functions, which `trainer/src/kernel.rs` declares. A function that can fail returns null, or
// a message that `lamina_free` frees. Tensors that Rust gets through `out` belong to Rust.
#include <cstdlib>

#include "choice.h"
#include "message.h"
#include "operators/operators.h"

using at::Tensor;
using lamina::message_of;

namespace {

Tensor* owned(Tensor x) { return new Tensor(std::move(x)); }

/// Null stands for a tensor that does not exist.
Tensor or_undefined(const Tensor* x) { return x ? *x : Tensor(); }

}  // namespace

extern "C" {

void lamina_free(char* message) { free(message); }

const char* lamina_kernels() { return lamina::chosen_name(); }

bool lamina_choose(const char* name) { return lamina::choose(name); }

bool lamina_replace(const char* name) { return lamina::replace(name); }

char* lamina_norm(const Tensor* x, const Tensor* weight, const Tensor* bias, double eps, bool half, Tensor** out) {
    return message_of([&] {
        auto [y, residual] = lamina::norm(*x, *weight, *bias, eps, half);
        out[0] = owned(std::move(y));
        out[1] = owned(std::move(residual));
    });
}

char* lamina_multiply(const Tensor* x, const lamina::MatrixView* weight, Tensor** out) {
    return message_of([&] { *out = owned(lamina::multiply(*x, *weight)); });
}

char* lamina_embed(const Tensor* ids, const lamina::MatrixView* weight, int64_t padding, Tensor** out) {
    return message_of([&] { *out = owned(lamina::embed(*ids, *weight, padding)); });
}

char* lamina_gelu(const Tensor* x, const Tensor* bias, Tensor** out) {
    return message_of([&] { *out = owned(lamina::gelu(*x, *bias)); });
}

char* lamina_drop(const Tensor* x, const Tensor* bias, const Tensor* residual, const lamina::Dropout* dropout,
                  double scale, Tensor** out) {
    return message_of([&] { *out = owned(lamina::drop(*x, *bias, *residual, *dropout, scale)); });
}

char* lamina_attention(const Tensor* qkv, const Tensor* bias, int64_t heads, const Tensor* tokens, bool causal,
                       const lamina::Dropout* dropout, Tensor** out) {
    return message_of(
        [&] { *out = owned(lamina::attention(*qkv, *bias, heads, or_undefined(tokens), causal, *dropout)); });
}

char* lamina_likelihood(const Tensor* x, const lamina::MatrixView* weight, const Tensor* bias, const Tensor* labels,
                        double scale, Tensor** out) {
    return message_of([&] { *out = owned(lamina::likelihood(*x, *weight, *bias, *labels, scale)); });
}

char* lamina_kept(const lamina::Dropout* dropout, int64_t rows, int64_t n, Tensor** out) {
    return message_of([&] { *out = owned(lamina::kept(*dropout, rows, n)); });
}

char* lamina_adam(const lamina::Adam* rule, const Tensor* factor, int64_t decayed, const Tensor* value,
                  const Tensor* first, const Tensor* second, const Tensor* gradient, const Tensor* half) {
    return message_of([&] {
        lamina::adam(*rule, or_undefined(factor), decayed, *value, *first, *second, *gradient, or_undefined(half));
    });
}

char* lamina_square_sum(const Tensor* x, double* out) {
    return message_of([&] { *out = lamina::square_sum(*x); });
}

}  // extern "C"
