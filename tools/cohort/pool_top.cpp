// SPDX-License-Identifier: Apache-2.0
// The groups that have most, again and again.
#include <algorithm>
#include <cstdio>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>
#include <cohort/group/table.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/signals.hpp>

#include "pool.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;
using sharepool::broker_client;
using sharepool::wire::totals_row;
using enum group::align;

struct top_options {
    pool_options pool;
    std::int64_t rounds = 0, interval_ms = 1'000, most = 20;
};

std::string size(std::uint64_t bytes) { return group::human_bytes(static_cast<double>(bytes)); }

struct round_of {
    totals_row totals;
    std::vector<group_view> groups;
};

/// The groups with most members; of those, the most memory first.
result<round_of> look(broker_client& broker, std::size_t most) {
    auto totals = broker.totals();
    if (!totals) return std::unexpected(totals.error());
    auto groups = broker.groups();
    if (!groups) return std::unexpected(groups.error());
    const std::size_t n = std::min(most, groups->size());
    std::partial_sort(groups->begin(), groups->begin() + static_cast<std::ptrdiff_t>(n), groups->end(), [](const auto& a, const auto& b) { return std::pair(b.members, a.id) < std::pair(a.members, b.id); });
    round_of r{*totals, {}};
    for (std::size_t i = 0; i < n; ++i) {
        auto v = view_of(broker, (*groups)[i].id);
        if (v) r.groups.push_back(std::move(*v));
        else if (v.error().code != ENODEV) return std::unexpected(v.error());
    }
    std::stable_sort(r.groups.begin(), r.groups.end(), [](const group_view& a, const group_view& b) { return a.used > b.used; });
    return r;
}

std::string text_of(const round_of& r, const round_of* before, double seconds) {
    const auto rate = [&](std::uint64_t totals_row::*f) { return before && seconds > 0 ? fmt::format(" ({:.0f}/s)", static_cast<double>(r.totals.*f - before->totals.*f) / seconds) : ""; };
    std::string text = fmt::format("{} groups, {} processes, {} memberships; {} joins{}, {} requests{}, {} deaths{}\n\n", r.totals.groups, r.totals.processes, r.totals.members, r.totals.joins, rate(&totals_row::joins),
                                   r.totals.requests, rate(&totals_row::requests), r.totals.deaths, rate(&totals_row::deaths));
    group::text_table table({"id", "name", "members", "allocated", "there", "size", "limit", "imports"}, {right, left, right, right, right, right, right, right});
    for (const group_view& v : r.groups) {
        table.row({std::to_string(v.row.id), sharepool::wire::text_of(v.row.name), std::to_string(v.row.members), v.readable ? size(v.used) : "-", v.readable ? size(v.resident) : "-", size(v.row.bytes),
                   v.row.limit ? size(v.row.limit) : "", v.row.imports ? std::to_string(v.row.imports) : ""});
    }
    return text + table.text("");
}

void print_data(const round_of& r) {
    ordered_json out{{"schema_version", 1}, {"ok", true}, {"joins", r.totals.joins}, {"requests", r.totals.requests}, {"deaths", r.totals.deaths}, {"groups", ordered_json::array()}};
    for (const group_view& v : r.groups) {
        ordered_json g = group_json(v.row);
        if (v.readable) g["allocated"] = v.used, g["resident"] = v.resident;
        out["groups"].push_back(std::move(g));
    }
    print(out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n");
}

outcome top(const top_options& o) {
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        sys::os& os = sys::real();
        auto caught = sys::signal_catcher::create();
        if (!caught) return std::unexpected(caught.error());
        const bool screen = os.isatty(1) && !o.pool.json;
        const std::int64_t rounds = o.rounds != 0 ? o.rounds : screen ? -1 : 1;
        std::optional<round_of> before;
        std::uint64_t before_at = 0;
        for (std::int64_t i = 0; i != rounds; ++i) {
            if (i > 0) {
                sys::poll_item wait{.fd = caught->fd(), .want_read = true};
                if (auto w = os.poll({&wait, 1}, static_cast<std::uint64_t>(o.interval_ms) * 1'000'000); !w) return std::unexpected(w.error());
            }
            if (caught->signal() != 0) break;
            auto now = look(broker, static_cast<std::size_t>(o.most));
            if (!now) return std::unexpected(now.error());
            const std::uint64_t at = os.now();
            if (o.pool.json) print_data(*now);
            else print((screen ? "\x1b[H\x1b[J" : i > 0 ? "\n" : "") + text_of(*now, before ? &*before : nullptr, static_cast<double>(at - before_at) / 1e9));
            std::fflush(stdout);
            before = std::move(*now), before_at = at;
        }
        return exit_code::ok;
    });
}

}  // namespace

void add_pool_top(registry& all) {
    auto o = std::make_shared<top_options>();
    pool_command(all, "top", "Watch the groups that have most", o->pool)
        .number("--rounds", o->rounds, 1, 1'000'000'000, "how often it looks; default: on a terminal until Ctrl-C, else once")
        .number("--interval", o->interval_ms, 10, 3'600'000, "milliseconds between looks (1000)")
        .number("--most", o->most, 1, 1'000, "groups to show (20)")
        .notes("--json: a line for each look.")
        .run([o] { return top(*o); });
}

}  // namespace cohort::cli
