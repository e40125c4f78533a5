// SPDX-License-Identifier: Apache-2.0
// What the room tells of itself: statistics, trace points, probes, refusals, leaks.
#include <cohort/percpu/stats.hpp>

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cstdlib>
#include <fstream>
#include <sstream>
#include <vector>

#include <cohort/account/charged.hpp>
#include <cohort/base/trace.hpp>
#include <cohort/percpu/testing/failing_address_space.hpp>
#include <cohort/sys/usdt.hpp>

namespace cohort::percpu {
namespace {

using ::testing::HasSubstr;

std::unique_ptr<allocator> fresh(allocator_options options = {}) {
    options.name = "test";
    return allocator::create(options).value();
}

/// "  name    :        42" of the text.
std::string line_of(const std::string& name, long long value) {
    char line[96];
    std::snprintf(line, sizeof line, "  %-20s: %12lld\n", name.c_str(), value);
    return line;
}
std::string member_of(const std::string& name, long long value) { return "\"" + name + "\": " + std::to_string(value); }

TEST(percpu_stats, show_what_debugfs_shows_with_figures_that_are_exact) {
    const auto a = fresh({.reserved_bytes = 4096, .magazines = false});
    std::vector<std::uintptr_t> all;
    for (const std::size_t size : {100u, 8u, 4u, 5u}) all.push_back(a->alloc(size, 4).value());
    ASSERT_EQ(a->free(all[1]), 0);
    all.push_back(a->alloc_reserved(24, 8).value());
    ASSERT_FALSE(a->alloc(0, 8, alloc_flags::nowarn));
    const allocator_stats s = a->stats();
    EXPECT_EQ(s.unit_size, 256u << 10);
    EXPECT_EQ(s.reserved_size, 4096u);
    EXPECT_EQ(s.dyn_size, (256u << 10) - 4096);
    EXPECT_EQ(s.nr_alloc, 5);
    EXPECT_EQ(s.nr_dealloc, 1);
    EXPECT_EQ(s.nr_cur_alloc, 4);
    EXPECT_EQ(s.nr_max_alloc, 4);
    EXPECT_EQ(s.min_alloc_size, 4u);
    EXPECT_EQ(s.max_alloc_size, 100u);
    EXPECT_EQ(s.live_bytes, 100u + 4 + 8 + 24) << "5 bytes take 8";
    EXPECT_EQ(s.failures, 1u);
    ASSERT_EQ(s.chunks.size(), 2u);
    const bool reserved_first = s.chunks[0].label == "<- Reserved Chunk";
    const chunk_stats &reserved = s.chunks[!reserved_first], &first = s.chunks[reserved_first];
    EXPECT_EQ(reserved.label, "<- Reserved Chunk");
    EXPECT_EQ(reserved.nr_alloc, 1);
    EXPECT_EQ(first.label, "<- First Chunk");
    EXPECT_EQ(first.nr_alloc, 3);
    EXPECT_EQ(first.max_alloc_size, 100);
    EXPECT_EQ(first.free_bytes, (256 << 10) - 4096 - 100 - 4 - 8);
    EXPECT_EQ(first.sum_frag, 8) << "where the second one was";
    EXPECT_EQ(first.max_frag, 8);
    EXPECT_EQ(first.cur_min_alloc, 4);
    EXPECT_EQ(first.cur_med_alloc, 8);
    EXPECT_EQ(first.cur_max_alloc, 100);
    EXPECT_EQ(first.nr_populated, 1 + first.empty_pop_pages);

    const std::string text = s.text(), json = s.json();
    EXPECT_THAT(text, HasSubstr("Percpu Memory Statistics"));
    EXPECT_THAT(json, ::testing::StartsWith("{\"schema_version\": 1, "));
    for (const auto& [name, value] : std::vector<std::pair<std::string, long long>>{
             {"unit_size", 256 << 10}, {"static_size", 0}, {"reserved_size", 4096}, {"dyn_size", (256 << 10) - 4096}, {"atom_size", static_cast<long long>(s.atom_size)},
             {"alloc_size", static_cast<long long>(s.alloc_size)}, {"nr_alloc", 5}, {"nr_dealloc", 1}, {"nr_cur_alloc", 4}, {"nr_max_alloc", 4}, {"nr_chunks", s.nr_chunks},
             {"nr_max_chunks", s.nr_max_chunks}, {"min_alloc_size", 4}, {"max_alloc_size", 100}, {"empty_pop_pages", s.empty_pop_pages}, {"failures", 1},
             {"first_bit", first.first_bit}, {"free_bytes", first.free_bytes}, {"contig_bytes", first.contig_bytes}, {"sum_frag", 8}, {"max_frag", 8},
             {"cur_min_alloc", 4}, {"cur_med_alloc", 8}, {"cur_max_alloc", 100}}) {
        EXPECT_THAT(text, HasSubstr(line_of(name, value)));
        EXPECT_THAT(json, HasSubstr(member_of(name, value)));
    }
    EXPECT_THAT(text, HasSubstr("Chunk: <- First Chunk\n"));
    EXPECT_THAT(text, HasSubstr("Chunk: <- Reserved Chunk\n"));
    EXPECT_THAT(json, HasSubstr("\"label\": \"<- First Chunk\""));
    EXPECT_EQ(std::count(json.begin(), json.end(), '{'), std::count(json.begin(), json.end(), '}'));
    for (const std::uintptr_t v : all) (void)a->free(v);
}

TEST(percpu_stats, a_chunk_that_was_depopulated_is_shown_as_sidelined) {
    const auto a = fresh({.magazines = false});
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 24; ++i) all.push_back(a->alloc(32 << 10, 8).value());  // three chunks and a bit, all populated
    for (std::size_t i = 0; i < all.size(); ++i) {
        if (i % 8 != 0) { ASSERT_EQ(a->free(all[i]), 0); }
    }
    a->trim();
    const allocator_stats s = a->stats();
    EXPECT_TRUE(std::any_of(s.chunks.begin(), s.chunks.end(), [](const chunk_stats& c) { return c.label == "(sidelined)" && c.nr_alloc > 0 && c.empty_pop_pages == 0; })) << s.text();
    EXPECT_THAT(s.text(), HasSubstr("Chunk: (sidelined)\n"));
    for (std::size_t i = 0; i < all.size(); i += 8) EXPECT_EQ(a->free(all[i]), 0);
}

class recorder final : public trace_sink {
public:
    void record(const trace_record& r) override { told.emplace_back(r.point->name(), r.values); }
    std::vector<std::string> names() const {
        std::vector<std::string> out;
        for (const auto& [name, values] : told) out.push_back(name.substr(name.find(':') + 1));
        return out;
    }
    std::array<std::uint64_t, 4> values_of(const std::string& name) const {
        for (const auto& [n, values] : told) {
            if (n == "percpu:" + name) return values;
        }
        return {};
    }
    std::vector<std::pair<std::string, std::array<std::uint64_t, 4>>> told;
};

TEST(percpu_trace, an_allocation_a_refusal_and_a_free_are_told_step_by_step) {
    const auto a = fresh({.magazines = false});
    account::local_table table(4);
    const auto group = table->create(table->root(), "traced").value();
    recorder heard;
    {
        const auto session = trace_session::start("percpu:*", heard).value();
        const account::scope current(group);
        const std::uintptr_t v = a->alloc(100, 16, alloc_flags::account | alloc_flags::populate_now).value();
        EXPECT_THAT(heard.names(), ::testing::ElementsAre("request", "charge", "search", "create_chunk", "search", "fit", "area", "populate", "populate", "alloc"));
        EXPECT_THAT(heard.values_of("request"), ::testing::ElementsAre(100, 16, 0, 0));
        EXPECT_GE(heard.values_of("charge")[0], 100 * possible_cpus());
        EXPECT_EQ(heard.values_of("area")[0], v);
        EXPECT_EQ(heard.values_of("area")[2], 25u);
        EXPECT_EQ(heard.values_of("populate")[0], v);
        EXPECT_EQ(heard.values_of("alloc")[0], v);
        heard.told.clear();
        ASSERT_EQ(a->free(v), 0);
        EXPECT_THAT(heard.names(), ::testing::ElementsAre("free", "clear"));
        EXPECT_EQ(heard.values_of("free")[0], v);
        heard.told.clear();
        EXPECT_FALSE(a->alloc_atomic(1, 3, alloc_flags::nowarn));
        EXPECT_THAT(heard.names(), ::testing::ElementsAre("request", "fail"));
        EXPECT_THAT(heard.values_of("fail"), ::testing::ElementsAre(1, 3, 1, static_cast<std::uint64_t>(refusal::illegal)));
    }
}

TEST(percpu_trace, chunks_that_come_and_go_are_told) {
    recorder heard;
    const auto session = trace_session::start("percpu:create_chunk,percpu:destroy_chunk,percpu:give_back", heard).value();
    const auto a = fresh({.magazines = false});
    std::vector<std::uintptr_t> all;
    for (int i = 0; i < 24; ++i) all.push_back(a->alloc(32 << 10, 8).value());
    const auto made = heard.told.size();
    EXPECT_GE(made, 3u);
    EXPECT_THAT(heard.names(), ::testing::Each("create_chunk"));
    for (const std::uintptr_t v : all) ASSERT_EQ(a->free(v), 0);
    a->trim();
    EXPECT_THAT(heard.names(), ::testing::Contains("destroy_chunk"));
}

TEST(percpu_trace, probes_for_debuggers_stand_in_the_program) {
    if (!COHORT_HAS_USDT) GTEST_SKIP() << "built without <sys/sdt.h>";
    std::ifstream file("/proc/self/exe", std::ios::binary);
    std::stringstream content;
    content << file.rdbuf();
    const std::string program = content.str();
    for (const char* name : {"percpu_alloc_percpu", "percpu_free_percpu", "percpu_alloc_percpu_fail", "percpu_create_chunk", "percpu_destroy_chunk"}) {
        EXPECT_NE(program.find(std::string("cohort\0", 7) + name + '\0'), std::string::npos) << name;
    }
}

std::string reason_of(const result<std::uintptr_t>& r) { return r ? "" : r.error().line(); }

TEST(percpu_refusals, each_has_its_errno_and_its_text) {
    using testing::failing_address_space;
    using testing::memory_call;
    const auto refused = [](const result<std::uintptr_t>& r, int code, const char* text) {
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, code);
        EXPECT_THAT(reason_of(r), HasSubstr(text));
    };
    const auto a = fresh({.reserved_bytes = 8});
    refused(a->alloc(0, 8, alloc_flags::nowarn), EINVAL, "illegal size or align for percpu allocation");
    refused(a->alloc(8, 3, alloc_flags::nowarn), EINVAL, "illegal size or align for percpu allocation");
    refused(a->alloc_reserved(16, 8, alloc_flags::nowarn), ENOMEM, "alloc from reserved chunk failed");
    std::stop_source stop;
    stop.request_stop();
    refused(a->alloc(8, 8, alloc_flags::nowarn, stop.get_token()), EINTR, "a stop was requested");

    failing_address_space memory;
    const auto poor = fresh({.memory = &memory});
    memory.plan({.call = memory_call::reserve, .nth = 1, .times = -1});
    refused(poor->alloc(8, 8, alloc_flags::nowarn), ENOMEM, "failed to allocate new chunk");
    const attempt none = poor->alloc_atomic(8, 8, alloc_flags::nowarn);
    EXPECT_EQ(none.why, refusal::atomic_full);
    EXPECT_STREQ(text_of(none.why), "atomic alloc failed, no space left");
    EXPECT_EQ(errno_of(none.why), ENOMEM);

    // One that has a chunk makes no second one for those who want no retry.
    std::vector<std::uintptr_t> all{a->alloc(32 << 10, 8).value()};
    const int chunks = a->stats().nr_chunks;
    result<std::uintptr_t> last = 0;
    while (all.size() < 100 && (last = a->alloc(32 << 10, 8, alloc_flags::nowarn | alloc_flags::noretry))) all.push_back(*last);
    refused(last, ENOMEM, "failed to allocate new chunk");
    EXPECT_EQ(a->stats().nr_chunks, chunks);
    for (const std::uintptr_t v : all) EXPECT_EQ(a->free(v), 0);

    failing_address_space dry;
    const auto lazy = fresh({.memory = &dry});
    dry.plan({.call = memory_call::populate, .nth = 1, .times = -1});
    refused(lazy->alloc(8, 8, alloc_flags::nowarn | alloc_flags::populate_now), ENOMEM, "failed to populate");

    account::local_table table(4);
    const auto group = table->create(table->root(), "small", 4).value();
    const account::scope current(group);
    refused(a->alloc(8, 8, alloc_flags::nowarn | alloc_flags::account), ENOMEM, "the group, or one above it, is at its limit");
    EXPECT_EQ(group.stats()->usage, 0u);
}

/// A new process: the count is the program's.
TEST(percpu_refusals, ten_are_told_and_then_that_no_more_will_be) {
    GTEST_FLAG_SET(death_test_style, "threadsafe");
    const auto told_ten_times = [](const std::string& text) {
        std::size_t n = 0;
        for (auto at = text.find("percpu: allocation failed, size=0 align=8 atomic=0, illegal size or align"); at != std::string::npos; at = text.find("percpu: allocation failed", at + 1)) ++n;
        return n == 10 && text.find("limit reached, disable warning") == text.rfind("limit reached, disable warning") && text.find("limit reached") != std::string::npos;
    };
    EXPECT_EXIT(
        {
            for (int i = 0; i < 25; ++i) (void)default_allocator().alloc(0, 8, i < 5 ? alloc_flags::nowarn : alloc_flags::none);
            std::_Exit(0);
        },
        ::testing::ExitedWithCode(0), ::testing::Truly(told_ten_times));
}

TEST(percpu_leaks, objects_that_an_allocator_leaves_are_told_with_number_and_size) {
    ::testing::internal::CaptureStderr();
    {
        const auto a = fresh();
        (void)a->alloc(64, 8).value();
        (void)a->alloc(2000, 8).value();
        ASSERT_EQ(a->free(a->alloc(64, 8).value()), 0);
    }
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "percpu: allocator \"test\" ends with 2 objects of 2064 bytes that were not freed\n");
    ::testing::internal::CaptureStderr();
    (void)fresh();
    EXPECT_EQ(::testing::internal::GetCapturedStderr(), "");
}

}  // namespace
}  // namespace cohort::percpu
