// The operators behind plain C functions. Each gives null, or what went wrong in memory that `lamina_free` takes back.
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <malloc.h>

#include <chrono>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <mutex>

#include "operators.h"

using at::Tensor;
using lamina::Noise;

namespace {

/// Null, or the kernels that a test has chosen; `plain` with libtorch's own operators instead.
const lamina::Kernels* chosen = nullptr;
bool plain = false;

bool runs(const lamina::Kernels& kernels) {
#if defined(__x86_64__)
    if (&kernels == &lamina::avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bf16");
    if (&kernels == &lamina::avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return &kernels == &lamina::portable;
}

const lamina::Kernels* const ALL[] = {
#if defined(__x86_64__)
    &lamina::avx512, &lamina::avx2,
#endif
    &lamina::portable};

const lamina::Kernels& best() {
    for (const lamina::Kernels* kernels : ALL)
        if (runs(*kernels)) return *kernels;
    return lamina::portable;
}

template <typename Work>
char* caught(Work work) {
    try {
        work();
        return nullptr;
    } catch (const std::exception& error) {
        return strdup(error.what());
    }
}

/// Counts what libtorch's allocators hand out on one kind of device, in the thread that starts it and in those that run its
/// backward passes.
class Meter : public c10::MemoryReportingInfoBase {
  public:
    explicit Meter(at::DeviceType device) : device(device), since(Clock::now()), start(since) {}

    void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device where) override {
        if (where.type() != device) return;
        const std::lock_guard<std::mutex> lock(mutex);
        tick();
        now += bytes;
        if (now > peak) peak = now;
    }
    bool memoryProfilingEnabled() const override { return true; }

    /// The most there was at a time, and the mean over time, both beyond what there was at the start.
    void read(int64_t& most, double& mean) {
        const std::lock_guard<std::mutex> lock(mutex);
        tick();
        const double seconds = std::chrono::duration<double>(since - start).count();
        most = peak;
        mean = seconds > 0 ? area / seconds : 0;
    }

  private:
    typedef std::chrono::steady_clock Clock;

    void tick() {
        const Clock::time_point at = Clock::now();
        area += (double)now * std::chrono::duration<double>(at - since).count();
        since = at;
    }

    std::mutex mutex;
    at::DeviceType device;
    int64_t now = 0, peak = 0;
    double area = 0;
    Clock::time_point since, start;
};

/// lamina::Matrix as it crosses the language border; what is null is undefined.
struct Matrix {
    const Tensor *value, *half, *gradient, *written;
};

Tensor or_none(const Tensor* x) { return x ? *x : Tensor(); }
lamina::Matrix matrix(const Matrix& of) {
    return {or_none(of.value), or_none(of.half), or_none(of.gradient), or_none(of.written)};
}
Tensor* owned(Tensor x) { return new Tensor(std::move(x)); }

}  // namespace

namespace lamina {

const Kernels& kernels() {
    static const Kernels& found = best();
    return chosen ? *chosen : found;
}

bool is_fused(const at::Tensor& x) { return x.is_cpu() && !plain; }

}  // namespace lamina

extern "C" {

void lamina_free(char* message) { free(message); }

/// The name of the kernels in use.
const char* lamina_kernels() { return plain ? "libtorch" : lamina::kernels().name; }

/// Uses the kernels of that name, libtorch's operators for "libtorch", the best for "". False where they cannot run.
bool lamina_choose(const char* name) {
    plain = !strcmp(name, "libtorch");
    chosen = nullptr;
    for (const lamina::Kernels* kernels : ALL)
        if (!strcmp(name, kernels->name) && runs(*kernels)) chosen = kernels;
    return plain || chosen || !*name;
}

void lamina_keep_memory() {
    // A step's tensors are of the same sizes each time. glibc would map the larger ones afresh, and the system clear them.
    // (It takes no M_MMAP_THRESHOLD above 32 MiB.)
    mallopt(M_MMAP_MAX, 0);
    mallopt(M_TRIM_THRESHOLD, -1);
    mallopt(M_TOP_PAD, 64 << 20);
}

void lamina_meter_start(bool cuda) {
    c10::ThreadLocalDebugInfo::_push(c10::DebugInfoKind::PROFILER_STATE,
                                     std::make_shared<Meter>(cuda ? at::kCUDA : at::kCPU));
}

/// Ends what `lamina_meter_start` began in this thread.
char* lamina_meter_stop(int64_t* peak, double* mean) {
    return caught([&] {
        const auto meter = std::dynamic_pointer_cast<Meter>(
            c10::ThreadLocalDebugInfo::_pop(c10::DebugInfoKind::PROFILER_STATE));
        TORCH_CHECK(meter, "no meter runs in this thread");
        meter->read(*peak, *mean);
    });
}

char* lamina_norm(const Tensor* x, const Tensor* weight, const Tensor* bias, double eps, bool half, Tensor** out) {
    return caught([&] {
        auto [y, through] = lamina::norm(*x, *weight, *bias, eps, half);
        out[0] = owned(std::move(y));
        out[1] = owned(std::move(through));
    });
}

char* lamina_multiply(const Tensor* x, const Matrix* weight, Tensor** out) {
    return caught([&] { *out = owned(lamina::multiply(*x, matrix(*weight))); });
}

char* lamina_embed(const Tensor* ids, const Matrix* weight, int64_t padding, Tensor** out) {
    return caught([&] { *out = owned(lamina::embed(*ids, matrix(*weight), padding)); });
}

char* lamina_gelu(const Tensor* x, const Tensor* bias, Tensor** out) {
    return caught([&] { *out = owned(lamina::gelu(*x, *bias)); });
}

char* lamina_drop(const Tensor* x, const Tensor* bias, const Tensor* residual, const Noise* noise, double scale,
                  Tensor** out) {
    return caught([&] { *out = owned(lamina::drop(*x, *bias, *residual, *noise, scale)); });
}

char* lamina_attention(const Tensor* qkv, const Tensor* bias, int64_t heads, const Tensor* tokens, bool causal,
                       const Noise* noise, Tensor** out) {
    return caught([&] { *out = owned(lamina::attention(*qkv, *bias, heads, or_none(tokens), causal, *noise)); });
}

char* lamina_likelihood(const Tensor* x, const Matrix* weight, const Tensor* bias, const Tensor* labels, double scale,
                        Tensor** out) {
    return caught([&] { *out = owned(lamina::likelihood(*x, matrix(*weight), *bias, *labels, scale)); });
}

char* lamina_kept(const Noise* noise, int64_t rows, int64_t n, Tensor** out) {
    return caught([&] { *out = owned(lamina::kept(*noise, rows, n, at::kCPU)); });
}

char* lamina_adam(const lamina::AdamRule* rule, const Tensor* factor, int64_t decayed, const Tensor* value,
                  const Tensor* first, const Tensor* second, const Tensor* gradient, const Tensor* half) {
    return caught([&] {
        lamina::adam(*rule, or_none(factor), decayed, *value, *first, *second, *gradient, or_none(half));
    });
}

/// Sum of the squares of a float32 tensor on a CPU.
char* lamina_square_sum(const Tensor* x, double* out) {
    return caught([&] {
        const int64_t n = x->numel();
        std::vector<double> sums(lamina::ranges(n));
        lamina::over(n, [&](int64_t range, int64_t first, int64_t last) {
            sums[range] = lamina::kernels().square_sum(lamina::floats(*x) + first, last - first);
        });
        *out = 0;
        for (double sum : sums) *out += sum;
    });
}

}  // extern "C"
