// SPDX-License-Identifier: Apache-2.0
#include <cohort/notifier/chain.hpp>

#include <thread>

namespace cohort::notifier {
namespace detail {

constinit thread_local const call_mark* call_mark::top_ = nullptr;

namespace {
std::string name_of(const block& b) { return "notifier block of priority " + std::to_string(b.priority()); }
}  // namespace

result<void> list::add(block& b, bool unique) {
    if (const void* owner = b.owner_.load()) return fail(EEXIST, name_of(b), "add", owner == this ? "it is on this chain" : "it is on another chain");
    std::atomic<block*>* at = &head_;
    for (block* next = at->load(); next && next->priority_ >= b.priority_; next = at->load()) {
        if (unique && next->priority_ == b.priority_) return fail(EBUSY, name_of(b), "add", "the priority is taken");
        at = &next->next_;
    }
    b.next_.store(at->load());
    b.owner_.store(this);
    at->store(&b);  // published whole: a walk sees the block with its next_ or not at all
    return {};
}

result<void> list::remove(block& b) {
    if (b.owner_.load() != this) return fail(ENOENT, name_of(b), "remove", "it is not on this chain");
    std::atomic<block*>* at = &head_;
    while (at->load() != &b) at = &at->load()->next_;
    at->store(b.next_.load());
    b.owner_.store(nullptr);
    return {};
}

int list::walk(unsigned long event, void* data, int limit, int& calls) const {
    int answer = done;
    calls = 0;
    for (block* b = head_.load(); b && calls != limit;) {
        block* next = b->next_.load();  // before the call: the block may go in it
        answer = b->callback_(event, data);
        ++calls;
        if (answer & stop_mask) break;
        b = next;
    }
    return answer;
}

int list::walk_robust(unsigned long up, unsigned long down, void* data) const {
    int calls = 0;
    const int answer = walk(up, data, -1, calls);
    int ignored = 0;
    // The one that refused is not told: it knows.
    if (answer & stop_mask) walk(down, data, calls - 1, ignored);
    return answer;
}

}  // namespace detail

using detail::call_mark;

namespace {
std::unexpected<error> from_own_callback(const char* act) {
    return fail(EDEADLK, "notifier chain", act, "from a callback of the same chain, which it would wait for");
}
int with_count(const detail::list& list, unsigned long event, void* data, int limit, int* calls) {
    int count = 0;
    const int answer = list.walk(event, data, limit, count);
    if (calls) *calls = count;
    return answer;
}
}  // namespace

// blocking

template <class Body>
int blocking_chain::as_reader(Body body) {
    const bool nested = call_mark::inside(this);  // a second hold of the lock could wait behind a writer that waits for the first
    const call_mark mark(this);
    if (nested) return body();
    const shared_guard hold(lock_);
    return body();
}

result<void> blocking_chain::change(const char* act, block& b, result<void> (*how)(detail::list&, block&)) {
    if (call_mark::inside(this)) return from_own_callback(act);
    const lock_guard hold(lock_);
    return how(list_, b);
}

result<void> blocking_chain::add(block& b) {
    return change("add", b, [](detail::list& l, block& x) { return l.add(x, false); });
}
result<void> blocking_chain::add_unique(block& b) {
    return change("add", b, [](detail::list& l, block& x) { return l.add(x, true); });
}
result<void> blocking_chain::remove(block& b) {
    return change("remove", b, [](detail::list& l, block& x) { return l.remove(x); });
}
int blocking_chain::call(unsigned long event, void* data, int limit, int* calls) {
    return as_reader([&] { return with_count(list_, event, data, limit, calls); });
}
int blocking_chain::call_robust(unsigned long up, unsigned long down, void* data) {
    return as_reader([&] { return list_.walk_robust(up, down, data); });
}

// atomic

template <class Body>
int atomic_chain::as_reader(Body body) {
    const call_mark mark(this);
    // A call counts itself, then reads the list; remove() changes the list, then reads the counts. All are seq_cst: either remove() sees the call and
    // waits for it, or the call sees the list without the block. Which of the two counts is taken matters only for progress.
    std::atomic<int>& count = readers_[phase_.load()];
    count.fetch_add(1);
    const int answer = body();
    count.fetch_sub(1);
    return answer;
}

void atomic_chain::wait_for(int phase) {
    while (readers_[phase].load() != 0) std::this_thread::yield();  // callbacks do not block: not for long
}

void atomic_chain::wait_for_readers() {
    const lock_guard hold(grace_);
    // New calls count in the other phase, so that a stream of them cannot keep this one waiting; what late-comers of the last flip left there ends first.
    const int old = phase_.load();
    wait_for(1 - old);
    phase_.store(1 - old);
    wait_for(old);
}

result<void> atomic_chain::add(block& b) {
    const lock_guard hold(lock_);
    return list_.add(b, false);
}
result<void> atomic_chain::add_unique(block& b) {
    const lock_guard hold(lock_);
    return list_.add(b, true);
}
result<void> atomic_chain::remove(block& b) {
    if (call_mark::inside(this)) return from_own_callback("remove");
    {
        const lock_guard hold(lock_);
        if (auto r = list_.remove(b); !r) return r;
    }
    wait_for_readers();
    return {};
}
int atomic_chain::call(unsigned long event, void* data, int limit, int* calls) {
    return as_reader([&] { return with_count(list_, event, data, limit, calls); });
}
int atomic_chain::call_robust(unsigned long up, unsigned long down, void* data) {
    return as_reader([&] { return list_.walk_robust(up, down, data); });
}

// raw

int raw_chain::call(unsigned long event, void* data, int limit, int* calls) { return with_count(list_, event, data, limit, calls); }

}  // namespace cohort::notifier
