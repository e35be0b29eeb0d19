// All operators in one translation unit: libtorch's headers alone take about ten seconds to compile.
#include "attention.cpp"
#include "drop.cpp"
#include "embed.cpp"
#include "gelu.cpp"
#include "likelihood.cpp"
#include "multiply.cpp"
#include "norm.cpp"
#include "optimizer.cpp"
