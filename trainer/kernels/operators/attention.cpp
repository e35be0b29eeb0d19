// Attention, from queries, keys and values to the mixed values.
#include "graph.h"

namespace lamina {
namespace {

struct Attend : torch::autograd::Function<Attend> {
    static AttentionLayer layer_of(const Tensor& qkv, const Tensor& bias, int64_t heads, const Tensor& tokens,
                                   bool causal, const Dropout& dropout) {
        return {qkv.size(0), qkv.size(1), heads, qkv.size(2) / (3 * heads), floats(bias),
                tokens.defined() ? data<uint8_t>(tokens) : nullptr, causal, dropout};
    }

    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& bias, int64_t heads,
                          NoGradient tokens, bool causal, const Dropout& dropout) {
        const Tensor qkv = input.contiguous();
        TORCH_CHECK(qkv.dim() == 3 && qkv.size(2) % (3 * heads) == 0, "queries, keys and values of ", heads,
                    " heads: expected [batch, length, a multiple of ", 3 * heads, "], got ", qkv.sizes());
        check("the bias", bias, qkv.size(2), at::kFloat);
        if (tokens.tensor.defined()) check("the token mask", tokens.tensor, qkv.size(0) * qkv.size(1), at::kBool);
        const AttentionLayer layer = layer_of(qkv, bias, heads, tokens.tensor, causal, dropout);
        const Tensor out = at::empty({layer.batch, layer.length, heads * layer.width}, qkv.options());
        const Tensor log_sums = at::empty({layer.batch * heads, layer.length}, at::kFloat);
        with_element_type(qkv, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(layer.batch * heads, [&](int64_t, int64_t first, int64_t last) {
                passes<T>().attend(layer, data<T>(qkv), first, last, data<T>(out), floats(log_sums));
            });
        });
        context->save_for_backward({qkv, bias, tokens.tensor, log_sums});
        save(context, dropout);
        context->saved_data["heads"] = heads;
        context->saved_data["causal"] = causal;
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const Tensor &qkv = saved[0], &bias = saved[1], &tokens = saved[2], &log_sums = saved[3];
        const AttentionLayer layer = layer_of(qkv, bias, context->saved_data["heads"].toInt(), tokens,
                                              context->saved_data["causal"].toBool(), saved_dropout(context));
        const Tensor dout = gradients[0].contiguous(), dqkv = at::empty_like(qkv);
        const int64_t heads = layer.batch * layer.heads, n = qkv.size(2);
        const Tensor dbias = range_sums(heads, n);
        with_element_type(qkv, [&](auto zero) {
            using T = decltype(zero);
            for_ranges(heads, [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().attend_backward(layer, data<T>(qkv), floats(log_sums), data<T>(dout), first, last,
                                            data<T>(dqkv), floats(dbias) + range * n);
            });
        });
        return {dqkv, dbias.sum(0), {}, {}, {}, {}};
    }
};

}  // namespace

Tensor attention(const Tensor& qkv, const Tensor& bias, int64_t heads, const Tensor& tokens, bool causal,
                 const Dropout& dropout) {
    if (is_fused(Operator::attention, qkv)) {
        const Tensor mask = tokens.defined() ? tokens.contiguous() : tokens;
        return Attend::apply(qkv, bias, heads, NoGradient{mask}, causal, dropout);
    }
    const int64_t b = qkv.size(0), s = qkv.size(1), d = qkv.size(2) / (3 * heads);
    // [B, S, 3 A D] -> [B, S, 3, A, D] -> [3, B, A, S, D]
    const auto parts = (qkv + bias.to(qkv.scalar_type())).view({b, s, 3, heads, d}).permute({2, 0, 3, 1, 4}).unbind(0);
    Tensor mask = tokens.defined() ? tokens.view({b, 1, 1, s}) : Tensor();
    if (causal) {
        const Tensor past = at::ones({s, s}, qkv.options().dtype(at::kBool)).tril();
        mask = mask.defined() ? mask.logical_and(past) : past;
    }
    Tensor mixed;
    if (qkv.is_cpu()) {
        Tensor scores = at::matmul(parts[0], parts[1].transpose(2, 3)).to(at::kFloat) / std::sqrt((double)d);
        if (mask.defined()) scores = scores.masked_fill(mask.logical_not(), -INFINITY);
        mixed = at::matmul(dropped(scores.softmax(-1), dropout).to(qkv.scalar_type()), parts[2]);
    } else {
        const std::optional<Tensor> seen = mask.defined() ? std::optional<Tensor>(mask) : std::nullopt;
        seed(dropout);
        mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], seen, dropout.rate);
    }
    return mixed.transpose(1, 2).reshape({b, s, heads * d});
}

}  // namespace lamina
