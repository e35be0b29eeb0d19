// The end of a sublayer: bias, dropout and the residual connection.
#include "graph.h"

namespace lamina {
namespace {

struct Drop : torch::autograd::Function<Drop> {
    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& b, const Tensor& residual,
                          const Dropout& dropout, double scale) {
        const Tensor x = input.contiguous(), base = residual.contiguous(), out = at::empty_like(base);
        const int64_t n = width(x);
        check("the bias", b, n, at::kFloat);
        check("the residual", base, x.numel(), at::kFloat);
        with_element_type(x, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(row_count(x), [&](int64_t, int64_t first, int64_t last) {
                passes<T>().drop(data<T>(x) + first * n, floats(b), floats(base) + first * n, dropout, scale, first,
                                 last - first, n, floats(out) + first * n);
            });
        });
        save(context, dropout);
        context->saved_data["scale"] = scale;
        context->saved_data["type"] = (int64_t)x.scalar_type();
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Tensor dout = gradients[0].contiguous();
        const Tensor dx = at::empty(dout.sizes(), (at::ScalarType)context->saved_data["type"].toInt());
        const Dropout dropout = saved_dropout(context);
        const double scale = context->saved_data["scale"].toDouble();
        const int64_t n = width(dout), rows = row_count(dout);
        const Tensor db = range_sums(rows, n);
        with_element_type(dx, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(rows, [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().drop_backward(floats(dout) + first * n, dropout, scale, first, last - first, n,
                                          data<T>(dx) + first * n, floats(db) + range * n);
            });
        });
        return {dx, db.sum(0), gradients[0], {}, {}};
    }
};

}  // namespace

Tensor drop(const Tensor& x, const Tensor& bias, const Tensor& residual, const Dropout& dropout, double scale) {
    if (is_fused(Operator::drop, x)) return Drop::apply(x, bias, residual, dropout, scale);
    return residual + dropped(x.to(at::kFloat) + bias, dropout) * scale;
}

Tensor kept(const Dropout& dropout, int64_t rows, int64_t n) {
    const Tensor out = at::empty({rows, n}, at::kFloat);
    kernels().kept(dropout, rows, n, floats(out));
    return out;
}

}  // namespace lamina
