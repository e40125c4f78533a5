// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/report_page.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/base/xml.hpp>
#include <cohort/group/detail/report_charts.hpp>
#include <cohort/group/quantity.hpp>

namespace cohort::group {
namespace {

using detail::color_of;

constexpr const char* style =
    ":root{color-scheme:light dark;--ink:#28323e;--soft:#5b6673;--line:#d9dee5;--card:#fff;--page:#f4f6f8;--good:#0a7d4f;--bad:#b3261e}"
    "@media(prefers-color-scheme:dark){:root{--ink:#e4e8ee;--soft:#9aa5b1;--line:#39424e;--card:#1d232b;--page:#12161b;--good:#4cc38a;--bad:#ff8a80}}"
    "*{box-sizing:border-box}body{margin:0;background:var(--page);color:var(--ink);font:15px/1.5 system-ui,'DejaVu Sans',sans-serif}"
    "main{max-width:1040px;margin:0 auto;padding:28px 20px}h1{font-size:26px;margin:0 0 4px}h2{font-size:17px;margin:0 0 12px}ul+h2,svg+h2,p+h2{margin-top:22px}p{margin:4px 0 12px;color:var(--soft)}"
    "section{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:18px 20px;margin:16px 0;overflow-x:auto}"
    ".verdict{font-weight:700}.good{color:var(--good)}.bad{color:var(--bad)}table{border-collapse:collapse;width:100%}th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}"
    "th{font-weight:600;color:var(--soft);font-size:13px}table.jobs{font-size:14px}table.jobs td,table.jobs th{white-space:nowrap}table.jobs td.why{white-space:normal}td.num,th.num{text-align:right;font-variant-numeric:tabular-nums}.said li{display:grid;grid-template-columns:84px 1fr}.tag{line-height:24px;font-size:12px;font-weight:600;color:var(--soft)}"
    ".map{background:#fcfcfd;border-radius:8px;display:inline-block}.map svg{max-width:100%;height:auto}svg text{font:12px system-ui,'DejaVu Sans',sans-serif}.chart{display:block;width:100%;min-width:680px;height:auto}.chart text{fill:var(--ink)}.chart .a{fill:var(--soft);font-size:11px}"
    ".chart .g{stroke:var(--line)}ul{margin:0;padding-left:0;list-style:none}.dot{display:inline-block;width:11px;height:11px;border-radius:3px;margin-right:7px}";

struct cell {
    std::string html;
    const char* style = "";
};

/// A column that is empty in every row is left out.
std::string jobs_table(const plan& p, const run_report& r) {
    struct column {
        const char* head;
        bool number;
    };
    static constexpr column columns[] = {{"job", false}, {"cohort", false}, {"CPUs", false}, {"result", false}, {"time", true}, {"read", true}, {"written", true}, {"speed", true},
                                         {"CPU time", true}, {"outside its CPUs", true}, {"remote memory", true}, {"in order", true}, {"check says", false}};
    std::vector<std::vector<cell>> rows;
    for (const job_report& j : r.jobs) {
        const auto bytes = [](std::uint64_t n) { return n > 0 ? human_bytes(static_cast<double>(n)) : ""; };
        const double work = j.work_bytes();
        rows.push_back({{fmt::format("<span class=\"dot\" style=\"background:{}\"></span>{}", color_of(p, j.cohort), xml_text(j.name))},
                        {xml_text(j.cohort)},
                        {xml_text(j.cpus.list())},
                        {state_name(j.state), j.state == job_state::ok ? "good" : "bad"},
                        {j.seconds > 0 ? human_seconds(j.seconds) : ""},
                        {bytes(j.bytes_in)},
                        {bytes(j.bytes_out)},
                        {work > 0 && j.seconds > 0 ? human_bytes(work / j.seconds) + "/s" : ""},
                        {j.cpu_known ? human_seconds(j.cpu_seconds) : ""},
                        {outside_text(j)},
                        {j.remote_peak ? human_bytes(static_cast<double>(*j.remote_peak)) : ""},
                        {j.blocks > 0 ? fmt::format("{} of {}", j.ordered, j.blocks) : ""},
                        {!j.verified ? "" : *j.verified ? "yes" : "no"}});
    }
    std::vector<std::size_t> shown;
    for (std::size_t c = 0; c < std::size(columns); ++c) {
        if (std::ranges::any_of(rows, [&](const auto& row) { return !row[c].html.empty(); })) shown.push_back(c);
    }
    std::string out = "<table class=\"jobs\"><tr>";
    for (const std::size_t c : shown) out += fmt::format("<th{}>{}</th>", columns[c].number ? " class=\"num\"" : "", columns[c].head);
    out += "</tr>\n";
    for (std::size_t i = 0; i < rows.size(); ++i) {
        out += "<tr>";
        for (const std::size_t c : shown) out += fmt::format("<td class=\"{}{}\">{}</td>", columns[c].number ? "num " : "", rows[i][c].style, rows[i][c].html);
        out += "</tr>\n";
        if (r.jobs[i].why) out += fmt::format("<tr><td></td><td colspan=\"{}\" class=\"bad why\">{}</td></tr>\n", shown.size() - 1, xml_text(r.jobs[i].why->line()));
    }
    return out + "</table>";
}

std::string promises(const plan& p) {
    std::string out;
    for (const cohort_plan& c : p.cohorts) {
        out += fmt::format("<h2><span class=\"dot\" style=\"background:{}\"></span>{}</h2><p>{} (asked: {}); kept by {}{}</p><ul class=\"said\">", color_of(p, c.name), xml_text(c.name), cpus_text(c.cpus), xml_text(c.asked_text), xml_text(c.keep.text()),
                           c.cookie.name.empty() ? "" : xml_text("; cookie " + c.cookie.text()));
        for (const std::string& e : c.enforced) out += "<li><span class=\"tag\">enforced</span><span>" + xml_text(e) + "</span></li>";
        for (const std::string& a : c.advisory) out += "<li><span class=\"tag\">advisory</span><span>" + xml_text(a) + "</span></li>";
        for (const std::string& o : c.if_offline) out += "<li><span class=\"tag\">offline</span><span>" + xml_text(o) + "</span></li>";
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
    out += section("<h2>When</h2>" + detail::timeline(p, r));
    out += section(detail::over_time(p, r));
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
