// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/process_table.hpp>

#include <algorithm>

namespace cohort::coresched {
namespace {

enum command { get_command = 0, create_command = 1, share_to_command = 2, share_from_command = 3, commands = 4 };
constexpr int types = 3;

std::string thread_name(int id) { return id == 0 ? std::string("this thread") : "thread " + std::to_string(id); }
std::unexpected<error> refuse(int code, int id, std::string reason) { return fail(code, thread_name(id), "prctl PR_SCHED_CORE", std::move(reason)); }

}  // namespace

int process_table::add(thread t) {
    const int tid = ++last_;
    if (t.process == 0) t.process = tid;
    if (t.group == 0) t.group = tid;
    cookies_.get(t.tag);
    threads_.emplace(tid, std::move(t));
    return tid;
}

int process_table::start(process_options o) { return add({.group = o.group, .uid = o.uid, .dumpable = o.dumpable, .name = std::move(o.name)}); }
int process_table::fork(int by) {
    thread child = threads_.at(by);
    child.process = 0;
    return add(std::move(child));
}
int process_table::clone(int by) { return add(threads_.at(by)); }
void process_table::exit(int tid) { threads_.at(tid).ended = true; }
void process_table::reap(int tid) {
    cookies_.put(threads_.at(tid).tag);
    threads_.erase(tid);
}

std::vector<int> process_table::threads_of(int process) const {
    std::vector<int> out;
    for (const auto& [tid, t] : threads_) {
        if (t.process == process) out.push_back(tid);
    }
    return out;
}

void process_table::set(int tid, cookie c) {
    thread& t = threads_.at(tid);
    cookies_.get(c);
    std::swap(t.tag, c);
    cookies_.put(c);
    if (on_change) on_change(tid, t.tag);
}

bool process_table::may_look(int by, int at) const {
    const thread &caller = threads_.at(by), &other = threads_.at(at);
    if (caller.process == other.process || caller.uid == 0) return true;
    return caller.uid == other.uid && other.dumpable;
}

std::vector<int> process_table::reached(int id, int type) const {
    const thread& named = threads_.at(id);
    std::vector<int> out;
    for (const auto& [tid, t] : threads_) {
        const bool hit = type == static_cast<int>(scope::thread) ? tid == id : type == static_cast<int>(scope::process) ? t.process == named.process : t.group == named.group;
        if (hit) out.push_back(tid);
    }
    return out;
}

result<std::uint64_t> process_table::call(int by, int command, int id, int type, std::uintptr_t address) {
    if (!built_in) return refuse(EINVAL, id, "the kernel is built without it");
    if (!smt) return refuse(ENODEV, id, "no core has two CPUs online");
    if (type < 0 || type >= types || command < 0 || command >= commands || id < 0 || (command != get_command && address != 0)) return refuse(EINVAL, id, "a wrong argument");
    const int target = id == 0 ? by : id;
    if (!threads_.contains(target)) return refuse(ESRCH, id, "there is no such thread");
    if (!may_look(by, target)) return refuse(EPERM, id, "it may not be looked at");
    const bool one_only = command == get_command || command == share_from_command;
    if (one_only && type != static_cast<int>(scope::thread)) return refuse(EINVAL, id, "of one thread only");
    if (command == get_command) {
        if (address % 8 != 0) return refuse(EINVAL, id, "the address is not aligned");
        if (address == 0) return refuse(EFAULT, id, "the address cannot be written");
        return threads_.at(target).tag;
    }
    if (command == share_from_command) {
        set(by, threads_.at(target).tag);
        return 0;
    }
    if (command == create_command && no_memory) return refuse(ENOMEM, id, "no memory for a cookie");
    // A reference of the call's own: one that nobody takes ends with it.
    const cookie value = command == create_command ? cookies_.create() : threads_.at(by).tag;
    if (command == share_to_command) cookies_.get(value);
    const std::vector<int> all = reached(target, type);
    const bool allowed = std::ranges::all_of(all, [&](int tid) { return may_look(by, tid); });
    for (int tid : all) {
        if (allowed) set(tid, value);
    }
    cookies_.put(value);
    if (!allowed) return refuse(EPERM, id, "one of its process or group may not be looked at");
    return 0;
}

result<cookie> table_verbs::get(int id) { return table_.call(by_, get_command, id, 0, 8); }
result<void> table_verbs::act(int command, int id, scope whom) {
    if (auto r = table_.call(by_, command, id, static_cast<int>(whom), 0); !r) return std::unexpected(r.error());
    return {};
}
result<void> table_verbs::clear(int id, scope whom) {
    const auto& caller = table_.threads().at(by_);
    const int pusher = table_.start({.uid = caller.uid});
    const auto r = table_.call(pusher, share_to_command, id == 0 ? by_ : id, static_cast<int>(whom), 0);
    table_.exit(pusher);
    table_.reap(pusher);
    if (!r) return std::unexpected(r.error());
    return {};
}

}  // namespace cohort::coresched
