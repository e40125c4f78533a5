// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/counter.hpp>

#include <algorithm>
#include <thread>

#include <cohort/base/check.hpp>

namespace cohort::percpu {

namespace {

using wide = __int128;  // sums of two amounts

std::atomic_ref<std::int64_t> word(std::int64_t& copy) { return std::atomic_ref<std::int64_t>(copy); }

std::int64_t checked_low(std::int64_t batch) {
    COHORT_CHECK(batch >= 0, "the batch of a percpu counter is negative");
    return (batch == 0 ? default_batch() : batch) - 1;
}

}  // namespace

std::int64_t default_batch() noexcept {
    static const std::int64_t batch = std::max<std::int64_t>(32, 2 * static_cast<std::int64_t>(std::thread::hardware_concurrency()));
    return batch;
}

result<std::unique_ptr<counter>> counter::create(std::int64_t value, std::int64_t batch) {
    auto memory = make<unit>();
    if (!memory) return std::unexpected(std::move(memory).error());
    return std::make_unique<counter>(std::move(*memory), value, batch);
}

counter::counter(ptr<unit> memory, std::int64_t value, std::int64_t batch) noexcept : counter(memory.get(), value, batch) { owned_ = std::move(memory); }
counter::counter(handle<unit> zeroed, std::int64_t value, std::int64_t batch) noexcept : unit_(zeroed), low_(checked_low(batch)), count_(value) {}
counter::~counter() {
    for_each_present_cpu(unit_, [](unsigned, unit& u) { word(u).store(0, std::memory_order_relaxed); });
}

bool counter::within_by_atomics(std::int64_t amount, std::int64_t batch) noexcept {
    const auto w = detail::current_word(unit_);
    std::uint64_t was = w.load(std::memory_order_relaxed), is;
    do {
        is = was + static_cast<std::uint64_t>(amount);
        if (static_cast<std::int64_t>(is) >= batch || static_cast<std::int64_t>(is) <= -batch) return false;
    } while (!w.compare_exchange_weak(was, is, std::memory_order_relaxed));
    return true;
}

void counter::add_slow(std::int64_t amount, std::int64_t batch) noexcept {
    // Either the CPU was absent, which it is no longer, or the unit is full.
    if (detail::arrive(by::cpu) ? within(amount, batch - 1) : within_by_atomics(amount, batch)) return;
    if (lock_.try_lock()) {
        amount += this_cpu::xchg(unit_, std::int64_t{0});
        count_.fetch_add(amount, std::memory_order_relaxed);
        lock_.unlock();
    } else {
        count_.fetch_add(amount, std::memory_order_relaxed);
    }
}

std::int64_t counter::units_locked() const noexcept {
    auto total = static_cast<std::uint64_t>(percpu::sum(unit_));
    for (const auto& [cpu, amount] : folded_) total -= static_cast<std::uint64_t>(amount);
    return static_cast<std::int64_t>(total);
}

std::int64_t counter::sum() const noexcept {
    const sys::spin_guard hold(lock_);
    return count_.load(std::memory_order_relaxed) + units_locked();
}

/// What the units hold together is less far from 0 than this.
std::int64_t counter::furthest(std::int64_t batch) const noexcept {
    return batch * (std::int64_t{detail::present_count(by::cpu)} + folded_cpus_.load(std::memory_order_relaxed));
}

int counter::compare(std::int64_t rhs, std::int64_t batch) const noexcept {
    const wide near = read(), off = furthest(batch);
    if (near - rhs > off) return 1;
    if (rhs - near > off) return -1;
    const std::int64_t exact = sum();
    return (exact > rhs) - (exact < rhs);
}

bool counter::limited_add(std::int64_t limit, std::int64_t amount) noexcept {
    if (amount == 0) return true;
    const auto fits = [&](wide value) { return amount > 0 ? value + amount <= limit : value + amount >= limit; };
    std::int64_t now = read();
    // Far from the limit, whatever the units hold. The exchange fails if anything was folded or added so meanwhile.
    while (fits(wide{now} + (amount > 0 ? furthest(batch()) : -furthest(batch())))) {
        if (count_.compare_exchange_weak(now, now + amount, std::memory_order_relaxed)) return true;
    }
    const sys::spin_guard hold(lock_);
    now = read();
    do {
        if (!fits(wide{now} + units_locked())) return false;
    } while (!count_.compare_exchange_weak(now, now + amount, std::memory_order_relaxed));
    return true;
}

void counter::sync() noexcept {
    const sys::spin_guard hold(lock_);
    count_.fetch_add(this_cpu::xchg(unit_, std::int64_t{0}), std::memory_order_relaxed);
}

void counter::set(std::int64_t value) noexcept {
    const sys::spin_guard hold(lock_);
    count_.store(value - units_locked(), std::memory_order_relaxed);
}

void counter::fold(unsigned cpu) noexcept {
    if (!detail::is_present(by::cpu, cpu)) return;  // nothing was ever added there
    const sys::spin_guard hold(lock_);
    auto found = std::find_if(folded_.begin(), folded_.end(), [&](const auto& f) { return f.first == cpu; });
    if (found == folded_.end()) {
        found = folded_.insert(found, {cpu, 0});
        folded_cpus_.store(static_cast<unsigned>(folded_.size()), std::memory_order_relaxed);
    }
    const std::int64_t there = word(*per_cpu(unit_, cpu)).load(std::memory_order_relaxed);
    count_.fetch_add(there - found->second, std::memory_order_relaxed);
    found->second = there;
}

result<counter_set> counter_set::create(std::size_t n, std::int64_t value, std::int64_t batch) {
    auto memory = make_array<counter::unit>(n);
    if (!memory) return std::unexpected(std::move(memory).error());
    counter_set made;
    made.memory_ = std::move(*memory);
    for (std::size_t i = 0; i < n; ++i) {
        made.counters_.push_back(std::make_unique<counter>(made.memory_.get() + static_cast<std::ptrdiff_t>(i), value, batch));
    }
    return made;
}

fold_on_offline::fold_on_offline(machine::events& events, std::vector<counter*> counters)
    : events_(events), counters_(std::move(counters)), block_([this](unsigned long event, void* data) {
          if (event != machine::cpus_changed) return notifier::done;
          for (const int cpu : static_cast<const machine::change*>(data)->went) {
              for (counter* c : counters_) c->fold(static_cast<unsigned>(cpu));
          }
          return notifier::ok;
      }) {
    COHORT_CHECK(events_.chain().add(block_).has_value(), "a new notifier block is on a chain already");
}

fold_on_offline::~fold_on_offline() { COHORT_CHECK(events_.chain().remove(block_).has_value(), "counters leave the chain from its own callback"); }

}  // namespace cohort::percpu
