// SPDX-License-Identifier: Apache-2.0
/// Text as it stands in XML.
///
///     xml_text("a < b");                              // "a &lt; b"
///
/// Kernel: no counterpart.
#pragma once

#include <string>
#include <string_view>

namespace cohort {

/// For text and for attributes in double quotes. Control characters become blanks: they have no place in XML. Bytes above 127 go through (UTF-8).
inline std::string xml_text(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '&': out += "&amp;"; break;
            case '<': out += "&lt;"; break;
            case '>': out += "&gt;"; break;
            case '"': out += "&quot;"; break;
            default: out += static_cast<unsigned char>(c) < 32 ? ' ' : c;
        }
    }
    return out;
}

}  // namespace cohort
