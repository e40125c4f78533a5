// SPDX-License-Identifier: Apache-2.0
/// What the three processes of a flow find in the pool, at one address.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstring>

#include <cohort/sharepool/channel.hpp>
#include <cohort/stream/block.hpp>
#include <cohort/stream/flow.hpp>

namespace cohort::stream {

/// What a stage tells. Written by it alone; read by who started it, while it runs and after.
struct stage_facts {
    std::atomic<int> pid{0};
    std::atomic<std::uint64_t> bytes{0}, records{0};  // [stats: the stage]
    std::atomic<int> code{0};            // [atomic: the stage; release: the texts] 0: it has not failed
    bool consequence = false;
    char object[200] = {}, act[200] = {}, reason[400] = {};

    void fail(const error& e, bool of_another) {
        const auto put = [](auto& to, const std::string& from) { std::memcpy(to, from.data(), std::min(from.size(), sizeof to - 1)); };
        put(object, e.object), put(act, e.act), put(reason, e.reason);
        consequence = of_another;
        code.store(e.code, std::memory_order_release);  // pairs with report()
    }
    flow_stage_report report() const {
        flow_stage_report r{.pid = pid, .bytes = bytes, .records = records, .waits = 0, .why = {}, .consequence = false};
        if (const int c = code.load(std::memory_order_acquire)) r.why = error{c, object, act, reason}, r.consequence = consequence;
        return r;
    }
};

struct flow_shared {
    sharepool::channel* blocks = nullptr;   // [const after create] producer -> workers
    sharepool::channel* results = nullptr;  // [the same] workers -> consumer
    sharepool::channel* spent = nullptr;    // [the same] consumer -> producer: records to be filled again
    std::uint64_t block_bytes = 0, record_bytes = 0, window_bytes = 0, in_flight = 0;  // [the same]
    std::atomic<std::uint64_t> done_blocks{0};  // [stats: the workers]
    stage_facts stages[3];
};

/// In front of each block.
struct alignas(64) flow_record {
    std::uint64_t size = 0, capacity = 0;
    bool part = false;

    std::uint8_t* bytes() { return reinterpret_cast<std::uint8_t*>(this + 1); }
    static flow_record* of(std::uint8_t* bytes) { return reinterpret_cast<flow_record*>(bytes) - 1; }
};

namespace detail {

/// Memory of a pool for buffers: each is a flow_record. `spent`: where used ones come back; only for a source that one thread uses.
class record_memory final : public memory_source {
public:
    /// least: bytes of each record at least, so that one serves for any block.
    record_memory(sharepool::member& m, std::size_t least, sharepool::channel_reader* spent = nullptr) : m_(m), least_(least), spent_(spent) {}
    std::uint8_t* take(std::size_t bytes) override;
    void give(std::uint8_t* memory) override { m_.free(flow_record::of(memory)); }
    sharepool::member& pool() { return m_; }

private:
    sharepool::member& m_;
    const std::size_t least_;
    sharepool::channel_reader* const spent_;
};

}  // namespace detail
}  // namespace cohort::stream
