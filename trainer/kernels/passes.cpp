// The fused passes. Compiled once per instruction set; LAMINA_SET names the table that this makes.
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
            const Floats off = select(first(n - i), load(x + i, n - i) - mean, Floats{});
            squares += off * off;
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
void norm_back(const float* x, const float* w, const float* stats, const T* dy, const float* through, int64_t rows,
               int64_t n, float* dx, float* dw, float* db) {
    for (int64_t row = 0; row < rows; ++row, x += n, dy += n, dx += n) {
        const float mean = stats[2 * row], inverse = stats[2 * row + 1];
        // dx = (g - mean(g) - x^ mean(g x^)) / sqrt(var), with g = dy w
        Floats of_g{}, of_gx{};
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            const Floats d = load(dy + i, left), normed = (load(x + i, left) - mean) * inverse;
            const Floats g = d * load(w + i, left);
            of_g += g;
            of_gx += g * normed;
            add(dw + i, d * normed, left);
            add(db + i, d, left);
        }
        const float g_mean = sum(of_g) / (float)n, gx_mean = sum(of_gx) / (float)n;
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            const Floats g = load(dy + i, left) * load(w + i, left), normed = (load(x + i, left) - mean) * inverse;
            Floats d = (g - g_mean - normed * gx_mean) * inverse;
            if (through) d += load(through + i, left);
            store(dx + i, d, left);
        }
        if (through) through += n;
    }
}

template <typename T>
void gelu(const T* x, const float* b, int64_t rows, int64_t n, T* y) {
    for (int64_t row = 0; row < rows; ++row, x += n, y += n)
        for (int64_t i = 0; i < n; i += LANES) {
            Floats bell;
            const Floats at = load(x + i, n - i) + load(b + i, n - i);
            store(y + i, at * normal(at, bell), n - i);
        }
}

template <typename T>
void gelu_back(const T* x, const float* b, const T* dy, int64_t rows, int64_t n, T* dx, float* db) {
    constexpr float DENSITY = 0.39894228f;  // 1 / sqrt(2 pi)
    for (int64_t row = 0; row < rows; ++row, x += n, dy += n, dx += n)
        for (int64_t i = 0; i < n; i += LANES) {
            const int64_t left = n - i;
            Floats bell;
            const Floats at = load(x + i, left) + load(b + i, left);
            const Floats phi = normal(at, bell);
            const Floats d = load(dy + i, left) * (phi + at * bell * DENSITY);
            store(dx + i, d, left);
            add(db + i, d, left);
        }
}

template <typename T>
void drop(const T* y, const float* b, const float* residual, Dropout dropout, int64_t first, int64_t rows, int64_t n,
          float* out) {
    for (int64_t row = 0; row < rows; ++row, y += n, residual += n, out += n)
        over_row(dropout, first + row, n, [&](int64_t i, int64_t left, Ints kept) {
            const Floats branch = (load(y + i, left) + load(b + i, left)) * dropout.scale;
            store(out + i, load(residual + i, left) + select(kept, branch, Floats{}), left);
        });
}

template <typename T>
void drop_back(const float* dout, Dropout dropout, int64_t first, int64_t rows, int64_t n, T* dy, float* db) {
    for (int64_t row = 0; row < rows; ++row, dout += n, dy += n)
        over_row(dropout, first + row, n, [&](int64_t i, int64_t left, Ints kept) {
            const Floats d = select(kept, load(dout + i, left) * dropout.scale, Floats{});
            store(dy + i, d, left);
            add(db + i, d, left);
        });
}

template <typename T>
double likelihood(T* logits, const float* b, const int64_t* labels, float scale, int64_t rows, int64_t n, float* dbias) {
    double total = 0;
    for (int64_t row = 0; row < rows; ++row, logits += n) {
        const auto at = [&](int64_t i) { return load(logits + i, n - i) + load(b + i, n - i); };
        Floats most = all(-INFINITY), sums{};
        for (int64_t i = 0; i < n; i += LANES) most = larger(most, select(lamina::first(n - i), at(i), all(-INFINITY)));
        const float peak = largest(most);
        const float label = at(labels[row] - labels[row] % LANES)[labels[row] % LANES];
        for (int64_t i = 0; i < n; i += LANES)
            sums += select(lamina::first(n - i), exponential(at(i) - peak), Floats{});
        const float whole = sum(sums);
        total += (double)(peak - label) + std::log((double)whole);
        if (!dbias) continue;
        const float factor = scale / whole;
        for (int64_t i = 0; i < n; i += LANES) {
            Floats d = exponential(at(i) - peak) * factor;
            if (labels[row] - i >= 0 && labels[row] - i < LANES) d[labels[row] - i] -= scale;
            store(logits + i, d, n - i);
            add(dbias + i, d, n - i);
        }
    }
    return total;
}

void kept(Dropout dropout, int64_t rows, int64_t n, float* out) {
    for (int64_t row = 0; row < rows; ++row, out += n)
        over_row(dropout, row, n,
                 [&](int64_t i, int64_t left, Ints kept) { store(out + i, select(kept, all(1), Floats{}), left); });
}

INLINE Floats root(Floats x) {
    Floats y;
    for (int64_t i = 0; i < LANES; ++i) y[i] = __builtin_sqrtf(x[i]);
    return y;
}

void adam(const Adam& rule, float factor, int64_t n, float* value, float* first, float* second, const float* gradient,
          Half* shadow) {
    for (int64_t i = 0; i < n; i += LANES) {
        const int64_t left = n - i;
        const Floats g = load(gradient + i, left) * factor;
        Floats m = load(first + i, left), v = load(second + i, left);
        m += (g - m) * rule.mix1;
        v += (g * g - v) * rule.mix2;
        const Floats w = load(value + i, left) * rule.keep - m / (root(v) * rule.root + rule.epsilon) * rule.rate;
        store(first + i, m, left);
        store(second + i, v, left);
        store(value + i, w, left);
        if (shadow) store(shadow + i, w, left);
    }
}

double square_sum(const float* x, int64_t n) {
    constexpr int64_t PIECE = 4096;  // short enough for float32 to add up
    double total = 0;
    for (int64_t start = 0; start < n; start += PIECE) {
        Floats squares{};
        for (int64_t i = start; i < n && i < start + PIECE; i += LANES) {
            const Floats at = load(x + i, n - i);
            squares += at * at;
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
    return {norm<T>, norm_back<T>, gelu<T>, gelu_back<T>, drop<T>, drop_back<T>, attend<T>, attend_back<T>, likelihood<T>};
}

}  // namespace

#define LAMINA_NAME(set) #set
#define LAMINA_STRING(set) LAMINA_NAME(set)
const Kernels LAMINA_SET = {LAMINA_STRING(LAMINA_SET), passes<float>(), passes<Half>(), kept, adam, square_sum, add_to};

}  // namespace lamina
