// SPDX-License-Identifier: Apache-2.0
// What the share pool has: groups, areas, processes; columns as in openEuler's /proc/sharepool.
#include <algorithm>
#include <map>
#include <memory>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>
#include <cohort/group/table.hpp>

#include "pool.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using group::text_table;
using nlohmann::ordered_json;
using sharepool::broker_client;
using enum group::align;

std::string kib(std::uint64_t bytes) { return std::to_string(bytes / 1024); }
std::string size(std::uint64_t bytes) { return group::human_bytes(static_cast<double>(bytes)); }

struct ls_options {
    pool_options pool;
    bool all = false;
};

outcome ls(const ls_options& o) {
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        auto groups = broker.groups();
        if (!groups) return std::unexpected(groups.error());
        if (!o.all) std::erase_if(*groups, [](const auto& g) { return g.local != 0; });
        if (o.pool.json) {
            ordered_json out{{"schema_version", 1}, {"ok", true}, {"groups", ordered_json::array()}};
            for (const auto& g : *groups) out["groups"].push_back(group_json(g));
            print_json(out);
            return exit_code::ok;
        }
        text_table table({"id", "name", "owner", "mode", "members", "imports", "size", "limit", "addresses", "state"}, {right, left, left, left, right, right, right, right, left, left});
        for (const auto& g : *groups) {
            table.row({std::to_string(g.id), sharepool::wire::text_of(g.name), fmt::format("{}:{}", g.owner_uid, g.owner_gid), octal(g.mode), std::to_string(g.members), g.imports ? std::to_string(g.imports) : "",
                       size(g.bytes), g.limit ? size(g.limit) : "", hex(g.base), g.dead ? "dead" : g.local ? "local" : g.members == 0 ? "no members" : "live"});
        }
        print(table.text(""));
        return exit_code::ok;
    });
}

/// spa_stat: what is mapped at which addresses of a group.
void spa_rows(const group_view& v, text_table& table) {
    const std::string id = v.row.dead ? "Dead" : std::to_string(v.row.id);
    for (const auto& a : v.areas) table.row({id, hex(a.at), hex(a.at + a.bytes), kib(a.bytes), "ALLOC", v.huge ? "Y" : "N", a.pid ? std::to_string(a.pid) : "-", std::to_string(v.row.members)});
    for (const auto& i : v.imports) {
        table.row({id, hex(i.at), hex(i.at + i.bytes), kib(i.bytes), i.to_process ? "TASK" : "SPG", "N", std::to_string(i.pid), i.to_process ? "1" : std::to_string(v.row.members)});
    }
}

/// A process in a group, in KiB. What it has of the group is mapped as shared memory, and counted there as far as it has touched it.
struct process_row {
    int pid = 0, id = 0;
    bool reads_only = false, known = true;
    std::uint64_t alloc = 0, k2u = 0, sp_res = 0;
    process_memory m;
    std::uint64_t non_sp_res() const { return m.res - std::min(m.res, std::min(sp_res, m.shm)); }
    std::uint64_t non_sp_shm() const { return m.shm - std::min(m.shm, sp_res); }
    std::string pool(std::uint64_t n) const { return known ? std::to_string(n) : "-"; }
};

process_row row_of(const group_view& v, const sharepool::wire::member_row& m) {
    return {.pid = m.pid, .id = v.row.id, .reads_only = m.reads_only != 0, .known = v.readable, .alloc = v.owned(m.pid) / 1024, .k2u = v.imported(m.pid) / 1024, .sp_res = v.resident / 1024, .m = memory_of_process(m.pid)};
}

ordered_json process_json(const process_row& r) {
    ordered_json j{{"pid", r.pid}, {"comm", r.m.name}};
    if (r.known) j.update({{"sp_alloc_kib", r.alloc}, {"sp_k2u_kib", r.k2u}, {"sp_res_kib", r.sp_res}});
    j.update({{"non_sp_res_kib", r.non_sp_res()}, {"non_sp_shm_kib", r.non_sp_shm()}, {"virt_kib", r.m.virt}, {"res_kib", r.m.res}, {"shm_kib", r.m.shm}});
    return j;
}

void group_text(const group_view& v) {
    const auto& g = v.row;
    const std::string name = sharepool::wire::text_of(g.name);
    std::string text = fmt::format("group {}{}{}: {} at {}, mode {}, owner {}:{}, {} member{}{}\n", g.id, name.empty() ? "" : " \"" + name + "\"", g.dead ? " (dead)" : "", size(g.bytes), hex(g.base), octal(g.mode), g.owner_uid,
                                   g.owner_gid, g.members, g.members == 1 ? "" : "s", g.limit ? ", limit " + size(g.limit) : "");
    text += v.readable ? fmt::format("memory: {} allocated, {} of it for small objects; {} there\n", size(v.used), size(v.small), size(v.resident)) : "memory: unknown: " + v.why_not + "\n";
    text_table spa({"Group ID", "va_start", "va_end", "Size(KB)", "Type", "Huge", "PID", "Ref"}, {right, left, left, right, left, left, right, right});
    spa_rows(v, spa);
    if (!v.areas.empty() || !v.imports.empty()) text += "\n" + spa.text("");
    text_table proc({"PID", "Group_ID", "SP_ALLOC", "SP_K2U", "SP_RES", "Non-SP_RES", "Non-SP_Shm", "VIRT", "RES", "Shm", "PROT"}, {right, right, right, right, right, right, right, right, right, right, left});
    for (const auto& m : v.members) {
        const process_row r = row_of(v, m);
        const auto n = [](std::uint64_t k) { return std::to_string(k); };
        proc.row({n(static_cast<std::uint64_t>(r.pid)), n(static_cast<std::uint64_t>(r.id)), r.pool(r.alloc), r.pool(r.k2u), r.pool(r.sp_res), n(r.non_sp_res()), n(r.non_sp_shm()), n(r.m.virt), n(r.m.res), n(r.m.shm),
                  r.reads_only ? "R" : "RW"});
    }
    if (!v.members.empty()) text += "\n" + proc.text("");
    print(text);
}

void group_data(const group_view& v) {
    ordered_json out{{"schema_version", 1}, {"ok", true}, {"group", group_json(v.row)}};
    if (v.readable) out["memory"] = {{"allocated", v.used}, {"small", v.small}, {"resident", v.resident}};
    else out["memory"] = {{"unknown", v.why_not}};
    out["areas"] = ordered_json::array();
    for (const auto& a : v.areas) out["areas"].push_back({{"start", hex(a.at)}, {"end", hex(a.at + a.bytes)}, {"bytes", a.bytes}, {"type", "ALLOC"}, {"huge", v.huge}, {"pid", a.pid}});
    for (const auto& i : v.imports) {
        out["areas"].push_back({{"start", hex(i.at)}, {"end", hex(i.at + i.bytes)}, {"bytes", i.bytes}, {"type", i.to_process ? "TASK" : "SPG"}, {"huge", false}, {"pid", i.pid}});
    }
    out["members"] = ordered_json::array();
    for (const auto& m : v.members) {
        ordered_json j = process_json(row_of(v, m));
        j["prot"] = m.reads_only ? "R" : "RW";
        out["members"].push_back(std::move(j));
    }
    print_json(out);
}

/// proc_overview: each process, over all its groups.
outcome overview(const pool_options& o, broker_client& broker) {
    const auto totals = broker.totals();
    if (!totals) return std::unexpected(totals.error());
    const auto groups = broker.groups();
    if (!groups) return std::unexpected(groups.error());
    std::map<int, process_row> processes;
    for (const auto& g : *groups) {
        if (g.members == 0) continue;
        const auto v = view_of(broker, g.id);
        if (!v && v.error().code == ENODEV) continue;  // it has gone meanwhile
        if (!v) return std::unexpected(v.error());
        for (const auto& m : v->members) {
            const process_row r = row_of(*v, m);
            auto [at, is_new] = processes.try_emplace(m.pid, r);
            if (is_new) continue;
            at->second.alloc += r.alloc, at->second.k2u += r.k2u, at->second.sp_res += r.sp_res;
            at->second.known = at->second.known && r.known;
        }
    }
    if (o.json) {
        const auto& t = *totals;
        ordered_json out{{"schema_version", 1}, {"ok", true}};
        out["totals"] = {{"groups", t.groups},       {"dead", t.dead},         {"members", t.members},     {"processes", t.processes}, {"imports", t.imports},           {"address_bytes", t.addresses},       {"connections", t.connections},
                         {"requests", t.requests},   {"refused", t.refused},   {"malformed", t.malformed}, {"joins", t.joins},         {"failed_joins", t.failed_joins}, {"deaths", t.deaths},                 {"recoveries", t.recoveries_asked},
                         {"groups_lost", t.groups_lost}, {"groups_again", t.groups_again}, {"slowest_request_ns", t.slowest_request_ns}};
        out["processes"] = ordered_json::array();
        for (const auto& [pid, r] : processes) out["processes"].push_back(process_json(r));
        print_json(out);
        return exit_code::ok;
    }
    std::string text = fmt::format("{} groups, {} processes, {} memberships, {} imports, {} of addresses; {} joins, {} put back, {} deaths\n", totals->groups, totals->processes, totals->members, totals->imports,
                                   size(totals->addresses), totals->joins, totals->failed_joins, totals->deaths);
    text_table table({"PID", "COMM", "SP_ALLOC", "SP_K2U", "SP_RES", "Non-SP_RES", "Non-SP_Shm", "VIRT"}, {right, left, right, right, right, right, right, right});
    for (const auto& [pid, r] : processes) {
        table.row({std::to_string(pid), r.m.name, r.pool(r.alloc), r.pool(r.k2u), r.pool(r.sp_res), std::to_string(r.non_sp_res()), std::to_string(r.non_sp_shm()), std::to_string(r.m.virt)});
    }
    if (!processes.empty()) text += "\n" + table.text("");
    print(text);
    return exit_code::ok;
}

outcome stat(const pool_options& o) {
    return with_broker(o, [&](broker_client& broker) -> outcome {
        if (o.id == 0) return overview(o, broker);
        const auto v = view_of(broker, static_cast<int>(o.id));
        if (!v) return std::unexpected(v.error());
        if (o.json) group_data(*v);
        else group_text(*v);
        return exit_code::ok;
    });
}

}  // namespace

void add_pool_ls(registry& all) {
    auto l = std::make_shared<ls_options>();
    pool_command(all, "ls", "List the groups of the share pool", l->pool).flag("--all", l->all, "processes' own hidden groups, too").run([l] { return ls(*l); });
    auto s = std::make_shared<pool_options>();
    pool_command(all, "stat", "Show a group's areas and members; without --id each process over all its groups", *s)
        .number("--id", s->id, 1, 899'999, "the group")
        .notes("Columns are those of /proc/sharepool/{spa_stat,proc_stat,proc_overview} of openEuler; sizes in KiB. SP_ALLOC: areas that the process owns; objects up to 32 KiB are counted for the group alone. SP_RES: what exists\n"
               "of the group's memory. \"-\": the group's mode does not let you read it.")
        .run([s] { return stat(*s); });
}

}  // namespace cohort::cli
