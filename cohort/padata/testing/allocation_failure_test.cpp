// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/testing/allocation_failure.hpp>

#include <gtest/gtest.h>

#include <cstdlib>
#include <memory>
#include <new>

namespace {
thread_local int left = -1;  // -1: no limit
}

[[gnu::noinline]] void* operator new(std::size_t size) {
    if (left == 0) throw std::bad_alloc();
    if (left > 0) --left;
    if (void* p = std::malloc(size ? size : 1)) return p;
    throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
    try {
        return operator new(size);
    } catch (const std::bad_alloc&) {
        return nullptr;
    }
}
[[gnu::noinline]] void operator delete(void* p) noexcept { std::free(p); }
[[gnu::noinline]] void operator delete(void* p, std::size_t) noexcept { std::free(p); }

namespace cohort::padata::testing {

allocation_failure::allocation_failure(int after) { left = after; }
allocation_failure::~allocation_failure() { left = -1; }

TEST(allocation_failure, makes_new_throw_for_its_scope) {
    bool thrown = false;
    std::unique_ptr<int> first, second, third;
    {
        const allocation_failure none_left(1);
        first = std::make_unique<int>(1);
        try {
            second = std::make_unique<int>(2);
        } catch (const std::bad_alloc&) {
            thrown = true;
        }
    }
    third = std::make_unique<int>(3);
    EXPECT_TRUE(first && thrown && !second && third);
}

}  // namespace cohort::padata::testing
