// The loss: logits and the negative log-likelihood of the labels.
#include "graph.h"

namespace lamina {
namespace {

/// The forward pass already computes the gradient, while the logits exist, so that they need not be kept. The graph
/// keeps the gradients of x, W and bias.
struct Likelihood : torch::autograd::Function<Likelihood> {
    /// Logits are computed for at most this many rows at a time.
    static constexpr int64_t CHUNK_ROWS = 1024;

    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight, const MatrixView& matrix,
                          const Tensor& bias, const Tensor& labels, double scale, bool differentiable) {
        const Tensor x = input.contiguous(), w = operand(matrix, x);
        const int64_t count = x.size(0), n = w.size(0), chunks = (count + CHUNK_ROWS - 1) / CHUNK_ROWS;
        check("the bias", bias, n, at::kFloat);
        check("the labels", labels, count, at::kLong);
        for (int64_t row = 0; row < count; ++row) {
            const int64_t label = data<int64_t>(labels)[row];
            TORCH_CHECK(0 <= label && label < n, "label ", label, ": expected 0 to ", n - 1);
        }
        // Without rows, the loss is 0 and so are its gradients.
        std::vector<Tensor> dx{at::empty({0, x.size(1)}, x.options())};
        Tensor dw = count ? Tensor() : at::zeros_like(weight), db = count ? Tensor() : at::zeros_like(bias);
        double total = 0;
        for (int64_t chunk = 0; chunk < chunks; ++chunk) {
            const int64_t start = count * chunk / chunks, size = count * (chunk + 1) / chunks - start;
            const Tensor rows = x.narrow(0, start, size), logits = product(rows, w.t());
            const Tensor bias_sums = differentiable ? range_sums(size, n) : Tensor();
            std::vector<double> losses(range_count(size));
            with_element_type(x, [&](auto zero) {
                using T = decltype(zero);
                for_ranges(size, [&](int64_t range, int64_t first, int64_t last) {
                    losses[range] = passes<T>().likelihood(data<T>(logits) + first * n, floats(bias),
                                                           data<int64_t>(labels) + start + first, (float)scale,
                                                           last - first, n,
                                                           differentiable ? floats(bias_sums) + range * n : nullptr);
                });
            });
            for (double loss : losses) total += loss;
            if (!differentiable) continue;
            // The pass has overwritten the logits with their gradient.
            dx.push_back(product(logits, w));
            const Tensor chunk_dw = product(logits.t(), rows);
            dw = chunk ? dw.add_(chunk_dw) : chunks > 1 ? chunk_dw.to(at::kFloat) : chunk_dw;
            db = chunk ? db.add_(bias_sums.sum(0)) : bias_sums.sum(0);
        }
        if (differentiable) {
            context->save_for_backward({at::cat(dx, 0), dw, db});
            Sink::save(context, matrix);
        }
        return at::scalar_tensor(total * scale, at::kFloat);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const double factor = gradients[0].item<double>();
        const auto scaled = [&](Tensor x) { return factor == 1 ? x : x.to(at::kFloat).mul(factor); };
        return {scaled(saved[0]), Sink(context).put(scaled(saved[1])), {}, scaled(saved[2]), {}, {}, {}};
    }
};

bool needs_gradient(const Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

}  // namespace

Tensor likelihood(const Tensor& x, const MatrixView& matrix, const Tensor& bias, const Tensor& labels, double scale) {
    const Tensor& weight = *matrix.value;
    if (is_fused(Operator::likelihood, x))
        return Likelihood::apply(x, weight, matrix, bias, labels.contiguous(), scale,
                                 needs_gradient(x) || needs_gradient(weight) || needs_gradient(bias));
    const Tensor logits = multiply(x, matrix).to(at::kFloat) + bias;
    return at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum) * scale;
}

}  // namespace lamina
