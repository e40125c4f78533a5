// SPDX-License-Identifier: Apache-2.0
#include "pool.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <sstream>

#include <fmt/format.h>

#include <cohort/sharepool/view.hpp>
#include <cohort/sys/fd.hpp>

#include "coresched_control.hpp"
#include "spec_input.hpp"

namespace cohort::cli {

using nlohmann::ordered_json;
using sharepool::broker_client;

command& pool_command(registry& all, const std::string& verb, const std::string& summary, pool_options& o, bool json) {
    command& c = all.add("pool " + verb, summary);
    c.option("--socket", o.socket, "PATH", "the broker's; default: $COHORT_SOCKET, else /run/cohort/pool.sock for root, $XDG_RUNTIME_DIR/cohort/pool.sock for others");
    if (json) c.flag("--json", o.json, "print JSON");
    return c;
}

outcome pool_refused(const pool_options& o, const error& e) {
    if (o.json) print_json(ordered_json{{"schema_version", 1}, {"ok", false}, {"failure", fault_json(e)}});
    complain(e.line());
    return exit_code_of(e);
}

std::string hex(std::uint64_t n) { return fmt::format("{:#x}", n); }
std::string octal(unsigned mode) { return fmt::format("{:04o}", mode); }

ordered_json group_json(const sharepool::wire::group_row& g) {
    return {{"id", g.id},
            {"name", sharepool::wire::text_of(g.name)},
            {"state", g.dead ? "dead" : "live"},
            {"owner_uid", g.owner_uid},
            {"owner_gid", g.owner_gid},
            {"mode", octal(g.mode)},
            {"members", g.members},
            {"imports", g.imports},
            {"base", hex(g.base)},
            {"bytes", g.bytes},
            {"limit", g.limit},
            {"kept", g.kept != 0},
            {"local", g.local != 0},
            {"flags", g.flags}};
}

process_memory memory_of_process(int pid) {
    sys::os& os = sys::real();
    const std::string of = "/proc/" + std::to_string(pid);
    const auto name = sys::read_line(os, of + "/comm");
    const auto pages = sys::read_line(os, of + "/statm");
    if (!name || !pages) return {};
    process_memory m{.name = *name};
    constexpr std::uint64_t page_kib = 4;
    std::istringstream words(*pages);
    words >> m.virt >> m.res >> m.shm;
    m.virt *= page_kib, m.res *= page_kib, m.shm *= page_kib;
    return m;
}

std::uint64_t group_view::owned(int pid) const {
    std::uint64_t sum = 0;
    for (const auto& a : areas) sum += a.pid == pid ? a.bytes : 0;
    return sum;
}

std::uint64_t group_view::imported(int pid) const {
    std::uint64_t sum = 0;
    for (const auto& i : imports) sum += i.pid == pid ? i.bytes : 0;
    return sum;
}

result<group_view> view_of(broker_client& broker, int id) {
    group_view v;
    auto looked = broker.look(id);
    if (!looked) return std::unexpected(looked.error());
    v.row = looked->group;
    auto members = broker.members(id);
    if (!members) return std::unexpected(members.error());
    auto imports = broker.imports(id);
    if (!imports) return std::unexpected(imports.error());
    v.members = std::move(*members);
    v.imports = std::move(*imports);
    if (looked->descriptors.size() != 2) {
        // No files: nobody has joined it yet.
        v.readable = v.members.empty();
        if (!v.readable) v.why_not = "its mode does not let you read it";
        return v;
    }
    const auto memory = sharepool::view::attach(looked->descriptors[0].get(), looked->descriptors[1].get());
    if (!memory) {
        v.why_not = memory.error().line();
        return v;
    }
    v.readable = true;
    v.resident = memory->count().bytes;
    sharepool::area_list all = memory->areas();
    v.small = all.small_bytes;
    v.huge = all.huge;
    v.used = all.area_bytes + all.small_bytes;
    v.areas = std::move(all.areas);
    return v;
}

}  // namespace cohort::cli
