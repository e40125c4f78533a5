// SPDX-License-Identifier: Apache-2.0
/// For tests of the pool: groups in both modes, and child processes that are members of them.
#pragma once

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <cstdlib>
#include <functional>
#include <utility>

#include <cohort/sharepool/group.hpp>
#include <cohort/sharepool/member.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/testing/child_process.hpp>

namespace cohort::sharepool::testing {

using mode = group_options::magazines;

#if defined(__SANITIZE_THREAD__)
inline constexpr bool sequences_are_seen = false;  // ThreadSanitizer does not see what sequences store
#else
inline constexpr bool sequences_are_seen = true;
#endif

/// ThreadSanitizer knows the order that its own process makes, not what comes about through another: under it a group has several threads or several processes, not both.
inline constexpr bool threads_among_processes = sequences_are_seen;

/// Tests of this fixture run with restartable sequences and without.
class in_both_modes : public ::testing::TestWithParam<mode> {
protected:
    void SetUp() override {
        if (GetParam() == mode::sequences && (!sequences_are_seen || !sys::sequences_work())) GTEST_SKIP() << "no restartable sequences here";
    }
    group make(std::uint64_t bytes = 64 << 20) const {
        auto g = group::create({.name = "test", .bytes = bytes, .mode = GetParam()});
        if (!g) {
            std::fprintf(stderr, "%s\n", g.error().line().c_str());
            std::abort();
        }
        return std::move(*g);
    }
};
inline std::string name_of(const ::testing::TestParamInfo<mode>& i) { return i.param == mode::sequences ? "sequences" : "compare_and_swap"; }
#define COHORT_IN_BOTH_MODES(fixture) \
    INSTANTIATE_TEST_SUITE_P(, fixture, ::testing::Values(::cohort::sharepool::testing::mode::sequences, ::cohort::sharepool::testing::mode::compare_and_swap), ::cohort::sharepool::testing::name_of)

inline member join(const group& g) {
    auto m = member::join(g.data_fd(), g.metadata_fd());
    if (!m) {
        std::fprintf(stderr, "%s\n", m.error().line().c_str());
        std::abort();
    }
    return std::move(*m);
}

/// A program that touched what it may not: by the signal, or as a sanitizer ends it.
inline bool ended_by_a_fault(int status) {
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
    return WIFEXITED(status) && WEXITSTATUS(status) != 0;
#else
    return WIFSIGNALED(status) && WTERMSIG(status) == SIGSEGV;
#endif
}

/// A page that the test and its children share beside the pool.
template <class T>
class shared {
public:
    shared() : p_(new (::mmap(nullptr, sizeof(T), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0)) T{}) {}
    ~shared() { ::munmap(p_, sizeof(T)); }
    shared(const shared&) = delete;
    shared& operator=(const shared&) = delete;
    T* operator->() const { return p_; }
    T& operator*() const { return *p_; }

private:
    T* p_;
};

/// A child that runs f as a member of g; it ends with 0 when f returns, without destructors of the test's.
class child : public sys::testing::child_process {
public:
    child(const group& g, const std::function<void(member&)>& f) : child_process(::fork()) {
        if (pid() != 0) return;
        {
            member m = join(g);
            f(m);
        }
        ::_exit(::testing::Test::HasFailure() ? 1 : 0);
    }
};

}  // namespace cohort::sharepool::testing
