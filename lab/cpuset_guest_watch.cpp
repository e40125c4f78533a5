// SPDX-License-Identifier: Apache-2.0
// Files that are read after every command stay open: under emulation a path walk costs more than all else.
#include "cpuset_guest.hpp"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>

namespace lab {

int watched_file::read(std::string& text) const {
    text.clear();
    char block[4096];
    ssize_t n;
    while ((n = pread(fd_, block, sizeof block, static_cast<off_t>(text.size()))) > 0) text.append(block, static_cast<std::size_t>(n));
    while (text.ends_with('\n')) text.pop_back();
    return n < 0 ? errno : 0;
}

watched_file::watched_file(const std::string& path) : fd_(open(path.c_str(), O_RDONLY | O_CLOEXEC)) {}

watched_file::~watched_file() {
    if (fd_ >= 0) close(fd_);
}

watch::watch() {
    const rlimit many{.rlim_cur = 65536, .rlim_max = 65536};
    setrlimit(RLIMIT_NOFILE, &many);
}

void watch::add(const tree& t, const std::string& path) {
    auto& files = sets_[path];
    files.clear();
    for (const std::string& name : t.files(path)) {
        if (name != "cpuset.memory_pressure") files.emplace(path + " " + name, t.directory(path) + "/" + name);
    }
}

void watch::renew_below(const tree& t, const std::string& path) {
    for (const auto& [p, files] : sets_) {
        const std::size_t slash = p.rfind('/');
        if (p != "." && path == (slash == std::string::npos ? "." : p.substr(0, slash))) add(t, p);
    }
}

void watch::renew(const tree& t) {
    sets_.clear();
    add(t, ".");
    for (const std::string& p : t.below()) add(t, p);
}

void watch::follow(const tree& t, const std::vector<std::string>& command, bool done) {
    if (command[0] == "reset" || command[0] == "bind") renew(t);
    if (!done) return;
    if (command[0] == "mkdir") add(t, command[1]);
    if (command[0] == "rmdir") sets_.erase(command[1]);
    if (command[0] == "controller") renew_below(t, command[1]);
}

}  // namespace lab
