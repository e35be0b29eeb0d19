// The passes. This file is compiled once per instruction set; LAMINA_SET is the name of the table that it makes.
#include "attention.h"
#include "vector.h"

namespace lamina {
namespace {

template <typename T>
void norm(const float* x, const float* w, const float* b, float eps, int64_t rows, int64_t n, T* y, float* stats) {
    for (int64_t row = 0; row < rows; ++row, x += n, y += n) {
        Floats total{}, squares{};
        for (int64_t i = 0; i < n; i += LANES) total += load(x + i, n - i);
        const float mean = sum(total) / (float)n;
        for (int64_t i = 0; i < n; i += LANES) {
            const Floats deviation = select(first_lanes(n - i), load(x + i, n - i) - mean, Floats{});
            squares += deviation * deviation;
        }
        const float inverse = 1.0f / std::sqrt(sum(squares) / (float)n + eps);
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            store(y + i, (load(x + i, left) - mean) * inverse * load(w + i, left) + load(b + i, left), left);
        }
        stats[2 * row] = mean;
        stats[2 * row + 1] = inverse;
    }
}

template <typename T>
void norm_backward(const float* x, const float* w, const float* stats, const T* dy, const float* residual, int64_t rows,
                   int64_t n, float* dx, float* dw, float* db) {
    for (int64_t row = 0; row < rows; ++row, x += n, dy += n, dx += n) {
        const float mean = stats[2 * row], inverse = stats[2 * row + 1];
        // dx = (g - mean(g) - z mean(g z)) / sqrt(var + eps), with g = dy w and z = (x - mean) / sqrt(var + eps)
        Floats g_total{}, gz_total{};
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            const Floats d = load(dy + i, left), z = (load(x + i, left) - mean) * inverse;
            const Floats g = d * load(w + i, left);
            g_total += g;
            gz_total += g * z;
            add(dw + i, d * z, left);
            add(db + i, d, left);
        }
        const float g_mean = sum(g_total) / (float)n, gz_mean = sum(gz_total) / (float)n;
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            const Floats g = load(dy + i, left) * load(w + i, left), z = (load(x + i, left) - mean) * inverse;
            Floats d = (g - g_mean - z * gz_mean) * inverse;
            if (residual) d += load(residual + i, left);
            store(dx + i, d, left);
        }
        if (residual) residual += n;
    }
}

template <typename T>
void gelu(const T* x, const float* b, int64_t rows, int64_t n, T* y) {
    for (int64_t row = 0; row < rows; ++row, x += n, y += n)
        for (int64_t i = 0; i < n; i += LANES) {
            Floats gaussian;
            const Floats input = load(x + i, n - i) + load(b + i, n - i);
            store(y + i, input * normal_distribution(input, gaussian), n - i);
        }
}

template <typename T>
void gelu_backward(const T* x, const float* b, const T* dy, int64_t rows, int64_t n, T* dx, float* db) {
    constexpr float INVERSE_SQRT_2PI = 0.39894228f;
    for (int64_t row = 0; row < rows; ++row, x += n, dy += n, dx += n)
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            Floats gaussian;
            const Floats input = load(x + i, left) + load(b + i, left);
            const Floats phi = normal_distribution(input, gaussian);
            const Floats d = load(dy + i, left) * (phi + input * gaussian * INVERSE_SQRT_2PI);
            store(dx + i, d, left);
            add(db + i, d, left);
        }
}

template <typename T>
void drop(const T* y, const float* b, const float* residual, const Dropout& dropout, double scale, int64_t first,
          int64_t rows, int64_t n, float* out) {
    const float factor = kept_factor(dropout, scale);
    for (int64_t row = 0; row < rows; ++row, y += n, residual += n, out += n)
        for_kept(dropout, first + row, n, [&](int64_t i, int64_t left, Ints kept) {
            const Floats branch = (load(y + i, left) + load(b + i, left)) * factor;
            store(out + i, load(residual + i, left) + select(kept, branch, Floats{}), left);
        });
}

template <typename T>
void drop_backward(const float* dout, const Dropout& dropout, double scale, int64_t first, int64_t rows, int64_t n,
                   T* dy, float* db) {
    const float factor = kept_factor(dropout, scale);
    for (int64_t row = 0; row < rows; ++row, dout += n, dy += n)
        for_kept(dropout, first + row, n, [&](int64_t i, int64_t left, Ints kept) {
            const Floats d = select(kept, load(dout + i, left) * factor, Floats{});
            store(dy + i, d, left);
            add(db + i, d, left);
        });
}

template <typename T>
double likelihood(T* logits, const float* b, const int64_t* labels, float scale, int64_t rows, int64_t n,
                  float* dbias) {
    double total = 0;
    for (int64_t row = 0; row < rows; ++row, logits += n) {
        const auto logit = [&](int64_t i) { return load(logits + i, n - i) + load(b + i, n - i); };
        Floats maxima = broadcast(-INFINITY), sums{};
        for (int64_t i = 0; i < n; i += LANES)
            maxima = maximum(maxima, select(first_lanes(n - i), logit(i), broadcast(-INFINITY)));
        const float peak = largest(maxima);
        const float label = logit(labels[row] - labels[row] % LANES)[labels[row] % LANES];
        for (int64_t i = 0; i < n; i += LANES)
            sums += select(first_lanes(n - i), exponential(logit(i) - peak), Floats{});
        const float softmax_sum = sum(sums);
        total += (double)(peak - label) + std::log((double)softmax_sum);
        if (!dbias) continue;
        const float factor = scale / softmax_sum;
        for (int64_t i = 0; i < n; i += LANES) {
            Floats d = exponential(logit(i) - peak) * factor;
            if (labels[row] - i >= 0 && labels[row] - i < LANES) d[labels[row] - i] -= scale;
            store(logits + i, d, n - i);
            add(dbias + i, d, n - i);
        }
    }
    return total;
}

void kept(const Dropout& dropout, int64_t rows, int64_t n, float* out) {
    for (int64_t row = 0; row < rows; ++row, out += n)
        for_kept(dropout, row, n, [&](int64_t i, int64_t left, Ints kept) {
            store(out + i, select(kept, broadcast(1), Floats{}), left);
        });
}

INLINE Floats square_root(Floats x) {
    Floats y;
    for (int64_t i = 0; i < LANES; ++i) y[i] = __builtin_sqrtf(x[i]);
    return y;
}

void adam(const AdamFactors& factors, float factor, int64_t n, float* value, float* first, float* second,
          const float* gradient, Half* half) {
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        const Floats g = load(gradient + i, left) * factor;
        Floats m = load(first + i, left), v = load(second + i, left);
        m += (g - m) * factors.mix1;
        v += (g * g - v) * factors.mix2;
        const Floats step = m / (square_root(v) * factors.root + factors.epsilon) * factors.rate;
        const Floats w = load(value + i, left) * factors.decay - step;
        store(first + i, m, left);
        store(second + i, v, left);
        store(value + i, w, left);
        if (half) store(half + i, w, left);
    }
}

double square_sum(const float* x, int64_t n) {
    constexpr int64_t PIECE = 4096;  // few enough for a sum in float32
    double total = 0;
    for (int64_t start = 0; start < n; start += PIECE) {
        Floats squares{};
        for (int64_t i = start; i < n && i < start + PIECE; i += LANES) {
            const Floats element = load(x + i, n - i);
            squares += element * element;
        }
        total += sum(squares);
    }
    return total;
}

void add_to(const float* x, int64_t n, float* sum) {
    for (int64_t i = 0; i < n; i += LANES) add(sum + i, load(x + i, n - i), n - i);
}

template <typename T>
constexpr Passes<T> passes() {
    return {norm<T>,          norm_backward<T>, gelu<T>,            gelu_backward<T>, drop<T>,
            drop_backward<T>, attend<T>,        attend_backward<T>, likelihood<T>};
}

}  // namespace

#define LAMINA_NAME(set) #set
#define LAMINA_STRING(set) LAMINA_NAME(set)
const Kernels LAMINA_SET = {LAMINA_STRING(LAMINA_SET), passes<float>(), passes<Half>(), kept, adam, square_sum, add_to};

}  // namespace lamina
