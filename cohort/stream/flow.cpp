// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/flow.hpp>

#include <algorithm>
#include <bit>
#include <new>
#include <utility>

#include <cohort/stream/detail/flow_shared.hpp>
#include <cohort/stream/detail/modes.hpp>

namespace cohort::stream {

namespace {

using sharepool::channel;

constexpr std::uint64_t least_in_flight = 8;

std::uint64_t block_of(const flow_options& o) {
    if (o.block_bytes) return o.block_bytes;
    return o.kind ? usual_block(*o.kind) : detail::command_block({});
}

/// Bytes of a record that holds a block, or what is made of one.
result<std::uint64_t> record_of(const flow_options& o, std::uint64_t block) {
    if (!o.kind) return std::max<std::uint64_t>(block, detail::command_output(block));
    auto c = compressor::create(*o.kind, o.level.value_or(levels(*o.kind).usual));
    if (!c) return std::unexpected(c.error());
    return std::max<std::uint64_t>(block, (*c)->bound(block));
}

result<void> check(const flow_options& o) {
    const auto bad = [](std::string act, std::string reason) { return fail(EINVAL, "flow", std::move(act), std::move(reason)); };
    if (o.kind.has_value() + !o.argv.empty() + !o.plugin.empty() != 1) return bad("choose", "one of a codec, a command and a plugin is needed");
    if (o.level && !o.kind) return bad("set a level", "only codecs have levels");
    if (o.records && o.kind) return bad("split at records", "only blocks for a command or a plugin are split");
    if (o.records && o.separator.empty()) return bad("split at records", "the separator is empty");
    const std::uint64_t most = o.kind ? largest_block(*o.kind) : std::uint64_t{1} << 30;
    if (o.block_bytes > most) return bad("set the block size", std::to_string(o.block_bytes) + " is over " + std::to_string(most));
    return {};
}

}  // namespace

const char* role_name(flow_role r) {
    static constexpr const char* names[] = {"producer", "workers", "consumer"};
    return names[static_cast<int>(r)];
}

result<flow> flow::create(sharepool::member& m, const flow_options& o) {
    if (auto ok = check(o); !ok) return std::unexpected(ok.error());
    const std::uint64_t block = block_of(o);
    const auto room = record_of(o, block);
    if (!room) return std::unexpected(room.error());
    const std::uint64_t each = *room + sizeof(flow_record) + (64 << 10);  // an area is of whole units
    const std::uint64_t wanted = o.memory ? o.memory : usual_memory(std::max(o.workers, 1), 4 * each);
    const std::uint64_t n = std::max(least_in_flight, std::min(wanted, m.bytes() / 2) / each);
    if (n * each > m.bytes() / 2) {
        return cohort::fail(ENOMEM, "flow", "use the pool", "it has " + std::to_string(m.bytes()) + " bytes, and blocks of " + std::to_string(block) + " need " + std::to_string(2 * n * each) + "; a larger pool or smaller blocks will do");
    }
    void* at = m.alloc(sizeof(flow_shared), sharepool::lifetime::group);
    if (!at) return cohort::fail(ENOMEM, "flow", "begin", "the pool is full");
    flow f(m, o, new (at) flow_shared);
    // Half of what may be in flight is for the workers, the rest for the queues before and behind them.
    const auto queue = static_cast<std::uint32_t>(std::bit_floor(std::clamp<std::uint64_t>(n / 8, 2, 1024)));
    for (const auto& [where, places] : {std::pair{&f.shared_->blocks, queue}, {&f.shared_->results, queue}, {&f.shared_->spent, 2 * queue}}) {
        auto c = channel::create(m, places);
        if (!c) return std::unexpected(c.error());
        *where = *c;
    }
    f.shared_->block_bytes = block, f.shared_->record_bytes = *room, f.shared_->window_bytes = n / 2 * each, f.shared_->in_flight = n;
    return f;
}

flow::flow(flow&& f) noexcept : member_(f.member_), options_(std::move(f.options_)), shared_(std::exchange(f.shared_, nullptr)), last_(std::move(f.last_)) {}

flow::~flow() { (void)finish(); }

std::vector<std::string> flow::words(flow_role r, int group) const {
    std::vector<std::string> w = {role_name(r), "name=" + options_.name, "group=" + std::to_string(group), "at=" + std::to_string(reinterpret_cast<std::uintptr_t>(shared_))};
    if (options_.kind) w.push_back("codec=" + std::string(codec_name(*options_.kind)));
    if (options_.level) w.push_back("level=" + std::to_string(*options_.level));
    if (!options_.plugin.empty()) w.push_back("plugin=" + options_.plugin);
    if (options_.records) w.push_back("separator=" + options_.separator);
    if (options_.workers > 0) w.push_back("workers=" + std::to_string(options_.workers));
    if (!options_.argv.empty()) {
        w.push_back("command");
        w.insert(w.end(), options_.argv.begin(), options_.argv.end());
    }
    return w;
}

flow_report flow::now() const {
    if (!shared_) return last_;
    flow_report r;
    for (flow_role role : flow_roles) r.stages[static_cast<std::size_t>(role)] = shared_->stages[static_cast<int>(role)].report();
    if (shared_->blocks) {
        const channel::figures f = shared_->blocks->count();
        r.stages[0].waits = f.writer_waits, r.for_workers = f.pushed - f.popped;
        r.with_workers = f.popped - std::min<std::uint64_t>(f.popped, shared_->done_blocks);
    }
    if (shared_->results) {
        const channel::figures f = shared_->results->count();
        r.stages[1].waits = f.writer_waits, r.stages[2].waits = f.reader_waits, r.for_consumer = f.pushed - f.popped;
    }
    r.blocks = shared_->done_blocks;
    r.in_flight = shared_->in_flight;
    r.in_flight_bytes = shared_->in_flight * shared_->record_bytes;
    return r;
}

flow_report flow::finish() {
    if (!shared_) return last_;
    last_ = now();
    // The queues' ends first: what was in the hands of who died belongs to the queue or to him; then what he owned.
    for (channel* c : {shared_->blocks, shared_->results, shared_->spent}) {
        if (!c) continue;
        if (const auto freed = channel::destroy(*member_, c)) last_.left += *freed;
    }
    const sharepool::recovered rest = member_->recover_dead();
    last_.left += rest.blocks_freed + rest.areas_freed;
    shared_->~flow_shared();
    member_->free(std::exchange(shared_, nullptr));
    return last_;
}

}  // namespace cohort::stream
