// The optimiser step. It is not part of the graph.
#include "graph.h"

namespace lamina {

void adam(const Adam& rule, const Tensor& factor, int64_t decayed, const Tensor& value, const Tensor& first,
          const Tensor& second, const Tensor& gradient, const Tensor& half) {
    const int64_t n = value.numel();
    for (const Tensor* buffer : {&value, &first, &second, &gradient})
        check("a buffer of the update", *buffer, n, at::kFloat);
    if (half.defined()) check("the bfloat16 buffer of the update", half, n, at::kBFloat16);
    if (is_fused(Operator::adam, value)) {
        const auto correction = [&](double beta) { return 1 - std::pow(beta, (double)rule.updates); };
        const AdamFactors plain{(float)(1 - rule.beta1),
                                (float)(1 - rule.beta2),
                                (float)rule.epsilon,
                                (float)(rule.rate / correction(rule.beta1)),
                                (float)(1 / std::sqrt(correction(rule.beta2))),
                                1};
        AdamFactors decaying = plain;
        decaying.decay = (float)(1 - rule.rate * rule.weight_decay);
        const float gradient_factor = factor.defined() ? (float)factor.item<double>() : 1;
        const auto update = [&](const AdamFactors& factors, int64_t from, int64_t to) {
            if (from >= to) return;
            kernels().adam(factors, gradient_factor, to - from, floats(value) + from, floats(first) + from,
                           floats(second) + from, floats(gradient) + from,
                           half.defined() ? data<Half>(half) + from : nullptr);
        };
        for_ranges(n, [&](int64_t, int64_t from, int64_t to) {
            update(decaying, from, std::min(to, decayed));
            update(plain, std::max(from, decayed), to);
        });
        return;
    }
    const Tensor updates = at::full({}, (double)rule.updates, value.options());
    const std::optional<Tensor> divisor =
        factor.defined() ? std::optional(factor.reciprocal().to(at::kFloat)) : std::nullopt;
    const auto update = [&](double weight_decay, int64_t from, int64_t to) {
        if (from >= to) return;
        const auto slice = [&](const Tensor& x) { return std::vector<Tensor>{x.narrow(0, from, to - from)}; };
        at::_fused_adamw_(slice(value), slice(gradient), slice(first), slice(second), {}, {updates}, rule.rate,
                          rule.beta1, rule.beta2, weight_decay, rule.epsilon, false, false, divisor);
    };
    update(rule.weight_decay, 0, std::min(n, decayed));
    update(0, std::max<int64_t>(0, decayed), n);
    if (half.defined()) half.copy_(value);
}

double square_sum(const Tensor& x) {
    check("the tensor whose squares are summed", x, x.numel(), at::kFloat);
    if (!is_fused(Operator::square_sum, x)) {
        const double norm = x.norm().item<double>();
        return norm * norm;
    }
    const int64_t n = x.numel();
    std::vector<double> sums(range_count(n));
    for_ranges(n, [&](int64_t range, int64_t first, int64_t last) {
        sums[range] = kernels().square_sum(floats(x) + first, last - first);
    });
    double total = 0;
    for (double sum : sums) total += sum;
    return total;
}

}  // namespace lamina
