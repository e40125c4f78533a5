// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/variable.hpp>

#include <algorithm>
#include <cstring>

#include <cohort/percpu/allocator.hpp>
#include <cohort/sys/modules.hpp>

namespace cohort::percpu::detail {

constinit variable_record* variable_record::first_ = nullptr;

namespace {

std::atomic<std::uint64_t> all_bytes{0};

bool is_zero(const void* p, std::size_t n) {
    const auto* bytes = static_cast<const unsigned char*>(p);
    return std::all_of(bytes, bytes + n, [](unsigned char c) { return c == 0; });
}

void with_lock(auto f) noexcept {
    with_arrivals_stopped([](void* data) { (*static_cast<decltype(f)*>(data))(); }, &f);
}

/// Of a library that was loaded later: from the reserved part, if there is one. Kernel: so do modules.
attempt space_for(std::size_t size, std::size_t align, bool late) noexcept {
    allocator& a = default_allocator();
    const bool reserved = late && layout_for(align) == layout::coloured && a.reserved_bytes() > 0;
    return {(reserved ? a.alloc_reserved(size, align) : a.alloc(size, align)).value_or(0)};
}

}  // namespace

std::uintptr_t variable_record::bind(std::size_t size, std::size_t align, const void* initial, const void* where) noexcept {
    const attempt got = space_for(size, align, !sys::loaded_at_start(where));
    if (!got) return 0;
    value_ = got.value;
    size_ = size;
    initial_ = is_zero(initial, size) ? nullptr : initial;
    all_bytes.fetch_add(size, std::memory_order_relaxed);
    if (!initial_) return value_;
    set_unit_initializer(&variable_record::initialize_unit);
    with_lock([this] {
        next_ = first_;
        first_ = this;
        const std::uint32_t n = present_count(by::cpu);
        for (std::uint32_t i = 0; i < n; ++i) std::memcpy(reinterpret_cast<void*>(value_ + present_offset(by::cpu, layout_of(value_), i)), initial_, size_);
    });
    return value_;
}

void variable_record::unbind() noexcept {
    if (initial_) {
        with_lock([this] {
            variable_record** link = &first_;
            while (*link != this) link = &(*link)->next_;
            *link = next_;
        });
    }
    all_bytes.fetch_sub(size_, std::memory_order_relaxed);
    COHORT_CHECK(free(value_) == 0, "a per-CPU variable was freed by somebody");
}

void variable_record::initialize_unit(by index, unsigned cpu) noexcept {
    if (index != by::cpu) return;
    for (const variable_record* r = first_; r; r = r->next_) {
        std::memcpy(reinterpret_cast<void*>(r->value_ + offset_of(layout_of(r->value_), cpu)), r->initial_, r->size_);
    }
}

std::uint64_t variable_record::bytes() noexcept { return all_bytes.load(std::memory_order_relaxed); }

}  // namespace cohort::percpu::detail
