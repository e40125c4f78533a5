// SPDX-License-Identifier: Apache-2.0
/// What a broker consists of, and what becomes of each message (broker.cpp: requests; joins.cpp: what takes several messages; restart.cpp: the beginning).
///
///     connections ──message──> serve() ──> directory's rules ──> answer
///                                  └────> task: asks processes, waits for `done`, an end or a time limit ──> answer
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <unordered_map>
#include <vector>

#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/detail/connections.hpp>
#include <cohort/sharepool/broker/detail/group_file_store.hpp>
#include <cohort/sharepool/broker/journal.hpp>

namespace cohort::sharepool {

/// Synchronization: one thread at a time.
struct broker::impl {
    explicit impl(broker_options o) : options(std::move(o)) {}
    result<void> start();

    using connection = detail::connection;
    using descriptors = std::vector<sys::owned_fd>;

    /// A process that is attached, was when the broker ended, or has only lost its connection.
    struct process {
        sys::process_identity identity;
        std::uint64_t connection = 0;       ///< 0: none
        sys::owned_fd ends;                 ///< its pidfd, watched
        bool in_directory = false;
        std::vector<int> left;              ///< groups that are to be recovered from it once it has ended
    };

    // ---- broker.cpp ----
    void serve(connection& c, wire::packet p, descriptors fds);
    result<wire::packet> hello(connection& c, const wire::packet& p);
    result<wire::packet> create_group(connection& c, const wire::packet& p);
    result<wire::packet> destroy(connection& c, const wire::packet& p);
    result<wire::packet> list_groups(const wire::packet& p);
    result<wire::packet> list_members(const wire::packet& p);
    result<wire::packet> list_imports(const wire::packet& p);
    result<wire::packet> totals(const wire::packet& p);
    result<wire::packet> look(connection& c, const wire::packet& p, std::vector<detail::shared_fd>& out);
    process_facts facts_of(int pid);
    std::string object_of(int id) const { return "group " + std::to_string(id); }
    void say(const std::string& line) const {
        if (options.say) options.say(line);
    }

    // ---- joins.cpp ----
    /// What waits for answers of processes. `each` comes for every one asked: e is what it said, or that it ended, or that its time is over; `all` once no answer is missing.
    struct task {
        std::uint64_t key = 0;
        std::uint64_t requester = 0;                             ///< 0: nobody, or it has gone
        wire::packet request;
        std::unordered_map<std::uint64_t, std::uint64_t> awaited;  ///< number -> connection
        std::function<void(task&, connection* from, std::uint64_t number, const error* e)> each;
        std::function<void(task&)> all;
    };
    task& begin_task(connection* requester, const wire::packet& request, std::chrono::nanoseconds patience);
    /// Asks one process within a task; its number.
    std::uint64_t ask(task& t, connection& target, wire::packet p, std::vector<detail::shared_fd> fds = {});
    void finish_if_answered(std::uint64_t task_key);
    void answered(connection& from, const wire::packet& p);
    void settle(std::uint64_t number, connection* from, const error* e);
    void answer_task(const task& t, const result<int>& what, const std::string& warnings = {}, const trace& seen = {});

    void add(connection& c, wire::packet p);
    void add_local(connection& c, const wire::packet& p);
    void begin_join(connection& c, const wire::packet& p, const directory::ticket& t, trace seen);
    void remove(connection& c, const wire::packet& p);
    void import(connection& c, const wire::packet& p, descriptors fds);
    void unshare(connection& c, const wire::packet& p);
    connection* connection_of(const sys::process_identity& p);
    std::vector<connection*> holders_of(int id, const import_facts& f);
    result<const detail::group_file_store::files*> files_for(const spg& g);

    // ---- leaving ----
    void connection_ended(connection& c);
    void process_ended(int pid);
    /// It is in no group any more, and the groups it was in are put in order.
    void leave_directory(process& p);
    void group_died(int id);
    void recover_in(int id, const sys::process_identity& gone);
    void recover_what_waits(int id);

    void tell_unmap(const sys::process_identity& p, int id);

    // ---- restart.cpp ----
    void write_down(const record& r);
    void tend_journal();
    result<void> read_journal();
    void processes_of_before();
    void end_of_waiting();
    void holds(connection& c, const wire::packet& p, descriptors fds);
    result<void> take_up(connection& c, const wire::packet& p, const descriptors& fds);

    struct import_place {
        int id;
        std::uint64_t at;
        auto operator<=>(const import_place&) const = default;
    };

    broker_options options;                 // [const after start]
    broker_figures figures;
    std::unique_ptr<detail::connections> peers;
    std::unique_ptr<directory> groups;
    std::unique_ptr<journal> log;           // null: none is kept
    detail::group_file_store store;
    std::map<import_place, detail::shared_fd> import_files;
    std::unordered_map<int, process> processes;
    std::unordered_map<std::uint64_t, std::unique_ptr<task>> tasks;
    std::unordered_map<std::uint64_t, std::uint64_t> task_of_number;
    std::map<int, std::vector<sys::process_identity>> unrecovered;  ///< groups without a member that could do it: the next one does
    struct parked {
        std::uint64_t connection;
        wire::packet p;
    };
    std::vector<parked> waiting;            ///< requests for groups whose files a member has still to bring
    bool waits_for_members = false, begins = false;
    std::uint64_t numbers = 0, task_keys = 0;
};

}  // namespace cohort::sharepool
