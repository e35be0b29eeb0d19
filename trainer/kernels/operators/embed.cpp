// Embeddings.
#include "graph.h"

namespace lamina {
namespace {

struct Embed : torch::autograd::Function<Embed> {
    static Tensor forward(AutogradContext* context, const Tensor& weight, const MatrixView& matrix, NoGradient ids,
                          int64_t padding) {
        Sink::save(context, matrix);
        context->save_for_backward({ids.tensor});
        context->saved_data["rows"] = weight.size(0);
        context->saved_data["padding"] = padding;
        auto shape = ids.tensor.sizes().vec();
        shape.push_back(width(weight));
        return weight.index_select(0, ids.tensor.reshape({-1})).view(shape);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Tensor ids = context->get_saved_variables()[0].contiguous(), dy = gradients[0].contiguous();
        const int64_t n = width(dy), padding = context->saved_data["padding"].toInt();
        const int64_t rows = context->saved_data["rows"].toInt();
        const Sink sink(context);
        const Tensor dw = sink.gradient.defined() ? sink.gradient : at::empty({rows, n}, dy.options());
        if (!sink.gradient.defined() || sink.claim()) dw.zero_();
        // Each range owns some rows of the matrix and goes through all tokens, so that a row's sum has a fixed order.
        for_ranges(rows, [&](int64_t, int64_t first, int64_t last) {
            const int64_t* id = data<int64_t>(ids);
            for (int64_t token = 0; token < ids.numel(); ++token)
                if (id[token] >= first && id[token] < last && id[token] != padding)
                    kernels().add(floats(dy) + token * n, n, floats(dw) + id[token] * n);
        });
        return {sink.gradient.defined() ? Tensor() : dw, {}, {}, {}};
    }
};

}  // namespace

Tensor embed(const Tensor& ids, const MatrixView& matrix, int64_t padding) {
    TORCH_CHECK(ids.scalar_type() == at::kLong, "ids are int64, not ", ids.scalar_type());
    const Tensor& weight = *matrix.value;
    if (is_fused(Operator::embed, weight)) return Embed::apply(weight, matrix, NoGradient{ids}, padding);
    return at::embedding(weight, ids, padding);
}

}  // namespace lamina
