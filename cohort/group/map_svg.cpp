// SPDX-License-Identifier: Apache-2.0
// The picture of a machine. Boxes are laid out from the inside out: CPUs in a core, cores in rows as wide as the whole is about to be.
#include <cohort/group/map.hpp>

#include <algorithm>
#include <array>
#include <cmath>

#include <fmt/format.h>

#include <cohort/base/xml.hpp>

namespace cohort::group {
namespace {

using form = map_box::form;

/// Distinct in hue and in lightness, so that they differ in print and for colour-blind eyes (Okabe and Ito).
constexpr std::array palette{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#7a5195", "#8c8c00"};
constexpr const char* nobody = "#c9ced6";

struct style {
    const char* fill;
    const char* edge;
};
style style_of(form kind) {
    switch (kind) {
        case form::package: return {"#eef2f7", "#aab6c5"};
        case form::node: return {"#f8f4ea", "#d8c9a0"};
        case form::cache: return {"#ffffff", "#c4ccd6"};
        case form::core: return {"#f4f5f7", "#d4d9e0"};
        default: return {"#ffffff", "#ffffff"};
    }
}

/// Sizes in pixels; smaller on large machines, where a CPU's number gives way to its tooltip.
struct scale {
    double cpu_w, cpu_h, gap, pad, head;
    bool numbers, core_names;
};
scale scale_of(int cpus) {
    if (cpus <= 64) return {38, 30, 6, 10, 20, true, true};
    if (cpus <= 256) return {28, 20, 4, 7, 18, true, false};
    if (cpus <= 1024) return {13, 11, 2, 5, 16, false, false};
    return {7, 6, 1, 3, 14, false, false};
}

struct placed {
    const map_box* box = nullptr;
    double x = 0, y = 0, w = 0, h = 0;
    std::vector<placed> inside;
};

class layout {
public:
    explicit layout(const scale& s) : s_(s) {}

    placed place(const map_box& b) const {
        placed p;
        p.box = &b;
        if (b.kind == form::cpu) {
            p.w = s_.cpu_w;
            p.h = s_.cpu_h;
            return p;
        }
        for (const map_box& child : b.inside) p.inside.push_back(place(child));
        const double head = head_of(b), pad = b.kind == form::core ? s_.gap : s_.pad;
        flow(p, pad, pad + head, columns(p));
        p.w = std::max(p.w, head > 0 ? label_width(b) + 2 * pad : 0);
        return p;
    }
    double head_of(const map_box& b) const { return b.kind == form::core ? (s_.core_names ? 14 : 0) : b.kind == form::machine ? 0 : s_.head; }

private:
    static double label_width(const map_box& b) {
        const double size = b.kind == form::core ? 9 : 11;
        return 0.62 * size * static_cast<double>(b.label.size() + (b.kind == form::core || b.detail.empty() ? 0 : b.detail.size() + 2));
    }
    /// How many boxes go into a row so that the whole is about 1.6 times as wide as high; CPUs of a core stand side by side.
    std::size_t columns(const placed& p) const {
        const std::size_t n = p.inside.size();
        if (n == 0) return 1;
        if (p.box->kind == form::core) return std::min<std::size_t>(n, 8);
        const double each = p.inside[0].w / std::max(1.0, p.inside[0].h);
        const auto want = static_cast<std::size_t>(std::ceil(std::sqrt(static_cast<double>(n) * 1.6 / each)));
        // Rows of equal length look like a machine; ragged ones look like a mistake.
        for (std::size_t c = std::clamp<std::size_t>(want, 1, n); c <= std::min(n, 2 * want); ++c) {
            if (n % c == 0) return c;
        }
        return std::clamp<std::size_t>(want, 1, n);
    }
    void flow(placed& p, double pad, double top, std::size_t columns) const {
        double x = pad, y = top, row = 0;
        for (std::size_t i = 0; i < p.inside.size(); ++i) {
            if (i > 0 && i % columns == 0) {
                x = pad;
                y += row + s_.gap;
                row = 0;
            }
            placed& c = p.inside[i];
            c.x = x;
            c.y = y;
            x += c.w + s_.gap;
            row = std::max(row, c.h);
            p.w = std::max(p.w, x - s_.gap + pad);
        }
        p.h = y + row + pad;
    }
    const scale& s_;
};

class painter {
public:
    painter(const machine_map& m, const std::vector<map_group>& groups, const scale& s, const layout& l) : m_(m), groups_(groups), s_(s), layout_(l) {}

    void paint(const placed& p, double dx, double dy) {
        const map_box& b = *p.box;
        const double x = dx + p.x, y = dy + p.y;
        if (b.kind == form::cpu) return cpu(b, x, y);
        if (b.kind != form::machine) {
            const style st = style_of(b.kind);
            out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{}\" fill=\"{}\" stroke=\"{}\"><title>{}</title></rect>\n", x, y, p.w, p.h,
                               b.kind == form::core ? 4 : 7, st.fill, st.edge, xml_text(b.label + (b.detail.empty() ? "" : ": " + b.detail) + " (" + cpus_text(b.cpus) + ")"));
            if (layout_.head_of(b) > 0) label(b, x, y);
        }
        for (const placed& c : p.inside) paint(c, x, y);
    }
    std::string out;

private:
    void label(const map_box& b, double x, double y) {
        const bool core = b.kind == form::core;
        out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}", x + (core ? s_.gap : s_.pad), y + (core ? 12.5 : s_.head - 2), core ? "c" : "b", xml_text(b.label));
        if (!core && !b.detail.empty()) out += fmt::format("<tspan class=\"d\" dx=\"7\">{}</tspan>", xml_text(b.detail));
        out += "</text>\n";
    }
    void cpu(const map_box& b, double x, double y) {
        const int number = b.cpus.first();
        std::vector<std::size_t> mine;
        for (std::size_t i = 0; i < groups_.size(); ++i) {
            if (groups_[i].cpus.test(number)) mine.push_back(i);
        }
        const bool usable = m_.view.usable.test(number);
        std::string title = "CPU " + b.label;
        for (std::size_t i : mine) title += ", " + groups_[i].name;
        for (const unusable& u : m_.view.not_usable) {
            if (u.cpus.test(number)) title += ", " + u.reason;
        }
        const std::size_t stripes = std::max<std::size_t>(1, std::min<std::size_t>(mine.size(), 4));
        const double rx = s_.numbers ? 3 : 1;
        out += "<g><title>" + xml_text(title) + "</title>";
        for (std::size_t i = 0; i < stripes; ++i) {
            const std::string fill = !usable ? "url(#off)" : mine.empty() ? nobody : map_color(mine[i]);
            out += fmt::format("<rect x=\"{:.1f}\" y=\"{:.1f}\" width=\"{:.1f}\" height=\"{:.1f}\" rx=\"{}\" fill=\"{}\"/>", x, y + static_cast<double>(i) * s_.cpu_h / static_cast<double>(stripes), s_.cpu_w,
                               s_.cpu_h / static_cast<double>(stripes), stripes == 1 ? rx : 0, fill);
        }
        if (s_.numbers) {
            out += fmt::format("<text x=\"{:.1f}\" y=\"{:.1f}\" class=\"{}\">{}</text>", x + s_.cpu_w / 2, y + s_.cpu_h / 2 + 4, usable && !mine.empty() ? "n" : "n g", xml_text(b.label));
        }
        out += "</g>\n";
    }

    const machine_map& m_;
    const std::vector<map_group>& groups_;
    const scale& s_;
    const layout& layout_;
};

struct legend_row {
    std::string fill, text;
};

std::vector<legend_row> legend_of(const machine_map& m, const std::vector<map_group>& groups) {
    constexpr std::size_t most = 24;
    std::vector<legend_row> out;
    cpumask taken;
    for (std::size_t i = 0; i < groups.size(); ++i) {
        taken |= groups[i].cpus;
        if (i < most) out.push_back({map_color(i), groups[i].name + ": " + cpus_text(groups[i].cpus)});
        else if (i == most) out.push_back({"none", fmt::format("and {} more", groups.size() - most)});
    }
    if (const cpumask rest = m.view.usable - taken; !rest.empty()) out.push_back({nobody, "not taken: " + cpus_text(rest)});
    for (const unusable& u : m.view.not_usable) out.push_back({"url(#off)", cpus_text(u.cpus) + ": " + u.reason});
    for (const std::string& line : m.memory_only) out.push_back({"#f8f4ea", line});
    return out;
}

}  // namespace

const char* map_color(std::size_t i) { return palette[i % palette.size()]; }

std::string map_svg(const machine_map& m, const std::vector<map_group>& groups) {
    const scale s = scale_of(m.top.cpus.weight());
    const layout l(s);
    const placed top = l.place(m.top);
    const auto legend = legend_of(m, groups);
    std::size_t longest = 0;
    for (const legend_row& r : legend) longest = std::max(longest, r.text.size());
    const std::string title = fmt::format("machine {}", m.view.name), sub = fmt::format("{} CPUs, {} usable", m.top.cpus.weight(), m.view.usable.weight());
    constexpr double margin = 16, heading = 46, row = 22;
    const double legend_w = 30 + 6.9 * static_cast<double>(longest), head_w = 9.2 * static_cast<double>(std::max(title.size(), sub.size()));
    const double width = 2 * margin + std::max({top.w, legend_w, head_w, 260.0});
    const double height = heading + margin + top.h + 12 + row * static_cast<double>(legend.size()) + margin;

    std::string out = fmt::format("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{0:.0f}\" height=\"{1:.0f}\" viewBox=\"0 0 {0:.0f} {1:.0f}\" role=\"img\" aria-label=\"{2}\">\n",
                                  width, height, xml_text(title + ", " + sub));
    out += "<style>text{font-family:system-ui,'DejaVu Sans',sans-serif;fill:#28323e}.t{font-size:17px;font-weight:600}.s{font-size:12px;fill:#6b7785}"
           ".b{font-size:11px;font-weight:600}.d{font-weight:400;fill:#6b7785}.c{font-size:9px;fill:#6b7785}.n{font-size:11px;font-weight:600;fill:#fff;text-anchor:middle;paint-order:stroke;stroke:#28323e;stroke-opacity:.35;stroke-width:2px}"
           ".g{fill:#6b7785;stroke:none}.l{font-size:12px}</style>\n"
           "<defs><pattern id=\"off\" width=\"5\" height=\"5\" patternUnits=\"userSpaceOnUse\" patternTransform=\"rotate(45)\">"
           "<rect width=\"5\" height=\"5\" fill=\"#eceff2\"/><rect width=\"2\" height=\"5\" fill=\"#c3c9d1\"/></pattern></defs>\n";
    out += fmt::format("<rect width=\"{:.0f}\" height=\"{:.0f}\" fill=\"#fcfcfd\"/>\n", width, height);
    out += fmt::format("<text x=\"{}\" y=\"30\" class=\"t\">{}</text>\n<text x=\"{}\" y=\"49\" class=\"s\">{}</text>\n", margin, xml_text(title), margin, xml_text(sub));
    painter p(m, groups, s, l);
    p.paint(top, margin - s.pad, heading + margin - s.pad);
    out += p.out;
    double y = heading + margin + top.h - s.pad + 14;
    for (const legend_row& r : legend) {
        out += fmt::format("<rect x=\"{}\" y=\"{:.1f}\" width=\"16\" height=\"14\" rx=\"3\" fill=\"{}\"/><text x=\"{}\" y=\"{:.1f}\" class=\"l\">{}</text>\n", margin, y, r.fill, margin + 24, y + 11.5,
                           xml_text(r.text));
        y += row;
    }
    return out + "</svg>\n";
}

}  // namespace cohort::group
