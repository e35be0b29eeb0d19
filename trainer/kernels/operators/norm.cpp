// LayerNorm.
#include "graph.h"

namespace lamina {
namespace {

struct Norm : torch::autograd::Function<Norm> {
    static variable_list forward(AutogradContext* context, const Tensor& input, const Tensor& w, const Tensor& b,
                                 double eps, bool half) {
        const Tensor x = input.contiguous();
        const int64_t n = width(x), rows = row_count(x);
        check("the weight of LayerNorm", w, n, at::kFloat);
        check("the bias of LayerNorm", b, n, at::kFloat);
        const Tensor y = at::empty(x.sizes(), half ? at::kBFloat16 : at::kFloat);
        const Tensor stats = at::empty({rows, 2}, at::kFloat);
        with_element_type(y, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(rows, [&](int64_t, int64_t first, int64_t last) {
                passes<T>().norm(floats(x) + first * n, floats(w), floats(b), (float)eps, last - first, n,
                                 data<T>(y) + first * n, floats(stats) + 2 * first);
            });
        });
        context->save_for_backward({x, w, stats});
        context->set_materialize_grads(false);
        return {y, input};
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &w = saved[1], &stats = saved[2];
        if (!gradients[0].defined()) return {gradients[1], {}, {}, {}, {}};
        const Tensor dy = gradients[0].contiguous(), dx = at::empty_like(x);
        const Tensor residual = gradients[1].defined() ? gradients[1].contiguous() : Tensor();
        const int64_t n = width(x), rows = row_count(x);
        const Tensor dw = range_sums(rows, n), db = range_sums(rows, n);
        with_element_type(dy, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(rows, [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().norm_backward(floats(x) + first * n, floats(w), floats(stats) + 2 * first,
                                          data<T>(dy) + first * n,
                                          residual.defined() ? floats(residual) + first * n : nullptr, last - first, n,
                                          floats(dx) + first * n, floats(dw) + range * n, floats(db) + range * n);
            });
        });
        return {dx, dw.sum(0), db.sum(0), {}, {}};
    }
};

}  // namespace

std::pair<Tensor, Tensor> norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, bool half) {
    if (is_fused(Operator::norm, x)) {
        const auto outputs = Norm::apply(x, weight, bias, eps, half);
        return {outputs[0], outputs[1]};
    }
    const Tensor y = at::layer_norm(x, {width(x)}, weight, bias, eps);
    return {half ? y.to(at::kBFloat16) : y, x};
}

}  // namespace lamina
