// SPDX-License-Identifier: Apache-2.0
/// The inside of the kernel's structures: memory for an object of ours that an init function makes and another ends. No constructor and no destructor, so that
/// they may be members of what calloc(3) gave; all zero, there is none yet.
#pragma once

#include <cstddef>
#include <memory>
#include <new>
#include <utility>

namespace cohort::kapi {

/// Synchronization: make() and end() as constructor and destructor of T, the rest as T.
template <class T>
struct in_place {
    alignas(T) std::byte place[sizeof(T)];
    bool there;  // [const between make and end]

    template <class... Args>
    void make(Args&&... args) {
        ::new (place) T(std::forward<Args>(args)...);
        there = true;
    }
    void end() {
        if (!there) return;
        there = false;
        std::destroy_at(&get());
    }
    T& get() { return *std::launder(reinterpret_cast<T*>(place)); }
    const T& get() const { return *std::launder(reinterpret_cast<const T*>(place)); }
};

}  // namespace cohort::kapi
