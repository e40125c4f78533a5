// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/share_pool.hpp>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <utility>

#include <cohort/sharepool/detail/attachment.hpp>
#include <cohort/sharepool/detail/ranges.hpp>
#include <cohort/sys/packet_socket.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {

using wire::packet;
using wire::verb;

namespace {

/// All of this process, for its children: they have no thread of it, and no memory.
mutex all_lock;
std::vector<share_pool*>& all() {
    static auto* list = new std::vector<share_pool*>;  // [guarded: all_lock]
    return *list;
}
constinit std::atomic<share_pool*> at_load{nullptr};  // [atomic: the constructor sets it, once]

}  // namespace

/// Reaches the parts of a share_pool around fork().
struct fork_handlers {
    static void before() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        all_lock.lock();
        for (share_pool* p : all()) p->impl_->lock.lock();
    }
    static void in_parent() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        for (share_pool* p : all()) p->impl_->lock.unlock();
        all_lock.unlock();
    }
    static void in_child() COHORT_NO_THREAD_SAFETY_ANALYSIS {
        for (share_pool* p : all()) {
            p->impl_->forget_in_child();
            p->impl_->lock.unlock();
        }
        all().clear();
        at_load.store(nullptr);
        all_lock.unlock();
    }
    static void install() {
        // The ranges' own handler runs first in a child: members then know that they are none.
        detail::forget_ranges_in_children();
        static const bool once = sys::at_fork(&before, &in_parent, &in_child) == 0;
        (void)once;
    }
};

// ---- the connection ----

result<void> share_pool::impl::begin() {
    auto fd = sys::connect_packets(socket_name(options.socket));
    if (!fd) return std::unexpected(fd.error());
    if (auto r = shake_hands(fd->get()); !r) return r;
    auto b = sys::poll_bell::create();
    if (!b) return std::unexpected(b.error());
    bell = new sys::poll_bell(std::move(*b));
    {
        lock_guard hold(lock);
        socket = std::move(*fd);
    }
    thread = new std::thread(sys::start_quiet_thread([this] { main(); }));
    return {};
}

void share_pool::impl::end() {
    if (thread) {
        ending.store(true);
        bell->ring();
        thread->join();
        delete thread;
        delete bell;
    }
    std::map<int, std::shared_ptr<detail::joined>> mine;
    {
        lock_guard hold(lock);
        mine.swap(groups);
    }
    // Members leave by themselves; the broker then has nothing to let others recover.
    mine.clear();
    lock_guard hold(lock);
    socket = {};
}

/// Under the lock, which fork() held.
void share_pool::impl::forget_in_child() noexcept COHORT_NO_THREAD_SAFETY_ANALYSIS {
    in_child.store(true);
    thread = nullptr;  // there is none here; its object is the parent's
    socket = {};
    groups.clear();
    if (bell) delete std::exchange(bell, nullptr);
}

result<broker_client::answered> share_pool::impl::ask(packet p, std::span<const int> descriptors) {
    if (in_child.load()) return fail(ECONNRESET, "broker", "ask it", "this is a child of fork(), which is attached to none");
    if (thread_id.load() == sys::thread_id()) return fail(EDEADLK, "broker", "ask it", "a notifier waits for nothing");
    const auto until = std::chrono::steady_clock::now() + options.patience;
    const bool with_failure = (p.flags & wire::with_trace) != 0;
    waiter w;
    lock_guard hold(lock);
    p.number = ++numbers;
    const auto bytes = wire::encode(p);
    waiting.emplace(p.number, &w);
    int sent = EPIPE;
    while (socket && (sent = sys::send_packet(socket.get(), bytes, descriptors)) == EAGAIN) {
        // It reads slowly; the thread that would be told is this one's own.
        if (!answered.wait_until(lock, std::min(until, std::chrono::steady_clock::now() + std::chrono::milliseconds(1))) && std::chrono::steady_clock::now() >= until) break;
        if (w.done) break;
    }
    while (sent == 0 && !w.done && answered.wait_until(lock, until)) {
    }
    waiting.erase(p.number);
    if (sent != 0 && sent != EAGAIN) return fail(ECONNRESET, "broker", "ask it", "there is none at the moment");
    if (!w.done) return fail(ETIMEDOUT, "broker", "wait for its answer", "it does not answer");
    if (w.what && w.what->p.code != 0 && !with_failure) return std::unexpected(wire::error_of(w.what->p));
    return std::move(w.what);
}

std::shared_ptr<detail::joined> share_pool::impl::find(int id) const {
    lock_guard hold(lock);
    const auto it = groups.find(id);
    return it == groups.end() ? nullptr : it->second;
}
std::shared_ptr<detail::joined> share_pool::impl::at(const void* p) const {
    const auto address = reinterpret_cast<std::uint64_t>(p);
    lock_guard hold(lock);
    for (const auto& [id, g] : groups) {
        if (address - g->base < g->bytes) return g;
    }
    return nullptr;
}

// ---- the class ----

share_pool::share_pool(std::unique_ptr<impl> i) : impl_(std::move(i)) {}

result<std::unique_ptr<share_pool>> share_pool::attach(const attach_options& o) {
    fork_handlers::install();
    std::unique_ptr<share_pool> p(new share_pool(std::make_unique<impl>(o)));
    {
        lock_guard hold(all_lock);
        all().push_back(p.get());
    }
    if (auto r = p->impl_->begin(); !r) return std::unexpected(r.error());
    return p;
}

share_pool::~share_pool() {
    {
        lock_guard hold(all_lock);
        std::erase(all(), this);
    }
    if (impl_->in_child.load()) {
        // Threads of the parent may have waited in it: it cannot be taken down here, and holds nothing any more.
        (void)impl_.release();
        return;
    }
    impl_->end();
}

share_pool* share_pool::current() { return at_load.load(); }

result<int> share_pool::group_add_task(int pid, int id, const add_options& o) {
    const std::uint32_t flags = (o.prot == access::read ? wire::read_only : 0u) | (o.single ? wire::single : 0u) | (o.populate ? wire::populate : 0u) | (o.checks ? wire::with_trace : 0u);
    auto got = impl_->ask({.what = verb::add, .pid = pid, .id = id, .flags = flags});
    if (!got) return std::unexpected(got.error());
    if (o.checks) *o.checks = wire::trace_of(got->p);
    if (got->p.code != 0) return std::unexpected(wire::error_of(got->p));
    return got->p.id;
}

result<void> share_pool::group_del_task(int pid, int id) {
    auto got = impl_->ask({.what = verb::remove, .pid = pid, .id = id});
    if (!got) return std::unexpected(got.error());
    return {};
}

result<std::vector<int>> share_pool::group_id_by_pid(int pid) const {
    auto got = impl_->ask({.what = verb::ids, .pid = pid});
    if (!got) return std::unexpected(got.error());
    return wire::rows_of<int>(got->p);
}

result<std::vector<member_facts>> share_pool::group_walk(int id) const {
    std::vector<member_facts> members;
    packet p{.what = verb::members, .id = id};
    do {
        auto got = impl_->ask(p);
        if (!got) return std::unexpected(got.error());
        for (const auto& r : wire::rows_of<wire::member_row>(got->p)) {
            members.push_back({.process = {r.pid, r.mark}, .prot = r.reads_only ? access::read : access::read_write, .populate = r.populate != 0});
        }
        p.offset = got->p.offset;
    } while (p.offset != 0);
    return members;
}

result<int> share_pool::id_of_current() {
    {
        lock_guard hold(impl_->lock);
        if (impl_->local != 0) return impl_->local;
    }
    auto got = impl_->ask({.what = verb::add_local});
    if (!got) return std::unexpected(got.error());
    lock_guard hold(impl_->lock);
    return impl_->local = got->p.id;
}

int share_pool::register_notifier(std::function<void(int id)> f) {
    static constinit std::atomic<int> counter{0};
    const int number = ++counter;
    {
        lock_guard hold(impl_->lock);
        impl_->notifiers.emplace(number, std::move(f));
    }
    // Without a broker now: said when there is one again.
    (void)impl_->ask({.what = verb::follow});
    return number;
}

result<void> share_pool::unregister_notifier(int number) {
    lock_guard hold(impl_->lock);
    if (impl_->notifiers.erase(number) == 0) return fail(ENOENT, "notifier " + std::to_string(number), "unregister it", "there is none of this number");
    return {};
}

member* share_pool::in(int id) const {
    const auto g = impl_->find(id);
    return g ? g->writes.get() : nullptr;
}

// ---- attached when the program is loaded ----

namespace {

void complain(const std::string& line) {
    const std::string text = "cohort: sharepool: " + line + '\n';
    sys::say(text.data(), static_cast<int>(text.size()));
}

/// "7,9:r": the groups that the program is to be in from its first line on; r: for reading.
result<void> join_at_load(const std::string& ids) {
    auto p = share_pool::attach({});
    if (!p) return std::unexpected(p.error());
    for (const char *at = ids.data(), *end = at + ids.size(); at < end;) {
        int id = 0;
        const auto [rest, code] = std::from_chars(at, end, id);
        const bool reads = code == std::errc{} && end - rest >= 2 && rest[0] == ':' && rest[1] == 'r';
        const char* const next = reads ? rest + 2 : rest;
        if (code != std::errc{} || (next != end && *next != ',')) return fail(EINVAL, "COHORT_POOL_JOIN=" + ids, "read it", "it is a list of ids, such as 7,9 or 7:r (for reading)");
        if (auto r = (*p)->group_add_task(sys::real().getpid(), id, {.prot = reads ? access::read : access::read_write}); !r) return std::unexpected(r.error());
        at = next == end ? end : next + 1;
    }
    at_load.store(p->release());  // for as long as the program runs
    return {};
}

__attribute__((constructor)) void attach_if_asked() {
    const auto ids = sys::real().getenv("COHORT_POOL_JOIN");
    if (!ids || ids->empty()) return;
    const auto joined = join_at_load(*ids);
    if (joined) return;
    complain(joined.error().line());
    if (sys::real().getenv("COHORT_POOL_REQUIRE") == "1") std::_Exit(5);
}

}  // namespace

}  // namespace cohort::sharepool
