// SPDX-License-Identifier: Apache-2.0
/// Errors as values: what failed, doing what, with which errno, and why, printable in one line.
///
///     result<int> half(int n) {
///         if (n % 2) return fail(EINVAL, "number 7", "halve", "it is odd");
///         return n / 2;
///     }
///     if (auto r = half(7); !r) std::puts(r.error().line().c_str());   // number 7: halve: EINVAL: it is odd
///
/// Kernel: negative errno returns; here the errno keeps its object, act and reason.
#pragma once

#include <cerrno>
#include <expected>
#include <string>
#include <string_view>

namespace cohort {

/// A value type. `code` is a positive errno; `object` names the thing ("cpuset \"web\""), `act` what was tried
/// ("write cpuset.cpus \"0-3\""), `reason` what a person can act on. Empty parts are left out of the line.
struct error {
    int code = EINVAL;
    std::string object;
    std::string act;
    std::string reason;

    /// "object: act: ECODE: reason"
    std::string line() const;
    bool operator==(const error&) const = default;
};

template <class T>
using result = std::expected<T, error>;

/// Builds the error side of a result.
inline std::unexpected<error> fail(int code, std::string object, std::string act, std::string reason = {}) {
    return std::unexpected(error{code, std::move(object), std::move(act), std::move(reason)});
}

/// "EINVAL" for EINVAL; "E4242" for a number without a name.
std::string errno_name(int code);

/// The C library's sentence for an errno ("No space left on device"); thread-safe.
std::string errno_text(int code);

}  // namespace cohort
