// SPDX-License-Identifier: Apache-2.0
/// A charge that goes back by itself, to the group it was taken from; and the group that this thread charges to.
///
///     account::scope work_for(web);                           // until the end of the scope, in this thread
///     auto held = account::charge_current(4096);              // result<charged>: to web
///     object.charge = std::move(*held);                       // remembers web, whatever the current group is later
///
/// Kernel: struct obj_cgroup; set_active_memcg (include/linux/sched/mm.h).
#pragma once

#include <cstdint>
#include <utility>

#include <cohort/account/table.hpp>
#include <cohort/base/check.hpp>

namespace cohort::account {

/// A resource: uncharges at its end. Move-only; may end in another thread than it began in. Its table must outlive it.
class charged {
public:
    /// Holds nothing.
    charged() = default;
    /// Errors: those of group::charge.
    static result<charged> take(group from, std::uint64_t n) {
        if (auto r = from.charge(n); !r) return std::unexpected(r.error());
        return charged(from, n);
    }
    charged(charged&& other) noexcept : from_(std::exchange(other.from_, {})), amount_(std::exchange(other.amount_, 0)) {}
    charged& operator=(charged&& other) noexcept {
        if (this != &other) {
            release();
            from_ = std::exchange(other.from_, {});
            amount_ = std::exchange(other.amount_, 0);
        }
        return *this;
    }
    ~charged() { release(); }

    std::uint64_t amount() const { return amount_; }
    /// Where it was charged; none where nothing is accounted.
    group where() const { return from_; }
    /// Charges n more to the same group. Errors: those of group::charge; nothing changed then. Without a group nothing is counted.
    result<void> grow(std::uint64_t n) {
        if (!from_) return {};
        auto r = from_.charge(n);
        if (r) amount_ += n;
        return r;
    }
    /// Gives n of it back; n at most amount().
    void shrink(std::uint64_t n) {
        if (!from_) return;
        COHORT_CHECK(n <= amount_, "more given back than is held");
        from_.uncharge(n);
        amount_ -= n;
    }
    void release() {
        if (from_) from_.uncharge(amount_);
        from_ = {};
        amount_ = 0;
    }
    /// Hands the duty to uncharge to the caller, who keeps {where().id(), amount} elsewhere: in shared memory, say.
    std::uint64_t detach() {
        from_ = {};
        return std::exchange(amount_, 0);
    }

private:
    charged(group from, std::uint64_t n) : from_(from), amount_(n) {}
    group from_;
    std::uint64_t amount_ = 0;
};

namespace detail {
inline thread_local group current_group;
}

/// What this thread charges to; none: nothing is counted.
inline group current() { return detail::current_group; }

/// Makes a group the current one of this thread until the end of the scope. Scopes nest; an empty group switches counting off.
class scope {
public:
    explicit scope(group g) : before_(std::exchange(detail::current_group, g)) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() { detail::current_group = before_; }

private:
    group before_;
};

/// Charges the current group; without one it counts nothing and succeeds. Errors: those of group::charge.
inline result<charged> charge_current(std::uint64_t n) {
    const group g = current();
    if (!g) return charged();
    return charged::take(g, n);
}

}  // namespace cohort::account
