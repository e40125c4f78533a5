// SPDX-License-Identifier: Apache-2.0
// Processes of the share pool: added to a group, or started in one.
#include <cstdio>
#include <cstdlib>
#include <memory>

#include <fmt/format.h>

#include <cohort/group/table.hpp>
#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/os.hpp>

#include "coresched_control.hpp"
#include "pool.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;
using sharepool::broker_client;

struct join_options {
    pool_options pool;
    bool read_only = false, single = false, populate = false, trace = false, new_group = false;
};

std::string trace_text(const sharepool::trace& seen) {
    using enum group::align;
    group::text_table table({"check", "found", "result"}, {left, left, left});
    for (const auto& c : seen) table.row({c.what, c.found, c.code == 0 ? "ok" : errno_name(c.code)});
    return table.text("");
}

ordered_json trace_json(const sharepool::trace& seen) {
    ordered_json all = ordered_json::array();
    for (const auto& c : seen) all.push_back({{"check", c.what}, {"found", c.found}, {"code", c.code == 0 ? "" : errno_name(c.code)}});
    return all;
}

outcome join(const join_options& o) {
    if (o.pool.pid == 0) return usage("pool join: --pid is missing");
    if ((o.pool.id == 0) == !o.new_group) return usage("pool join: give --id or --new");
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        sharepool::trace seen;
        const sharepool::add_request r{.pid = static_cast<int>(o.pool.pid), .id = o.new_group ? sharepool::spg_id_auto : static_cast<int>(o.pool.id),
                                       .prot = o.read_only ? sharepool::access::read : sharepool::access::read_write, .single = o.single, .populate = o.populate};
        const auto id = broker.add(r, o.trace ? &seen : nullptr);
        if (o.pool.json) {
            ordered_json out{{"schema_version", 1}, {"ok", id.has_value()}};
            if (id) out["id"] = *id;
            else out["failure"] = fault_json(id.error());
            if (o.trace) out["trace"] = trace_json(seen);
            print_json(out);
        } else {
            if (o.trace) print(trace_text(seen));
            else if (id) print(std::to_string(*id) + "\n");
        }
        if (id) return exit_code::ok;
        complain(id.error().line());
        return exit_code_of(id.error());
    });
}

struct exec_options {
    pool_options pool;
    std::vector<std::string> ids, program;
    bool given = false, even_if_not = false;
};

/// What the program will be told when it asks to join, as far as that can be known now.
result<void> may_be_joined(broker_client& broker, int id) {
    const auto looked = broker.look(id);
    if (!looked) return std::unexpected(looked.error());
    const auto& g = looked->group;
    const auto no = [&](int code, std::string reason) { return fail(code, "group " + std::to_string(id), "start a program in it", std::move(reason)); };
    if (g.dead) return no(ENODEV, "it is dead");
    const sharepool::caller who{0, sys::effective_uid(), sys::effective_gid()};
    if (!sharepool::may_join(who, g.owner_uid, g.owner_gid, g.mode, sharepool::access::read_write)) {
        return no(EACCES, fmt::format("uid {}, gid {} may not join it for reading and writing: its mode is {}, its owner {}:{}", who.uid, who.gid, octal(g.mode), g.owner_uid, g.owner_gid));
    }
    if (g.members >= 1'024) return no(ENOSPC, "it has 1024 members");
    return {};
}

outcome exec(const exec_options& o) {
    if (!o.given || o.program.empty()) return usage("pool exec: no program after --");
    if (o.ids.empty()) return usage("pool exec: --id is missing");
    std::string list;
    for (const std::string& text : o.ids) {
        if (text.empty() || text.size() > 6 || text.find_first_not_of("0123456789") != std::string::npos || std::atoi(text.c_str()) == 0) return usage("pool exec: --id \"" + text + "\" is no id of a group");
        list += (list.empty() ? "" : ",") + text;
    }
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        for (const std::string& text : o.ids) {
            if (auto good = may_be_joined(broker, std::atoi(text.c_str())); !good) return std::unexpected(good.error());
        }
        // Two descriptors a group, and what the program itself opens.
        (void)sys::allow_descriptors(1 << 16);
        ::setenv("COHORT_POOL_JOIN", list.c_str(), 1);
        ::setenv("COHORT_SOCKET", sharepool::socket_name(o.pool.socket).c_str(), 1);
        ::setenv("COHORT_POOL_REQUIRE", o.even_if_not ? "0" : "1", 1);
        std::fflush(stdout);
        const auto failed = sys::real().exec(o.program);
        return std::unexpected(failed.error());
    });
}

}  // namespace

void add_pool_join(registry& all) {
    auto j = std::make_shared<join_options>();
    pool_command(all, "join", "Add a running process to a group; it must be attached to the broker", j->pool)
        .number("--pid", j->pool.pid, 1, 4'194'304, "the process, by any of its threads")
        .number("--id", j->pool.id, 1, 900'000, "the group; one that is not there is made")
        .flag("--new", j->new_group, "a new group, whose id is given out")
        .flag("--read-only", j->read_only, "for reading")
        .flag("--single", j->single, "only if it is in no other group (sp_group_add_task)")
        .flag("--populate", j->populate, "every page that exists is mapped at once")
        .flag("--trace", j->trace, "show each check, in the kernel's order")
        .notes("Prints the group's id. Refusals: EINVAL, ESRCH, EOPNOTSUPP (not attached), EBUSY (it dumps core), EPERM, EEXIST, ENOSPC, ENODEV (dead), EACCES (the group's mode), EOVERFLOW, ETIMEDOUT.\n"
               "Example:\n  cohort pool join --pid 4711 --id 7 --trace")
        .run([j] { return join(*j); });

    auto e = std::make_shared<exec_options>();
    pool_command(all, "exec", "Start a program that is in a group from its first line on", e->pool, false)
        .option("--id", e->ids, "ID", "the group; may be given again")
        .flag("--try", e->even_if_not, "the program runs even if it cannot join then")
        .rest("PROGRAM [ARGS]", e->program, "the program; it, or what it starts, is linked with cohort::sharepool", &e->given)
        .notes("The group must be there and let you join, else nothing is started. The program finds $COHORT_POOL_JOIN and $COHORT_SOCKET and joins when it is loaded; other programs see nothing of it.\n"
               "Example:\n  cohort pool exec --id 7 -- ./producer")
        .run([e] { return exec(*e); });
}

}  // namespace cohort::cli
