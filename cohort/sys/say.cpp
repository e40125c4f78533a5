// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/say.hpp>

#include <pthread.h>
#include <unistd.h>

#include <cerrno>

namespace cohort::sys {

void say(const char* text, int size) noexcept {
    const int saved = errno;
    for (int done = 0; done < size;) {
        const ssize_t n = ::write(STDERR_FILENO, text + done, static_cast<std::size_t>(size - done));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) break;
        done += static_cast<int>(n);
    }
    errno = saved;
}

int at_fork(void (*before)(), void (*in_parent)(), void (*in_child)()) noexcept { return ::pthread_atfork(before, in_parent, in_child); }

}  // namespace cohort::sys
