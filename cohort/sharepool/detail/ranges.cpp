// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/detail/ranges.hpp>

#include <array>
#include <atomic>
#include <cstdio>
#include <mutex>
#include <string>

#include <cohort/sharepool/detail/heap.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/shared_memory.hpp>
#include <cohort/sys/spinlock.hpp>

namespace cohort::sharepool::detail {

namespace {

struct range {
    std::uint64_t base = 0, bytes = 0;  // bytes 0: no entry
    heap* attached = nullptr;
    bool created = false;               // by this process, and not given back
};
constexpr std::size_t most_ranges = 4096;

constinit sys::spinlock lock;
constinit std::array<range, most_ranges> ranges{};  // [guarded: lock]
constinit std::array<std::atomic<heap*>, window_bytes / granule> heaps{};

std::string text_of(std::uint64_t base, std::uint64_t bytes) {
    char text[64];
    std::snprintf(text, sizeof text, "addresses 0x%llx+%llu MiB", static_cast<unsigned long long>(base), static_cast<unsigned long long>(bytes >> 20));
    return text;
}

const range* overlapping(std::uint64_t base, std::uint64_t bytes) {
    for (const range& r : ranges) {
        if (r.bytes != 0 && r.base < base + bytes && base < r.base + r.bytes) return &r;
    }
    return nullptr;
}
range* free_entry() {
    for (range& r : ranges) {
        if (r.bytes == 0) return &r;
    }
    return nullptr;
}

/// A child of fork() is no member: the mappings are not there, and the addresses are reserved anew, so that nothing else comes to stand at them.
void forget_in_child() {
    for (range& r : ranges) {
        if (r.bytes == 0) continue;
        if (r.attached) {
            sys::unmap_to_reserved(reinterpret_cast<void*>(r.base), r.bytes);
            heaps[(r.base - window_base) / granule].store(nullptr, std::memory_order_relaxed);
            r.attached->meta = nullptr;
        }
        if (!r.created) r = {};
        r.attached = nullptr;
    }
}

}  // namespace

result<std::uint64_t> take_range(std::uint64_t at, std::uint64_t bytes) {
    const auto w = window();
    if (!w) return std::unexpected(w.error());
    const std::uint64_t end = window_base + w->bytes;
    if (at != 0 && (at % granule != 0 || at < window_base || at + bytes > window_base + window_bytes)) {
        return fail(EINVAL, text_of(at, bytes), "put a group there", "it is not inside the window, at a multiple of 2 MiB");
    }
    const std::lock_guard hold(lock);
    range* entry = free_entry();
    if (!entry) return fail(ENOSPC, "pool window", "put a group there", "this process has 4,096 groups");
    if (at == 0) {
        for (at = window_base; at + bytes <= end;) {
            const range* r = overlapping(at, bytes);
            if (!r) break;
            at = r->base + r->bytes;
        }
    } else if (overlapping(at, bytes)) {
        return fail(EADDRINUSE, text_of(at, bytes), "put a group there", "another group of this process is there");
    }
    if (at + bytes > end) return fail(ENOMEM, text_of(at, bytes), "put a group there", "this process could reserve " + std::to_string(w->bytes >> 30) + " GiB of the window");
    *entry = {.base = at, .bytes = bytes, .created = true};
    return at;
}

void give_range(std::uint64_t base) noexcept {
    const std::lock_guard hold(lock);
    for (range& r : ranges) {
        if (r.bytes == 0 || r.base != base) continue;
        r.created = false;
        if (!r.attached) r = {};
    }
}

void forget_ranges_in_children() noexcept {
    static const bool once = sys::at_fork(nullptr, nullptr, &forget_in_child) == 0;
    (void)once;
}

result<void> attach(std::uint64_t base, std::uint64_t bytes, heap* h, bool allocates) {
    forget_ranges_in_children();
    const auto w = window();
    if (!w) return std::unexpected(w.error());
    const auto object = text_of(base, bytes);
    if (base + bytes > window_base + w->bytes) return fail(ENOMEM, object, "join the group there", "this process could reserve " + std::to_string(w->bytes >> 30) + " GiB of the window");
    const std::lock_guard hold(lock);
    for (range& r : ranges) {
        if (r.bytes == 0 || r.base != base || r.bytes != bytes) continue;
        if (r.attached) return fail(EEXIST, object, "join the group there", "this process is a member already");
        r.attached = h;
        heaps[(base - window_base) / granule].store(allocates ? h : nullptr, std::memory_order_release);
        return {};
    }
    if (overlapping(base, bytes)) return fail(EADDRINUSE, object, "join the group there", "another group of this process is there");
    range* entry = free_entry();
    if (!entry) return fail(ENOSPC, "pool window", "join the group there", "this process has 4,096 groups");
    *entry = {.base = base, .bytes = bytes, .attached = h};
    heaps[(base - window_base) / granule].store(allocates ? h : nullptr, std::memory_order_release);
    return {};
}

void detach(std::uint64_t base) noexcept {
    const std::lock_guard hold(lock);
    for (range& r : ranges) {
        if (r.bytes == 0 || r.base != base) continue;
        heaps[(base - window_base) / granule].store(nullptr, std::memory_order_relaxed);
        r.attached = nullptr;
        if (!r.created) r = {};
    }
}

heap* heap_at(const void* base) noexcept {
    const std::uint64_t distance = reinterpret_cast<std::uint64_t>(base) - window_base;
    // acquire: what join() wrote into the heap.
    return distance < window_bytes && distance % granule == 0 ? heaps[distance / granule].load(std::memory_order_acquire) : nullptr;
}

}  // namespace cohort::sharepool::detail
