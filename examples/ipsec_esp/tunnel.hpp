// SPDX-License-Identifier: Apache-2.0
/// A tunnel's end: bursts of packets go through padata and come out in the order in which they went in.
///
///     reader --> burst --+--> group of flow 0 --> shell 0: seal or open in parallel, then in order: replay window --+
///                        +--> group of flow 1 --> shell 1 ...                                                      +--> the burst's own job, in
///                        '--> the burst itself --> the order shell: waits for its groups ------------------------'      order: deliver(burst)
///
/// * A shell for each flow: outbound the hash of addresses, protocol and ports picks one of `shells`; inbound the SA does, since the replay window is the SA's.
///   What has to happen in a flow's order (the replay window) happens in its shell's serial(), while other flows go on.
/// * Total order over flows is one more shell, whose jobs are bursts in the order of the input. Such a job's parallel() returns at once; the last of the burst's
///   groups completes it with do_serial. So the input's order costs one job for each burst, not one for each packet, and no lock.
/// * Sequence numbers are given by the thread that submits: the order of submission is the order on the wire.
///
/// Kernel: crypto/pcrypt.c (v6.12), instances pencrypt and pdecrypt.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/job.hpp>
#include <cohort/padata/shell.hpp>

#include "esp.hpp"

namespace esp {

enum class direction { encrypt, decrypt };

struct tunnel_options {
    direction way = direction::encrypt;
    link_type link = link_type::ethernet;
    unsigned shells = 8;                 ///< outbound: flows are spread over so many; inbound: one for each SA
    unsigned bursts = 8;                 ///< in flight, a power of two; one more is kept
    std::uint32_t iv_high = 0;           ///< the upper half of each IV; the lower is the sequence number. Never the same again with one key.
    std::optional<cohort::cpumask> parallel = {}, serial = {};
    std::optional<cohort::cpumask> usable = {};  ///< a machine that is not there, for tests
    /// Asked while the instance is stopped (a mask has no usable CPU): waits a little; false: give up. Null: give up at once.
    std::function<bool(const cohort::error&)> while_stopped = {};
};

class tunnel;

/// Packets in the order of the input. Owned by its tunnel; the reader fills it between next() and submit(), the deliverer reads it in its turn.
class burst final : public cohort::padata::job {
public:
    static constexpr std::uint32_t most = 512;

    std::array<packet, most> packets{};
    std::uint32_t count = 0;
    std::uint64_t first = 0;   ///< number of packets[0] in the stream, from 0
    void* user = nullptr;      ///< what belongs to the reader and the deliverer: time stamps, buffers

    std::span<packet> all() { return {packets.data(), count}; }

    void parallel() override;
    void serial() override;

private:
    friend class tunnel;
    /// One of the groups, or the burst itself, is through. The last one completes the job.
    void one_through();

    tunnel* owner_ = nullptr;               // [const after init]
    std::atomic<std::uint32_t> pending_{0}; // [atomic: acq_rel; the last one to leave sees what the others did]
};

/// Synchronization: next(), submit() and finish() belong to one thread. deliver is called by one thread at a time, in the order of submission.
class tunnel {
public:
    /// deliver: takes a finished burst; must not keep it. Errors: those of instance and shell.
    static cohort::result<std::unique_ptr<tunnel>> create(const sa_table& table, const tunnel_options& options, std::function<void(burst&)> deliver);
    ~tunnel();

    /// An empty burst. It is one that was delivered: its buffers are the caller's again.
    burst& next();
    /// Decides about each packet, gives sequence numbers, and sends the burst on its way. Works on packets itself while `bursts` are in flight.
    /// Errors: those of do_parallel, where while_stopped gave up: what could not be submitted is delivered as `failed`, in its place; the stream may go on.
    cohort::result<void> submit(burst& b);
    /// Waits until every burst was delivered. Errors: EIO, deliver threw.
    cohort::result<void> finish();

    cohort::padata::instance& instance() { return *instance_; }
    unsigned shells() const { return static_cast<unsigned>(flows_.size()); }

    // The three steps of one packet, for those who run them by other means (bench/esp.cpp).

    /// Looks at the packet, finds its SA and gives it a sequence number: what + sa + seq; what stays `passed` or becomes a refusal, or is `failed` until worked on.
    /// Answers the shell that it belongs to; -1: there is nothing to work on.
    int classify(packet& p);
    /// Seals or opens. Any thread.
    void work(packet& p) const;
    /// Brings near what work() will touch first, for one that is worked on some packets later: another CPU had it.
    static void expect(const packet& p) {
        __builtin_prefetch(p.in);
        __builtin_prefetch(p.out, 1);
    }
    /// After work(), in the order of the packet's shell: the anti-replay window.
    void settle(packet& p);

private:
    friend class burst;
    /// The packets of one burst that belong to one shell.
    struct group final : cohort::padata::job {
        void parallel() override;
        void serial() override;
        tunnel* owner = nullptr;
        burst* of = nullptr;
        std::uint32_t count = 0;
        std::array<std::uint16_t, burst::most> members{};
    };

    tunnel(const sa_table& table, const tunnel_options& options, std::function<void(burst&)> deliver);
    cohort::result<void> send(cohort::padata::shell& to, cohort::padata::job& j);
    int classify_out(packet& p);
    int classify_in(packet& p);
    group& group_of(std::uint64_t place, std::size_t shell) { return groups_[place * flows_.size() + shell]; }

    const sa_table& table_;                       // [const after init]
    const tunnel_options options_;                // [const after init]
    const std::function<void(burst&)> deliver_;   // [const after init]
    std::vector<std::uint64_t> next_seq_;         // [owner: the submitter] for each SA; 2^32: used up
    std::vector<replay_window> windows_;          // [owner: the turn of the SA's shell]
    std::unique_ptr<burst[]> bursts_;             // a ring; [owner of each: the submitter, then its jobs, then the deliverer]
    std::unique_ptr<group[]> groups_;             // for each burst one for each shell
    std::uint64_t submitted_ = 0;                 // [owner: the submitter] bursts
    std::uint64_t packets_ = 0;                   // [owner: the submitter]
    std::size_t kept_ = 0;                        // [const after init] bursts
    std::size_t shell_count_ = 0;                 // [const after init]
    std::unique_ptr<cohort::padata::instance> instance_;
    std::vector<cohort::padata::shell> flows_;    // gone before the instance
    std::optional<cohort::padata::shell> order_;
};

}  // namespace esp
