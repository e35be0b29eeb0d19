// How an exception crosses the border to Rust.
#pragma once
#include <cstring>
#include <exception>

namespace lamina {

/// Runs `work`. Null, or the message of the exception that ended it, which `lamina_free` frees.
template <typename Work>
char* message_of(Work work) {
    try {
        work();
        return nullptr;
    } catch (const std::exception& error) {
        return strdup(error.what());
    }
}

}  // namespace lamina
