// SPDX-License-Identifier: Apache-2.0
#include <cohort/account/table.hpp>

#include <algorithm>

#include <cohort/account/detail/word.hpp>
#include <cohort/base/check.hpp>

namespace cohort::account {
namespace {

using detail::answer;
using detail::children_mask;
using detail::children_of;
using detail::dead;
using detail::one_child;
using detail::usage_of;
static_assert(detail::usage_mask == unlimited);
constexpr std::uint64_t place_free = dead;         // nobody's
constexpr std::uint64_t place_claimed = dead | 1;  // somebody fills it in
constexpr std::uint64_t magic = 0x31746363'68636f43;  // "Cohcct1", little-endian; changes with the layout
constexpr std::uint32_t no_parent = ~std::uint32_t{0};

std::string number(std::uint64_t n) { return n >= unlimited ? "unlimited" : std::to_string(n); }

}  // namespace

// All accesses of `word` and `limit` are seq_cst; what they rely on stands in detail/word.hpp.

std::size_t table::nodes_at() { return (sizeof(table) + alignof(node) - 1) / alignof(node) * alignof(node); }

std::size_t table::bytes_for(int groups) {
    COHORT_CHECK(groups >= 1 && groups <= 1 << 20, "groups of a table outside 1 .. 2^20");
    return nodes_at() + static_cast<std::size_t>(groups) * sizeof(node);
}

result<table*> table::format(std::span<std::byte> memory) {
    if (reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(node)) return fail(EINVAL, "account table", "format", "the memory is not aligned to 64");
    if (memory.size() < bytes_for(1)) return fail(EINVAL, "account table", "format", "it needs " + std::to_string(bytes_for(1)) + " bytes at least");
    auto* t = new (memory.data()) table;
    t->magic_.store(0);
    t->capacity_ = static_cast<std::uint32_t>(std::min<std::size_t>((memory.size() - nodes_at()) / sizeof(node), 1 << 20));
    t->search_from_.store(1);
    for (std::uint32_t i = 0; i < t->capacity_; ++i) {
        node* n = new (t->nodes() + i) node;
        n->generation.store(0);
        n->word.store(place_free);
    }
    t->fill(t->nodes()[0], no_parent, "", unlimited);
    t->nodes()[0].word.store(0);
    t->magic_.store(magic);
    return t;
}

result<table*> table::attach(std::span<std::byte> memory) {
    const auto bad = [](const char* why) { return fail(EINVAL, "account table", "attach", why); };
    if (reinterpret_cast<std::uintptr_t>(memory.data()) % alignof(node) || memory.size() < bytes_for(1)) return bad("the memory is too small or not aligned to 64");
    auto* t = std::launder(reinterpret_cast<table*>(memory.data()));
    if (t->magic_.load() != magic) return bad("there is no table of this version");
    if (t->capacity_ < 1 || t->capacity_ > 1 << 20 || memory.size() < bytes_for(static_cast<int>(t->capacity_))) return bad("the table is cut short");
    return t;
}

void table::fill(node& n, std::uint32_t parent, std::string_view name, std::uint64_t limit) {
    n.limit.store(std::min(limit, unlimited));
    n.peak.store(0);
    n.failures.store(0);
    n.parent.store(parent);
    for (std::size_t i = 0; i < sizeof n.name; ++i) n.name[i].store(i < name.size() ? name[i] : '\0', std::memory_order_relaxed);
}

table::node* table::alive(group_id id) {
    if (id.index >= capacity_) return nullptr;
    node& n = nodes()[id.index];
    return (n.word.load() & dead) || n.generation.load() != id.generation ? nullptr : &n;
}

/// Counts at one group.
detail::answer table::step(node& n, std::uint64_t amount) {
    std::uint64_t usage = 0;
    const answer a = detail::count(n.word, n.limit, amount, usage);
    if (a != answer::yes) return a;
    // relaxed: a statistic.
    for (std::uint64_t peak = n.peak.load(std::memory_order_relaxed); peak < usage && !n.peak.compare_exchange_weak(peak, usage, std::memory_order_relaxed);) {
    }
    return a;
}

/// Takes the amount back from `from` up to, not including, `end`.
void table::unwind(std::uint32_t from, std::uint32_t end, std::uint64_t amount) {
    for (std::uint32_t at = from; at != end;) {
        node& n = nodes()[at];
        at = n.parent.load();  // before the step: without our charge the group may go, and another may take its place
        const std::uint64_t word = n.word.fetch_sub(amount);
        COHORT_CHECK(!(word & dead) && usage_of(word) >= amount, "more uncharged than was charged");
    }
}

detail::answer table::charge(group_id id, std::uint64_t amount, group_id& refused) {
    refused = id;
    if (id.index >= capacity_) return answer::removed;
    for (std::uint32_t at = id.index; at != no_parent; at = nodes()[at].parent.load()) {
        node& n = nodes()[at];
        answer a = step(n, amount);
        // Counted, the group stays; only now is its generation firm. Those above cannot be removed while it is their child.
        const bool another = at == id.index && a == answer::yes && n.generation.load() != id.generation;
        if (another) {
            unwind(at, n.parent.load(), amount);
            return answer::removed;
        }
        if (a == answer::yes) continue;
        if (a == answer::limit) {
            if (at == id.index && n.generation.load() != id.generation) return answer::removed;
            n.failures.fetch_add(1, std::memory_order_relaxed);
            refused = {at, n.generation.load()};
        }
        unwind(id.index, at, amount);
        return a;
    }
    return answer::yes;
}

result<group> table::create(group parent, std::string_view name, std::uint64_t limit) {
    const auto object = [&] { return "group \"" + std::string(name.substr(0, 60)) + "\""; };
    COHORT_CHECK(parent.where() == this, "parent of a group is in another table");
    if (name.empty() || name.size() > 31 || name.find('/') != name.npos) return fail(EINVAL, object(), "create", "a name is 1 to 31 bytes without '/'");
    if (parent.id().index >= capacity_) return fail(ENODEV, object(), "create", "its parent was removed");

    node& up = nodes()[parent.id().index];
    std::uint64_t word = up.word.load();
    do {
        if (word & dead) return fail(ENODEV, object(), "create", "its parent was removed");
        if ((word & children_mask) == children_mask) return fail(ENOSPC, object(), "create", "its parent has 32767 children");
    } while (!up.word.compare_exchange_weak(word, word + one_child));
    const auto give_up = [&](int code, const char* why) {
        up.word.fetch_sub(one_child);
        return fail(code, object(), "create", why);
    };
    if (up.generation.load() != parent.id().generation) return give_up(ENODEV, "its parent was removed");

    const std::uint32_t start = search_from_.load(std::memory_order_relaxed);
    for (std::uint32_t i = 0; i < capacity_; ++i) {
        const std::uint32_t at = (start + i) % capacity_;
        node& n = nodes()[at];
        std::uint64_t expected = place_free;
        if (n.word.load() != place_free || !n.word.compare_exchange_strong(expected, place_claimed)) continue;
        fill(n, parent.id().index, name, limit);
        const std::uint32_t generation = n.generation.load() + 1;
        n.generation.store(generation);
        n.word.store(0);  // alive from here on
        search_from_.store(at + 1, std::memory_order_relaxed);
        return group(*this, {at, generation});
    }
    return give_up(ENOSPC, "the table is full");
}

result<void> table::remove(group g) {
    const auto refuse = [&](int code, const std::string& why) { return fail(code, "group \"" + path_of(g.id()) + "\"", "remove", why); };
    COHORT_CHECK(g.where() == this, "the group is in another table");
    if (g.id().index == 0) return refuse(EINVAL, "it is the root");
    node* n = alive(g.id());
    if (!n) return refuse(ENODEV, "it was removed");
    const std::uint32_t parent = n->parent.load();
    std::uint64_t word = 0;
    if (!n->word.compare_exchange_strong(word, place_free)) {
        if (word & dead) return refuse(ENODEV, "it was removed");
        return refuse(EBUSY, std::to_string(usage_of(word)) + " charged, " + std::to_string(children_of(word)) + " children");
    }
    nodes()[parent].word.fetch_sub(one_child);
    search_from_.store(g.id().index, std::memory_order_relaxed);
    return {};
}

std::vector<group> table::groups() {
    std::vector<std::pair<int, group>> found;  // by depth
    for (std::uint32_t i = 0; i < capacity_; ++i) {
        const group_id id{i, nodes()[i].generation.load()};
        if (!alive(id)) continue;
        int depth = 0;
        for (std::uint32_t at = nodes()[i].parent.load(); at < capacity_ && depth < static_cast<int>(capacity_); at = nodes()[at].parent.load()) ++depth;
        found.emplace_back(depth, group(*this, id));
    }
    std::ranges::sort(found, {}, [](const auto& f) { return std::pair(f.first, f.second.id().index); });
    std::vector<group> out;
    for (const auto& f : found) out.push_back(f.second);
    return out;
}

std::string table::path_of(group_id id) {
    if (!alive(id)) return "(removed)";
    std::string out;
    std::uint32_t at = id.index;
    for (std::uint32_t steps = 0; at != 0 && at < capacity_ && steps < capacity_; ++steps) {
        std::string name;
        for (const auto& c : nodes()[at].name) {
            if (const char letter = c.load(std::memory_order_relaxed)) name += letter;
        }
        out = "/" + name + out;
        at = nodes()[at].parent.load();
    }
    return out.empty() ? "/" : out;
}

bool group::try_charge(std::uint64_t n, group* refused) const {
    group_id by;
    if (table_->charge(id_, n, by) == answer::yes) return true;
    if (refused) *refused = group(*table_, by);
    return false;
}

result<void> group::charge(std::uint64_t n) const {
    group_id by;
    const auto a = table_->charge(id_, n, by);
    if (a == answer::yes) return {};
    const std::string act = "charge " + std::to_string(n);
    if (a == answer::removed) return fail(ENODEV, "group \"" + path() + "\"", act, "it was removed");
    const group refused(*table_, by);
    const auto s = refused.stats().value_or(group_stats{});
    return fail(ENOMEM, "group \"" + path() + "\"", act, "group \"" + refused.path() + "\" is at its limit, " + std::to_string(s.usage) + " of " + number(s.limit));
}

void group::uncharge(std::uint64_t n) const {
    if (n == 0) return;  // holds nothing in place: the group may be gone
    COHORT_CHECK(table_->alive(id_) != nullptr, "uncharge of a group that was removed");
    table_->unwind(id_.index, no_parent, n);
}

result<void> group::set_limit(std::uint64_t limit) const {
    limit = std::min(limit, unlimited);
    const auto object = [&] { return "group \"" + path() + "\""; };
    const std::string act = "set limit " + number(limit);
    table::node* n = table_->alive(id_);
    if (!n) return fail(ENODEV, object(), act, "it was removed");
    std::uint64_t usage = 0;
    if (!detail::set_limit(n->word, n->limit, limit, usage)) return fail(EBUSY, object(), act, std::to_string(usage) + " are charged");
    return {};
}

result<void> group::reset_peak() const {
    table::node* n = table_->alive(id_);
    if (!n) return fail(ENODEV, "group \"" + path() + "\"", "reset the peak", "it was removed");
    n->peak.store(usage_of(n->word.load()), std::memory_order_relaxed);
    return {};
}

result<group_stats> group::stats() const {
    table::node* n = table_->alive(id_);
    if (!n) return fail(ENODEV, "group \"" + path() + "\"", "read", "it was removed");
    const std::uint64_t word = n->word.load();
    return group_stats{.usage = usage_of(word), .peak = n->peak.load(std::memory_order_relaxed), .limit = n->limit.load(),
                       .failures = n->failures.load(std::memory_order_relaxed), .children = children_of(word)};
}

std::string group::path() const { return table_ ? table_->path_of(id_) : "(none)"; }

result<group> group::parent() const {
    table::node* n = table_->alive(id_);
    if (!n) return fail(ENODEV, "group \"" + path() + "\"", "find its parent", "it was removed");
    const std::uint32_t up = n->parent.load();
    if (up == no_parent) return fail(ENOENT, "group \"/\"", "find its parent", "it is the root");
    return group(*table_, {up, table_->nodes()[up].generation.load()});
}

local_table::local_table(int groups) {
    const std::size_t bytes = table::bytes_for(groups);
    memory_.reset(static_cast<std::byte*>(::operator new[](bytes, std::align_val_t{64})));
    table_ = table::format({memory_.get(), bytes}).value();
}

}  // namespace cohort::account
