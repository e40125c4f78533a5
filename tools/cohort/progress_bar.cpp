// SPDX-License-Identifier: Apache-2.0
#include "progress_bar.hpp"

#include <algorithm>
#include <cstdio>

#include <cohort/group/quantity.hpp>

namespace cohort::cli {

void progress_bar::show(std::uint64_t done, std::optional<std::uint64_t> total) {
    const double seconds = static_cast<double>(os_.now() - began_) / 1e9;
    const double rate = seconds > 0 ? static_cast<double>(done) / seconds : 0;
    std::string line = title_ + " ";
    std::string tail = "  " + group::human_bytes(static_cast<double>(done)) + "  " + group::human_bytes(rate) + "/s";
    const auto width = static_cast<std::size_t>(os_.terminal_width(2).value_or(80));
    if (total && *total) {
        const double part = std::min(1.0, static_cast<double>(done) / static_cast<double>(*total));
        char percent[16];
        std::snprintf(percent, sizeof percent, " %3.0f %%", part * 100);
        tail = percent + tail;
        if (rate > 0 && part < 1) tail += "  " + group::human_seconds(static_cast<double>(*total - done) / rate) + " left";
        const std::size_t used = line.size() + tail.size() + 4;
        if (width > used + 10) {
            const std::size_t room = std::min<std::size_t>(width - used, 40);
            const auto full = static_cast<std::size_t>(part * static_cast<double>(room));
            line += "[" + std::string(full, '#') + std::string(room - full, '.') + "]";
        }
    }
    line += tail;
    if (line.size() >= width) line.resize(width ? width - 1 : 0);
    std::scoped_lock hold(lock_);
    shown_ = true;
    std::fputs(("\r\033[K" + line).c_str(), stderr);
    std::fflush(stderr);
}

void progress_bar::clear() {
    std::scoped_lock hold(lock_);
    if (shown_) std::fputs("\r\033[K", stderr);
    shown_ = false;
}

}  // namespace cohort::cli
