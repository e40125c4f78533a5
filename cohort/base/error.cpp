// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/error.hpp>

#include <cstring>

namespace cohort {

std::string error::line() const {
    std::string out;
    for (const std::string* part : {&object, &act}) {
        if (!part->empty()) out += *part + ": ";
    }
    out += errno_name(code);
    if (!reason.empty()) out += ": " + reason;
    return out;
}

std::string errno_name(int code) {
    if (const char* name = ::strerrorname_np(code)) return name;
    return "E" + std::to_string(code);
}

std::string errno_text(int code) {
    char buffer[128];
    return ::strerror_r(code, buffer, sizeof buffer);  // the GNU form: returns the text
}

}  // namespace cohort
