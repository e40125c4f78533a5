// SPDX-License-Identifier: Apache-2.0
/// A counter whose approximation stays good on many CPUs: what a CPU has counted is carried up a tree, batch by batch, to a root that is read.
///
///     auto pages = percpu::counter_tree::create({.batch = 32, .arity = 8}).value();   // std::unique_ptr
///     pages->add(1);                                          // any thread, also in a signal handler
///     pages->read();                                          // a load; off by less than pages->bound()
///     pages->compare(limit);                                  // -1, 0, 1, exact; sums only where read() is too near to tell
///
/// Kernel: none yet; the "hierarchical per-CPU counters" (HPCC) proposed for lib/percpu_counter_tree.c. Against a counter whose CPUs carry to
/// the shared number as rarely, which is off by batch * n * n, this one is off by batch * n * levels.
#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <vector>

#include <cohort/percpu/allocator.hpp>
#include <cohort/percpu/ops.hpp>

namespace cohort::percpu {

/// The nodes above the leaves, for any number of leaves; the leaves' totals are the caller's.
///
/// Synchronization: any thread may call anything; signal-safe.
///
/// Protocol. Every node holds a total that only grows or shrinks by what is added, nothing is ever taken out of it. A node at height h (leaves: 0) has a step
/// of batch * arity^h, and its parent has in it the node's total, rounded toward 0 to the step: who moves the total over such a mark carries the difference up. One
/// atomic addition tells its caller from where to where the total went, so each mark that is passed is carried by exactly one thread, and there is no
/// moment at which an amount is nowhere. The root is off by the rests below the steps: less than step(h) for each node at height h below it, that is
/// less than batch * leaves for each height (plus the rounding up of leaves to full groups).
class carry_tree {
public:
    /// leaves: 1 or more; batch and arity: powers of two, arity at least 2.
    carry_tree(unsigned leaves, std::int64_t batch, unsigned arity);

    bool passes_mark(std::int64_t before, std::int64_t after) const noexcept { return rounded(after, 0) != rounded(before, 0); }
    /// A leaf's total went from `before` to `after`. Any leaf of the same group will do.
    void moved(unsigned leaf, std::int64_t before, std::int64_t after) noexcept;
    std::int64_t root() const noexcept { return nodes_.back().total.load(std::memory_order_relaxed); }
    /// root() is less far than this from the sum of the leaves, when nothing moves; a move that runs counts as not begun, and may hold back one step of each height.
    std::int64_t bound() const { return bound_; }
    /// Heights between the leaves and the root's total: carries that an amount passes at most.
    unsigned levels() const { return static_cast<unsigned>(first_.size()); }

private:
    std::int64_t rounded(std::int64_t total, unsigned height) const noexcept {
        const std::int64_t step = std::int64_t{1} << (batch_shift_ + height * arity_shift_);
        return (total + ((total >> 63) & (step - 1))) & -step;
    }
    struct alignas(64) node {
        std::atomic<std::int64_t> total{0};  // [atomic: relaxed; a statistic]
    };
    unsigned batch_shift_, arity_shift_;     // [const after init]
    std::vector<std::size_t> first_;         // [const after init] of height 1, 2, ...: the first node
    std::vector<node> nodes_;                // the root is the last
    std::int64_t bound_ = 0;                 // [const after init]
};

struct counter_tree_options {
    std::int64_t batch = 32;  ///< what a CPU counts before it carries; a power of two. Off by batch * CPUs in all, for each level
    unsigned arity = 8;       ///< children of a node; a power of two, at least 2. Fewer: less contention, more levels
};

/// Synchronization: any thread may call anything; all of it is signal-safe, nothing waits. See carry_tree.
class counter_tree {
public:
    using unit = std::int64_t;
    /// Errors: EINVAL, batch or arity is not a power of two or too large; those of allocator::alloc.
    static result<std::unique_ptr<counter_tree>> create(counter_tree_options options = {});
    /// zeroed: zero on every CPU, of nobody else's use, and there as long as the counter. The options are valid.
    counter_tree(handle<unit> zeroed, counter_tree_options options);
    ~counter_tree();
    counter_tree(const counter_tree&) = delete;
    counter_tree& operator=(const counter_tree&) = delete;

    /// Cost: about 1 ns; once in a batch an atomic addition, shared with arity CPUs; and so on.
    [[gnu::always_inline]] void add(std::int64_t amount) noexcept {
        const std::int64_t after = this_cpu::add_return(unit_, amount);
        const auto before = static_cast<std::int64_t>(static_cast<std::uint64_t>(after) - static_cast<std::uint64_t>(amount));
        // Where the thread is by now does not matter: only the total of the leaf that was added to is compared with itself.
        if (tree_.passes_mark(before, after)) [[unlikely]] carry(before, after);
    }
    /// From sum() by less than bound() when nobody adds.
    std::int64_t read() const noexcept { return tree_.root(); }
    std::int64_t bound() const { return tree_.bound(); }
    /// Exact when nobody adds; else it has all additions that had returned before, and some that run. Cost: a load per present CPU.
    std::int64_t sum() const noexcept { return percpu::sum(unit_); }
    /// -1, 0, 1: the value is less than, equal to, more than rhs. Cost: a load where rhs is bound() or further from read(), else sum().
    int compare(std::int64_t rhs) const noexcept;
    unsigned levels() const { return tree_.levels(); }

private:
    [[gnu::cold, gnu::noinline]] void carry(std::int64_t before, std::int64_t after) noexcept;

    ptr<unit> owned_;           // [const after init] empty where the caller keeps the memory
    const handle<unit> unit_;   // [const after init]; content: [this CPU, rseq]
    carry_tree tree_;
};

}  // namespace cohort::percpu
