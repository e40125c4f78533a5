// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/report_page.hpp>

#include <algorithm>
#include <cmath>

#include <fmt/format.h>

#include <cohort/base/xml.hpp>
#include <cohort/group/map.hpp>
#include <cohort/group/quantity.hpp>

namespace cohort::group {
namespace {

constexpr double chart_width = 920, left_margin = 150, right_margin = 16;

constexpr const char* style =
    ":root{color-scheme:light dark;--ink:#28323e;--soft:#6b7785;--line:#d9dee5;--card:#fff;--page:#f4f6f8;--good:#0a7d4f;--bad:#b3261e}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b1;--line:#39424e;--card:#1d232b;--page:#12161b;--good:#4cc38a;--bad:#ff8a80}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,'DejaVu Sans',sans-serif}"
    "main{max-width:1040px;margin:0 auto;padding:28px 20px}h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 12px}ul+h2{margin-top:22px}p{margin:4px 0 12px;color:var(--soft)}"
    "section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:16px 0;overflow-x:auto}"
    ".verdict{font-weight:700}.good{color:var(--good)}.bad{color:var(--bad)}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}"
    "th{font-weight:600;color:var(--soft);font-size:13px}td.num,th.num{text-align:right;font-variant-numeric:tabular-nums}.tag{display:inline-block;min-width:72px;font-size:12px;font-weight:600;color:var(--soft)}"
    ".map{background:#fcfcfd;border-radius:8px;display:inline-block}.map svg{max-width:100%;height:auto}svg text{font:12px system-ui,'DejaVu Sans',sans-serif}.chart text{fill:var(--ink)}.chart .a{fill:var(--soft);font-size:11px}"
    ".chart .g{stroke:var(--line)}ul{margin:0;padding-left:0;list-style:none}.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px}";

std::string color_of(const plan& p, std::string_view cohort) {
    const auto it = std::find_if(p.cohorts.begin(), p.cohorts.end(), [&](const cohort_plan& c) { return c.name == cohort; });
    return map_color(static_cast<std::size_t>(it - p.cohorts.begin()));
}

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

/// A time axis below `height`, and its lines.
struct time_axis {
    double span, height;
    double x(double seconds) const { return left_margin + (chart_width - left_margin - right_margin) * std::clamp(seconds / span, 0.0, 1.0); }
    std::string svg() const {
        std::string out;
        for (double t = 0, step = tick_of(span); t <= span * 1.0001; t += step) {
            out += fmt::format("<line class=\"g\" x1=\"{0:.1f}\" y1=\"0\" x2=\"{0:.1f}\" y2=\"{1:.0f}\"/><text class=\"a\" x=\"{0:.1f}\" y=\"{2:.0f}\" text-anchor=\"middle\">{3}</text>", x(t), height, height + 15,
                               t == 0 ? "0" : xml_text(human_seconds(t)));
        }
        return out;
    }
};

std::string chart(double height, const std::string& label, const std::string& inside) {
    return fmt::format("<svg class=\"chart\" viewBox=\"0 0 {0:.0f} {1:.0f}\" width=\"{0:.0f}\" height=\"{1:.0f}\" role=\"img\" aria-label=\"{2}\">{3}</svg>", chart_width, height + 22, xml_text(label), inside);
}

/// A row a job: when it waited, ran, was checked.
std::string timeline(const plan& p, const run_report& r) {
    constexpr double row = 26;
    const time_axis axis{.span = std::max(r.seconds, 1e-6), .height = row * static_cast<double>(r.jobs.size())};
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
    return chart(axis.height, "when each job waited, ran and was checked", out);
}

/// A curve for each job, in bytes a second: `value` of one sample after another.
template <class Value>
std::string curves(const plan& p, const run_report& r, const std::string& label, Value value) {
    constexpr double height = 150;
    struct curve {
        const job_report* job;
        std::vector<std::pair<double, double>> points;
    };
    std::vector<curve> all;
    double top = 0;
    for (std::size_t i = 0; i < r.jobs.size(); ++i) {
        curve c{&r.jobs[i], {}};
        for (std::size_t s = 0; s < r.samples.size(); ++s) {
            if (const std::optional<double> v = value(s, i)) c.points.emplace_back(r.samples[s].seconds, *v), top = std::max(top, *v);
        }
        if (c.points.size() > 1) all.push_back(std::move(c));
    }
    if (all.empty() || top <= 0) return {};
    const time_axis axis{.span = std::max(r.seconds, 1e-6), .height = height};
    const auto y_of = [&](double v) { return height - (height - 12) * v / top; };
    std::string out = axis.svg();
    for (double v = 0, step = byte_tick_of(top); v <= top * 1.0001; v += step) {
        out += fmt::format("<line class=\"g\" x1=\"{:.0f}\" y1=\"{:.1f}\" x2=\"{:.0f}\" y2=\"{:.1f}\"/><text class=\"a\" x=\"{:.0f}\" y=\"{:.1f}\" text-anchor=\"end\">{}</text>", left_margin, y_of(v), chart_width - right_margin, y_of(v),
                           left_margin - 10, y_of(v) + 4, human_bytes(v) + "/s");
    }
    for (const curve& c : all) {
        std::string line;
        for (const auto& [t, v] : c.points) line += fmt::format("{:.1f},{:.1f} ", axis.x(t), y_of(v));
        out += fmt::format("<polyline points=\"{}\" fill=\"none\" stroke=\"{}\" stroke-width=\"2\" stroke-linejoin=\"round\"><title>{}</title></polyline>", line, color_of(p, c.job->cohort), xml_text(c.job->name));
        out += fmt::format("<text class=\"a\" x=\"{:.1f}\" y=\"{:.1f}\">{}</text>", axis.x(c.points.back().first) + 3, y_of(c.points.back().second) - 3, xml_text(c.job->name));
    }
    return "<h2>" + xml_text(label) + "</h2>" + chart(height, label, out);
}

std::string over_time(const plan& p, const run_report& r) {
    const auto speed = [&](std::size_t s, std::size_t job) -> std::optional<double> {
        if (s == 0 || !r.jobs[job].pipe) return std::nullopt;
        const auto &before = r.samples[s - 1], &now = r.samples[s];
        const auto moved = [&](const run_sample& x) { return static_cast<double>(std::max(x.jobs[job].bytes_in, x.jobs[job].bytes_out)); };
        if (now.jobs[job].state != job_state::running && before.jobs[job].state != job_state::running) return std::nullopt;
        return now.seconds > before.seconds ? std::optional((moved(now) - moved(before)) / (now.seconds - before.seconds)) : std::nullopt;
    };
    return curves(p, r, "Speed of the pipes over time", speed);
}

std::string jobs_table(const plan& p, const run_report& r) {
    std::string out = "<table><tr><th>job</th><th>cohort</th><th>CPUs</th><th>result</th><th class=\"num\">time</th><th class=\"num\">read</th><th class=\"num\">written</th><th class=\"num\">speed</th><th class=\"num\">CPU time</th>"
                      "<th class=\"num\">in order</th><th>check says</th></tr>\n";
    for (const job_report& j : r.jobs) {
        const bool good = j.state == job_state::ok;
        const double work = j.work_bytes();
        out += fmt::format("<tr><td><span class=\"dot\" style=\"background:{}\"></span>{}</td><td>{}</td><td>{}</td><td class=\"{}\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td>"
                           "<td class=\"num\">{}</td><td class=\"num\">{}</td><td>{}</td></tr>\n",
                           color_of(p, j.cohort), xml_text(j.name), xml_text(j.cohort), xml_text(j.cpus.list()), good ? "good" : "bad", state_name(j.state), j.seconds > 0 ? human_seconds(j.seconds) : "",
                           j.bytes_in > 0 ? human_bytes(static_cast<double>(j.bytes_in)) : "", j.bytes_out > 0 ? human_bytes(static_cast<double>(j.bytes_out)) : "", work > 0 && j.seconds > 0 ? human_bytes(work / j.seconds) + "/s" : "",
                           j.cpu_known ? human_seconds(j.cpu_seconds) : "", j.blocks > 0 ? fmt::format("{} of {}", j.ordered, j.blocks) : "", !j.verified ? "" : *j.verified ? "yes" : "no");
        if (j.why) out += fmt::format("<tr><td></td><td colspan=\"10\" class=\"bad\">{}</td></tr>\n", xml_text(j.why->line()));
    }
    return out + "</table>";
}

std::string promises(const plan& p) {
    std::string out;
    for (const cohort_plan& c : p.cohorts) {
        out += fmt::format("<h2><span class=\"dot\" style=\"background:{}\"></span>{}</h2><p>{} (asked: {}); kept by {}{}</p><ul>", color_of(p, c.name), xml_text(c.name), cpus_text(c.cpus), xml_text(c.asked_text), xml_text(c.keep.text()),
                           c.cookie.name.empty() ? "" : xml_text("; cookie " + c.cookie.text()));
        for (const std::string& e : c.enforced) out += "<li><span class=\"tag\">enforced</span>" + xml_text(e) + "</li>";
        for (const std::string& a : c.advisory) out += "<li><span class=\"tag\">advisory</span>" + xml_text(a) + "</li>";
        for (const std::string& o : c.if_offline) out += "<li><span class=\"tag\">offline</span>" + xml_text(o) + "</li>";
        out += "</ul>\n";
    }
    return out;
}

std::string executor_part(const run_report& r) {
    if (!r.executor) return {};
    const auto& e = *r.executor;
    std::string out = fmt::format("<section><h2>Core scheduling without the kernel</h2><p>Blocks of unequal cookies ran <b>{} ns</b> on one core together; {} turns; a change took {} (median), {} (99 %).</p><table>"
                                  "<tr><th>CPU</th><th class=\"num\">busy</th><th class=\"num\">idle</th><th class=\"num\">forced idle</th></tr>",
                                  e.overlap_ns, e.turns, human_seconds(static_cast<double>(e.change_p50_ns) / 1e9), human_seconds(static_cast<double>(e.change_p99_ns) / 1e9));
    const auto time = [](std::uint64_t ns) { return human_seconds(static_cast<double>(ns) / 1e9); };
    for (const auto& c : e.cpus) out += fmt::format("<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>", c.number, time(c.figures.busy_ns), time(c.figures.idle_ns), time(c.figures.forced_idle_ns));
    out += "</table><table><tr><th>cohort</th><th class=\"num\">ran</th><th class=\"num\">others idle for it</th></tr>";
    for (const auto& t : e.tenants) out += fmt::format("<tr><td>{}</td><td class=\"num\">{}</td><td class=\"num\">{}</td></tr>", xml_text(t.name), time(t.figures.runtime_ns), time(t.figures.forced_idle_ns));
    return out + "</table></section>\n";
}

std::string section(const std::string& inside) { return inside.empty() ? "" : "<section>" + inside + "</section>\n"; }

}  // namespace

std::string report_page(const plan& p, const run_report& r, const std::string& about, const std::string& map) {
    const auto good = std::count_if(r.jobs.begin(), r.jobs.end(), [](const job_report& j) { return j.state == job_state::ok; });
    const auto checked = std::count_if(r.jobs.begin(), r.jobs.end(), [](const job_report& j) { return j.verified == true; });
    std::string out = fmt::format("<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width,initial-scale=1\"><title>cohort up {0}</title><style>{1}</style></head><body><main>\n"
                                  "<h1>cohort up {0}</h1><p><span class=\"verdict {2}\">{3} of {4} jobs ok</span>, {5} re-checked; {6} on machine {7}, {8} usable</p>\n",
                                  xml_text(p.file), style, r.ok() ? "good" : "bad", good, r.jobs.size(), checked, human_seconds(r.seconds), xml_text(p.machine.name), cpus_text(p.machine.usable));
    if (!about.empty()) out += "<p>" + xml_text(about) + "</p>\n";
    out += section("<h2>When</h2>" + timeline(p, r));
    out += section(over_time(p, r));
    out += section("<h2>Jobs</h2>" + jobs_table(p, r));
    if (!map.empty()) out += section("<h2>Where</h2><div class=\"map\">" + map + "</div>");
    out += executor_part(r);
    out += section(promises(p));
    std::string wrong;
    for (const auto* list : {&r.lost, &r.undo_errors}) {
        for (const error& e : *list) wrong += "<li class=\"bad\">" + xml_text(e.line()) + "</li>";
    }
    if (!wrong.empty()) out += section("<h2>What did not hold</h2><ul>" + wrong + "</ul>");
    return out + "</main></body></html>\n";
}

}  // namespace cohort::group
