// SPDX-License-Identifier: Apache-2.0
/// An address_space whose nth call fails, that remembers what it was asked, and that a test can look into while a call is under way.
///
///     failing_address_space memory({.nth = 3});               // the third call of any kind fails, once
///     auto a = allocator::create({.memory = &memory});
///     ...
///     EXPECT_EQ(memory.reserved_ranges(), 0u);                // when the allocator is gone
///
/// Kernel: fault injection (lib/fault-inject.c).
#pragma once

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <mutex>
#include <utility>
#include <vector>

#include <cohort/sys/address_space.hpp>

namespace cohort::percpu::testing {

enum class memory_call : unsigned char { any, reserve, commit, populate, give_back, prefer_node };
inline const char* name_of(memory_call c) {
    static constexpr std::array names{"any", "reserve", "commit", "populate", "give_back", "prefer_node"};
    return names[static_cast<std::size_t>(c)];
}

/// Synchronization: any thread may call anything; plan() and on_call() while no other does.
class failing_address_space final : public sys::address_space {
public:
    struct failure {
        memory_call call = memory_call::any;
        int nth = 0;    ///< from 1; 0: none fails
        int times = 1;  ///< so many in a row; -1: that one and all that follow
        int code = ENOMEM;
    };
    struct binding {
        std::uintptr_t at;
        std::size_t bytes;
        int node;
    };

    failing_address_space() = default;
    explicit failing_address_space(failure f) { plan(f); }

    /// Counts calls anew.
    void plan(failure f) {
        plan_ = f;
        count_ = 0;
    }
    /// Called before each call is made or fails, by whoever makes it.
    void on_call(void (*f)(memory_call)) { hook_ = f; }
    int calls() const { return count_; }
    /// Ever since it was made.
    int failures() const { return failures_; }
    std::size_t reserved_ranges() const {
        const std::lock_guard hold(lock_);
        return ranges_.size();
    }
    /// What was committed and neither uncommitted nor released.
    std::size_t committed_bytes() const {
        const std::lock_guard hold(lock_);
        std::size_t bytes = 0;
        for (const auto& [at, n] : committed_) bytes += n;
        return bytes;
    }
    std::vector<binding> bindings() const {
        const std::lock_guard hold(lock_);
        return bindings_;
    }

    void* reserve(std::size_t bytes, std::size_t alignment) noexcept override {
        if (due(memory_call::reserve)) return nullptr;
        void* at = real_.reserve(bytes, alignment);
        if (at) {
            const std::lock_guard hold(lock_);
            ranges_.push_back({at, bytes});
        }
        return at;
    }
    void release(void* at, std::size_t bytes) noexcept override {
        {
            const std::lock_guard hold(lock_);
            const auto it = std::find(ranges_.begin(), ranges_.end(), std::pair{at, bytes});
            if (it == ranges_.end()) std::abort();  // what was not reserved, or in parts
            ranges_.erase(it);
            forget(at, bytes);
        }
        real_.release(at, bytes);
    }
    int commit(void* at, std::size_t bytes) noexcept override {
        if (due(memory_call::commit)) return plan_.code;
        const int code = real_.commit(at, bytes);
        const std::lock_guard hold(lock_);
        if (code == 0) committed_.push_back({at, bytes});
        return code;
    }
    void uncommit(void* at, std::size_t bytes) noexcept override {
        {
            const std::lock_guard hold(lock_);
            forget(at, bytes);
        }
        real_.uncommit(at, bytes);
    }
    int populate(void* at, std::size_t bytes) noexcept override { return due(memory_call::populate) ? plan_.code : real_.populate(at, bytes); }
    int give_back(void* at, std::size_t bytes) noexcept override { return due(memory_call::give_back) ? plan_.code : real_.give_back(at, bytes); }
    /// Is noted, not done: the nodes may be made up.
    int prefer_node(void* at, std::size_t bytes, int node) noexcept override {
        if (due(memory_call::prefer_node)) return plan_.code;
        const std::lock_guard hold(lock_);
        bindings_.push_back({reinterpret_cast<std::uintptr_t>(at), bytes, node});
        return 0;
    }
    result<std::size_t> resident(void* at, std::size_t bytes) override { return real_.resident(at, bytes); }

private:
    bool due(memory_call c) noexcept {
        if (hook_) hook_(c);
        if (plan_.call != memory_call::any && plan_.call != c) return false;
        const int n = ++count_;
        if (plan_.nth == 0 || n < plan_.nth || (plan_.times >= 0 && n >= plan_.nth + plan_.times)) return false;
        ++failures_;
        return true;
    }

    /// What was committed in this range.
    void forget(void* at, std::size_t bytes) {
        std::erase_if(committed_, [&](const auto& c) { return c.first >= at && c.first < static_cast<std::byte*>(at) + bytes; });
    }

    sys::address_space& real_ = sys::real_address_space();
    failure plan_;                                       // [const while others call]
    void (*hook_)(memory_call) = nullptr;                // [const while others call]
    std::atomic<int> count_{0}, failures_{0};
    mutable std::mutex lock_;
    std::vector<std::pair<void*, std::size_t>> ranges_;  // [guarded: lock_]
    std::vector<std::pair<void*, std::size_t>> committed_;  // [guarded: lock_]
    std::vector<binding> bindings_;                      // [guarded: lock_]
};

}  // namespace cohort::percpu::testing
