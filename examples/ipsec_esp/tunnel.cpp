// SPDX-License-Identifier: Apache-2.0
#include "tunnel.hpp"

#include <algorithm>

#include <cohort/base/check.hpp>

namespace esp {

namespace padata = cohort::padata;
using cohort::result;

// ---- the burst: one job of the order shell

void burst::parallel() { one_through(); }

void burst::one_through() {
    // acq_rel: the last one delivers what all the others wrote.
    if (pending_.fetch_sub(1, std::memory_order_acq_rel) == 1) padata::do_serial(*this);
}

void burst::serial() { owner_->deliver_(*this); }

// ---- the packets of one flow in it: one job of the flow's shell

void tunnel::group::parallel() {
    // Another CPU wrote them, looked at their headers, and delivered what stood in their buffers before.
    constexpr std::uint32_t soon = 8, next = 4;
    auto at = [this](std::uint32_t i) -> packet& { return of->packets[members[i]]; };
    for (std::uint32_t i = 0; i < std::min(count, soon); ++i) __builtin_prefetch(&at(i), 1);
    for (std::uint32_t i = 0; i < count; ++i) {
        if (i + soon < count) __builtin_prefetch(&at(i + soon), 1);
        if (i + next < count) expect(at(i + next));
        owner->work(at(i));
    }
    padata::do_serial(*this);
}

void tunnel::group::serial() {
    for (std::uint32_t i = 0; i < count; ++i) owner->settle(of->packets[members[i]]);
    of->one_through();  // the burst may be delivered and used again from here on
}

// ---- the tunnel

tunnel::tunnel(const sa_table& table, const tunnel_options& options, std::function<void(burst&)> deliver)
    : table_(table), options_(options), deliver_(std::move(deliver)) {
    for (std::size_t i = 0; i < table.size(); ++i) {
        next_seq_.push_back(table[i].first_seq);
        windows_.emplace_back(table[i].replay);
    }
    shell_count_ = options.way == direction::encrypt ? options.shells : table.size();
    // Once submit(n) has returned, at most `bursts` fly, n among them: the burst before those is through.
    kept_ = std::size_t{1} + options.bursts;
    bursts_ = std::make_unique<burst[]>(kept_);
    groups_ = std::make_unique<group[]>(kept_ * shell_count_);
    for (std::size_t i = 0; i < kept_; ++i) bursts_[i].owner_ = this;
    for (std::size_t i = 0; i < kept_ * shell_count_; ++i) {
        groups_[i].owner = this;
        groups_[i].of = &bursts_[i / shell_count_];
    }
}

result<std::unique_ptr<tunnel>> tunnel::create(const sa_table& table, const tunnel_options& options, std::function<void(burst&)> deliver) {
    COHORT_CHECK(options.shells > 0 && options.bursts > 0 && (options.bursts & (options.bursts - 1)) == 0, "a tunnel needs shells, and a power of two of bursts");
    std::unique_ptr<tunnel> t(new tunnel(table, options, std::move(deliver)));
    auto made = padata::instance::create({.name = options.way == direction::encrypt ? "pencrypt" : "pdecrypt", .parallel = options.parallel, .serial = options.serial,
                                          .usable = options.usable});
    if (!made) return std::unexpected(made.error());
    t->instance_ = std::move(*made);
    // One window bounds all: that of the bursts. The reader runs jobs of all flows until half of it is free, and the worker of its CPU stands back.
    for (std::size_t i = 0; i < t->shell_count_; ++i) {
        auto s = padata::shell::create(*t->instance_, {.window = options.bursts, .when_full = padata::full_policy::help_all});
        if (!s) return std::unexpected(s.error());
        t->flows_.push_back(std::move(*s));
    }
    auto s = padata::shell::create(*t->instance_, {.window = options.bursts, .when_full = padata::full_policy::help_all});
    if (!s) return std::unexpected(s.error());
    t->order_.emplace(std::move(*s));
    return t;
}

tunnel::~tunnel() {
    if (order_) (void)order_->drain();
}

burst& tunnel::next() {
    burst& b = bursts_[submitted_ % kept_];
    b.count = 0;
    b.first = packets_;
    return b;
}

/// A stopped instance takes no jobs (EINVAL); what flies is finished, and it starts again by itself when a CPU of its masks can be used again.
result<void> tunnel::send(padata::shell& to, padata::job& j) {
    for (;;) {
        auto r = to.do_parallel(j);
        if (r || r.error().code != EINVAL || !options_.while_stopped || !options_.while_stopped(r.error())) return r;
    }
}

result<void> tunnel::submit(burst& b) {
    const std::uint64_t place = submitted_ % kept_;
    COHORT_CHECK(&b == &bursts_[place], "a burst is submitted that next() did not answer");
    std::uint32_t groups = 0;
    for (std::size_t i = 0; i < flows_.size(); ++i) group_of(place, i).count = 0;
    for (std::uint32_t i = 0; i < b.count; ++i) {
        const int shell = classify(b.packets[i]);
        if (shell < 0) continue;
        group& g = group_of(place, static_cast<std::size_t>(shell));
        groups += g.count == 0;
        g.members[g.count++] = static_cast<std::uint16_t>(i);
    }
    b.pending_.store(groups + 1, std::memory_order_relaxed);  // published by do_parallel
    result<void> outcome;
    for (std::size_t i = 0; i < flows_.size(); ++i) {
        group& g = group_of(place, i);
        if (g.count == 0) continue;
        if (auto r = send(flows_[i], g); !r) {
            outcome = std::move(r);
            b.one_through();  // not the last: the burst itself is not through. Its packets stay `failed`.
        }
    }
    ++submitted_;
    packets_ += b.count;
    auto ordered = send(*order_, b);
    if (ordered) return outcome;
    // The order shell takes no job: what flies is delivered first, then this burst, here.
    --submitted_;
    for (auto& flow : flows_) (void)flow.drain();
    (void)order_->drain();
    b.serial();
    return ordered;
}

result<void> tunnel::finish() { return order_->drain(); }

// ---- one packet

int tunnel::classify(packet& p) {
    p.at = look_at(options_.link, p.in, p.captured);
    p.sa = -1;
    p.out_bytes = 0;
    switch (p.at.kind) {
        case frame_kind::other: p.what = verdict::passed; return -1;
        case frame_kind::cut: p.what = verdict::cut; return -1;
        case frame_kind::malformed: p.what = verdict::malformed; return -1;
        case frame_kind::ip: break;
    }
    return options_.way == direction::encrypt ? classify_out(p) : classify_in(p);
}

int tunnel::classify_out(packet& p) {
    p.sa = table_.outbound(p.at, p.in);
    p.what = verdict::no_sa;
    if (p.sa < 0) return -1;
    p.what = verdict::too_long;
    if (too_long_to_seal(p.at, table_[static_cast<std::size_t>(p.sa)])) return -1;
    std::uint64_t& seq = next_seq_[static_cast<std::size_t>(p.sa)];
    p.what = verdict::used_up;
    if (seq >> 32) return -1;
    p.seq = static_cast<std::uint32_t>(seq++);
    p.what = verdict::failed;
    return static_cast<int>(flow_hash(p.at, p.in) % shell_count_);
}

int tunnel::classify_in(packet& p) {
    const std::uint8_t* ip = p.in + p.at.ip;
    p.what = verdict::clear;
    if (p.at.protocol != 50) return -1;
    p.what = verdict::fragment;
    if (p.at.fragment) return -1;
    p.what = verdict::too_short;
    if (!fits_esp(p.at)) return -1;
    p.sa = table_.inbound(load32(ip + p.at.header_bytes), p.at.version, ip + (p.at.version == 4 ? 16 : 24));
    p.seq = load32(ip + p.at.header_bytes + 4);
    p.what = verdict::no_sa;
    if (p.sa < 0) return -1;
    p.what = verdict::failed;
    return p.sa;
}

void tunnel::work(packet& p) const {
    const sa& s = table_[static_cast<std::size_t>(p.sa)];
    if (options_.way == direction::encrypt) seal(p, s, options_.link, std::uint64_t{options_.iv_high} << 32 | p.seq);
    else open(p, s, options_.link);
}

void tunnel::settle(packet& p) {
    if (options_.way == direction::encrypt) return;
    // Only what is authentic moves the window (RFC 4303 section 3.4.3).
    if (p.what != verdict::opened && p.what != verdict::dummy && p.what != verdict::bad_inside) return;
    const verdict seen = windows_[static_cast<std::size_t>(p.sa)].take(p.seq);
    if (seen != verdict::opened) p.what = seen;
}

}  // namespace esp
