// SPDX-License-Identifier: Apache-2.0
/// For tests: what the kernel says about this process's threads.
///
///     EXPECT_TRUE(sys::testing::blocks_signals("cohort/duty"));      // no handler of the program's runs on that thread
#pragma once

#include <csignal>
#include <cstdint>
#include <cstdlib>
#include <string>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::sys::testing {

/// Do all threads of this name block the signals that programs handle? Waits until there is one.
inline bool blocks_signals(const std::string& name) {
    os& system = real();
    for (;; yield_thread()) {
        int found = 0, quiet = 0;
        const auto threads = system.list_dir("/proc/self/task").value();
        for (const std::string& tid : threads) {
            const std::string of = "/proc/self/task/" + tid;
            const auto comm = read_line(system, of + "/comm");
            const auto status = read_file(system, of + "/status");
            if (!comm || !status || *comm != name) continue;
            const std::size_t at = status->find("SigBlk:\t");
            const std::uint64_t blocked = std::strtoull(status->c_str() + at + 8, nullptr, 16);
            ++found;
            bool all = true;
            for (const int s : {SIGHUP, SIGINT, SIGALRM, SIGTERM, SIGUSR1, SIGUSR2, SIGCHLD, SIGPROF}) all = all && (blocked >> (s - 1) & 1) != 0;
            quiet += all;
        }
        if (found) return quiet == found;
    }
}

}  // namespace cohort::sys::testing
