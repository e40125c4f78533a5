// SPDX-License-Identifier: Apache-2.0
// The groups that have most, again and again.
#include <algorithm>
#include <memory>
#include <optional>
#include <utility>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>
#include <cohort/group/table.hpp>
#include <cohort/sys/os.hpp>

#include "looks.hpp"
#include "pool.hpp"

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

std::string data_of(const round_of& r) {
    ordered_json out{{"schema_version", 1}, {"ok", true}, {"joins", r.totals.joins}, {"requests", r.totals.requests}, {"deaths", r.totals.deaths}, {"groups", ordered_json::array()}};
    for (const group_view& v : r.groups) {
        ordered_json g = group_json(v.row);
        if (v.readable) g["allocated"] = v.used, g["resident"] = v.resident;
        out["groups"].push_back(std::move(g));
    }
    return out.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace) + "\n";
}

outcome top(const top_options& o) {
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        std::optional<round_of> before;
        std::uint64_t before_at = 0;
        return look_again({o.rounds, o.interval_ms, o.pool.json}, [&](std::int64_t) -> result<std::string> {
            auto now = look(broker, static_cast<std::size_t>(o.most));
            if (!now) return std::unexpected(now.error());
            const std::uint64_t at = sys::real().now();
            std::string text = o.pool.json ? data_of(*now) : text_of(*now, before ? &*before : nullptr, static_cast<double>(at - before_at) / 1e9);
            before = std::move(*now), before_at = at;
            return text;
        });
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
