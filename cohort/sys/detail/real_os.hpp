// SPDX-License-Identifier: Apache-2.0
/// The running system: one class, its members spread over real_files.cpp, real_processes.cpp and real_facts.cpp.
#pragma once

#include <cohort/sys/os.hpp>

namespace cohort::sys::detail {

/// Synchronization: has no state.
class real_os final : public os {
public:
    result<int> open(const std::string& path, open_flags flags, unsigned mode) override;
    result<void> close(int fd) override;
    result<std::size_t> read(int fd, std::span<std::byte> into) override;
    result<std::size_t> pread(int fd, std::span<std::byte> into, std::uint64_t offset) override;
    result<std::size_t> write(int fd, std::span<const std::byte> from) override;
    result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) override;
    result<file_info> fstat(int fd) override;
    result<file_info> stat(const std::string& path) override;
    result<void> fsync(int fd) override;
    result<void> ftruncate(int fd, std::uint64_t size) override;
    result<void> rename(const std::string& from, const std::string& to) override;
    result<void> unlink(const std::string& path) override;
    result<void> mkdir(const std::string& path, unsigned mode) override;
    result<void> rmdir(const std::string& path) override;
    result<void> chown(const std::string& path, unsigned uid, std::int64_t gid) override;
    result<std::vector<std::string>> list_dir(const std::string& path) override;
    result<std::string> readlink(const std::string& path) override;
    result<pipe_ends> pipe() override;
    result<std::size_t> set_pipe_size(int fd, std::size_t bytes) override;
    result<void> set_nonblocking(int fd, bool on) override;
    result<int> memfd(const std::string& name) override;
    result<int> poll(std::span<poll_item> items, std::optional<std::uint64_t> timeout_ns) override;
    bool isatty(int fd) override;
    result<int> terminal_width(int fd) override;

    result<int> spawn(const spawn_request& request) override;
    result<exit_status> wait(int pid) override;
    result<std::optional<exit_status>> try_wait(int pid) override;
    result<int> pidfd(int pid) override;
    result<void> kill(int pid, int signal) override;
    result<void> exec(const std::vector<std::string>& argv) override;
    result<void> in_new_thread(const std::function<void()>& body) override;
    result<std::uint64_t> sched_core(core_command command, int id, int type) override;

    cpu_place getcpu() override;
    result<cpumask> sched_getaffinity(int tid) override;
    result<void> sched_setaffinity(int tid, const cpumask& mask) override;
    result<mempolicy> get_mempolicy() override;
    result<void> set_mempolicy(const mempolicy& policy) override;
    result<void> mbind(void* address, std::size_t bytes, const mempolicy& policy, bool move) override;
    result<std::size_t> migrate_pages(int pid, const nodemask& from, const nodemask& to) override;
    std::uint64_t now() override;
    void sleep_until(std::uint64_t deadline) override;
    int getpid() override;
    int gettid() override;
    std::optional<std::string> getenv(const std::string& name) override;
};

/// The body of a mask as sched_setaffinity takes it.
inline constexpr std::size_t affinity_words = max_cpus / 64;
inline void to_words(const cpumask& mask, std::uint64_t (&out)[affinity_words]) {
    for (auto& word : out) word = 0;
    for (int cpu : mask) out[cpu / 64] |= std::uint64_t{1} << (cpu % 64);
}

/// The body of a node mask as set_mempolicy takes it.
inline constexpr std::size_t node_words = max_nodes / 64;
inline constexpr unsigned long node_bits = max_nodes + 1;  // the kernel takes one off
struct node_set {
    node_set() = default;
    explicit node_set(const nodemask& mask) {
        for (int n : mask) words[n / 64] |= std::uint64_t{1} << (n % 64);
    }
    std::uint64_t words[node_words]{};
};

}  // namespace cohort::sys::detail
