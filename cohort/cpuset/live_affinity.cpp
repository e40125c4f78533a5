// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/live_affinity.hpp>

#include <algorithm>
#include <charconv>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::cpuset {
namespace {

constexpr int most_rounds = 1000;
constexpr int quiet_rounds = 3;                    // looks that find nothing new, after masks were changed
constexpr std::uint64_t between_rounds = 200'000;  // nanoseconds

std::unexpected<error> refused(const answer& a, const std::string& path, std::string act) { return fail(a.code, set_name(path), std::move(act), a.why); }

int number_of(const std::string& text) {
    int n = 0;
    std::from_chars(text.data(), text.data() + text.size(), n);
    return n;
}

}  // namespace

affinity_backend::affinity_backend(sys::os& os, const machine::topology& machine, int pid, affinity_options o)
    : os_(os), pid_(pid), own_process_(pid == os.getpid()), model_(machine, {.profile = o.profile}), online_(machine.possible), all_nodes_(machine.node_numbers()), nodes_(all_nodes_) {}

result<std::unique_ptr<affinity_backend>> affinity_backend::create(sys::os& os, const machine::topology& machine, affinity_options o) {
    const int pid = o.pid ? o.pid : os.getpid();
    if (auto threads = sys::threads_of_process(os, pid); !threads) return std::unexpected(threads.error());
    std::unique_ptr<affinity_backend> out(new affinity_backend(os, machine, pid, o));
    for (int cpu : machine.possible - machine.online) out->ask({.what = verb::cpu, .number = cpu, .on = false});
    out->online_ = machine.online;
    return out;
}

affinity_backend::~affinity_backend() {
    if (known_.empty()) return;
    // A thread that is met here first has inherited what we gave to one that may have its own back by now: it is known by what that one was given before.
    auto held = known_;
    for (int round = 0; round < most_rounds; ++round) {
        bool fresh = false;
        for (int tid : sys::threads_of_process(os_, pid_).value_or(std::vector<int>{})) {
            const auto it = known_.find(tid);
            const auto has = os_.sched_getaffinity(tid);
            if (!has) continue;
            if (it == known_.end()) {
                held[tid] = known_[tid] = newcomer(*has, held);
                fresh = true;
            }
            thread_state& t = known_[tid];
            if (*has == t.given && t.own != t.given && os_.sched_setaffinity(tid, t.own)) t.given = t.own;
        }
        if (!fresh) break;
    }
    if (own_policy_) (void)os_.set_mempolicy(*own_policy_);
}

std::string affinity_backend::name() const { return "affinities of process " + std::to_string(pid_); }

result<void> affinity_backend::change(const operation& op, const std::string& act) {
    if (const answer a = ask(op); !a.ok()) return refused(a, op.path, act);
    return known_.empty() ? result<void>{} : enforce();
}

result<void> affinity_backend::create(const std::string& path) { return change({.what = verb::mkdir, .path = path}, "create"); }
result<void> affinity_backend::remove(const std::string& path) { return change({.what = verb::rmdir, .path = path}, "remove"); }
result<void> affinity_backend::write(const std::string& path, const std::string& file, const std::string& text) {
    return change({.what = verb::write, .path = path, .file = file, .text = text}, "write " + file + " \"" + text + "\"");
}
result<std::string> affinity_backend::read(const std::string& path, const std::string& file) {
    const answer a = ask({.what = verb::read, .path = path, .file = file});
    if (!a.ok()) return refused(a, path, "read " + file);
    return a.value;
}
result<void> affinity_backend::controller(const std::string& path, bool on) {
    if (auto r = change({.what = verb::controller, .path = path, .on = on}, on ? "hand cpuset on" : "stop handing cpuset on"); !r) return r;
    handed_[path] = on;
    return {};
}
result<bool> affinity_backend::hands_on(const std::string& path) {
    const auto paths = model_.paths();
    if (!path.empty() && std::ranges::find(paths, path) == paths.end()) return fail(ENOENT, set_name(path), "read", "there is no such set");
    const auto it = handed_.find(path);
    return it == handed_.end() ? path.empty() : it->second;
}

result<std::vector<int>> affinity_backend::threads(const std::string& path) {
    const answer a = ask({.what = verb::tasks, .path = path});
    if (!a.ok()) return refused(a, path, "list its threads");
    std::vector<int> out;
    for (const std::string& t : a.list) out.push_back(number_of(t));
    std::ranges::sort(out);
    return out;
}
result<std::vector<int>> affinity_backend::tasks(const std::string& path) {
    auto all = threads(path);
    if (all) std::erase_if(*all, [&](int tid) { return tid != pid_; });
    return all;
}
result<std::string> affinity_backend::home(int pid) {
    const auto it = known_.find(pid);
    if (it != known_.end()) return it->second.path;
    const auto all = sys::threads_of_process(os_, pid_);
    if (all && std::ranges::find(*all, pid) != all->end()) return process_set_;
    return fail(ESRCH, "thread " + std::to_string(pid), "find its cpuset", "it is none of process " + std::to_string(pid_));
}
result<std::vector<std::string>> affinity_backend::children(const std::string& path) {
    std::vector<std::string> out;
    for (const std::string& p : model_.paths()) {
        const std::size_t slash = p.rfind('/');
        if (p != "." && (slash == p.npos ? "" : p.substr(0, slash)) == path) out.push_back(slash == p.npos ? p : p.substr(slash + 1));
    }
    std::ranges::sort(out);
    return out;
}

result<void> affinity_backend::attach(const std::string& path, int pid, whom who) {
    const std::string act = std::string("attach ") + (who == whom::process ? "process " : "thread ") + std::to_string(pid);
    const auto threads = sys::threads_of_process(os_, pid_);
    if (!threads) return std::unexpected(threads.error());
    if (who == whom::process ? pid != pid_ : std::ranges::find(*threads, pid) == threads->end()) {
        return fail(EPERM, set_name(path), act, "this tree holds the threads of process " + std::to_string(pid_) + " only");
    }
    std::optional<error> fault;
    if (known_.empty()) {
        if (auto r = scan(fault); !r) return std::unexpected(r.error());
    }
    for (auto& [tid, t] : known_) {
        if (who == whom::thread && tid != pid) continue;
        if (const answer a = ask({.what = verb::attach, .path = path, .task = std::to_string(tid)}); !a.ok()) {
            // Those before it go back to where they were: one set for all or nothing.
            for (auto& [other, state] : known_) ask({.what = verb::attach, .path = state.path, .task = std::to_string(other)});
            return refused(a, path, act);
        }
    }
    for (auto& [tid, t] : known_) {
        if (who == whom::process || tid == pid) t.path = path;
    }
    if (who == whom::process) process_set_ = path;
    return enforce();
}

result<cpumask> affinity_backend::effective(const std::string& path) {
    // A set without a cpuset of its own has what the nearest above has.
    for (std::string at = path;; at = at.rfind('/') == at.npos ? "" : at.substr(0, at.rfind('/'))) {
        const answer a = ask({.what = verb::read, .path = at, .file = "cpuset.cpus.effective"});
        if (a.ok()) return cpumask::parse_list(a.value);
        if (at.empty()) return refused(a, path, "read cpuset.cpus.effective");
    }
}

/// A thread that nobody has seen before was started by one that we know, and has its mask; then it wants what that one wants.
affinity_backend::thread_state affinity_backend::newcomer(const cpumask& has, const std::map<int, thread_state>& among) const {
    const auto leader = among.find(pid_);
    if (leader != among.end() && leader->second.given == has) return leader->second;
    for (const auto& [tid, t] : among) {
        if (t.given == has) return t;
    }
    return {process_set_, has, has};
}

result<void> affinity_backend::place(int tid, thread_state& t, const cpumask& has) {
    const auto may = effective(t.path);
    if (!may) return std::unexpected(may.error());
    const cpumask both = t.own & *may, wanted = both.empty() ? *may : both;
    if (wanted != has) {
        if (auto r = os_.sched_setaffinity(tid, wanted); !r) return r;
        ++changes_;
    }
    // The kernel's own cpuset may leave less of it.
    t.given = os_.sched_getaffinity(tid).value_or(wanted);
    return {};
}

void affinity_backend::forget(int tid) {
    known_.erase(tid);
    ask({.what = verb::exit, .task = std::to_string(tid)});
}

/// One look at all threads; whether there was a new one.
result<bool> affinity_backend::scan(std::optional<error>& first_fault) {
    const auto tids = sys::threads_of_process(os_, pid_);
    if (!tids) return std::unexpected(tids.error());
    bool fresh = false;
    for (int tid : *tids) {
        const auto has = os_.sched_getaffinity(tid);
        if (!has && has.error().code == ESRCH) continue;
        if (!has) return std::unexpected(has.error());
        auto it = known_.find(tid);
        if (it == known_.end()) {
            fresh = true;
            it = known_.emplace(tid, newcomer(*has, known_)).first;
            ask({.what = verb::attach, .path = it->second.path, .task = std::to_string(tid)});
        } else if (*has != it->second.given) {
            it->second.own = *has;  // somebody asked for it since
        }
        const auto r = place(tid, it->second, *has);
        if (!r && r.error().code != ESRCH && !first_fault) first_fault = r.error();
    }
    for (auto it = known_.begin(); it != known_.end();) {
        const int tid = (it++)->first;
        if (!std::ranges::binary_search(*tids, tid)) forget(tid);
    }
    return fresh;
}

result<void> affinity_backend::enforce() {
    std::optional<error> fault;
    const std::uint64_t before = changes_;
    // A clone() that was under way while its caller's mask changed has copied the old mask already, and its thread appears a little later.
    for (int round = 0, quiet = 0;; ++round) {
        const auto fresh = scan(fault);
        if (!fresh) return std::unexpected(fresh.error());
        quiet = *fresh ? 0 : quiet + 1;
        if (quiet >= (changes_ == before ? 1 : quiet_rounds)) break;
        if (quiet > 0) os_.sleep_until(os_.now() + between_rounds);
        if (round == most_rounds) return fail(EAGAIN, name(), "hold its threads", "new threads come faster than they are found");
    }
    count_faults();
    if (fault) return std::unexpected(*fault);
    return enforce_nodes();
}

void affinity_backend::count_faults() {
    const auto now = static_cast<std::int64_t>(os_.now() / 1'000'000'000);
    for (auto& [tid, t] : known_) {
        const auto stat = sys::stat_of(os_, std::to_string(pid_) + "/task/" + std::to_string(tid));
        if (!stat) continue;
        const auto faults = static_cast<std::int64_t>(stat->major_faults);
        if (t.counted && faults > t.faults) meters_[t.path].mark(faults - t.faults, now);
        t.faults = faults;
        t.counted = true;
    }
}

result<pressure> affinity_backend::memory_pressure(const std::string& path) {
    const auto paths = model_.paths();
    if (std::ranges::find(paths, path.empty() ? "." : path) == paths.end()) return fail(ENOENT, set_name(path), "measure memory pressure", "there is no such set");
    count_faults();
    const std::string below = path.empty() ? "" : path + "/";
    pressure out{0, "major page faults of its threads; 1000 is one a second"};
    for (auto& [set, meter] : meters_) {
        if (set == path || set.starts_with(below)) out.value += meter.read(static_cast<std::int64_t>(os_.now() / 1'000'000'000));
    }
    return out;
}

result<void> affinity_backend::enforce_nodes() {
    const answer a = ask({.what = verb::read, .path = process_set_, .file = "cpuset.mems.effective"});
    const auto wanted = a.ok() ? nodemask::parse_list(a.value) : result<nodemask>(all_nodes_);
    if (!wanted || wanted->empty() || *wanted == nodes_) return {};
    const nodemask left = nodes_ - *wanted;
    if (own_process_) {
        if (!own_policy_) {
            auto before = os_.get_mempolicy();
            if (!before) return std::unexpected(before.error());
            own_policy_ = *before;
        }
        const nodemask both = own_policy_->nodes & *wanted;
        sys::mempolicy held{.mode = sys::mempolicy_bind, .nodes = both.empty() ? *wanted : both};
        if (!own_policy_->nodes.empty()) held.mode = own_policy_->mode;
        const auto r = *wanted == all_nodes_ ? os_.set_mempolicy(*own_policy_) : os_.set_mempolicy(held);
        if (!r) return r;
    }
    if (!left.empty()) {
        if (auto moved = os_.migrate_pages(own_process_ ? 0 : pid_, left, *wanted); !moved) return std::unexpected(moved.error());
    }
    nodes_ = *wanted;
    return {};
}

result<void> affinity_backend::set_online(const cpumask& online) {
    for (int cpu : online - online_) ask({.what = verb::cpu, .number = cpu, .on = true});
    for (int cpu : online_ - online) ask({.what = verb::cpu, .number = cpu, .on = false});
    online_ = online;
    return known_.empty() ? result<void>{} : enforce();
}

result<void> affinity_backend::bind_memory(void* address, std::size_t bytes) {
    return os_.mbind(address, bytes, nodes_ == all_nodes_ ? sys::mempolicy{} : sys::mempolicy{.mode = sys::mempolicy_bind, .nodes = nodes_}, true);
}

std::vector<limitation> affinity_limits(bool own_process) {
    std::vector<limitation> out{
        {"exclusive CPUs, partitions", "other processes are not kept off them"},
        {"isolated", "the scheduler goes on balancing: sched domains are the kernel's"},
        {"affinity", "a thread can widen its own mask; the next change or enforce() narrows it again"},
        {"sched_load_balance, sched_relax_domain_level", "sched domains are the kernel's"},
        {"memory_spread_page, memory_spread_slab", "where the page cache lies is the kernel's to decide"},
        {"mem_hardwall, mem_exclusive", "kernel memory follows no policy of a process"},
        {"memory_pressure", "the kernel's meter counts cpusets of its own; a meter of the threads' major page faults stands in for it"}};
    if (!own_process) out.push_back({"memory policy", "only a thread sets its own: pages that exist move, later ones go where the threads' policies say"});
    else out.push_back({"memory policy of other threads", "only a thread sets its own: that of the calling thread is set, pages of all move"});
    return out;
}

}  // namespace cohort::cpuset
