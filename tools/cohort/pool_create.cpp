// SPDX-License-Identifier: Apache-2.0
// Groups of the share pool: made, and ended.
#include <charconv>
#include <memory>

#include "pool.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::ordered_json;
using sharepool::broker_client;

struct create_options {
    pool_options pool;
    std::string name, mode = "0660", huge;
    std::uint64_t bytes = 0, limit = 0;
    bool pass_through = false, without_sequences = false, unmap_freed = false;
};

outcome create(const create_options& o) {
    unsigned mode = 0;
    const auto read = std::from_chars(o.mode.data(), o.mode.data() + o.mode.size(), mode, 8);
    if (read.ec != std::errc() || read.ptr != o.mode.data() + o.mode.size() || mode > 0777) return usage("pool create: --mode \"" + o.mode + "\" is no mode of a file, such as 0660");
    if (o.pool.id != 0 && o.pass_through) return usage("pool create: --id and --pass-through exclude each other");
    using namespace sharepool;
    const std::uint32_t flags = (o.huge == "prefer" ? wire::huge_if_possible : 0u) | (o.huge == "require" ? wire::huge_only : 0u) | (o.without_sequences ? wire::compare_and_swap : 0u) |
                                (o.unmap_freed ? wire::unmap_freed : 0u);
    const group_request r{.id = o.pool.id != 0 ? static_cast<int>(o.pool.id) : o.pass_through ? spg_id_dvpp : spg_id_auto, .bytes = o.bytes, .name = o.name, .mode = mode, .limit = o.limit, .flags = flags};
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        const auto id = broker.create(r);
        if (!id) return std::unexpected(id.error());
        if (!o.pool.json) {
            print(std::to_string(*id) + "\n");
            return exit_code::ok;
        }
        const auto g = broker.look(*id);
        if (!g) return std::unexpected(g.error());
        print_json(ordered_json{{"schema_version", 1}, {"ok", true}, {"group", group_json(g->group)}});
        return exit_code::ok;
    });
}

struct drop_options {
    pool_options pool;
    bool force = false;
};

outcome drop(const drop_options& o) {
    if (o.pool.id == 0) return usage("pool drop: --id is missing");
    if (o.pool.pid != 0 && o.force) return usage("pool drop: --pid and --force exclude each other");
    return with_broker(o.pool, [&](broker_client& broker) -> outcome {
        const int id = static_cast<int>(o.pool.id), pid = static_cast<int>(o.pool.pid);
        const auto done = pid != 0 ? broker.remove(pid, id) : broker.destroy(id, o.force);
        if (!done) return std::unexpected(done.error());
        if (o.pool.json) print_json(ordered_json{{"schema_version", 1}, {"ok", true}, {"id", id}});
        return exit_code::ok;
    });
}

}  // namespace

void add_pool_create(registry& all) {
    auto o = std::make_shared<create_options>();
    pool_command(all, "create", "Make a group: addresses, an owner, a mode, a limit; memory comes as it is used", o->pool)
        .number("--id", o->pool.id, 1, 99'999, "default: one that is given out, 100000 or more")
        .bytes("--size", o->bytes, "addresses, for good; 2M to 128G. Default: the broker's")
        .option("--name", o->name, "NAME", "a label of up to 31 bytes")
        .option("--mode", o->mode, "MODE", "who may join, as a file's: r for reading, rw for reading and writing (0660)")
        .bytes("--limit", o->limit, "bytes that may be allocated in it at once; default: as many as there are addresses")
        .choice("--huge", o->huge, {"prefer", "require"}, "memory in pages of 2 MiB: where the system gives them, or nothing")
        .flag("--pass-through", o->pass_through, "an id of 800000-899999, for memory that devices see")
        .flag("--without-sequences", o->without_sequences, "members need no restartable sequences (valgrind, gVisor); allocations cost more")
        .flag("--unmap-freed", o->unmap_freed, "uses after free fault; for debugging")
        .notes("Prints the id. The group lives until `cohort pool drop`, with members and without.\nExample:\n  cohort pool create --id 7 --size 1G --name orders")
        .run([o] { return create(*o); });

    auto d = std::make_shared<drop_options>();
    pool_command(all, "drop", "End a group, or take one process out of it", d->pool)
        .number("--id", d->pool.id, 1, 899'999, "the group")
        .number("--pid", d->pool.pid, 1, 4'194'304, "only this process leaves, if the group has nothing allocated; the last one ends a group that a join made")
        .flag("--force", d->force, "even if processes are in it: they lose its memory, whatever they do with it")
        .run([d] { return drop(*d); });
}

}  // namespace cohort::cli
