// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/picture.hpp>

#include <algorithm>
#include <array>
#include <cinttypes>
#include <cstdio>

#include <nlohmann/json.hpp>

#include <cohort/base/xml.hpp>

namespace cohort::coresched {
namespace {

/// Okabe and Ito's colours; the first is for no cookie.
constexpr std::array palette{"#c9ced6", "#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#8c8c00"};

const char* colour(std::uint64_t tag) { return tag == 0 ? palette[0] : palette[1 + (tag - 1) % (palette.size() - 1)]; }

constexpr double width = 1000, left = 70, lane = 22, gap = 4, head = 30, foot = 26;

std::string number(double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.2f", v);
    return text;
}

std::string box(double x, double y, double w, const char* fill, const std::string& title) {
    return "<rect x=\"" + number(x) + "\" y=\"" + number(y) + "\" width=\"" + number(std::max(w, 0.3)) + "\" height=\"" + number(lane) + "\" fill=\"" + fill + "\"><title>" + xml_text(title) +
           "</title></rect>\n";
}

std::string label(double x, double y, const std::string& text, const char* anchor = "start") {
    return "<text x=\"" + number(x) + "\" y=\"" + number(y) + "\" text-anchor=\"" + anchor + "\">" + xml_text(text) + "</text>\n";
}

std::string milliseconds(std::uint64_t ns) { return number(static_cast<double>(ns) / 1e6) + " ms"; }

std::string block(const outcome& o, double top, std::uint64_t until) {
    const double scale = (width - left - 10) / static_cast<double>(until);
    std::string out = label(10, top + 18, "policy " + o.policy + ": " + number(o.throughput) + " CPUs' worth of work, " + milliseconds(o.forced_idle_ns) + " forced idle");
    const auto row = [&](int cpu) {
        const auto it = std::ranges::find(o.cpus, cpu, &cpu_result::cpu);
        return top + head + static_cast<double>(it - o.cpus.begin()) * (lane + gap);
    };
    for (const cpu_result& c : o.cpus) out += label(left - 8, row(c.cpu) + 15, "CPU " + std::to_string(c.cpu), "end");
    for (const segment& s : o.timeline) {
        if (s.from_ns >= until) continue;
        const double x = left + static_cast<double>(s.from_ns) * scale, w = static_cast<double>(std::min(s.to_ns, until) - s.from_ns) * scale;
        const std::string when = ", " + milliseconds(s.from_ns) + " to " + milliseconds(s.to_ns);
        out += s.forced_idle ? box(x, row(s.cpu), w, "url(#forced)", "forced idle" + when)
                             : box(x, row(s.cpu), w, colour(s.tag), o.tasks[s.task].name + (s.tag ? ", cookie " + std::to_string(s.tag) : "") + when);
    }
    const double below = top + head + static_cast<double>(o.cpus.size()) * (lane + gap) + 12;
    return out + label(left, below, "0") + label(width - 10, below, milliseconds(until), "end");
}

}  // namespace

std::string gantt_svg(const std::vector<outcome>& outcomes, std::uint64_t most_ns) {
    double height = 10;
    std::string body;
    for (const outcome& o : outcomes) {
        body += block(o, height, std::max<std::uint64_t>(1, std::min(o.duration_ns, most_ns)));
        height += head + static_cast<double>(o.cpus.size()) * (lane + gap) + foot;
    }
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + number(width) + "\" height=\"" + number(height) + "\" font-family=\"sans-serif\" font-size=\"12\">\n"
           "<defs><pattern id=\"forced\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
           "<rect width=\"6\" height=\"6\" fill=\"#ffffff\"/><line x1=\"0\" y1=\"0\" x2=\"0\" y2=\"6\" stroke=\"#b00020\" stroke-width=\"2\"/></pattern></defs>\n"
           "<rect width=\"100%\" height=\"100%\" fill=\"#ffffff\"/>\n" + body + "</svg>\n";
}

std::string perfetto_trace(const std::vector<outcome>& outcomes) {
    nlohmann::ordered_json events = nlohmann::ordered_json::array();
    for (std::size_t p = 0; p < outcomes.size(); ++p) {
        const outcome& o = outcomes[p];
        events.push_back({{"ph", "M"}, {"name", "process_name"}, {"pid", p}, {"args", {{"name", "policy " + o.policy}}}});
        for (const cpu_result& c : o.cpus) events.push_back({{"ph", "M"}, {"name", "thread_name"}, {"pid", p}, {"tid", c.cpu}, {"args", {{"name", "CPU " + std::to_string(c.cpu)}}}});
        for (const segment& s : o.timeline) {
            events.push_back({{"ph", "X"}, {"name", s.forced_idle ? "forced idle" : o.tasks[s.task].name}, {"cat", s.forced_idle ? "forced idle" : "cookie " + std::to_string(s.tag)},
                              {"pid", p}, {"tid", s.cpu}, {"ts", static_cast<double>(s.from_ns) / 1e3}, {"dur", static_cast<double>(s.to_ns - s.from_ns) / 1e3}});
        }
    }
    return nlohmann::ordered_json{{"displayTimeUnit", "ms"}, {"traceEvents", std::move(events)}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

}  // namespace cohort::coresched
