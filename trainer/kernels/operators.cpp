// The fused operators in the graph: what each saves, and its backward pass.
#include "operators.h"

#include <torch/csrc/autograd/custom_function.h>

namespace at::native {
// In no header of libtorch; out = beta out + alpha a b, through oneDNN.
void mkldnn_matmul(const Tensor& a, const Tensor& b, const Tensor& out, float beta, float alpha);
}  // namespace at::native

namespace lamina {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;
using at::Tensor;

/// A tensor without a gradient, which may be undefined: the graph does not look at it.
struct Aside {
    const Tensor& it;
};

int64_t width(const Tensor& x) { return x.size(-1); }
int64_t rows(const Tensor& x) { return x.numel() / width(x); }

/// Pointers go into `x`: it must hold `n` elements of that type, in one piece.
void flat(const char* what, const Tensor& x, int64_t n, at::ScalarType type) {
    TORCH_CHECK(x.scalar_type() == type && x.numel() == n && x.is_contiguous(), what, ": ", n, " elements of ", type,
                " in one piece are expected, not ", x.toString(), " ", x.sizes());
}

/// Whether a b is one that oneDNN is asked for directly. For float32, `at::mm` asks MKL, which off Intel's own processors is
/// up to a third slower.
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

/// Where a node's backward pass leaves the gradient of a matrix: added to what stands in its buffer, or given back to the
/// graph where it has none.
struct Sink {
    Tensor gradient, written;

    static void save(AutogradContext* context, const Matrix& matrix) {
        // Not as saved variables: others write to it in the meantime.
        if (!matrix.gradient.defined()) return;
        // What the backward pass writes to goes by a pointer.
        const Tensor &gradient = matrix.gradient, &written = matrix.written;
        TORCH_CHECK(gradient.device() == matrix.value.device() && gradient.scalar_type() == at::kFloat &&
                        gradient.is_contiguous() && gradient.sizes() == matrix.value.sizes(),
                    "the gradient of a matrix ", matrix.value.sizes(),
                    " is added up in one piece of float32, beside it and of its sizes, not in ", gradient.toString(), " ",
                    gradient.sizes());
        TORCH_CHECK(written.defined() && written.is_cpu() && written.scalar_type() == at::kByte && written.numel() == 1,
                    "whether a gradient is written is one uint8 on the CPU, not ", written.toString(), " ", written.sizes());
        context->saved_data["gradient"] = matrix.gradient;
        context->saved_data["written"] = matrix.written;
    }
    explicit Sink(AutogradContext* context) {
        const auto found = context->saved_data.find("gradient");
        if (found == context->saved_data.end()) return;
        gradient = found->second.toTensor();
        written = context->saved_data["written"].toTensor();
    }

    /// Whether nothing stood there before. From now on something does.
    bool take() const { return !std::exchange(*data<uint8_t>(written), 1); }

    Tensor put(const Tensor& x) const {
        if (!gradient.defined()) return x.to(at::kFloat);
        take() ? gradient.copy_(x) : gradient.add_(x);
        return {};
    }

    /// a b
    Tensor put_product(const Tensor& a, const Tensor& b) const {
        if (!gradient.defined() || !is_single(a, b)) return put(product(a, b));
        at::native::mkldnn_matmul(a, b, gradient, take() ? 0 : 1, 1);
        return {};
    }
};

/// Noise and scale among a node's saved values, and back.
std::vector<int64_t> packed(const Noise& noise) {
    const uint32_t* words = noise.key.words;
    return {words[0], words[1], words[2], words[3], noise.key.site};
}
Noise unpacked(AutogradContext* context) {
    const auto words = context->saved_data["key"].toIntVector();
    Noise noise{{{}, (uint32_t)words[4]}, context->saved_data["rate"].toDouble()};
    for (int i = 0; i < 4; ++i) noise.key.words[i] = (uint32_t)words[i];
    return noise;
}
void save(AutogradContext* context, const Noise& noise) {
    context->saved_data["key"] = packed(noise);
    context->saved_data["rate"] = noise.rate;
}

struct Norm : torch::autograd::Function<Norm> {
    static variable_list forward(AutogradContext* context, const Tensor& input, const Tensor& w, const Tensor& b, double eps,
                                 bool half) {
        const Tensor x = input.contiguous();
        flat("the weight of LayerNorm", w, width(x), at::kFloat);
        flat("the bias of LayerNorm", b, width(x), at::kFloat);
        const Tensor y = at::empty(x.sizes(), half ? at::kBFloat16 : at::kFloat), stats = at::empty({rows(x), 2}, at::kFloat);
        const int64_t n = width(x);
        typed(y, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(rows(x), [&](int64_t, int64_t first, int64_t last) {
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
        const Tensor through = gradients[1].defined() ? gradients[1].contiguous() : Tensor();
        const int64_t n = width(x);
        const Tensor dw = partial(rows(x), n), db = partial(rows(x), n);
        typed(dy, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(rows(x), [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().norm_back(floats(x) + first * n, floats(w), floats(stats) + 2 * first, data<T>(dy) + first * n,
                                      through.defined() ? floats(through) + first * n : nullptr, last - first, n,
                                      floats(dx) + first * n, floats(dw) + range * n, floats(db) + range * n);
            });
        });
        return {dx, dw.sum(0), db.sum(0), {}, {}};
    }
};

struct Multiply : torch::autograd::Function<Multiply> {
    static Tensor forward(AutogradContext* context, const Tensor& x, const Tensor& weight, const Matrix& matrix) {
        const Tensor w = x.scalar_type() == at::kBFloat16 ? matrix.half : weight;
        Sink::save(context, matrix);
        const Tensor flat = x.reshape({-1, width(x)});
        context->save_for_backward({flat, w});
        auto shape = x.sizes().vec();
        shape.back() = w.size(0);
        return product(flat, w.t()).view(shape);
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

struct Embed : torch::autograd::Function<Embed> {
    static Tensor forward(AutogradContext* context, const Tensor& weight, const Matrix& matrix, Aside ids, int64_t padding) {
        Sink::save(context, matrix);
        context->save_for_backward({ids.it});
        context->saved_data["rows"] = weight.size(0);
        context->saved_data["padding"] = padding;
        auto shape = ids.it.sizes().vec();
        shape.push_back(width(weight));
        return weight.index_select(0, ids.it.reshape({-1})).view(shape);
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Tensor ids = context->get_saved_variables()[0].contiguous(), dy = gradients[0].contiguous();
        const int64_t n = width(dy), padding = context->saved_data["padding"].toInt();
        const int64_t total = context->saved_data["rows"].toInt();
        const Sink sink(context);
        const Tensor sum = sink.gradient.defined() ? sink.gradient : at::empty({total, n}, dy.options());
        if (!sink.gradient.defined() || sink.take()) sum.zero_();
        // Each range has rows of its own, and every row its tokens in their order.
        over(total, [&](int64_t, int64_t first, int64_t last) {
            const int64_t* id = data<int64_t>(ids);
            for (int64_t token = 0; token < ids.numel(); ++token)
                if (id[token] >= first && id[token] < last && id[token] != padding)
                    kernels().add(floats(dy) + token * n, n, floats(sum) + id[token] * n);
        });
        return {sink.gradient.defined() ? Tensor() : sum, {}, {}, {}};
    }
};

struct Gelu : torch::autograd::Function<Gelu> {
    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& b) {
        const Tensor x = input.contiguous(), y = at::empty_like(x);
        const int64_t n = width(x);
        flat("a bias", b, n, at::kFloat);
        typed(x, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(rows(x), [&](int64_t, int64_t first, int64_t last) {
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
        const int64_t n = width(x);
        const Tensor db = partial(rows(x), n);
        typed(x, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(rows(x), [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().gelu_back(data<T>(x) + first * n, floats(b), data<T>(dy) + first * n, last - first, n,
                                      data<T>(dx) + first * n, floats(db) + range * n);
            });
        });
        return {dx, db.sum(0)};
    }
};

struct Drop : torch::autograd::Function<Drop> {
    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& b, const Tensor& residual,
                          const Noise& noise, double scale) {
        const Tensor x = input.contiguous(), from = residual.contiguous(), out = at::empty_like(from);
        const int64_t n = width(x);
        flat("a bias", b, n, at::kFloat);
        flat("a residual", from, x.numel(), at::kFloat);
        typed(x, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(rows(x), [&](int64_t, int64_t first, int64_t last) {
                passes<T>().drop(data<T>(x) + first * n, floats(b), floats(from) + first * n, dropout(noise, scale), first,
                                 last - first, n, floats(out) + first * n);
            });
        });
        save(context, noise);
        context->saved_data["scale"] = scale;
        context->saved_data["type"] = (int64_t)x.scalar_type();
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const Tensor dout = gradients[0].contiguous();
        const Tensor dy = at::empty(dout.sizes(), (at::ScalarType)context->saved_data["type"].toInt());
        const Dropout noise = dropout(unpacked(context), context->saved_data["scale"].toDouble());
        const int64_t n = width(dout);
        const Tensor db = partial(rows(dout), n);
        typed(dy, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(rows(dout), [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().drop_back(floats(dout) + first * n, noise, first, last - first, n, data<T>(dy) + first * n,
                                      floats(db) + range * n);
            });
        });
        return {dy, db.sum(0), gradients[0], {}, {}};
    }
};

struct Attend : torch::autograd::Function<Attend> {
    static Attention shape(const Tensor& qkv, const Tensor& bias, int64_t heads, const Tensor& tokens, bool causal,
                           const Noise& noise) {
        return {qkv.size(0), qkv.size(1), heads, qkv.size(2) / (3 * heads), floats(bias),
                tokens.defined() ? data<uint8_t>(tokens) : nullptr, causal, dropout(noise, 1)};
    }

    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& bias, int64_t heads,
                          Aside tokens, bool causal, const Noise& noise) {
        const Tensor qkv = input.contiguous();
        TORCH_CHECK(qkv.dim() == 3 && qkv.size(2) % (3 * heads) == 0, "queries, keys and values of ", heads, " heads are not ",
                    qkv.sizes());
        flat("a bias", bias, qkv.size(2), at::kFloat);
        if (tokens.it.defined()) flat("what is a token", tokens.it, qkv.size(0) * qkv.size(1), at::kBool);
        const Attention of = shape(qkv, bias, heads, tokens.it, causal, noise);
        const Tensor out = at::empty({of.batch, of.length, heads * of.width}, qkv.options());
        const Tensor sums = at::empty({of.batch * heads, of.length}, at::kFloat);
        typed(qkv, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(of.batch * heads, [&](int64_t, int64_t first, int64_t last) {
                passes<T>().attend(of, data<T>(qkv), first, last, data<T>(out), floats(sums));
            });
        });
        context->save_for_backward({qkv, bias, tokens.it, sums});
        save(context, noise);
        context->saved_data["heads"] = heads;
        context->saved_data["causal"] = causal;
        return out;
    }

    static variable_list backward(AutogradContext* context, variable_list gradients) {
        const auto saved = context->get_saved_variables();
        const Tensor &qkv = saved[0], &sums = saved[3];
        const Attention of = shape(qkv, saved[1], context->saved_data["heads"].toInt(), saved[2],
                                   context->saved_data["causal"].toBool(), unpacked(context));
        const Tensor dout = gradients[0].contiguous(), dqkv = at::empty_like(qkv);
        const int64_t total = of.batch * of.heads, n = qkv.size(2);
        const Tensor dbias = partial(total, n);
        typed(qkv, [&](auto* type) {
            using T = std::remove_pointer_t<decltype(type)>;
            over(total, [&](int64_t range, int64_t first, int64_t last) {
                passes<T>().attend_back(of, data<T>(qkv), floats(sums), data<T>(dout), first, last, data<T>(dqkv),
                                        floats(dbias) + range * n);
            });
        });
        return {dqkv, dbias.sum(0), {}, {}, {}, {}};
    }
};

/// The gradient of the logits is made while they are there, so that they need not be kept: what is saved are the gradients
/// of x, W and bias.
struct Likelihood : torch::autograd::Function<Likelihood> {
    /// Rows of logits that are held at a time.
    static constexpr int64_t MOST_ROWS = 1024;

    static Tensor forward(AutogradContext* context, const Tensor& input, const Tensor& weight, const Matrix& matrix,
                          const Tensor& bias, const Tensor& labels, double scale, bool differentiable) {
        const Tensor x = input.contiguous(), w = x.scalar_type() == at::kBFloat16 ? matrix.half : weight;
        const int64_t count = x.size(0), n = w.size(0), parts = (count + MOST_ROWS - 1) / MOST_ROWS;
        flat("a bias", bias, n, at::kFloat);
        flat("labels", labels, count, at::kLong);
        for (int64_t row = 0; row < count; ++row) {
            const int64_t label = data<int64_t>(labels)[row];
            TORCH_CHECK(0 <= label && label < n, "label ", label, " is none of ", n);
        }
        // Without any row, nothing depends on anything.
        std::vector<Tensor> dx{at::empty({0, x.size(1)}, x.options())};
        Tensor dw = count ? Tensor() : at::zeros_like(weight), db = count ? Tensor() : at::zeros_like(bias);
        double total = 0;
        for (int64_t part = 0; part < parts; ++part) {
            const int64_t from = count * part / parts, size = count * (part + 1) / parts - from;
            const Tensor rows = x.narrow(0, from, size), logits = product(rows, w.t());
            const Tensor sums = differentiable ? partial(size, n) : Tensor();
            std::vector<double> losses(ranges(size));
            typed(x, [&](auto* type) {
                using T = std::remove_pointer_t<decltype(type)>;
                over(size, [&](int64_t range, int64_t first, int64_t last) {
                    losses[range] = passes<T>().likelihood(data<T>(logits) + first * n, floats(bias),
                                                           labels.data_ptr<int64_t>() + from + first, (float)scale,
                                                           last - first, n,
                                                           differentiable ? floats(sums) + range * n : nullptr);
                });
            });
            for (double loss : losses) total += loss;
            if (!differentiable) continue;
            dx.push_back(product(logits, w));
            const Tensor of_weight = product(logits.t(), rows);
            dw = part ? dw.add_(of_weight) : parts > 1 ? of_weight.to(at::kFloat) : of_weight;
            db = part ? db.add_(sums.sum(0)) : sums.sum(0);
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

bool wants(const Tensor& x) { return at::GradMode::is_enabled() && x.requires_grad(); }

/// Seeds libtorch's generators for a site: where the kernels do not run, its draws come from these.
void seed(const Noise& noise) {
    const uint32_t* words = noise.key.words;
    const uint64_t low = words[0] ^ (uint64_t)words[1] << 32, high = words[2] ^ (uint64_t)words[3] << 32;
    at::manual_seed((low + high * 0x9E3779B97F4A7C15u + noise.key.site * 0xD1B54A32D192ED03u) >> 1);
}

/// libtorch's dropout. On a CPU, where the kernels are only switched off, with the kernels' draws.
Tensor dropped_plain(const Tensor& x, const Noise& noise) {
    if (!dropped(noise.rate)) return x;
    if (!x.is_cpu()) {
        seed(noise);
        return at::dropout(x, noise.rate, true);
    }
    return x * kept(noise, rows(x), width(x), x.device()).view(x.sizes()) * dropout(noise, 1).scale;
}

}  // namespace

std::pair<Tensor, Tensor> norm(const Tensor& x, const Tensor& weight, const Tensor& bias, double eps, bool half) {
    if (is_fused(x)) {
        const auto both = Norm::apply(x, weight, bias, eps, half);
        return {both[0], both[1]};
    }
    const Tensor y = at::layer_norm(x, {width(x)}, weight, bias, eps);
    return {half ? y.to(at::kBFloat16) : y, x};
}

Tensor multiply(const Tensor& x, const Matrix& matrix) {
    // On a GPU too: there, it spares a copy of the weights in the type of x, and one of their gradient.
    if (is_fused(x) || x.is_cuda()) return Multiply::apply(x, matrix.value, matrix);
    return at::linear(x, matrix.value.to(x.scalar_type()));
}

Tensor embed(const Tensor& ids, const Matrix& matrix, int64_t padding) {
    TORCH_CHECK(ids.scalar_type() == at::kLong, "ids are int64, not ", ids.scalar_type());
    if (is_fused(matrix.value)) return Embed::apply(matrix.value, matrix, Aside{ids}, padding);
    return at::embedding(matrix.value, ids, padding);
}

Tensor gelu(const Tensor& x, const Tensor& bias) {
    if (is_fused(x)) return Gelu::apply(x, bias);
    return at::gelu(x + bias.to(x.scalar_type()));
}

Tensor drop(const Tensor& x, const Tensor& bias, const Tensor& residual, const Noise& noise, double scale) {
    if (is_fused(x)) return Drop::apply(x, bias, residual, noise, scale);
    return residual + dropped_plain(x.to(at::kFloat) + bias, noise) * scale;
}

Tensor attention(const Tensor& qkv, const Tensor& bias, int64_t heads, const Tensor& tokens, bool causal,
                 const Noise& noise) {
    if (is_fused(qkv)) {
        const Tensor together = tokens.defined() ? tokens.contiguous() : tokens;
        return Attend::apply(qkv, bias, heads, Aside{together}, causal, noise);
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
        mixed = at::matmul(dropped_plain(scores.softmax(-1), noise).to(qkv.scalar_type()), parts[2]);
    } else {
        const std::optional<Tensor> seen = mask.defined() ? std::optional<Tensor>(mask) : std::nullopt;
        seed(noise);
        mixed = at::scaled_dot_product_attention(parts[0], parts[1], parts[2], seen, noise.rate);
    }
    return mixed.transpose(1, 2).reshape({b, s, heads * d});
}

Tensor likelihood(const Tensor& x, const Matrix& matrix, const Tensor& bias, const Tensor& labels, double scale) {
    const Tensor& weight = matrix.value;
    if (is_fused(x))
        return Likelihood::apply(x, weight, matrix, bias, labels.contiguous(), scale,
                                 wants(x) || wants(weight) || wants(bias));
    const Tensor logits = multiply(x, matrix).to(at::kFloat) + bias;
    return at::cross_entropy_loss(logits, labels, {}, at::Reduction::Sum) * scale;
}

void adam(const AdamRule& rule, const Tensor& factor, int64_t decayed, const Tensor& value, const Tensor& first,
          const Tensor& second, const Tensor& gradient, const Tensor& half) {
    const int64_t n = value.numel();
    for (const Tensor* buffer : {&value, &first, &second, &gradient}) flat("a buffer of an update", *buffer, n, at::kFloat);
    if (half.defined()) flat("what follows an update", half, n, at::kBFloat16);
    if (is_fused(value)) {
        const auto correction = [&](double beta) { return 1 - std::pow(beta, (double)rule.updates); };
        const Adam plain{(float)(1 - rule.beta1), (float)(1 - rule.beta2), (float)rule.epsilon,
                         (float)(rule.rate / correction(rule.beta1)), (float)(1 / std::sqrt(correction(rule.beta2))), 1};
        Adam decaying = plain;
        decaying.keep = (float)(1 - rule.rate * rule.decay);
        const float scale = factor.defined() ? (float)factor.item<double>() : 1;
        const auto part = [&](const Adam& rule, int64_t from, int64_t to) {
            if (from >= to) return;
            kernels().adam(rule, scale, to - from, floats(value) + from, floats(first) + from, floats(second) + from,
                           floats(gradient) + from, half.defined() ? data<Half>(half) + from : nullptr);
        };
        over(n, [&](int64_t, int64_t from, int64_t to) {
            part(decaying, from, std::min(to, decayed));
            part(plain, std::max(from, decayed), to);
        });
        return;
    }
    const Tensor updates = at::full({}, (double)rule.updates, value.options());
    const std::optional<Tensor> divisor = factor.defined() ? std::optional(factor.reciprocal().to(at::kFloat)) : std::nullopt;
    const auto part = [&](double decay, int64_t from, int64_t to) {
        if (from >= to) return;
        const auto of = [&](const Tensor& x) { return std::vector<Tensor>{x.narrow(0, from, to - from)}; };
        at::_fused_adamw_(of(value), of(gradient), of(first), of(second), {}, {updates}, rule.rate, rule.beta1, rule.beta2,
                          decay, rule.epsilon, false, false, divisor);
    };
    part(rule.decay, 0, std::min(n, decayed));
    part(0, std::max<int64_t>(0, decayed), n);
    if (half.defined()) half.copy_(value);
}

Tensor kept(const Noise& noise, int64_t rows, int64_t n, const at::Device& device) {
    const Tensor out = at::empty({rows, n}, at::kFloat);
    kernels().kept(dropout(noise, 1), rows, n, floats(out));
    return out.to(device);
}

}  // namespace lamina
