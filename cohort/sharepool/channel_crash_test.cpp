// SPDX-License-Identifier: Apache-2.0
/// A process is killed before each instruction of a push, a pop, and of opening an end whose holder has died; another takes the end over, and every record is accounted for.
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/sharepool/channel.hpp>
#include <cohort/sharepool/testing/audit.hpp>
#include <cohort/sharepool/testing/crash_points.hpp>
#include <cohort/sharepool/testing/shared.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sharepool {
namespace {

class channel_crashes : public testing::in_both_modes {};
COHORT_IN_BOTH_MODES(channel_crashes);

#if COHORT_CRASH_POINTS

using testing::code;
using testing::traced;

constexpr std::size_t small = 200, large = 80'000;

template <class End>
End must_open(member& m, channel* c) {
    auto e = End::open(m, c);
    COHORT_CHECK(e, "an end is not to be had");
    return std::move(*e);
}
std::uint64_t* numbered(member& m, std::uint64_t n, std::size_t bytes) {
    auto* p = static_cast<std::uint64_t*>(m.alloc(bytes));
    *p = n;
    return p;
}

// What is killed, called by the children alone.
COHORT_AS_IT_STANDS bool driven_push(channel_writer& w, void* p) { return w.try_push(p); }
COHORT_AS_IT_STANDS void* driven_pop(channel_reader& r) { return r.try_pop(); }

struct script {
    const char* name;
    bool writes, opens;    ///< which end the child has; and is opening it what is killed, after another died in the middle of it
    std::size_t bytes;
};
constexpr script scripts[] = {{"push of a block", true, false, small}, {"push of an area", true, false, large}, {"pop of a block", false, false, small}, {"pop of an area", false, false, large},
                              {"opening to write after a death", true, true, small}, {"opening to read after a death", false, true, small}};

code channel_code() {
    const std::string room = "cohort::sharepool::", hidden = room + "(anonymous namespace)::";
    const std::vector<std::string> names = {hidden + "driven_", room + "channel_writer::try_push", room + "channel_reader::try_pop", room + "detail::owner_word::",
                                            room + "channel_writer::open", room + "channel_reader::open", room + "channel_end::take"};
    return code::of_this_program({names.begin(), names.end()});
}

/// Records 0 and 1 have been pushed and 0 is popped; the child acts on the next.
struct stage {
    group g;
    member other;
    channel* c;
    std::optional<channel_writer> writer;
    std::optional<channel_reader> reader;
    std::unique_ptr<traced> t;

    stage(group&& made, const script& what, const code& all) : g(std::move(made)), other(testing::join(g)), c(channel::create(other, 4).value()) {
        // The end that the child does not have is the test's.
        if (!what.writes) {
            writer.emplace(must_open<channel_writer>(other, c));
            for (std::uint64_t i = 0; i < 3; ++i) (void)writer->try_push(numbered(other, i, what.bytes));
        } else {
            reader.emplace(must_open<channel_reader>(other, c));
        }
        member* m = nullptr;
        std::optional<channel_writer> w;
        std::optional<channel_reader> r;
        void* p = nullptr;
        const auto join_and_open = [&] {
            m = new member(testing::join(g));
            if (what.writes) {
                w.emplace(must_open<channel_writer>(*m, c));
                for (std::uint64_t i = w->pushed(); i < 2; ++i) (void)w->try_push(numbered(*m, i, what.bytes));
                p = numbered(*m, 2, what.bytes);
            } else {
                r.emplace(must_open<channel_reader>(*m, c));
                if (r->popped() == 0) m->free(r->try_pop());
            }
        };
        const auto act = [&] { what.writes ? void(driven_push(*w, p)) : void(driven_pop(*r)); };
        if (!what.opens) {
            t = std::make_unique<traced>(join_and_open, act);
            return;
        }
        // Somebody dies in the middle of it first.
        std::vector<testing::address> points;
        for (const auto& i : all.instructions()) {
            if (all.function_of(i).find(what.writes ? "_push" : "_pop") != std::string::npos) points.push_back(i.at);
        }
        traced first(join_and_open, act);
        (void)first.kill_at(all, points[points.size() * 6 / 10], 1);
        t = std::make_unique<traced>([&] { m = new member(testing::join(g)); }, [&] { what.writes ? void(w.emplace(must_open<channel_writer>(*m, c))) : void(r.emplace(must_open<channel_reader>(*m, c))); });
    }

    /// After the child's death: "" if everything is accounted for.
    std::string wrong(const script& what) {
        std::uint64_t next = 0, end = 0;
        if (what.writes) {
            writer.emplace(must_open<channel_writer>(other, c));
            end = writer->pushed();
            if (end != 2 && end != 3) return "the writer had pushed " + std::to_string(end);
        } else {
            reader.emplace(must_open<channel_reader>(other, c));
            next = reader->popped(), end = 3;
            if (next != 1 && next != 2) return "the reader had popped " + std::to_string(next);
        }
        (void)other.recover_dead();
        std::string w = other.processes() == std::vector<int>{::getpid()} ? "" : "the dead one is still a member; ";
        for (; next < end; ++next) {
            auto* p = static_cast<std::uint64_t*>(reader->try_pop());
            if (!p || *p != next) return w + "record " + std::to_string(next) + (p ? " is another" : " is gone");
            other.free(p);
        }
        if (reader->try_pop()) w += "there is one record more; ";
        writer.reset(), reader.reset();
        const auto left = channel::destroy(other, c);
        if (!left || *left != 0) w += "destroy: " + (left ? std::to_string(*left) + " records" : left.error().line());
        const testing::audit a = testing::audit_of(other);
        for (void* p : a.handed_over) w += "; kept: " + other.describe(p);
        return w + a.wrong + testing::wrong_when_empty(other);
    }
};

TEST_P(channel_crashes, kill_before_every_instruction) {
    const char* text = std::getenv("COHORT_CRASH_POINTS");
    const bool all_points = text ? std::string_view(text) == "all" : std::getenv("COHORT_LONG") != nullptr;
    const std::size_t step = all_points ? 1 : 3;
    const code all = channel_code();
    if (all.instructions().empty()) GTEST_SKIP() << "no objdump";
    const auto before = sys::thread_affinity();
    ASSERT_TRUE(before);
    ASSERT_TRUE(sys::pin_thread(cpumask{sys::current_cpu()}));
    std::size_t killed = 0, broken = 0;
    for (const script& what : scripts) {
        stage whole(make(4 << 20), what, all);
        if (!whole.t->possible()) GTEST_SKIP() << "a child cannot be traced here (seccomp, or a tracer already)";
        const auto hits = whole.t->count(all, 1);
        ASSERT_TRUE(WIFEXITED(whole.t->status()) && WEXITSTATUS(whole.t->status()) == 0) << what.name << ": " << whole.t->status();
        EXPECT_EQ(whole.wrong(what), "") << what.name << ", to its end";
        std::size_t point = 0;
        for (const auto& [at, times] : hits) {
            if (point++ % step != 0) continue;
            stage s(make(4 << 20), what, all);
            killed += s.t->kill_at(all, at, 1);
            const std::string wrong = s.wrong(what);
            if (!wrong.empty() && ++broken <= 10) ADD_FAILURE() << what.name << ", killed in " << all.function_of(*all.find(at)) << " at " << std::hex << at - all.base() << ": " << wrong;
        }
        std::printf("  %-32s %4zu points\n", what.name, point);
    }
    ASSERT_TRUE(sys::pin_thread(*before));
    EXPECT_EQ(broken, 0u);
    EXPECT_GT(killed, 100u / step);
}

#else
TEST_P(channel_crashes, kill_before_every_instruction) { GTEST_SKIP() << "x86-64 only, and not between the instructions of a sanitizer"; }
#endif

}  // namespace
}  // namespace cohort::sharepool
