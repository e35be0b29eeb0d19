// Memory of the process: what libtorch allocates, and what the C library gives back to the system.
#include <ATen/core/Tensor.h>
#include <c10/core/Allocator.h>
#include <c10/util/ThreadLocalDebugInfo.h>
#include <malloc.h>

#include <chrono>
#include <memory>
#include <mutex>

#include "message.h"

namespace {

/// Counts what libtorch's allocators hand out on one kind of device, in the thread that starts the meter and in the
/// threads that run its backward passes.
class Meter : public c10::MemoryReportingInfoBase {
  public:
    explicit Meter(at::DeviceType device) : device(device), last_change(Clock::now()), start(last_change) {}

    void reportMemoryUsage(void*, int64_t bytes, size_t, size_t, c10::Device where) override {
        if (where.type() != device) return;
        const std::lock_guard<std::mutex> lock(mutex);
        advance();
        allocated += bytes;
        if (allocated > peak) peak = allocated;
    }
    bool memoryProfilingEnabled() const override { return true; }

    /// The peak and the mean over time, in bytes, both beyond what was allocated at the start.
    void read(int64_t& bytes_at_peak, double& mean_bytes) {
        const std::lock_guard<std::mutex> lock(mutex);
        advance();
        const double seconds = std::chrono::duration<double>(last_change - start).count();
        bytes_at_peak = peak;
        mean_bytes = seconds > 0 ? byte_seconds / seconds : 0;
    }

  private:
    typedef std::chrono::steady_clock Clock;

    void advance() {
        const Clock::time_point now = Clock::now();
        byte_seconds += (double)allocated * std::chrono::duration<double>(now - last_change).count();
        last_change = now;
    }

    std::mutex mutex;
    at::DeviceType device;
    int64_t allocated = 0, peak = 0;
    double byte_seconds = 0;
    Clock::time_point last_change, start;
};

}  // namespace

extern "C" {

void lamina_keep_memory() {
    // A step's tensors have the same sizes each time. By default glibc would map the larger ones anew in each step, and
    // the system would clear them. (M_MMAP_THRESHOLD takes no value above 32 MiB.)
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
    return lamina::message_of([&] {
        const auto meter = std::dynamic_pointer_cast<Meter>(
            c10::ThreadLocalDebugInfo::_pop(c10::DebugInfoKind::PROFILER_STATE));
        TORCH_CHECK(meter, "no meter runs in this thread");
        meter->read(*peak, *mean);
    });
}

}  // extern "C"
