// SPDX-License-Identifier: Apache-2.0
/// Which shared object an address belongs to: one that was there when the program started, or one that was loaded later.
///
///     if (!sys::loaded_at_start(&object)) ...                  // in a library that came by dlopen(3), and may go by dlclose(3)
///
/// Kernel: is_module_address() (kernel/module/main.c) answers the like for code of the kernel.
#pragma once

#include <string>
#include <utility>

#include <cohort/base/error.hpp>

namespace cohort::sys {

/// True, too, for addresses of no object. Cost: walks the loaded objects. Not from signal handlers.
bool loaded_at_start(const void* address);

/// A shared library, loaded as long as this lives. A resource.
class loaded_library {
public:
    loaded_library() = default;
    /// All its symbols are found now, and are no others' to find. Errors: ENOENT, with what the loader says.
    static result<loaded_library> open(const std::string& path);
    loaded_library(loaded_library&& o) noexcept : path_(std::move(o.path_)), handle_(std::exchange(o.handle_, nullptr)) {}
    loaded_library& operator=(loaded_library&& o) noexcept {
        std::swap(path_, o.path_), std::swap(handle_, o.handle_);
        return *this;
    }
    ~loaded_library();
    /// Errors: ENOENT, it has no such symbol.
    result<void*> find(const std::string& symbol) const;

private:
    std::string path_;
    void* handle_ = nullptr;
};

}  // namespace cohort::sys
