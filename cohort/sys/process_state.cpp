// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/process_state.hpp>

#include <fcntl.h>
#include <linux/kcmp.h>
#include <signal.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>

namespace cohort::sys {

namespace {

/// The text behind "\nname:\t"; nullptr: there is none.
const char* field(const char* text, const char* name) noexcept {
    char head[32];
    std::snprintf(head, sizeof head, "\n%s:", name);
    const char* at = std::strstr(text, head);
    if (!at) return nullptr;
    at += std::strlen(head);
    while (*at == '\t' || *at == ' ') ++at;
    return at;
}
long number(const char* text, const char* name, long otherwise = 0) noexcept {
    const char* at = field(text, name);
    return at ? std::strtol(at, nullptr, 10) : otherwise;
}

}  // namespace

process_state state_of_process(std::int32_t pid) noexcept {
    process_state p;
    char path[40], text[4096];
    std::snprintf(path, sizeof path, "/proc/%d/status", pid);
    const int fd = pid > 0 ? ::open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 && pid > 0 && (errno == EMFILE || errno == ENFILE)) {
        // Without a descriptor to look with: that it is there can be told, and no more.
        p.exists = ::kill(pid, 0) == 0 || errno == EPERM;
        p.leader = pid;
        p.uid = ~0u;
    }
    if (fd < 0) return p;
    const ssize_t n = ::read(fd, text, sizeof text - 1);
    ::close(fd);
    if (n <= 0) return p;  // it was reaped this moment
    text[n] = 0;
    // A name may hold anything but a line's end: it is written as \n.
    p.exists = true;
    p.leader = static_cast<std::int32_t>(number(text, "Tgid"));
    if (p.leader != pid) return state_of_process(p.leader);
    p.parent = static_cast<std::int32_t>(number(text, "PPid"));
    p.uid = static_cast<unsigned>(number(text, "Uid"));
    const char* state = field(text, "State");
    const bool over = state && (*state == 'Z' || *state == 'X');
    // A first thread that has ended is a zombie while others of the process go on.
    const char* kernel = field(text, "Kthread");  // Linux 6.11
    p.kernel_thread = kernel ? *kernel == '1' : pid == 2 || p.parent == 2;
    p.exiting = over ? number(text, "Threads", 1) <= 1 : !p.kernel_thread && !field(text, "VmSize");
    p.dumping = number(text, "CoreDumping") != 0;
    p.shares_memory = !p.kernel_thread && !over && p.parent > 1 && ::syscall(SYS_kcmp, pid, p.parent, KCMP_VM, 0, 0) == 0;
    return p;
}

}  // namespace cohort::sys
