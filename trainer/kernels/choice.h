// Which kernels run: the table of an instruction set, or libtorch's own operators.
#pragma once
#include <ATen/core/Tensor.h>

#include "passes/passes.h"

namespace lamina {

/// The operators that have kernels.
enum class Operator { norm, multiply, embed, gelu, drop, attention, likelihood, adam, square_sum };

/// The kernels of this processor's best instruction set, or the kernels that were chosen.
const Kernels& kernels();

/// True if the operator runs in the kernels when it works on `x`. Otherwise it has to call libtorch's operators.
bool is_fused(Operator, const at::Tensor& x);

template <typename T>
const Passes<T>& passes();
template <>
inline const Passes<float>& passes<float>() { return kernels().single; }
template <>
inline const Passes<Half>& passes<Half>() { return kernels().half; }

/// The name of the kernels in use, with the operators that libtorch replaces: "avx512", "avx512 without gelu",
/// "libtorch". The pointer holds until the next call.
const char* chosen_name();

/// Uses the kernels of that name, libtorch's operators for "libtorch", or the best kernels for "". Ends every
/// `replace`. False if this processor cannot run them; then nothing changes.
bool choose(const char* name);

/// Uses libtorch's operators in place of the kernels of this one operator. False if there is no operator of that name.
bool replace(const char* name);

}  // namespace lamina
