// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/counter_tree.hpp>

#include <bit>

#include <cohort/base/check.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {

carry_tree::carry_tree(unsigned leaves, std::int64_t batch, unsigned arity)
    : batch_shift_(static_cast<unsigned>(std::countr_zero(static_cast<std::uint64_t>(batch)))), arity_shift_(static_cast<unsigned>(std::countr_zero(arity))) {
    COHORT_CHECK(leaves > 0 && batch > 0 && std::has_single_bit(static_cast<std::uint64_t>(batch)) && arity > 1 && std::has_single_bit(arity),
                 "a tree of counters needs leaves, and powers of two for batch and arity");
    std::size_t nodes = 0;
    unsigned below = leaves;
    for (unsigned height = 0;; ++height) {
        // Each node of this height may hold back up to its step, less one.
        bound_ += below * ((std::int64_t{1} << (batch_shift_ + height * arity_shift_)) - 1);
        first_.push_back(nodes);
        below = (below + arity - 1) / arity;
        nodes += below;
        if (below == 1) break;
    }
    bound_ += 1;  // "less than"
    nodes_ = std::vector<node>(nodes);
}

void carry_tree::moved(unsigned leaf, std::int64_t before, std::int64_t after) noexcept {
    std::size_t at = leaf;
    for (unsigned height = 0; height < first_.size(); ++height) {
        const std::int64_t carry = rounded(after, height) - rounded(before, height);
        if (carry == 0) return;
        at >>= arity_shift_;
        before = nodes_[first_[height] + at].total.fetch_add(carry, std::memory_order_relaxed);
        after = before + carry;
    }
}

result<std::unique_ptr<counter_tree>> counter_tree::create(counter_tree_options options) {
    const auto refuse = [&](std::string what) { return fail(EINVAL, "percpu counter tree", "create", std::move(what)); };
    const auto power = [](auto n, auto least, auto most) { return n >= least && n <= most && (n & (n - 1)) == 0; };
    if (!power(options.batch, 1, 1 << 20)) return refuse("batch is " + std::to_string(options.batch) + ", not a power of two from 1 to 2^20");
    if (!power(options.arity, 2u, 1024u)) return refuse("arity is " + std::to_string(options.arity) + ", not a power of two from 2 to 1024");
    auto memory = make<unit>();
    if (!memory) return std::unexpected(std::move(memory).error());
    auto made = std::make_unique<counter_tree>(memory->get(), options);
    made->owned_ = std::move(*memory);
    return made;
}

counter_tree::counter_tree(handle<unit> zeroed, counter_tree_options options) : unit_(zeroed), tree_(possible_cpus(), options.batch, options.arity) {}

counter_tree::~counter_tree() {
    for_each_present_cpu(unit_, [](unsigned, unit& u) { std::atomic_ref<unit>(u).store(0, std::memory_order_relaxed); });
}

void counter_tree::carry(std::int64_t before, std::int64_t after) noexcept { tree_.moved(static_cast<unsigned>(sys::current_cpu()), before, after); }

int counter_tree::compare(std::int64_t rhs) const noexcept {
    const __int128 near = read(), off = bound();
    if (near - rhs >= off) return 1;
    if (rhs - near >= off) return -1;
    const std::int64_t exact = sum();
    return (exact > rhs) - (exact < rhs);
}

}  // namespace cohort::percpu
