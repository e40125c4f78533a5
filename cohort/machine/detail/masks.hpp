// SPDX-License-Identifier: Apache-2.0
/// Files that hold a mask in list form.
#pragma once

#include <cohort/base/cpumask.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::machine::detail {

/// Errors: those of reading; EINVAL, ERANGE of the content, with the path as the object.
template <class Mask>
result<Mask> read_mask(sys::os& os, const std::string& path) {
    const auto text = sys::read_line(os, path);
    if (!text) return std::unexpected(text.error());
    auto mask = Mask::parse_list(*text);
    if (!mask) return fail(mask.error().code, path, "parse \"" + text->substr(0, 60) + "\"", mask.error().reason);
    return *mask;
}

}  // namespace cohort::machine::detail
