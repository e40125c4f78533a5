// SPDX-License-Identifier: Apache-2.0
/// Groups that count what is charged to them and to all below them, each with a limit; in a table that may stand in shared memory.
///
///     account::local_table memory(100);                       // or table::format(a shared mapping)
///     account::group web = memory->create(memory->root(), "web", 64 << 20).value();
///     account::group cache = memory->create(web, "cache").value();
///     auto held = account::charged::take(cache, 4096);        // charged.hpp: goes back by itself, to this group
///     held.error().line();   // group "/web/cache": charge 4096: ENOMEM: group "/web" is at its limit, 67108864 of 67108864
///
/// Kernel: struct page_counter (mm/page_counter.c) and the hierarchy of memory control groups.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <new>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::account {

class table;
namespace detail {
enum class answer;
}

/// Counts (bytes, as a rule) are 0 .. unlimited; `unlimited` as a limit means none.
inline constexpr std::uint64_t unlimited = (std::uint64_t{1} << 48) - 1;

/// The address-free name of a group, to be kept in shared memory. Generations tell a group from one that took its place later.
struct group_id {
    std::uint32_t index = 0, generation = 0;
    bool operator==(const group_id&) const = default;
};

struct group_stats {
    std::uint64_t usage = 0, peak = 0, limit = unlimited;
    std::uint64_t failures = 0;  ///< charges that this group refused, its own and those from below
    int children = 0;
};

/// A handle: a value, two words. It does not keep its group alive; after the group was removed, charging answers ENODEV.
/// Synchronization: any thread of any process that maps the table may call anything; all lock-free.
class group {
public:
    group() = default;
    group(table& t, group_id id) : table_(&t), id_(id) {}

    explicit operator bool() const { return table_ != nullptr; }
    bool operator==(const group&) const = default;
    group_id id() const { return id_; }
    table* where() const { return table_; }

    /// Counts n here and in every group above; where one refuses, nowhere. usage never goes over a limit, not even for a moment, save while a limit is lowered
    /// at the same time. Errors: ENOMEM, a group is at its limit (the reason names it); ENODEV, the group was removed.
    /// Cost: one compare-and-swap per level.
    result<void> charge(std::uint64_t n) const;
    /// The same without the words, for hot paths. refused, if given: who refused.
    bool try_charge(std::uint64_t n, group* refused = nullptr) const;
    /// Takes back what was charged to this very group; more than that is the caller's bug. A charged group is never removed, so this cannot fail.
    void uncharge(std::uint64_t n) const;

    /// Errors: EBUSY, usage is over it (the old limit stays; charges at that moment may have been refused); ENODEV. limit: 0 .. unlimited; more counts as unlimited.
    result<void> set_limit(std::uint64_t limit) const;
    /// Sets the peak back to the usage. Errors: ENODEV.
    result<void> reset_peak() const;
    /// A snapshot; each figure of its own moment. Errors: ENODEV.
    result<group_stats> stats() const;
    /// "/", "/web/cache"; "(removed)".
    std::string path() const;
    result<group> parent() const;

private:
    table* table_ = nullptr;
    group_id id_;
};

/// Stands at the start of the memory that it is given; holds no address, so that each process may map it elsewhere. Never constructed: format() or attach().
///
/// One word per group decides everything: {dead:1, children:15, usage:48}. A group can be removed only by the compare-and-swap of the whole word from zero,
/// so that neither a charge nor a child can slip in. A process that is killed leaves its charges counted (who notices its death uncharges them) and, in the
/// middle of create(), at most one place unusable.
/// Synchronization: any thread of any process may call anything, save format().
class table {
public:
    /// Memory for so many groups, the root among them. groups: 1 .. 2^20.
    static std::size_t bytes_for(int groups);
    /// Makes an empty table with a root of as many groups as fit. Errors: EINVAL, no room for one group, or not aligned to 64.
    static result<table*> format(std::span<std::byte> memory);
    /// Finds the table that another process made. Errors: EINVAL, there is none, or it is cut short.
    static result<table*> attach(std::span<std::byte> memory);

    group root() { return {*this, {0, 0}}; }
    /// Names are labels and need not differ. Errors: EINVAL, the name is empty, longer than 31 bytes or has a '/'; ENOSPC, the table is full, or the parent
    /// has 32767 children; ENODEV, the parent was removed.
    result<group> create(group parent, std::string_view name, std::uint64_t limit = unlimited);
    /// Errors: EBUSY, something is charged to it or it has children; ENODEV, it was removed; EINVAL, the root. Two that remove the same group at the same time
    /// are a bug of theirs.
    result<void> remove(group g);
    /// The groups that are there, parents before their children. A snapshot.
    std::vector<group> groups();
    int capacity() const { return static_cast<int>(capacity_); }

    table(const table&) = delete;
    table& operator=(const table&) = delete;

private:
    friend class group;
    struct alignas(64) node {
        std::atomic<std::uint64_t> word;        // [atomic: all; the protocol above]
        std::atomic<std::uint64_t> limit;       // [atomic: set_limit; charges load it before and after their step, detail/word.hpp]
        std::atomic<std::uint64_t> peak;        // [stats: only grows, save reset_peak]
        std::atomic<std::uint32_t> generation;  // [const while alive: published by word]
        std::atomic<std::uint32_t> parent;      // [const while alive: published by word]
        alignas(64) std::atomic<std::uint64_t> failures;  // [stats]
        std::atomic<char> name[32];             // [const while alive: published by word]
    };
    static_assert(std::atomic<std::uint64_t>::is_always_lock_free && std::atomic<std::uint32_t>::is_always_lock_free);

    using answer = detail::answer;
    table() = default;
    node* nodes() { return reinterpret_cast<node*>(reinterpret_cast<std::byte*>(this) + nodes_at()); }
    static std::size_t nodes_at();
    node* alive(group_id id);
    answer step(node& n, std::uint64_t amount);
    void unwind(std::uint32_t from, std::uint32_t end, std::uint64_t amount);
    answer charge(group_id id, std::uint64_t amount, group_id& refused);
    void fill(node& n, std::uint32_t parent, std::string_view name, std::uint64_t limit);
    std::string path_of(group_id id);

    std::atomic<std::uint64_t> magic_;      // [const after format: written last]
    std::uint32_t capacity_;                // [const after format]
    std::atomic<std::uint32_t> search_from_;  // [atomic: a hint where a free place may be; relaxed]
};

/// A table in this process's own memory.
class local_table {
public:
    explicit local_table(int groups);
    table* operator->() const { return table_; }
    table& operator*() const { return *table_; }

private:
    struct free_aligned {
        void operator()(std::byte* p) const { ::operator delete[](p, std::align_val_t{64}); }
    };
    std::unique_ptr<std::byte[], free_aligned> memory_;  // [const after init]
    table* table_;                                       // [const after init]
};

}  // namespace cohort::account
