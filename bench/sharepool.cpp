// SPDX-License-Identifier: Apache-2.0
/// sharepool: objects in memory that processes share, beside Boost.Interprocess, and beside glibc's malloc, which shares nothing; joining; messages.
/// 1p: one process. 2p: two processes, each on a CPU of its own, at the same time.
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include <boost/interprocess/ipc/message_queue.hpp>
#include <boost/interprocess/managed_shared_memory.hpp>

#include <cohort/sharepool/channel.hpp>
#include <cohort/sharepool/group.hpp>
#include <cohort/sharepool/member.hpp>

#include "support.hpp"

namespace cohort::bench {
namespace {

namespace bip = boost::interprocess;
using sharepool::group;
using sharepool::member;

[[noreturn]] void failed(const char* what) {
    std::fprintf(stderr, "bench: sharepool: %s\n", what);
    std::_Exit(5);
}

std::string boost_name(const char* what) { return "cohort_bench_" + std::to_string(::getpid()) + what; }

/// How many messages are on their way at most.
constexpr std::uint32_t places = 1024;

void pause(unsigned& spins) {
    if (++spins % 1024 == 0) ::sched_yield();
    else asm volatile("pause" ::: "memory");
}

enum class job : std::uint32_t { none, ours_64, ours_4096, boost_64, boost_4096, ours_messages, boost_messages, end };

/// What the two processes share beside the pool.
struct meeting {
    std::atomic<std::uint32_t> asked{0}, ready{0}, go{0}, done{0};
    std::atomic<job> what{job::none};
    std::atomic<std::uint32_t> n{0};
    sharepool::channel* messages = nullptr;  // from here to there
};

/// The members of the group, Boost's segment and queue, as one of the two processes has them.
struct side {
    member pool;
    bip::managed_shared_memory boost;
    bip::message_queue queue;

    side(const group& g, const std::string& heap, const std::string& messages)
        : pool(must(member::join(g.data_fd(), g.metadata_fd()))), boost(bip::open_only, heap.c_str()), queue(bip::open_only, messages.c_str()) {}

    void ours(std::uint32_t n, std::size_t bytes) {
        asm volatile("" : "+r"(bytes));
        for (std::uint32_t i = 0; i < n; ++i) {
            void* p = pool.alloc(bytes);
            if (!p) failed("no memory");
            escape(p);
            pool.free(p);
        }
    }
    void boosts(std::uint32_t n, std::size_t bytes) {
        for (std::uint32_t i = 0; i < n; ++i) {
            void* p = boost.allocate(bytes);
            escape(p);
            boost.deallocate(p);
        }
    }
};

constexpr std::size_t message_bytes = 256;

void glibc(std::uint32_t n, std::size_t bytes) {
    asm volatile("" : "+r"(bytes));
    for (std::uint32_t i = 0; i < n; ++i) {
        void* p = std::malloc(bytes);
        if (!p) failed("no memory");
        escape(p);
        std::free(p);
    }
}

/// This process and a second one, which does what it is asked and ends with this one.
class pair_of_processes {
public:
    explicit pair_of_processes(const settings& s, const group& g) : at_(new (::mmap(nullptr, sizeof(meeting), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) meeting) {
        const std::string heap = boost_name("heap"), messages = boost_name("queue");
        remove();
        bip::managed_shared_memory(bip::create_only, heap.c_str(), 64 << 20);
        bip::message_queue(bip::create_only, messages.c_str(), places, message_bytes);
        const int parent = ::getpid();
        child_ = ::fork();
        if (child_ == 0) {
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            if (::getppid() != parent) std::_Exit(5);
            pin_to(s.cpus.back());
            side there(g, heap, messages);
            serve(there);
            std::_Exit(0);
        }
        pin_to(s.cpus[0]);
        here_ = std::make_unique<side>(g, heap, messages);
        at_->messages = must(sharepool::channel::create(here_->pool, places));
        writer_.emplace(must(sharepool::channel_writer::open(here_->pool, at_->messages)));
    }
    ~pair_of_processes() {
        ask(job::end, 0);
        ::waitpid(child_, nullptr, 0);
        writer_.reset();
        here_.reset();
        remove();
        ::munmap(at_, sizeof(meeting));
    }
    side& here() { return *here_; }
    /// what(n) there and f(*here) here, from one moment on; returns when both are done.
    void both(job what, std::uint32_t n, const std::function<void(side&)>& f) {
        const std::uint32_t round = ask(what, n);
        unsigned spins = 0;
        while (at_->ready.load() != round) pause(spins);
        at_->go.store(round);
        f(*here_);
        while (at_->done.load() != round) pause(spins);
    }
    sharepool::channel_writer& messages() { return *writer_; }

private:
    static void remove() {
        bip::shared_memory_object::remove(boost_name("heap").c_str());
        bip::message_queue::remove(boost_name("queue").c_str());
    }
    std::uint32_t ask(job what, std::uint32_t n) {
        at_->what.store(what);
        at_->n.store(n);
        return at_->asked.fetch_add(1) + 1;
    }
    void serve(side& there) {
        std::optional<sharepool::channel_reader> reader;
        for (std::uint32_t round = 1;; ++round) {
            // Asleep between rounds: the runs of one process have the machine for themselves.
            while (at_->asked.load() != round) ::usleep(200);
            const job what = at_->what.load();
            if (what == job::end) return;
            const std::uint32_t n = at_->n.load();
            unsigned spins = 0;
            at_->ready.store(round);
            while (at_->go.load() != round) pause(spins);
            switch (what) {
                case job::ours_64: there.ours(n, 64); break;
                case job::ours_4096: there.ours(n, 4096); break;
                case job::boost_64: there.boosts(n, 64); break;
                case job::boost_4096: there.boosts(n, 4096); break;
                case job::ours_messages:
                    if (!reader) reader.emplace(must(sharepool::channel_reader::open(there.pool, at_->messages)));
                    for (std::uint32_t i = 0; i < n; ++i) {
                        // 32 are waited for, some microseconds: two that follow each other message by message spend their time with moving cache lines to and fro.
                        auto* p = static_cast<std::uint32_t*>(must(reader->pop(-1, 32)));
                        if (*p != i) failed("a message is not the one that was sent");
                        there.pool.free(p);
                    }
                    break;
                case job::boost_messages:
                    for (std::uint32_t i = 0; i < n; ++i) {
                        std::uint32_t text[message_bytes / 4];
                        bip::message_queue::size_type got = 0;
                        unsigned priority = 0;
                        there.queue.receive(text, sizeof text, got, priority);
                        if (text[0] != i) failed("a message is not the one that was sent");
                    }
                    break;
                case job::none:
                case job::end: break;
            }
            at_->done.store(round);
        }
    }

    meeting* at_;
    int child_ = -1;
    std::unique_ptr<side> here_;
    std::optional<sharepool::channel_writer> writer_;
};

void run_alloc(const settings& s, pair_of_processes& two) {
    const auto one = [&](auto f) { return [&two, f](std::uint32_t n) { f(two.here(), n); }; };
    const auto both = [&](job what, auto f) { return [&two, what, f](std::uint32_t n) { two.both(what, n, [&](side& x) { f(x, n); }); }; };
    const auto ours = [](std::size_t bytes) { return [bytes](side& x, std::uint32_t n) { x.ours(n, bytes); }; };
    const auto boosts = [](std::size_t bytes) { return [bytes](side& x, std::uint32_t n) { x.boosts(n, bytes); }; };
    measure_loops(s, "sharepool/alloc_free/64B/1p", "ns", 1e9, 0.06,
                  {{"cohort", "ours", "", one(ours(64))}, {"Boost.Interprocess", "peer", "Boost.Interprocess", one(boosts(64))},
                   {"glibc malloc, free", "peer", "glibc malloc", [](std::uint32_t n) { glibc(n, 64); }}});
    measure_loops(s, "sharepool/alloc_free/64B/2p", "ns", 1e9, 0.06,
                  {{"cohort", "ours", "", both(job::ours_64, ours(64))}, {"Boost.Interprocess", "peer", "Boost.Interprocess", both(job::boost_64, boosts(64))}});
    measure_loops(s, "sharepool/alloc_free/4K/2p", "ns", 1e9, 0.06,
                  {{"cohort", "ours", "", both(job::ours_4096, ours(4096))}, {"Boost.Interprocess", "peer", "Boost.Interprocess", both(job::boost_4096, boosts(4096))}});
}

void run_messages(const settings& s, pair_of_processes& two) {
    measure_loops(s, "sharepool/message", "ns", 1e9, 0.06,
                  {{"cohort, a pointer", "ours", "", [&](std::uint32_t n) {
                        two.both(job::ours_messages, n, [&](side& x) {
                            for (std::uint32_t i = 0; i < n; ++i) {
                                auto* p = static_cast<std::uint32_t*>(x.pool.alloc(message_bytes));
                                if (!p) failed("no memory");
                                std::memset(p, static_cast<int>(i), message_bytes);
                                *p = i;
                                if (!two.messages().push(p)) failed("a message could not be sent");
                            }
                        });
                    }},
                   {"Boost.Interprocess message_queue", "peer", "Boost.Interprocess message_queue", [&](std::uint32_t n) {
                        two.both(job::boost_messages, n, [&](side& x) {
                            for (std::uint32_t i = 0; i < n; ++i) {
                                std::uint32_t text[message_bytes / 4];
                                std::memset(text, static_cast<int>(i), sizeof text);
                                text[0] = i;
                                x.queue.send(text, sizeof text, 0);
                            }
                        });
                    }}});
}

struct join_times {
    double ours = 0, peer = 0;
};

/// In a process that is no member yet: it joins; then it maps each area on its own, as the kernel's design does, at 2 MiB of its own. It has joined and left another group before,
/// so that the first run of each function, 40 us of page faults in a child just forked, is not a part of it.
join_times join_once(const group& g, const group& other, bool populated, std::uint64_t areas, std::uint64_t area_bytes) {
    constexpr std::uint64_t step = 2 << 20;
    join_times t;
    (void)must(member::join(other.data_fd(), other.metadata_fd()));
    const double began = seconds_now();
    const member m = must(member::join(g.data_fd(), g.metadata_fd()));
    // As MAP_POPULATE does for a shared mapping: for reading.
    if (populated && ::madvise(m.base(), areas * area_bytes, MADV_POPULATE_READ) != 0) failed("the group's pages cannot be brought in");
    t.ours = seconds_now() - began;
    auto* room = static_cast<std::byte*>(::mmap(nullptr, areas * step, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (room == MAP_FAILED) failed("no addresses for 10,000 areas");
    const double peer_began = seconds_now();
    for (std::uint64_t i = 0; i < areas; ++i) {
        const int flags = MAP_SHARED | MAP_FIXED | (populated ? MAP_POPULATE : 0);
        if (::mmap(room + i * step, area_bytes, PROT_READ | PROT_WRITE, flags, g.data_fd(), static_cast<off_t>(i * area_bytes)) == MAP_FAILED) failed("an area cannot be mapped");
    }
    t.peer = seconds_now() - peer_began;
    return t;
}

void run_join(const settings& s) {
    const auto areas = static_cast<std::uint64_t>(std::max(100.0, 10'000 * std::min(s.scale, 1.0)));
    constexpr std::uint64_t area_bytes = 65536;
    const group g = must(group::create({.name = "bench", .bytes = (areas + 64) * area_bytes}));
    const group other = must(group::create({.name = "bench, another", .bytes = 2 << 20}));
    const member owner = must(member::join(g.data_fd(), g.metadata_fd()));
    for (std::uint64_t i = 0; i < areas; ++i) {
        if (!owner.internals().claim(1, 1)) failed("no memory for 10,000 areas");
    }
    auto* t = new (::mmap(nullptr, sizeof(join_times), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) join_times;
    for (const bool populated : {false, true}) {
        figures ours{std::string("sharepool/join/10000") + (populated ? "/populated" : ""), "us", static_cast<std::uint32_t>(areas), {}, {}}, peer = ours;
        for (int round = 0; round < s.rounds; ++round) {
            const int joiner = ::fork();
            if (joiner == 0) {
                pin_to(s.cpus[0]);
                *t = join_once(g, other, populated, areas, area_bytes);
                std::_Exit(0);
            }
            int status = 0;
            if (joiner < 0 || ::waitpid(joiner, &status, 0) != joiner || status != 0) failed("a joiner failed");
            ours.values.push_back(t->ours * 1e6), ours.cpu.push_back(t->ours);
            peer.values.push_back(t->peer * 1e6), peer.cpu.push_back(t->peer);
        }
        print_line(s, {"cohort, one window", "ours", "", {}}, ours);
        print_line(s, {"a mapping for each area", "peer", "per-area mmap", {}}, peer);
    }
    ::munmap(t, sizeof(join_times));
}

}  // namespace

void run_sharepool(const settings& s) {
    const auto asked = [&](const char* names) { return std::string(names).find(s.only) != std::string::npos; };
    const bool alloc = asked("sharepool/alloc_free/64B/1p sharepool/alloc_free/64B/2p sharepool/alloc_free/4K/2p"), message = asked("sharepool/message");
    if (alloc || message) {
        const group g = must(group::create({.name = "bench", .bytes = 256 << 20}));
        pair_of_processes two(s, g);
        if (alloc) run_alloc(s, two);
        if (message) run_messages(s, two);
    }
    if (asked("sharepool/join/10000 sharepool/join/10000/populated")) run_join(s);
}

}  // namespace cohort::bench
