// SPDX-License-Identifier: Apache-2.0
#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include <cohort/group/detail/examine.hpp>
#include <cohort/group/table.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group {
namespace detail {

bool at_least(const std::string& release, int major, int minor) {
    int a = 0, b = 0;
    const auto [dot, bad] = std::from_chars(release.data(), release.data() + release.size(), a);
    if (bad != std::errc() || dot == release.data() + release.size() || *dot != '.') return false;
    if (std::from_chars(dot + 1, release.data() + release.size(), b).ec != std::errc()) return false;
    return a > major || (a == major && b >= minor);
}

std::string chosen(const std::string& text) {
    const auto open = text.find('['), close = text.find(']');
    return open == std::string::npos || close < open ? text : text.substr(open + 1, close - open - 1);
}

std::string kernel_config(sys::os& os, const std::string& release, const std::string& name) {
    const auto text = sys::read_file(os, "/boot/config-" + release, std::size_t{4} << 20);
    if (!text) return {};
    if (text->find("# CONFIG_" + name + " is not set") != std::string::npos) return "n";
    const std::string key = "\nCONFIG_" + name + "=";
    const auto at = text->find(key);
    return at == std::string::npos ? "n" : text->substr(at + key.size(), text->find('\n', at + 1) - at - key.size());
}

}  // namespace detail

bool diagnosis::offers(const std::string& room) const {
    return std::none_of(findings.begin(), findings.end(), [&](const finding& f) { return f.room == room && f.needed && f.state == finding::form::missing; });
}

std::vector<std::string> diagnosis::rooms() const {
    std::vector<std::string> out;
    for (const finding& f : findings) {
        if (std::find(out.begin(), out.end(), f.room) == out.end()) out.push_back(f.room);
    }
    return out;
}

diagnosis examine(const sys::kernel_probe& kernel, sys::os& os) {
    diagnosis d{kernel.release, kernel.c_library, kernel.architecture, {}};
    detail::examine_work(os, d.findings);
    detail::examine_percpu(kernel, d.findings);
    detail::examine_cpuset(kernel, os, d.findings);
    detail::examine_coresched(kernel, os, d.findings);
    detail::examine_sharepool(kernel, os, d.findings);
    detail::examine_stream(kernel, os, d.findings);
    detail::examine_host(kernel, os, d.findings);
    return d;
}

std::string doctor_text(const diagnosis& d) {
    std::string out = fmt::format("Linux {} {}, {}\n", d.kernel, d.architecture, d.c_library);
    std::size_t width = 0;
    for (const finding& f : d.findings) width = std::max(width, text_width(f.name));
    for (const std::string& room : d.rooms()) {
        const bool is_host = room == "host";
        out += "\n" + room + (is_host ? "" : d.offers(room) ? ": ready" : ": only its fallback") + "\n";
        for (const finding& f : d.findings) {
            if (f.room != room) continue;
            static constexpr const char* marks[] = {"✓", "~", "✗"};
            std::string text = f.value;
            for (const std::string* more : {&f.reason, &f.instead}) {
                if (!more->empty()) text += (text.empty() ? "" : more == &f.instead && !f.reason.empty() ? "\n" + std::string(width + 6, ' ') + "→ " : "; ") + *more;
            }
            out += fmt::format("  {} {}{}  {}\n", marks[static_cast<int>(f.state)], f.name, std::string(width - text_width(f.name), ' '), text);
        }
    }
    out += "\n✓ there   ~ with limits   ✗ missing, with the reason and what is done instead\n";
    return out;
}

std::string doctor_json(const diagnosis& d) {
    nlohmann::json out{{"schema_version", 1}, {"kind", "doctor"}, {"kernel", d.kernel}, {"architecture", d.architecture}, {"c_library", d.c_library}};
    out["rooms"] = nlohmann::json::object();
    for (const std::string& room : d.rooms()) {
        if (room != "host") out["rooms"][room] = {{"ready", d.offers(room)}};
    }
    out["findings"] = nlohmann::json::array();
    for (const finding& f : d.findings) {
        static constexpr const char* names[] = {"there", "limited", "missing"};
        out["findings"].push_back({{"room", f.room}, {"name", f.name}, {"state", names[static_cast<int>(f.state)]}, {"value", f.value}, {"reason", f.reason},
                                   {"instead", f.instead}, {"source", f.source}, {"needed", f.needed}});
    }
    return out.dump(2, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace cohort::group
