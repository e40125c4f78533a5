// SPDX-License-Identifier: Apache-2.0
/// percpu/alloc_free: an object made and freed, beside malloc. Ours is zero on every CPU and has its second free caught; malloc's is neither zero nor
/// checked, so calloc is shown too.
#include <dlfcn.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <vector>

#include <cohort/percpu/allocator.hpp>

#include "team.hpp"

namespace cohort::bench {
namespace {

struct stats64 {
    std::uint64_t words[8];
};
static_assert(sizeof(stats64) == 64);

[[noreturn]] void no_memory() {
    std::fprintf(stderr, "bench: percpu/alloc_free: no memory\n");
    std::exit(5);
}

void typed(std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        auto p = percpu::try_make<stats64>();
        if (!p) no_memory();
        asm volatile("" : : "r"(p.get().value()) : "memory");
    }
}
void typed_with_words(std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        auto p = percpu::make<stats64>();
        if (!p) no_memory();
        asm volatile("" : : "r"(p->get().value()) : "memory");
    }
}
/// One word is written each time, so that there is something to clear.
void typed_and_used(std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        auto p = percpu::make<stats64>();
        if (!p) no_memory();
        this_cpu::inc(percpu::handle<std::uint64_t>(p->get().value()));
    }
}
void glibc(std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        void* p = std::malloc(64);
        if (!p) no_memory();
        escape(p);
        std::free(p);
    }
}
void glibc_zeroed(std::uint32_t n) {
    for (std::uint32_t i = 0; i < n; ++i) {
        auto* p = static_cast<std::uint64_t*>(std::calloc(1, 64));
        if (!p) no_memory();
        escape(p);
        ++*p;
        std::free(p);
    }
}

/// mimalloc, opened beside glibc's malloc and not in its place: linked, it would take its names.
struct {
    void* (*malloc)(std::size_t) = nullptr;
    void (*free)(void*) = nullptr;
} mimalloc;

bool open_mimalloc() {
    void* lib = dlopen("libmimalloc.so.2", RTLD_NOW | RTLD_LOCAL);
    if (!lib) return false;
    mimalloc.malloc = reinterpret_cast<void* (*)(std::size_t)>(dlsym(lib, "mi_malloc"));
    mimalloc.free = reinterpret_cast<void (*)(void*)>(dlsym(lib, "mi_free"));
    return mimalloc.malloc && mimalloc.free;
}

/// Sizes as a program asks for them that learns them from its input: 4 .. 512 bytes, most of them small; the same list for all.
std::array<std::uint16_t, 256> mixed_sizes() {
    std::array<std::uint16_t, 256> sizes;
    std::uint64_t x = 88172645463325252u;
    for (auto& size : sizes) {
        x ^= x << 13, x ^= x >> 7, x ^= x << 17;
        const unsigned top = 8u << (x % 7);  // 8 .. 512
        size = static_cast<std::uint16_t>(4 * (1 + (x >> 32) % (top / 4)));
    }
    return sizes;
}
const auto sizes = mixed_sizes();

/// 64 bytes, as the compiler cannot know.
std::size_t size_of_64() {
    std::size_t size = 64;
    asm volatile("" : "+r"(size));
    return size;
}
struct same_size {
    std::size_t operator()(std::uint32_t) const { return size_of_64(); }
};
struct any_size {
    std::size_t operator()(std::uint32_t i) const { return sizes[i % sizes.size()]; }
};

template <class Size>
void dynamic_own(std::uint32_t n) {
    auto& a = percpu::default_allocator();
    for (std::uint32_t i = 0; i < n; ++i) {
        auto p = a.alloc(Size()(i));
        if (!p) no_memory();
        asm volatile("" : : "r"(*p) : "memory");
        if (a.free(*p) != 0) no_memory();
    }
}
template <class Size, class Malloc, class Free>
void dynamic_other(std::uint32_t n, Malloc make, Free drop) {
    for (std::uint32_t i = 0; i < n; ++i) {
        void* p = make(Size()(i));
        if (!p) no_memory();
        escape(p);
        drop(p);
    }
}

/// What is freed is cleared on every CPU, so mixed sizes cost as much as their bytes; and a branch that is guessed wrong.
template <class Size>
void run_dynamic(const settings& s, const std::string& bench, bool mi) {
    std::vector<variant> all{{"cohort, alloc and free", "ours", "", dynamic_own<Size>},
                             {"glibc malloc, free", "peer", "glibc malloc", [](std::uint32_t n) { dynamic_other<Size>(n, std::malloc, std::free); }},
                             {"glibc calloc, free", "shown", "glibc calloc",
                              [](std::uint32_t n) { dynamic_other<Size>(n, [](std::size_t size) { return std::calloc(1, size); }, std::free); }}};
    if (mi) all.push_back({"mimalloc", "shown", "mimalloc", [](std::uint32_t n) { dynamic_other<Size>(n, mimalloc.malloc, mimalloc.free); }});
    measure_loops(s, bench, "ns", 1e9, 0.06, std::move(all));
}

}  // namespace

void run_percpu_alloc(const settings& s) {
    if (std::string("percpu/alloc_free/64B/1t percpu/alloc_free/64B/2t percpu/alloc_free/dynamic percpu/alloc_free/dynamic_mixed").find(s.only) == std::string::npos) return;
    const auto both = std::make_shared<team>(s);
    // Both CPUs are present in each of these benches: a free looks at both copies.
    both->run([](int) { typed_and_used(100); });
    const bool mi = open_mimalloc();
    if (!mi) std::fprintf(stderr, "bench: libmimalloc.so.2 is not here: mimalloc is not shown\n");
    const auto mi_loop = [](std::uint32_t n) {
        for (std::uint32_t i = 0; i < n; ++i) {
            void* p = mimalloc.malloc(64);
            if (!p) no_memory();
            escape(p);
            mimalloc.free(p);
        }
    };
    for (const int threads : {1, 2}) {
        const auto on = [&](std::function<void(std::uint32_t)> loop) -> std::function<void(std::uint32_t)> {
            if (threads == 1) return loop;
            return [loop, both](std::uint32_t n) { both->run([&](int) { loop(n); }); };
        };
        std::vector<variant> all{{"cohort, try_make and ptr", "ours", "", on(typed)},
                                 {"cohort, make and ptr", "shown", "cohort, make", on(typed_with_words)},
                                 {"glibc malloc, free", "peer", "glibc malloc", on(glibc)},
                                 {"cohort, a word written", "shown", "cohort, a word written", on(typed_and_used)},
                                 {"glibc calloc, a word written, free", "shown", "glibc calloc, a word written", on(glibc_zeroed)}};
        if (mi) all.push_back({"mimalloc", "shown", "mimalloc", on(mi_loop)});
        measure_loops(s, "percpu/alloc_free/64B/" + std::to_string(threads) + "t", "ns", 1e9, 0.06, std::move(all));
    }
    run_dynamic<same_size>(s, "percpu/alloc_free/dynamic", mi);
    run_dynamic<any_size>(s, "percpu/alloc_free/dynamic_mixed", mi);
}

}  // namespace cohort::bench
