// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::cli {

using group::job_report;
using group::job_state;

namespace {

constexpr std::size_t most_lines = 20;
constexpr int bar_width = 16;

std::string bar(double part) {
    const int full = std::clamp(static_cast<int>(part * bar_width), 0, bar_width);
    std::string out;
    for (int i = 0; i < bar_width; ++i) out += i < full ? "█" : "░";
    return out;
}

/// One job as one line of at most `width` columns.
std::string line_of(const job_report& j, double seconds, int width, int name_width) {
    const auto done = static_cast<double>(j.bytes_in);
    std::string text;
    if (j.state == job_state::running && j.bytes_total.value_or(0) > 0 && width >= 80) {
        const double part = done / static_cast<double>(*j.bytes_total);
        text = fmt::format("{} {:3.0f} %", bar(part), 100 * part);
    } else {
        text = state_name(j.state);
    }
    if (j.state == job_state::running && done > 0 && seconds > 0) {
        text += fmt::format("  {} → {}, {}/s", group::human_bytes(done), group::human_bytes(static_cast<double>(j.bytes_out)),
                            group::human_bytes(done / seconds));
    } else if (j.state == job_state::running && seconds >= 0.1) {
        text += "  " + group::human_seconds(seconds);
    } else if (group::ended(j.state) && j.seconds > 0) {
        text += " in " + group::human_seconds(j.seconds);
    }
    std::string line = fmt::format("  {:<{}}  {:<8}  {}", j.name, name_width, group::cpus_text(j.cpus), text);
    // A line that wraps would break the redrawing; what is cut is counted in characters, a bar's being three bytes each.
    std::size_t bytes = 0;
    for (int columns = 0; bytes < line.size(); ++bytes) {
        if ((static_cast<unsigned char>(line[bytes]) & 0xc0) != 0x80 && ++columns >= width) break;
    }
    return line.substr(0, bytes);
}

}  // namespace

progress::progress(sys::os& os, int fd) : os_(os), fd_(fd), terminal_(os.isatty(fd) && os.getenv("TERM").value_or("dumb") != "dumb") {}

void progress::write(const std::string& text) { (void)sys::write_all(os_, fd_, text); }

void progress::show(const std::vector<job_report>& jobs) { terminal_ ? draw(jobs) : tell(jobs); }

void progress::draw(const std::vector<job_report>& jobs) {
    const int width = std::max(os_.terminal_width(fd_).value_or(80), 40);
    std::size_t name_width = 0;
    for (const job_report& j : jobs) name_width = std::max(name_width, j.name.size());
    std::string out = drawn_ > 0 ? fmt::format("\x1b[{}A", drawn_) : "";
    int lines = 0;
    std::size_t hidden = 0;
    for (const job_report& j : jobs) {
        // Of many jobs those that run are the interesting ones.
        if (jobs.size() > most_lines && (j.state == job_state::waiting || group::ended(j.state) || lines >= static_cast<int>(most_lines))) {
            ++hidden;
            continue;
        }
        if (!group::ended(j.state) && j.state != job_state::waiting) since_.try_emplace(j.name, os_.now());
        const auto since = since_.find(j.name);
        const double seconds = since == since_.end() ? 0 : static_cast<double>(os_.now() - since->second) / 1e9;
        out += line_of(j, seconds, width, static_cast<int>(name_width)) + "\x1b[K\n";
        ++lines;
    }
    if (hidden > 0) {
        out += fmt::format("  and {} more\x1b[K\n", hidden);
        ++lines;
    }
    out += "\x1b[J";
    drawn_ = lines;
    write(out);
}

void progress::tell(const std::vector<job_report>& jobs) {
    std::string out;
    for (const job_report& j : jobs) {
        job_state& told = told_.try_emplace(j.name, job_state::waiting).first->second;
        if (told == j.state) continue;
        told = j.state;
        out += fmt::format("job \"{}\" {} on {}", j.name, state_name(j.state), group::cpus_text(j.cpus));
        if (group::ended(j.state) && j.seconds > 0) out += " in " + group::human_seconds(j.seconds);
        out += "\n";
    }
    if (!out.empty()) write(out);
}

void progress::clear() {
    if (drawn_ > 0) write(fmt::format("\x1b[{}A\x1b[J", drawn_));
    drawn_ = 0;
}

}  // namespace cohort::cli
