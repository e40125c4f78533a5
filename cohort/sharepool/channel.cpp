// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/channel.hpp>

#include <bit>
#include <chrono>
#include <cstdlib>
#include <new>
#include <string>

#include <cohort/base/check.hpp>
#include <cohort/sys/futex.hpp>
#include <cohort/sys/liveness.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {

namespace {

using namespace detail;

constexpr std::int64_t nap_ns = 1'000'000, slice_ns = 100'000'000;
constexpr int looks = 64, pauses = 8;

std::string name_of(const void* at) {
    char text[32];
    std::snprintf(text, sizeof text, "channel %p", at);
    return text;
}

void pause() noexcept {
#if defined(__x86_64__)
    asm volatile("pause" ::: "memory");
#elif defined(__aarch64__)
    asm volatile("yield" ::: "memory");
#endif
}

std::int64_t now_ns() { return std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

/// When a wait is over.
class limit {
public:
    explicit limit(std::int64_t timeout_ns) : until_(timeout_ns < 0 ? -1 : now_ns() + timeout_ns) {}
    /// Nanoseconds; a large number if there is no limit.
    std::int64_t left() const { return until_ < 0 ? slice_ns : std::max<std::int64_t>(until_ - now_ns(), 0); }

private:
    std::int64_t until_;
};

}  // namespace

result<channel*> channel::create(member& m, std::uint32_t places) {
    if (places < 2 || places > 1u << 20) return fail(EINVAL, "channel", "create", "it has 2 to 1048576 places, not " + std::to_string(places));
    const std::uint32_t n = std::bit_ceil(places);
    const auto at = m.try_alloc(sizeof(channel) + n * sizeof(std::atomic<void*>), alignof(channel), lifetime::group);
    if (!at) return std::unexpected(at.error());
    auto* c = new (*at) channel(n);
    for (std::uint32_t i = 0; i < n; ++i) new (c->cells() + i) std::atomic<void*>(nullptr);
    return c;
}

result<std::uint64_t> channel::destroy(member& m, channel* c) {
    const auto refuse = [&](int code, const char* why) { return fail(code, name_of(c), "destroy", why); };
    const auto there = channel_end::examine(m, c);
    if (!there) return refuse(EBADMSG, "there is none");
    heap& h = m.internals();
    for (const auto* holder : {&c->writer_is, &c->reader_is}) {
        const std::uint64_t seen = holder->load(std::memory_order_acquire);
        if (static_cast<holding>(seen >> 32) == holding::held && !channel_end::gone(h, static_cast<tag>(seen))) return refuse(EBUSY, "a process has an end of it");
    }
    // Whoever had an end is gone: theirs are what they had begun.
    for (auto* holder : {&c->writer_is, &c->reader_is}) {
        if (static_cast<holding>(holder->load(std::memory_order_acquire) >> 32) == holding::closed) holder->store(0, std::memory_order_release);
    }
    std::uint64_t freed = 0;
    {
        const auto w = channel_writer::open(m, c);
        auto r = channel_reader::open(m, c);
        if (!w || !r) return refuse(EBUSY, "a process has taken an end of it");
        while (void* record = r->try_pop()) m.free(record), ++freed;
    }
    c->magic_word.store(0, std::memory_order_release);
    m.free(c);
    return freed;
}

channel::figures channel::count() const noexcept {
    figures f;
    f.popped = read.load(std::memory_order_acquire), f.pushed = written.load(std::memory_order_acquire), f.done = reader.done.load(std::memory_order_acquire);
    f.writer_waits = writer.waits.load(std::memory_order_relaxed), f.reader_waits = reader.waits.load(std::memory_order_relaxed);
    return f;
}

// ---- both ends ----

result<channel*> channel_end::examine(member& m, void* at) {
    const auto bytes = m.usable_size(at);
    auto* c = static_cast<channel*>(at);
    if (!bytes || *bytes < sizeof(channel) || reinterpret_cast<std::uintptr_t>(at) % alignof(channel) != 0 || c->magic_word.load(std::memory_order_acquire) != channel::magic ||
        !std::has_single_bit(c->places) || c->places < 2 || *bytes < sizeof(channel) + c->places * sizeof(std::atomic<void*>)) {
        return fail(EBADMSG, name_of(at), "open", "there is none");
    }
    return c;
}

bool channel_end::gone(heap& h, tag t) noexcept {
    const member_row& row = h.member_at(slot_of(t) % most_members);
    const member_word w{row.word.load(std::memory_order_acquire)};
    if (w.what() == phase::free || make_tag(slot_of(t), w.generation()) != t) return true;
    return w.what() == phase::present && t != h.me && sys::has_ended({static_cast<std::int32_t>(w.pid()), row.mark.load(std::memory_order_relaxed)});
}

result<void> channel_end::take(std::atomic<std::uint64_t>& holder, const char* name) {
    const auto refuse = [&](int code, const char* why) { return fail(code, name_of(c_), std::string("open its ") + name + " end", why); };
    std::uint64_t seen = holder.load(std::memory_order_acquire);
    for (;;) {
        const auto is = static_cast<channel::holding>(seen >> 32);
        if (is == channel::holding::closed) return refuse(EPIPE, "it was closed");
        if (is == channel::holding::held && !gone(*h_, static_cast<tag>(seen))) return refuse(EBUSY, "a process has it");
        if (holder.compare_exchange_strong(seen, static_cast<std::uint64_t>(channel::holding::held) << 32 | h_->me, std::memory_order_acq_rel)) return {};
    }
}

channel_end::peer channel_end::look_at(const std::atomic<std::uint64_t>& holder) const noexcept {
    const std::uint64_t seen = holder.load(std::memory_order_acquire);  // pairs with close(): what came before it is seen
    switch (static_cast<channel::holding>(seen >> 32)) {
        case channel::holding::closed: return peer::closed;
        case channel::holding::held: return gone(*h_, static_cast<tag>(seen)) ? peer::dead : peer::there;
        case channel::holding::nobody: break;
    }
    return peer::there;  // it may come
}

void channel_end::sleep(std::atomic<std::uint32_t>& flag, bool nap, std::int64_t most_ns) noexcept {
    sys::futex_wait_shared(flag, 1, std::min(nap ? nap_ns : slice_ns, most_ns));
}

void channel_end::wake(std::atomic<std::uint32_t>& flag) noexcept {
    if (flag.exchange(0) != 0) sys::futex_wake_shared(flag, 1);
}

// ---- the writer's ----

result<channel_writer> channel_writer::open(member& m, channel* at) {
    const auto c = examine(m, at);
    if (!c) return std::unexpected(c.error());
    channel_writer w(m, *c);
    if (auto taken = w.take((*c)->writer_is, "writer's"); !taken) {
        w.c_ = nullptr;
        return std::unexpected(taken.error());
    }
    channel::end& e = (*c)->writer;
    w.mine_ = (*c)->written.load(std::memory_order_acquire), w.other_ = (*c)->read.load(std::memory_order_acquire);
    void* begun = e.record.load(std::memory_order_acquire);
    if (begun && e.at.load(std::memory_order_relaxed) == w.mine_ && owner_word(*w.h_, begun).kept_by(e.by.load(std::memory_order_relaxed))) (void)w.h_->free(begun);
    e.record.store(nullptr, std::memory_order_release);
    e.by.store(w.h_->me, std::memory_order_release);
    return w;
}

result<void> channel_writer::push(void* record, std::int64_t timeout_ns) {
    if (try_push(record)) return {};
    const limit until(timeout_ns);
    const auto refuse = [&](int code, const char* why) { return fail(code, name_of(c_), "push record " + std::to_string(mine_), why); };
    for (bool nap = true;; nap = false) {
        for (int i = 0; i < looks; ++i) {
            for (int k = 0; k < pauses; ++k) pause();
            if (try_push(record)) return {};
        }
        const peer reader = look_at(c_->reader_is);
        if (reader == peer::closed) return refuse(EPIPE, "its reader has closed it");
        if (reader == peer::dead) return refuse(EOWNERDEAD, "its reader has died");
        const std::int64_t left = until.left();
        if (left == 0) return refuse(ETIMEDOUT, "nothing was popped in that time");
        c_->writer_sleeps.store(1);
        if (try_push(record)) {
            c_->writer_sleeps.store(0, std::memory_order_relaxed);
            return {};
        }
        if (nap) c_->writer.waits.store(c_->writer.waits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        sleep(c_->writer_sleeps, nap, left);
    }
}

void channel_writer::close() noexcept {
    if (!c_) return;
    c_->writer_is.store(static_cast<std::uint64_t>(channel::holding::closed) << 32, std::memory_order_release);  // pairs with look_at()
    wake(c_->reader_sleeps);
    c_ = nullptr;
}

void channel_writer::not_ours(void* record, int code) const noexcept {
    char text[160];
    const int n = std::snprintf(text, sizeof text, "cohort: sharepool: channel %p: push %p: %s: %s\n", static_cast<void*>(c_), record, errno_name(code).c_str(),
                                code == EPERM ? "it belongs to another process" : code == EALREADY ? "it is free" : "it is no object of the group");
    sys::say(text, n);
    std::abort();
}

// ---- the reader's ----

result<channel_reader> channel_reader::open(member& m, channel* at) {
    const auto c = examine(m, at);
    if (!c) return std::unexpected(c.error());
    channel_reader r(m, *c);
    if (auto taken = r.take((*c)->reader_is, "reader's"); !taken) {
        r.c_ = nullptr;
        return std::unexpected(taken.error());
    }
    channel::end& e = (*c)->reader;
    r.mine_ = r.other_ = (*c)->read.load(std::memory_order_acquire);
    void* begun = e.record.load(std::memory_order_acquire);
    if (begun && e.at.load(std::memory_order_relaxed) + 1 == r.mine_ && owner_word(*r.h_, begun).kept_by(e.by.load(std::memory_order_relaxed))) (void)r.h_->free(begun);
    e.record.store(nullptr, std::memory_order_release);
    e.by.store(r.h_->me, std::memory_order_release);
    r.inherited_ = {e.done.load(std::memory_order_acquire), r.mine_};
    return r;
}

bool channel_reader::look(std::uint32_t gather) noexcept {
    const std::uint64_t want = std::min<std::uint64_t>(gather, (mask_ + 1) / 2);
    for (int i = 0; i < looks; ++i) {
        other_ = c_->written.load(std::memory_order_acquire);  // pairs with the writer's release
        if (other_ - mine_ >= want) return true;
        for (int k = 0; k < pauses; ++k) pause();
    }
    return other_ != mine_;
}

result<void*> channel_reader::pop(std::int64_t timeout_ns, std::uint32_t gather) {
    if (other_ != mine_ || look(gather)) return try_pop();
    const limit until(timeout_ns);
    const auto refuse = [&](int code, const char* why) { return fail(code, name_of(c_), "pop record " + std::to_string(mine_), why); };
    for (bool nap = true;; nap = false) {
        const peer writer = look_at(c_->writer_is);
        if (void* record = try_pop()) return record;  // the last ones, pushed before it closed or died
        if (writer == peer::closed) return refuse(ENODATA, "its writer has closed it");
        if (writer == peer::dead) return refuse(EOWNERDEAD, "its writer has died");
        const std::int64_t left = until.left();
        if (left == 0) return refuse(ETIMEDOUT, "nothing was pushed in that time");
        c_->reader_sleeps.store(1);
        if (void* record = try_pop()) {
            c_->reader_sleeps.store(0, std::memory_order_relaxed);
            return record;
        }
        if (nap) c_->reader.waits.store(c_->reader.waits.load(std::memory_order_relaxed) + 1, std::memory_order_relaxed);
        sleep(c_->reader_sleeps, nap, left);
    }
}

void channel_reader::close() noexcept {
    if (!c_) return;
    c_->reader_is.store(static_cast<std::uint64_t>(channel::holding::closed) << 32, std::memory_order_release);  // pairs with look_at()
    wake(c_->writer_sleeps);
    c_ = nullptr;
}

void channel_reader::not_kept(void* record, int code) const noexcept {
    char text[160];
    const int n = std::snprintf(text, sizeof text, "cohort: sharepool: channel %p: pop %p: %s: %s\n", static_cast<void*>(c_), record, errno_name(code).c_str(),
                                code == EINVAL ? "it is no object of the group" : "it was freed, or taken back, while it was in the queue");
    sys::say(text, n);
    std::abort();
}

}  // namespace cohort::sharepool
