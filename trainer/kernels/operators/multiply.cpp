// Products with weight matrices.
#include "graph.h"

namespace lamina {
namespace {

struct Multiply : torch::autograd::Function<Multiply> {
    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor&, const MatrixView& matrix) {
        const Tensor w = operand(matrix, x), rows = x.reshape({-1, width(x)});
        Sink::save(context, matrix);
        context->save_for_backward({rows, w});
        auto shape = x.sizes().vec();
        shape.back() = w.size(0);
        return product(rows, w.t()).view(shape);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const Tensor &x = saved[0], &w = saved[1];
        const Tensor dy = gradients[0].reshape({-1, w.size(0)});
        auto shape = gradients[0].sizes().vec();
        shape.back() = w.size(1);
        const Tensor dx = context->needs_input_grad(0) ? product(dy, w).view(shape) : Tensor();
        const Tensor dw = context->needs_input_grad(1) ? Sink(context).put_product(dy.t(), x) : Tensor();
        return {dx, dw, {}};
    }
};

}  // namespace

Tensor multiply(const Tensor& x, const MatrixView& matrix) {
    // On a GPU too: this saves a copy of the weights in the type of x, and a copy of their gradient.
    if (is_fused(Operator::multiply, x) || x.is_cuda()) return Multiply::apply(x, *matrix.value, matrix);
    return at::linear(x, matrix.value->to(x.scalar_type()));
}

}  // namespace lamina
