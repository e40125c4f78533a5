// SPDX-License-Identifier: Apache-2.0
/// What the functions of cohort.h have in common: negative errnos with a sentence, option structures of several versions.
#pragma once

#include <algorithm>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <new>
#include <optional>
#include <string>

#include <cohort/base/error.hpp>

namespace cohort::kapi {

/// For cohort_last_error().
inline thread_local std::string last_error;

inline int failed(const error& e) {
    last_error = e.line();
    return e.code > 0 ? -e.code : -EINVAL;
}
inline int failed(int code, const char* object, const char* act, const char* reason) { return failed(error{code, object, act, reason}); }

/// Runs the body of an entry point; memory that is not there becomes -ENOMEM, so that no exception reaches C.
template <class F>
int entry(const char* object, const char* act, F body) noexcept {
    try {
        return body();
    } catch (const std::bad_alloc&) {
        try {
            return failed(ENOMEM, object, act, "no memory");
        } catch (...) {
            return -ENOMEM;
        }
    }
}

/// A caller's structure, as long as its version had it; members it did not know are zero. Null: all zero.
template <class Options>
std::optional<Options> read_options(const Options* given) {
    Options out{};
    if (!given) return out;
    if (given->struct_size < sizeof(size_t) || given->struct_size > sizeof(Options)) return std::nullopt;
    std::memcpy(&out, given, given->struct_size);
    return out;
}
inline constexpr const char* bad_size = "struct_size is not the size of the structure, or a newer version's";

/// Copies as much as fits, with an end mark. Returns the length of the whole.
inline int write_text(const std::string& from, char* text, std::size_t size) {
    if (text && size) {
        const std::size_t n = std::min(from.size(), size - 1);
        std::memcpy(text, from.data(), n);
        text[n] = '\0';
    }
    return static_cast<int>(from.size());
}

}  // namespace cohort::kapi
