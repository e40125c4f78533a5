// SPDX-License-Identifier: Apache-2.0
/// Runs a program with a broker of this process's own: kapi_run PROGRAM.
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>

#include <cohort/sharepool/broker/broker.hpp>

int main(int argc, char** argv) {
    if (argc != 2) return std::fprintf(stderr, "usage: %s PROGRAM\n", argv[0]), 2;
    const std::string socket = "@cohort-example-" + std::to_string(::getpid());
    ::setenv("COHORT_SOCKET", socket.c_str(), 1);
    auto b = cohort::sharepool::broker::create({.socket = socket, .patience = std::chrono::seconds(30)});  // for machines on which much else runs
    if (!b) return std::fprintf(stderr, "%s\n", b.error().line().c_str()), 5;
    const pid_t program = ::fork();
    if (program == 0) {
        ::execl(argv[1], argv[1], static_cast<char*>(nullptr));
        ::_exit(127);
    }
    std::atomic<bool> ended{false};
    int status = 0;
    std::thread waits([&] {
        ::waitpid(program, &status, 0);
        ended = true;
    });
    while (!ended) {
        if (auto r = (*b)->step(std::chrono::milliseconds(20)); !r) std::fprintf(stderr, "%s\n", r.error().line().c_str());
    }
    waits.join();
    return WIFEXITED(status) ? WEXITSTATUS(status) : 1;
}
