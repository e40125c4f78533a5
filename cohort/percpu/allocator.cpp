// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/allocator.hpp>

#include <cstdio>
#include <new>

#include <cohort/percpu/detail/core.hpp>
#include <cohort/percpu/stat_export.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {

namespace {

constexpr std::size_t most_reserved_bytes = 64 << 10;

/// All allocators of the program, so that fork() finds their locks free.
struct {
    mutex lock;
    std::vector<allocator::core*> cores COHORT_GUARDED_BY(lock);
} live;

void before_fork() COHORT_NO_THREAD_SAFETY_ANALYSIS {
    detail::make_all_present_for_fork();
    live.lock.lock();
    // Whoever holds one of these locks may have been interrupted by a handler that waits for another one: so none is waited for while another is held.
    for (;;) {
        std::size_t n = 0;
        while (n < live.cores.size() && live.cores[n]->try_lock_for_fork()) ++n;
        if (n == live.cores.size() && detail::space::try_lock_for_fork()) break;
        while (n > 0) live.cores[--n]->unlock_after_fork();
        sys::yield_thread();
    }
    detail::shard_lock::set_forking(true);
    detail::lock_arrivals_for_fork();
}
void after_fork() COHORT_NO_THREAD_SAFETY_ANALYSIS {
    detail::shard_lock::set_forking(false);
    detail::unlock_arrivals_after_fork();
    detail::space::unlock_after_fork();
    for (auto* c : live.cores) c->unlock_after_fork();
    live.lock.unlock();
}

void enlist(allocator::core* c) {
    static const int asked = sys::at_fork(before_fork, after_fork, after_fork);
    COHORT_CHECK(asked == 0, "no memory for fork handlers");
    {
        const lock_guard hold(live.lock);
        live.cores.push_back(c);
    }
    static const bool told = [] {
        const auto wanted = sys::real().getenv("COHORT_PERCPU_STAT");
        if (!wanted || *wanted != "1") return false;
        const auto r = export_stats();
        if (r) return true;
        const std::string line = "percpu: " + r.error().line() + "\n";
        sys::say(line.data(), static_cast<int>(line.size()));
        return false;
    }();
    (void)told;
}
void delist(allocator::core* c) {
    const lock_guard hold(live.lock);
    std::erase(live.cores, c);
}

/// The node of each CPU as the system tells; empty where there is one node, or none is told.
std::vector<int> nodes_of_cpus() {
    sys::os& os = sys::real();
    auto text = sys::read_file(os, sys::paths::node + "/online");
    if (!text) return {};
    const auto nodes = nodemask::parse_list(text->substr(0, text->find('\n')));
    if (!nodes || nodes->weight() < 2) return {};
    std::vector<int> out(possible_cpus(), -1);
    for (int node = nodes->first(); node >= 0; node = nodes->next(node + 1)) {
        auto list = sys::read_file(os, sys::paths::node + "/node" + std::to_string(node) + "/cpulist");
        if (!list) continue;
        const auto cpus = cpumask::parse_list(list->substr(0, list->find('\n')));
        if (!cpus) continue;
        for (int cpu = cpus->first(); cpu >= 0; cpu = cpus->next(cpu + 1)) {
            if (static_cast<std::size_t>(cpu) < out.size()) out[static_cast<std::size_t>(cpu)] = node;
        }
    }
    return out;
}

}  // namespace

const char* text_of(refusal r) noexcept {
    switch (r) {
        case refusal::none: return "";
        case refusal::illegal: return "illegal size or align for percpu allocation: sizes are 1 to 32768, alignments powers of two to 4096";
        case refusal::reserved_full: return "alloc from reserved chunk failed";
        case refusal::atomic_full: return "atomic alloc failed, no space left";
        case refusal::no_chunk: return "failed to allocate new chunk";
        case refusal::no_populate: return "failed to populate";
        case refusal::over_limit: return "the group, or one above it, is at its limit";
        case refusal::stopped: return "a stop was requested";
        case refusal::busy: return "a signal handler interrupted the allocator";
    }
    return "";
}

int errno_of(refusal r) noexcept {
    switch (r) {
        case refusal::none: return 0;
        case refusal::illegal: return EINVAL;
        case refusal::stopped: return EINTR;
        case refusal::busy: return EAGAIN;
        default: return ENOMEM;
    }
}

allocator::allocator(std::unique_ptr<core> c) : core_(std::move(c)), magazines_(core_->magazines()) { enlist(core_.get()); }

result<std::unique_ptr<allocator>> allocator::create(allocator_options options) {
    const std::string object = "percpu allocator \"" + options.name + "\"";
    if (options.reserved_bytes > most_reserved_bytes || options.reserved_bytes % detail::min_alloc_bytes != 0) {
        return fail(EINVAL, object, "reserve " + std::to_string(options.reserved_bytes) + " bytes", "a multiple of 4, at most 65536");
    }
    if (options.index == by::cpu && options.node_of.empty()) options.node_of = nodes_of_cpus();
    sys::address_space& memory = options.memory ? *options.memory : sys::real_address_space();
    try {
        return std::unique_ptr<allocator>(new allocator(std::make_unique<core>(std::move(options), memory, nullptr)));
    } catch (const std::bad_alloc&) {
        return fail(ENOMEM, object, "create", errno_text(ENOMEM));
    }
}

allocator::~allocator() {
    const allocator_stats s = stats();
    if (s.nr_cur_alloc > 0) {
        char line[160];
        sys::say(line, std::snprintf(line, sizeof line, "percpu: allocator \"%s\" ends with %lld objects of %llu bytes that were not freed\n", name().c_str(),
                                     static_cast<long long>(s.nr_cur_alloc), static_cast<unsigned long long>(s.live_bytes)));
    }
    delist(core_.get());
}

error allocator::error_of(std::size_t size, std::size_t align, refusal why) const {
    return {errno_of(why), name(), "allocate " + std::to_string(size) + " bytes aligned to " + std::to_string(align), text_of(why)};
}

attempt allocator::alloc_slow(std::size_t size, std::size_t align, alloc_flags flags, const std::stop_token* stop) noexcept {
    return core_->alloc(size, align, {.flags = flags, .stop = stop});
}
attempt allocator::alloc_atomic_slow(std::size_t size, std::size_t align, alloc_flags flags) noexcept { return core_->alloc(size, align, {.atomic = true, .flags = flags}); }
result<std::uintptr_t> allocator::alloc_reserved(std::size_t size, std::size_t align, alloc_flags flags) {
    const attempt got = core_->alloc(size, align, {.reserved = true, .flags = flags});
    if (!got) return std::unexpected(error_of(size, align, got.why));
    return got.value;
}
std::size_t allocator::size_of(std::uintptr_t value) const noexcept { return core_->size_of(value); }
void allocator::balance() { core_->idle_work(); }
void allocator::trim() { core_->balance(true, true); }
void allocator::attach(work::queue* q) { core_->attach(q); }
allocator_stats allocator::stats() const {
    allocator_stats s;
    core_->fill(s);
    return s;
}
const std::string& allocator::name() const { return core_->options.name; }
std::size_t allocator::reserved_bytes() const { return core_->options.reserved_bytes; }
by allocator::index() const { return core_->options.index; }

std::vector<allocator_stats> all_stats() {
    std::vector<allocator_stats> out;
    const lock_guard hold(live.lock);
    for (auto* c : live.cores) c->fill(out.emplace_back());
    return out;
}

allocator& default_allocator(by index) {
    // Never destroyed: objects of static duration may be freed after any of ours would be.
    static allocator* const of_cpu = new allocator(std::make_unique<allocator::core>(
        allocator_options{.name = "percpu", .index = by::cpu, .node_of = nodes_of_cpus()}, sys::real_address_space(), &detail::default_magazines[0]));
    if (index == by::cpu) return *of_cpu;
    static allocator* const of_cid = new allocator(std::make_unique<allocator::core>(
        allocator_options{.name = "percpu by cid", .index = by::cid, .reserved_bytes = 0}, sys::real_address_space(), &detail::default_magazines[1]));
    return *of_cid;
}

attempt detail::alloc_default(by index, std::size_t size, std::size_t align, alloc_flags flags) noexcept {
    return default_allocator(index).internals().alloc(size, align, {.flags = flags});
}
error detail::error_of(by index, std::size_t size, std::size_t align, refusal why) {
    return {errno_of(why), default_allocator(index).name(), "allocate " + std::to_string(size) + " bytes aligned to " + std::to_string(align), text_of(why)};
}

namespace {

using detail::classes;
using freer = void (*)(std::uintptr_t, std::atomic<std::uint8_t>&, detail::magazine_table&) noexcept;

template <int Class, by Index, layout Layout>
void free_class(std::uintptr_t value, std::atomic<std::uint8_t>& tag, detail::magazine_table& magazines) noexcept {
    detail::free_of_class<Class, Index, Layout>(value, tag, magazines);
}

/// One for each class: with sizes that are constants, clearing takes a few instructions. Objects of classes are coloured.
template <by Index, int... Class>
constexpr std::array<freer, classes> freers_of(std::integer_sequence<int, Class...>) { return {free_class<Class, Index, layout::coloured>...}; }
constexpr std::array<std::array<freer, classes>, 2> freers = {freers_of<by::cpu>(std::make_integer_sequence<int, classes>()),
                                                             freers_of<by::cid>(std::make_integer_sequence<int, classes>())};

/// A whole free by way of the magazine. False: something is not as usual, and nothing was done. owner: the magazines it must belong to; null: anybody's.
[[gnu::always_inline]] inline bool free_fast(std::uintptr_t value, const detail::magazine_table* owner) noexcept {
    const std::uintptr_t start = detail::chunk_start(value);
    // acquire: the chunk's metadata. Pairs with [release: announce].
    if (start == 0 || detail::place_of_chunk(start).load(std::memory_order_acquire) != start) return false;
    const detail::chunk_prefix& chunk = detail::prefix_of(value);
    const std::uintptr_t within = value - start - detail::coloured_handles_at;
    if ((owner && chunk.magazines != owner) || within >= static_cast<std::uintptr_t>(detail::unit_bytes) || within % detail::min_alloc_bytes != 0) return false;
    auto& tag = detail::tag_of(value);
    const int cls = tag.load(std::memory_order_relaxed) - detail::tag_live;
    if (cls < 0 || cls >= classes) return false;
    freers[static_cast<std::size_t>(chunk.index)][static_cast<std::size_t>(cls)](value, tag, *chunk.magazines);
    return true;
}

}  // namespace

int free(std::uintptr_t value) noexcept {
    if (free_fast(value, nullptr)) [[likely]] return 0;
    if (value == 0) return 0;
    chunk* c = detail::space::find(value);
    return c ? c->owner.free(value) : EINVAL;
}

int allocator::free(std::uintptr_t value) noexcept {
    if (free_fast(value, magazines_)) [[likely]] return 0;
    return core_->free(value);
}

}  // namespace cohort::percpu
