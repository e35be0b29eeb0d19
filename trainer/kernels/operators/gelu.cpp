// GELU with the bias in front of it.
#include "graph.h"

namespace lamina {
namespace {

struct Gelu : torch::autograd::Function<Gelu> {
    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& b) {
        const Tensor x = input.contiguous(), y = at::empty_like(x);
        const int64_t n = width(x);
        check("the bias", b, n, at::kFloat);
        with_element_type(x, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(row_count(x), [&](int64_t, int64_t first, int64_t last) {
                passes<T>().gelu(data<T>(x) + first * n, floats(b), last - first, n, data<T>(y) + first * n);
            });
        });
        context->save_for_backward({x, b});
        return y;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &b = saved[1];
        const Tensor dy = gradients[0].contiguous(), dx = at::empty_like(x);
        const int64_t n = width(x), rows = row_count(x);
        const Tensor db = range_sums(rows, n);
        with_element_type(x, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(rows, [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().gelu_backward(data<T>(x) + first * n, floats(b), data<T>(dy) + first * n, last - first, n,
                                          data<T>(dx) + first * n, floats(db) + range * n);
            });
        });
        return {dx, db.sum(0)};
    }
};

}  // namespace

Tensor gelu(const Tensor& x, const Tensor& bias) {
    if (is_fused(Operator::gelu, x)) return Gelu::apply(x, bias);
    return at::gelu(x + bias.to(x.scalar_type()));
}

}  // namespace lamina
