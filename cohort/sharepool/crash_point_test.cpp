// SPDX-License-Identifier: Apache-2.0
/// A member is killed before each instruction of what it does, in turn: before its first, second and third execution of it. Another recovers, and everything is accounted for; the recovery itself is one of
/// the things that are killed. Every COHORT_CRASH_POINTS-th point is taken (default 24, from a random one on; "all", or COHORT_LONG: all).
#include <array>
#include <memory>
#include <random>
#include <set>

#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/crash_points.hpp>
#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sys/shared_memory.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {
namespace {

class crash_points : public testing::in_both_modes {
protected:
    /// 2 MiB for everything, 2 for reading.
    group make_stage() const { return group::create({.name = "test", .bytes = 4 << 20, .mode = GetParam(), .read_only_bytes = 2 << 20}).value(); }
};
COHORT_IN_BOTH_MODES(crash_points);

#if COHORT_CRASH_POINTS

using testing::code;
using testing::traced;

constexpr std::uint64_t most_executions = 3;
/// 64 blocks in a superblock of 4 units; a magazine holds 32, a refill brings 17.
constexpr std::size_t block = 4096, in_superblock = 64, in_refill = 17, small_area = 40'000, two_units = 100'000, three_units = 150'000;

struct pointers {
    std::array<void*, 16> at{};
    std::atomic<unsigned> n{0};
    void add(void* p) { at[n++] = p; }
    std::set<void*> all() const { return {at.begin(), at.begin() + n}; }
};

/// What a script works with. The test's member is `other`; the child's is `m`.
struct scene {
    const group& g;
    member& other;
    const cpumask& cpus;  ///< that the test may run on
    struct page {
        pointers may_stay, must_stay;  ///< of what is handed over
    };
    testing::shared<page> known;
    member* m = nullptr;
    std::vector<void*> held, others;

    void join() { m = new member(testing::join(g)); }
    void hold(std::size_t n, std::size_t bytes = block) {
        for (std::size_t i = 0; i < n; ++i) held.push_back(m->alloc(bytes));
    }
    void hand_over(std::size_t bytes) {
        void* p = m->alloc(bytes);
        known->must_stay.add(p);
        (void)m->hand_over(p);
    }
    detail::heap& heap() const { return m->internals(); }
    detail::item item_of(void* p) const { return heap().find(p).block; }
};

// What is killed, called by the children alone.
COHORT_AS_IT_STANDS void* driven_alloc(scene& s, std::size_t bytes) { return s.m->alloc(bytes); }
COHORT_AS_IT_STANDS void driven_free(scene& s, void* p) { s.m->free(p); }
COHORT_AS_IT_STANDS void driven_give(scene& s, detail::item i) { s.heap().give(detail::class_of(block), i); }

/// A member that dies with everything half done.
void die_in_the_middle_of_everything(scene& s, member& m) {
    using namespace detail;
    s.m = &m;
    heap& h = s.heap();
    s.hold(in_refill - 3);
    s.hand_over(block);
    s.hand_over(small_area);
    s.hold(1, small_area);
    // Taking: two blocks are tagged, one has lost its bit. Another was about to be pushed.
    const std::uint64_t unit = h.find(s.held[0]).unit;
    const auto c = class_of(block);
    h.state_word(unit) = state::of(kind::small, h.me, c).word;
    for (const std::uint32_t n : {40u, 41u}) h.card_of(unit).tags[n] = h.me | free_bit;
    h.card_of(unit).bits[0].fetch_and(~(std::uint64_t{1} << 41));
    h.tag_of(s.item_of(s.held[1])) = h.me | free_bit;
    if (!h.by_sequences) {
        s.m->free(s.held[2]);
        auto& slot = reinterpret_cast<slots*>(h.magazines_of(static_cast<std::uint64_t>(sys::current_cpu())) + c * sizeof(magazine))->at[0];
        slot = slot_word(static_cast<item>(slot), h.me);
    }
    // A run that is being claimed, one that is complete, one that is being given back and has lost its last unit.
    const auto claimed = h.claim(3, 1), whole = h.claim(2, 1), retiring = h.claim(4, 1);
    (void)whole;
    h.state_word(*retiring) = state::of(kind::retiring, h.me, 4).word;
    for (const std::uint64_t unit_freed : {*claimed + 2, *retiring + 3}) {
        (void)sys::punch_hole(h.data_fd, unit_freed << unit_shift, unit_bytes);
        h.state_word(unit_freed) = free_unit.word;
    }
    ::_exit(0);
}

struct script {
    const char* name;
    std::function<void(scene&)> prepare;  ///< in the child, a member already but where it says that it joins
    std::function<void(scene&)> act;
    std::function<void(scene&)> before = nullptr;  ///< in the test's process
    bool joins = false;
};

const std::vector<script>& scripts() {
    static const std::vector<script> all = {
        {"first allocation", [](scene&) {}, [](scene& s) { driven_alloc(s, block); }},
        {"allocation out of the magazine", [](scene& s) { s.m->free(s.m->alloc(block)); }, [](scene& s) { driven_alloc(s, block); }},
        {"allocation of what another freed", [](scene&) {}, [](scene& s) { driven_alloc(s, block); }, [](scene& s) { s.other.free(s.other.alloc(block)); }},
        {"flush of what another freed", [](scene&) {}, [](scene& s) { driven_free(s, s.others[0]); },
         [](scene& s) {
             for (std::size_t i = 0; i < 2 * in_refill; ++i) s.others.push_back(s.other.alloc(block));
             for (std::size_t i = 2; i < s.others.size(); ++i) s.other.free(s.others[i]);
             s.others.resize(2);
         }},
        {"trim of what another freed", [](scene&) {}, [](scene& s) { (void)s.m->trim(); },
         [](scene& s) {
             s.other.free(s.other.alloc(block));
             s.other.free(s.other.alloc(500));
         }},
        {"free into the magazine", [](scene& s) { s.hold(2); }, [](scene& s) { driven_free(s, s.held[0]); }},
        {"flush",
         [](scene& s) {
             s.hold(in_superblock);
             for (int i = 0; i < 32; ++i) s.m->free(s.held[static_cast<std::size_t>(i)]);
         },
         [](scene& s) { driven_free(s, s.held[32]); }},
        {"free on a CPU without magazines",
         [](scene& s) {
             s.hold(1);
             for (const int cpu : s.cpus) {
                 if (cpu != sys::current_cpu() && sys::pin_thread(cpumask{cpu})) break;
             }
         },
         [](scene& s) { driven_free(s, s.held[0]); }},
        {"refill", [](scene& s) { s.hold(in_refill); }, [](scene& s) { driven_alloc(s, block); }},
        {"refill with the last blocks", [](scene& s) { s.hold(3 * in_refill); }, [](scene& s) { driven_alloc(s, block); }},
        {"second superblock", [](scene& s) { s.hold(in_superblock); }, [](scene& s) { driven_alloc(s, block); }},
        {"no memory", [](scene&) {}, [](scene& s) { driven_alloc(s, block); }, [](scene& s) { s.others.push_back(s.other.alloc(2 << 20)); }},
        {"adoption", [](scene&) {}, [](scene& s) { driven_free(s, s.others[0]); }, [](scene& s) { s.others.push_back(s.other.alloc(block)); }},
        {"adoption of what was handed over", [](scene&) {}, [](scene& s) { for (void* p : s.known->may_stay.all()) driven_free(s, p); },
         [](scene& s) {
             for (const std::size_t bytes : {block, small_area}) {
                 s.known->may_stay.add(s.other.alloc(bytes));
                 (void)s.other.hand_over(s.known->may_stay.at[s.known->may_stay.n - 1]);
             }
         }},
        {"handing over",
         [](scene& s) {
             s.known->may_stay.add(s.m->alloc(block));
             s.known->may_stay.add(s.m->alloc(small_area));
         },
         [](scene& s) { for (void* p : s.known->may_stay.all()) (void)s.m->hand_over(p); }},
        {"area", [](scene&) {}, [](scene& s) { driven_free(s, driven_alloc(s, two_units)); }},
        {"area for reading, and addresses alone", [](scene&) {},
         [](scene& s) {
             driven_free(s, s.m->alloc_area(small_area, {.in = place::read_only}).value_or(nullptr));
             if (const auto p = s.m->alloc_area(two_units, {.addresses_only = true})) (void)s.m->give_back(*p);
         }},
        {"area that does not fit into the first gap",
         [](scene& s) {
             s.hold(4, two_units);
             s.m->free(s.held[0]);
             s.m->free(s.held[2]);
         },
         [](scene& s) { driven_free(s, driven_alloc(s, three_units)); }},
        {"superblock that goes back",
         [](scene& s) {
             s.hold(4 * in_superblock);
             detail::heap& h = s.heap();
             const std::uint64_t unit = h.find(s.held[0]).unit;
             std::set<std::uint64_t> have;
             for (void* p : s.held) {
                 const detail::item i = s.item_of(p);
                 // All of the first one but one block; one block of each other.
                 if (detail::unit_of(i) == unit ? i == s.item_of(s.held[0]) : !have.insert(detail::unit_of(i)).second) continue;
                 h.tag_of(i) = h.me | detail::free_bit;
                 h.give(detail::class_of(block), i);
             }
             h.tag_of(s.item_of(s.held[0])) = h.me | detail::free_bit;
         },
         [](scene& s) { driven_give(s, s.item_of(s.held[0])); }},
        {"trim",
         [](scene& s) {
             s.hold(5);
             s.hold(2, 500);
             s.hold(1, 32768);
             for (void* p : s.held) s.m->free(p);
         },
         [](scene& s) { (void)s.m->trim(); }},
        {"joining", [](scene&) {}, [](scene& s) { s.join(); }, nullptr, true},
        {"leaving",
         [](scene& s) {
             s.hold(3);
             s.hand_over(block);
             s.hold(1, two_units);
             s.hand_over(two_units);
         },
         [](scene& s) { delete s.m; }},
        {"recovery", [](scene&) {}, [](scene& s) { (void)s.m->recover_dead(); },
         [](scene& s) { testing::child(s.g, [&](member& m) { die_in_the_middle_of_everything(s, m); }).wait(); }},
    };
    return all;
}

code allocator_code() {
    const std::string room = "cohort::sharepool::", hidden = room + "(anonymous namespace)::";
    std::vector<std::string> names;
    for (const char* f : {"detail::heap::", "detail::recover(", "detail::open_group(", "detail::close_group(", "detail::(anonymous namespace)::recovery", "member::alloc", "member::free", "member::join(", "member::~member", "member::recover_dead", "member::hand_over", "detail::make_area", "detail::(anonymous namespace)::make_area_once", "detail::(anonymous namespace)::make_huge", "member::give_back",
                          "member::area_or_null", "member::trim"}) {
        names.push_back(room + f);
    }
    for (const char* f : {"enter_table", "free_row", "driven_"}) names.push_back(hidden + f);
    names.insert(names.end(), {"cohort::sys::allocate_file_pages", "cohort::sys::punch_hole"});
    return code::of_this_program({names.begin(), names.end()});
}

/// A group, the test as its member, and a child that stands before its act.
struct stage {
    group g;
    member other;
    scene s;
    std::unique_ptr<traced> t;
    stage(group&& made, const cpumask& cpus, const script& what) : g(std::move(made)), other(testing::join(g)), s{.g = g, .other = other, .cpus = cpus, .known = {}, .held = {}, .others = {}} {
        if (what.before) what.before(s);
        t = std::make_unique<traced>(
            [&] {
                if (!what.joins) s.join();
                what.prepare(s);
            },
            [&] { what.act(s); });
    }
    /// After the child's death: "" if everything is accounted for.
    std::string wrong() {
        (void)other.recover_dead();
        std::string w;
        if (other.processes() != std::vector<int>{::getpid()}) w += "the dead one is still a member; ";
        const testing::audit a = testing::audit_of(other);
        w += a.wrong;
        const std::set<void*> must = s.known->must_stay.all(), may = s.known->may_stay.all();
        for (void* p : must) {
            if (!std::binary_search(a.handed_over.begin(), a.handed_over.end(), p)) w += "; gone: " + other.describe(p);
        }
        for (void* p : a.handed_over) {
            if (!must.contains(p) && !may.contains(p)) w += "; kept: " + other.describe(p);
            if (auto r = other.try_free(p); !r) w += "; " + r.error().line();
        }
        for (void* p : a.reserved) {
            if (auto r = other.give_back(p); !r) w += "; " + r.error().line();
        }
        for (void* p : s.others) {
            if (auto r = other.try_free(p); !r && r.error().code != EALREADY) w += "; " + r.error().line();
        }
        return w + testing::wrong_when_empty(other);
    }
};

TEST_P(crash_points, kill_before_every_instruction) {
    const char* text = std::getenv("COHORT_CRASH_POINTS");
    const bool all = text ? std::string_view(text) == "all" : std::getenv("COHORT_LONG") != nullptr;
    const std::size_t step = all ? 1 : text ? std::max(1, std::atoi(text)) : 24;
    const char* seed_text = std::getenv("COHORT_SEED");
    const std::uint64_t seed = seed_text ? std::strtoull(seed_text, nullptr, 10) : std::random_device{}();
    std::printf("COHORT_SEED=%llu: every %zu. point, from %llu on\n", static_cast<unsigned long long>(seed), step, static_cast<unsigned long long>(seed % step));
    const code c = allocator_code();
    if (c.instructions().empty()) GTEST_SKIP() << "no objdump";
    const auto before = sys::thread_affinity();
    ASSERT_TRUE(before);
    // One CPU: what a child does is then the same each time.
    ASSERT_TRUE(sys::pin_thread(cpumask{sys::current_cpu()}));
    std::set<testing::address> reached;
    std::size_t point = 0, killed = 0, missed = 0, broken = 0;
    for (const script& what : scripts()) {
        stage first(make_stage(), *before, what);
        if (!first.t->possible()) GTEST_SKIP() << "a child cannot be traced here (seccomp, or a tracer already)";
        const auto hits = first.t->count(c, most_executions);
        ASSERT_TRUE(WIFEXITED(first.t->status()) && WEXITSTATUS(first.t->status()) == 0) << what.name << ": " << first.t->status();
        EXPECT_EQ(first.wrong(), "") << what.name << ", to its end";
        std::size_t here = 0;
        for (const auto& [at, times] : hits) {
            reached.insert(at);
            for (std::uint64_t n = 1; n <= times; ++n) {
                ++here;
                if ((point++ + seed) % step != 0) continue;
                stage s(make_stage(), *before, what);
                s.t->kill_at(c, at, n) ? ++killed : ++missed;
                const std::string wrong = s.wrong();
                if (wrong.empty()) continue;
                if (++broken <= 20) {
                    const auto& i = *c.find(at);
                    ADD_FAILURE() << what.name << ", killed in " << c.function_of(i) << " at " << std::hex << at - c.base() << std::dec << ", execution " << n << ": " << wrong;
                }
            }
        }
        std::printf("  %-42s %5zu instructions, %5zu points\n", what.name, hits.size(), here);
    }
    ASSERT_TRUE(sys::pin_thread(*before));
    std::printf("%zu points, %zu of them taken: %zu killed there, %zu ended before; %zu of the %zu instructions of the allocator were reached\n", point, killed + missed, killed, missed, reached.size(),
                c.instructions().size());
    EXPECT_EQ(broken, 0u);
    EXPECT_GT(killed, 0u);
    EXPECT_LE(missed, killed / 50);
    if (!all) return;
    std::map<std::string, std::size_t> rest;
    for (const auto& i : c.instructions()) rest[c.function_of(i)] += !reached.contains(i.at);
    for (const auto& [name, n] : rest) {
        if (n != 0) std::printf("  not reached: %4zu of %s\n", n, name.c_str());
    }
}

#else
TEST_P(crash_points, kill_before_every_instruction) { GTEST_SKIP() << "x86-64 only, and not between the instructions of a sanitizer"; }
#endif

}  // namespace
}  // namespace cohort::sharepool
