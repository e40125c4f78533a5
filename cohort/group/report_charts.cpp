// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/report_charts.hpp>

#include <algorithm>
#include <cmath>
#include <map>

#include <fmt/format.h>

#include <cohort/base/xml.hpp>
#include <cohort/group/map.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/table.hpp>

namespace cohort::group::detail {
namespace {

constexpr double chart_width = 920, left_margin = 150, right_margin = 16, legend_row = 20;
constexpr std::size_t most_curves = 12;
/// Jobs tell what they have moved about ten times a second, and are sampled as often: between two samples there may be none of it, or twice as much.
constexpr double speed_window = 0.3;

/// 1, 2 or 5 times a power of ten: about five of them make `span`.
double tick_of(double span) {
    const double rough = std::max(span, 1e-9) / 5, power = std::pow(10.0, std::floor(std::log10(rough)));
    for (const double m : {1.0, 2.0, 5.0}) {
        if (rough <= m * power) return m * power;
    }
    return 10 * power;
}

/// The same for bytes: of KiB, MiB, GiB.
double byte_tick_of(double span) {
    double unit = 1;
    while (span / unit >= 1024) unit *= 1024;
    return tick_of(span / unit) * unit;
}

/// A time axis from `top` to `bottom`, and its lines.
struct time_axis {
    double span, top, bottom;
    double x(double seconds) const { return left_margin + (chart_width - left_margin - right_margin) * std::clamp(seconds / span, 0.0, 1.0); }
    std::string svg() const {
        std::string out;
        for (double t = 0, step = tick_of(span); t <= span * 1.0001; t += step) {
            out += fmt::format("<line class=\"g\" x1=\"{0:.1f}\" y1=\"{1:.0f}\" x2=\"{0:.1f}\" y2=\"{2:.0f}\"/><text class=\"a\" x=\"{0:.1f}\" y=\"{3:.0f}\" text-anchor=\"middle\">{4}</text>", x(t), top, bottom, bottom + 15,
                               t == 0 ? "0" : xml_text(human_seconds(t)));
        }
        return out;
    }
};

std::string chart(double height, const std::string& label, const std::string& inside) {
    return fmt::format("<svg class=\"chart\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-label=\"{2}\">{3}</svg>", chart_width, height + 22, xml_text(label), inside);
}

struct curve {
    std::string name, color;
    std::vector<std::pair<double, double>> points = {};  // seconds, value
    double top() const {
        double out = 0;
        for (const auto& [t, v] : points) out = std::max(out, v);
        return out;
    }
};

enum class unit { speed, bytes, count };
std::string value_text(unit u, double v) { return u == unit::count ? fmt::format("{:.0f}", v) : human_bytes(v) + (u == unit::speed ? "/s" : ""); }

/// Curves of one colour are told apart by their dashes.
const char* dash_of(std::size_t nth) {
    static constexpr const char* dashes[] = {"", "7 4", "2 3", "10 3 2 3"};
    return dashes[nth % std::size(dashes)];
}

/// What each line is, above the picture; its height.
double legend(const std::vector<curve>& all, const std::vector<std::string>& dashes, std::string& out) {
    double x = left_margin, y = 0;
    for (std::size_t i = 0; i < all.size(); ++i) {
        const double width = 34 + 7.2 * static_cast<double>(text_width(all[i].name));
        if (x > left_margin && x + width > chart_width) x = left_margin, y += legend_row;
        out += fmt::format("<line x1=\"{:.1f}\" y1=\"{:.1f}\" x2=\"{:.1f}\" y2=\"{:.1f}\" stroke=\"{}\" stroke-width=\"2.5\" stroke-dasharray=\"{}\"/><text class=\"a\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", x, y + 8, x + 20, y + 8,
                           all[i].color, dashes[i], x + 26, y + 12, xml_text(all[i].name));
        x += width;
    }
    return y + legend_row + 6;
}

std::string curves(const run_report& r, const std::string& label, unit u, std::vector<curve> all) {
    std::erase_if(all, [](const curve& c) { return c.points.size() < 2; });
    std::ranges::sort(all, [](const curve& a, const curve& b) { return a.top() != b.top() ? a.top() > b.top() : a.name < b.name; });
    const std::size_t left_out = all.size() > most_curves ? all.size() - most_curves : 0;
    all.resize(all.size() - left_out);
    const double top = all.empty() ? 0 : all.front().top();
    if (top <= 0) return {};
    std::map<std::string, std::size_t> of_color;
    std::vector<std::string> dashes;
    for (const curve& c : all) dashes.push_back(dash_of(of_color[c.color]++));
    std::string out;
    const double from = legend(all, dashes, out), to = from + 140;
    const time_axis axis{.span = std::max(r.seconds, 1e-6), .top = from, .bottom = to};
    const auto y_of = [&](double v) { return to - (to - from - 4) * v / top; };
    out += axis.svg();
    for (double v = 0, step = u == unit::count ? std::max(1.0, tick_of(top)) : byte_tick_of(top); v <= top * 1.0001; v += step) {
        out += fmt::format("<line class=\"g\" x1=\"{:.0f}\" y1=\"{:.1f}\" x2=\"{:.0f}\" y2=\"{:.1f}\"/><text class=\"a\" x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", left_margin, y_of(v), chart_width - right_margin, y_of(v),
                           left_margin - 10, y_of(v) + 4, value_text(u, v));
    }
    for (std::size_t i = 0; i < all.size(); ++i) {
        std::string line;
        for (const auto& [t, v] : all[i].points) line += fmt::format("{:.1f},{:.1f} ", axis.x(t), y_of(v));
        out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\" stroke-dasharray=\"{}\"><title>{}</title></polyline>", line, all[i].color, dashes[i],
                           xml_text(fmt::format("{}, at most {}", all[i].name, value_text(u, all[i].top()))));
    }
    return "<h2>" + xml_text(label) + "</h2>" + chart(to, label, out) + (left_out > 0 ? fmt::format("<p>{} more are lower and not drawn.</p>", left_out) : "");
}

std::string speeds(const plan& p, const run_report& r) {
    std::vector<curve> all;
    for (std::size_t j = 0; j < r.jobs.size(); ++j) {
        if (!r.jobs[j].pipe) continue;
        curve& c = all.emplace_back(r.jobs[j].name, color_of(p, r.jobs[j].cohort));
        std::size_t from = 0;
        for (std::size_t s = 1; s < r.samples.size(); ++s) {
            const auto moved = [&](const run_sample& x) { return static_cast<double>(std::max(x.jobs[j].bytes_in, x.jobs[j].bytes_out)); };
            const run_sample& now = r.samples[s];
            const bool runs = now.jobs[j].state == job_state::running;
            if (!runs && r.samples[s - 1].jobs[j].state != job_state::running) {
                from = s;
                continue;
            }
            while (from + 1 < s && now.seconds - r.samples[from + 1].seconds >= speed_window) ++from;
            const double seconds = now.seconds - r.samples[from].seconds;
            if (seconds > 0) c.points.emplace_back(now.seconds, (moved(now) - moved(r.samples[from])) / seconds);
        }
    }
    return curves(r, "Speed over time", unit::speed, std::move(all));
}

std::string queues(const plan& p, const run_report& r, bool flows) {
    std::vector<curve> all;
    for (std::size_t j = 0; j < r.jobs.size(); ++j) {
        const std::vector<const char*> names = queue_names(r.jobs[j]);
        if (names.empty() || r.jobs[j].flow.has_value() != flows) continue;
        for (std::size_t q = 0; q < names.size(); ++q) {
            curve& c = all.emplace_back(r.jobs[j].name + (flows ? std::string(", ") + names[q] : ""), color_of(p, r.jobs[j].cohort));
            for (const run_sample& s : r.samples) {
                if (q < s.jobs[j].queues.size()) c.points.emplace_back(s.seconds, static_cast<double>(s.jobs[j].queues[q]));
            }
        }
    }
    return curves(r, flows ? "Records under way in flows" : "Blocks in flight in pipes", unit::count, std::move(all));
}

std::string pools(const plan& p, const run_report& r) {
    std::vector<curve> all;
    for (std::size_t i = 0; i < r.pools.size(); ++i) {
        curve& c = all.emplace_back(r.pools[i].cohort, color_of(p, r.pools[i].cohort));
        for (const run_sample& s : r.samples) {
            if (const auto it = s.pools.find(c.name); it != s.pools.end()) c.points.emplace_back(s.seconds, static_cast<double>(it->second));
        }
    }
    return curves(r, "Memory of pools", unit::bytes, std::move(all));
}

}  // namespace

std::string color_of(const plan& p, std::string_view cohort) {
    const auto it = std::find_if(p.cohorts.begin(), p.cohorts.end(), [&](const cohort_plan& c) { return c.name == cohort; });
    return map_color(static_cast<std::size_t>(it - p.cohorts.begin()));
}

std::string timeline(const plan& p, const run_report& r) {
    constexpr double row = 26;
    const time_axis axis{.span = std::max(r.seconds, 1e-6), .top = 0, .bottom = row * static_cast<double>(r.jobs.size())};
    std::string out = "<defs><pattern id=\"w\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\"><rect width=\"2\" height=\"6\" fill=\"#9aa5b1\" fill-opacity=\".5\"/></pattern></defs>" + axis.svg();
    const auto bar = [&](double from, double to, double y, const std::string& fill, double opacity, const std::string& title) {
        if (to <= from) return;
        out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{}\" rx=\"3\" fill=\"{}\" fill-opacity=\"{}\"><title>{}</title></rect>", axis.x(from), y + 4, std::max(1.0, axis.x(to) - axis.x(from)), row - 8, fill,
                           opacity, xml_text(title));
    };
    for (std::size_t i = 0; i < r.jobs.size(); ++i) {
        const job_report& j = r.jobs[i];
        const double y = row * static_cast<double>(i), ran = j.started + j.seconds;
        out += fmt::format("<text x=\"{}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", left_margin - 10, y + row / 2 + 4, xml_text(j.name));
        const bool started = j.seconds > 0 || j.state == job_state::ok;
        bar(0, started ? j.started : r.seconds, y, "url(#w)", 1, j.name + (started ? " waits for " + human_seconds(j.started) : " does not run"));
        if (!started) continue;
        const std::string color = color_of(p, j.cohort);
        bar(j.started, ran, y, color, 1, fmt::format("{} runs for {} on {}", j.name, human_seconds(j.seconds), cpus_text(j.cpus)));
        bar(ran, ran + j.verify_seconds, y, color, 0.4, fmt::format("{} is checked for {}", j.name, human_seconds(j.verify_seconds)));
    }
    return chart(axis.bottom, "when each job waited, ran and was checked", out);
}

std::string over_time(const plan& p, const run_report& r) { return speeds(p, r) + queues(p, r, false) + queues(p, r, true) + pools(p, r); }

}  // namespace cohort::group::detail
