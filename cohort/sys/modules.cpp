// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/modules.hpp>

#include <link.h>

#include <cstdint>

namespace cohort::sys {

namespace {

struct search {
    std::uintptr_t address = 0;
    int at = 0, found = -1;
};

/// Objects come in the order of loading; those of the start keep their places for ever.
int look(dl_phdr_info* info, std::size_t, void* data) {
    auto& s = *static_cast<search*>(data);
    for (int i = 0; i < info->dlpi_phnum; ++i) {
        const auto& segment = info->dlpi_phdr[i];
        if (segment.p_type == PT_LOAD && s.address - (info->dlpi_addr + segment.p_vaddr) < segment.p_memsz) s.found = s.at;
    }
    ++s.at;
    return 0;
}

/// All objects of the start are mapped before the first constructor runs.
int objects_at_start() {
    static const int count = [] {
        search s;
        ::dl_iterate_phdr(look, &s);
        return s.at;
    }();
    return count;
}

[[gnu::constructor(101)]] void count_early() { objects_at_start(); }

}  // namespace

bool loaded_at_start(const void* address) {
    const int first_late = objects_at_start();
    search s{.address = reinterpret_cast<std::uintptr_t>(address)};
    ::dl_iterate_phdr(look, &s);
    return s.found < first_late;
}

}  // namespace cohort::sys
