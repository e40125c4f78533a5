// SPDX-License-Identifier: Apache-2.0
/// sharepool through a broker: a join, an allocation and a leaving, with many members, many groups of a process, many groups on the broker, each beside the same with one; and a restart with all members.
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/sys/event_poll.hpp>
#include <cohort/sys/testing/child_process.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

using sharepool::broker_client;
using sharepool::share_pool;
using sys::testing::child_process;
using sys::testing::forked;

[[noreturn]] void failed(const char* what) {
    std::fprintf(stderr, "bench: sharepool: %s\n", what);
    std::_Exit(5);
}

/// A broker, groups 1 and up of 2 MiB, and members of group 1.
class stage {
public:
    stage(int members, int groups) : folder_("/tmp/cohort_bench." + std::to_string(::getpid()) + '.' + std::to_string(++made)), socket_(folder_ + "/pool.sock") {
        start();
        auto c = must(connect());
        for (int i = 1; i <= groups; ++i) must(c.create({.id = i, .bytes = 2 << 20}));
        for (int i = 0; i < members; ++i) {
            members_.push_back(forked([this] {
                const auto p = must(share_pool::attach({.socket = socket_, .patience = std::chrono::seconds(60)}));
                must(p->group_add_task(::getpid(), 1));
                for (;;) ::pause();
            }));
        }
        wait_for(members);
    }
    ~stage() {
        members_.clear();
        broker_.reset();
        for (const char* name : {"/pool.sock", "/pool.sock.lock", "/pool.journal"}) (void)::unlink((folder_ + name).c_str());
        (void)::rmdir(folder_.c_str());
    }
    const std::string& socket() const { return socket_; }
    /// Seconds from the start of a new broker until all members are in it again.
    double restart() {
        broker_.reset();
        const double begin = seconds_now();
        start();
        // The members and this look.
        for (const std::size_t all = members_.size() + 1;;) {
            auto c = connect();
            if (c && must(c->totals()).connections >= all) return seconds_now() - begin;
            ::usleep(500);
        }
    }

private:
    result<broker_client> connect() const { return broker_client::connect(socket_, std::chrono::seconds(60)); }
    void start() {
        broker_ = forked([this] {
            auto b = must(sharepool::broker::create({.socket = socket_, .journal = folder_ + "/pool.journal", .settings = {.group_bytes = 2 << 20}, .patience = std::chrono::seconds(60)}));
            for (;;) must(b->step(std::chrono::seconds(1)));
        });
        while (!connect()) ::usleep(200);
    }
    void wait_for(int members) const {
        while (must(must(connect()).totals()).members < static_cast<std::uint64_t>(members)) ::usleep(1000);
    }
    static inline int made = 0;
    std::string folder_, socket_;
    std::optional<child_process> broker_;
    std::vector<child_process> members_;
};

struct times {
    double join = 0, alloc = 0, drop = 0;  // seconds, medians
};

double median(std::vector<double> v) {
    std::ranges::nth_element(v, v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2));
    return v[v.size() / 2];
}

/// A new process that is in `before` other groups: it joins group `id`, allocates there, and leaves, several times.
times once(const stage& on, int id, int before) {
    auto* t = new (::mmap(nullptr, sizeof(times), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) times;
    child_process timed = forked([&] {
        (void)sys::allow_descriptors(20'000);
        const auto p = must(share_pool::attach({.socket = on.socket(), .patience = std::chrono::seconds(60)}));
        const int me = ::getpid();
        for (int i = 0; i < before; ++i) must(p->group_add_task(me, 2 + i));
        constexpr int rounds = 15, allocations = 1000;
        std::vector<double> joins, allocs, drops;
        for (int i = 0; i < rounds; ++i) {
            const double a = seconds_now();
            must(p->group_add_task(me, id));
            const double b = seconds_now();
            sharepool::member* m = p->in(id);
            for (int k = 0; k < allocations; ++k) m->free(m->alloc(64));
            const double c = seconds_now();
            must(p->group_del_task(me, id));
            joins.push_back(b - a), allocs.push_back((c - b) / allocations), drops.push_back(seconds_now() - c);
        }
        *t = {median(joins), median(allocs), median(drops)};
    });
    if (timed.wait() != 0) failed("a process that joins failed");
    const times copy = *t;
    ::munmap(t, sizeof(times));
    return copy;
}

/// The same operation with many and with one, as rows `bench/what`.
void compare(const settings& s, const std::string& behind, std::uint32_t units, const char* many, const char* one, const std::function<times()>& with_many, const std::function<times()>& with_one) {
    const std::pair<const char*, double times::*> what[] = {{"join", &times::join}, {"alloc", &times::alloc}, {"drop", &times::drop}};
    std::vector<figures> ours, peers;
    for (const auto& [name, field] : what) ours.push_back({"sharepool/" + std::string(name) + behind, field == &times::alloc ? "ns" : "us", units, {}, {}});
    peers = ours;
    for (int round = 0; round < std::min(s.rounds, 5); ++round) {
        const times m = with_many(), o = with_one();
        for (std::size_t i = 0; i < std::size(what); ++i) {
            const double unit = what[i].second == &times::alloc ? 1e9 : 1e6;
            ours[i].values.push_back(m.*what[i].second * unit), ours[i].cpu.push_back(m.*what[i].second);
            peers[i].values.push_back(o.*what[i].second * unit), peers[i].cpu.push_back(o.*what[i].second);
        }
    }
    for (std::size_t i = 0; i < std::size(what); ++i) {
        print_line(s, {many, "ours", "", {}}, ours[i]);
        print_line(s, {one, "peer", one, {}}, peers[i]);
    }
}

}  // namespace

void run_sharepool_broker(const settings& s) {
    const auto asked = [&](const std::string& behind) {
        for (const char* what : {"sharepool/join", "sharepool/alloc", "sharepool/drop"}) {
            if ((what + behind).find(s.only) != std::string::npos) return true;
        }
        return false;
    };
    const auto scaled = [&](int n) { return std::max(2, static_cast<int>(n * std::min(s.scale, 1.0))); };
    const bool restart = std::string("sharepool/restart/1000").find(s.only) != std::string::npos;
    if (asked("/live/1000") || restart) {
        const int members = scaled(1000);
        stage many(members - 1, 1);
        if (asked("/live/1000")) {
            const stage one(1, 1);
            compare(s, "/live/1000", static_cast<std::uint32_t>(members), "cohort, 1,000 members", "one member", [&] { return once(many, 1, 0); }, [&] { return once(one, 1, 0); });
        }
        if (restart) {
            figures f{"sharepool/restart/1000", "ms", static_cast<std::uint32_t>(members), {}, {}};
            for (int round = 0; round < std::min(s.rounds, 5); ++round) {
                const double t = many.restart();
                f.values.push_back(t * 1e3), f.cpu.push_back(t);
            }
            print_line(s, {"cohort, 1,000 members come back", "ours", "", {}}, f);
        }
    }
    if (asked("/of_a_process/3000")) {
        const int groups = scaled(3000);
        stage all(0, groups + 1);
        compare(s, "/of_a_process/3000", static_cast<std::uint32_t>(groups), "cohort, in 2,999 groups", "in none", [&] { return once(all, 1, groups - 1); }, [&] { return once(all, 1, 0); });
    }
    if (asked("/on_the_broker/50000")) {
        const int groups = scaled(50'000) - 2;
        stage all(0, groups), none(0, 1);
        compare(s, "/on_the_broker/50000", static_cast<std::uint32_t>(groups), "cohort, 50,000 groups", "one group", [&] { return once(all, groups, 0); }, [&] { return once(none, 1, 0); });
    }
}

}  // namespace cohort::bench
