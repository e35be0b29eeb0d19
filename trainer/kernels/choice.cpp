#include "choice.h"

#include <bitset>
#include <cstring>
#include <string>

namespace lamina {
namespace {

/// In the order of `Operator`.
constexpr const char* OPERATORS[] = {"norm",      "multiply",   "embed", "gelu",      "drop",
                                     "attention", "likelihood", "adam",  "square_sum"};
constexpr size_t COUNT = sizeof OPERATORS / sizeof *OPERATORS;
static_assert(COUNT == (size_t)Operator::square_sum + 1, "every operator has a name");

/// Best first.
const Kernels* const SETS[] = {
#if defined(__x86_64__)
    &avx512, &avx2,
#endif
    &portable};

bool runs_here(const Kernels& kernels) {
#if defined(__x86_64__)
    if (&kernels == &avx512)
        return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
               __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512bf16");
    if (&kernels == &avx2) return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#endif
    return &kernels == &portable;
}

const Kernels* best() {
    for (const Kernels* kernels : SETS)
        if (runs_here(*kernels)) return kernels;
    return &portable;
}

/// Null until a choice is made.
const Kernels* chosen = nullptr;
/// The operators that libtorch replaces.
std::bitset<COUNT> replaced;

}  // namespace

const Kernels& kernels() {
    static const Kernels* const found = best();
    return chosen ? *chosen : *found;
}

bool is_fused(Operator name, const at::Tensor& x) { return x.is_cpu() && !replaced[(size_t)name]; }

const char* chosen_name() {
    static std::string name;
    name = kernels().name;
    for (size_t i = 0; i < COUNT; ++i)
        if (replaced[i]) name += std::string(" without ") + OPERATORS[i];
    if (replaced.all()) name = "libtorch";
    return name.c_str();
}

bool choose(const char* name) {
    const bool libtorch = !strcmp(name, "libtorch");
    const Kernels* found = nullptr;
    for (const Kernels* kernels : SETS)
        if (!strcmp(name, kernels->name) && runs_here(*kernels)) found = kernels;
    if (!found && !libtorch && *name) return false;
    chosen = found;
    libtorch ? replaced.set() : replaced.reset();
    return true;
}

bool replace(const char* name) {
    for (size_t i = 0; i < COUNT; ++i)
        if (!strcmp(name, OPERATORS[i])) {
            replaced.set(i);
            return true;
        }
    return false;
}

}  // namespace lamina
