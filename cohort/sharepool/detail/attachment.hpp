// SPDX-License-Identifier: Apache-2.0
/// What a share_pool consists of: the connection, the thread that serves the broker, the groups that the process is in (share_pool.cpp); what is done with their memory is in share_pool_memory.cpp.
///
///     a caller ──ask()──> packet ──> broker ──answer──> the thread ──> the caller wakes
///                                       └────map, recover...──> the thread ──done──> broker
#pragma once

#include <atomic>
#include <functional>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <cohort/base/mutex.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/broker/wire.hpp>
#include <cohort/sharepool/member.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/sharepool/view.hpp>
#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sharepool {

namespace detail {

/// A group that this process is in. Made and unmade by the thread that serves; whoever uses it meanwhile shares it.
struct joined {
    int id = 0;
    access prot = access::read_write;
    std::unique_ptr<member> writes;        ///< of read_write
    std::unique_ptr<view> reads;           ///< of read
    sys::owned_fd data, metadata;          ///< of read: to be shown to a broker that has started again
    std::uint64_t base = 0, bytes = 0;
    bool lost = false;                     ///< of the serving thread: a broker that started again did not know it
    bool offered = true;                   ///< of the serving thread: false: it is to be shown to the broker (again)
    std::uint64_t limit = 0;               ///< as the broker said at the join; 0: none
    std::map<std::uint64_t, sys::owned_fd> imports;  ///< of the serving thread; to be shown, too
};

}  // namespace detail

/// Synchronization: any thread; `lock` is never held while anything waits.
struct share_pool::impl {
    explicit impl(attach_options o) : options(std::move(o)) {}

    // ---- the connection (share_pool.cpp) ----
    result<void> begin();
    void end();
    /// Asks and waits for the answer; the number is set here. Errors: what the broker answered, ETIMEDOUT, ECONNRESET; EDEADLK, called by the serving thread, in a notifier.
    result<broker_client::answered> ask(wire::packet p, std::span<const int> descriptors = {}) COHORT_EXCLUDES(lock);
    /// nullptr: the process is not in it.
    std::shared_ptr<detail::joined> find(int id) const COHORT_EXCLUDES(lock);
    /// The group whose addresses p is in.
    std::shared_ptr<detail::joined> at(const void* p) const COHORT_EXCLUDES(lock);

    // ---- the thread (share_pool_thread.cpp) ----
    void main();
    result<void> shake_hands(int socket);
    result<broker_client::answered> exchange(int socket, wire::packet p, std::span<const int> descriptors = {});
    result<void> offer(int socket);
    void serve(int socket, broker_client::answered& m);
    bool reconnect();
    result<void> map(const wire::packet& p, std::vector<sys::owned_fd>& fds);
    void make_room(const wire::packet& p);
    result<void> recover(const wire::packet& p);
    void wake(broker_client::answered& m);
    void fail_all();
    void forget_in_child() noexcept;

    // ---- memory (share_pool_memory.cpp) ----
    /// The group that the caller may allocate in; id 0: its local one. Errors: ENODEV; EPERM.
    result<std::shared_ptr<detail::joined>> writable(share_pool& self, int id, const std::string& act);
    /// nodes: by alloc_nodemask() alone.
    result<void*> alloc(share_pool& self, std::size_t size, unsigned long flags, int id, const nodemask* nodes);

    static result<void> map_import(detail::joined& g, const wire::packet& p, sys::owned_fd file);
    static void unmap_import(detail::joined& g, std::uint64_t at);
    /// Whether anything is allocated or imported in it.
    static bool in_use(const detail::joined& g);

    struct waiter {
        bool done = false;
        result<broker_client::answered> what = fail(ECONNRESET, "broker", "wait for its answer", "its connection has ended");
    };

    const attach_options options;
    mutable mutex lock;
    condition_variable answered;
    sys::owned_fd socket COHORT_GUARDED_BY(lock);                        // none: no broker at the moment
    std::uint64_t numbers COHORT_GUARDED_BY(lock) = 0;
    std::map<std::uint64_t, waiter*> waiting COHORT_GUARDED_BY(lock);
    std::map<int, std::shared_ptr<detail::joined>> groups COHORT_GUARDED_BY(lock);
    std::map<int, std::function<void(int)>> notifiers COHORT_GUARDED_BY(lock);
    int local COHORT_GUARDED_BY(lock) = 0;                               // the id of the local group, once there is one
    bool to_offer = false;                                               // [the thread] some group is not offered yet
    sys::poll_bell* bell = nullptr;                                      // [const after begin] rung when the thread is to end
    std::atomic<bool> ending{false};                                     // [atomic: end() sets; the bell publishes]
    std::atomic<bool> in_child{false};                                   // [atomic: a child of fork() sets it in itself]
    std::thread* thread = nullptr;                                       // [const after begin] not joinable in a child
    std::atomic<int> thread_id{0};                                       // [atomic: the thread sets it, once]
};

}  // namespace cohort::sharepool
