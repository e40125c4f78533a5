// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/modules.hpp>

#include <dlfcn.h>
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

result<loaded_library> loaded_library::open(const std::string& path) {
    loaded_library l;
    // A name without a slash would be looked for where the system's libraries are.
    l.path_ = path.find('/') == path.npos ? "./" + path : path;
    l.handle_ = ::dlopen(l.path_.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (l.handle_) return l;
    const char* why = ::dlerror();
    return fail(ENOENT, path, "load the library", why ? why : "");
}

loaded_library::~loaded_library() {
    if (handle_) ::dlclose(handle_);
}

result<void*> loaded_library::find(const std::string& symbol) const {
    if (void* at = ::dlsym(handle_, symbol.c_str())) return at;
    return fail(ENOENT, path_, "find \"" + symbol + "\"", "the library has no such function");
}

}  // namespace cohort::sys
