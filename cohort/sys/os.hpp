// SPDX-License-Identifier: Apache-2.0
/// The operating system as a value one can hand over: everything the library asks of it goes through this class.
///
///     result<std::string> first_line(sys::os& os, const std::string& path) {
///         auto text = sys::read_file(os, path);               // fd.hpp
///         if (!text) return std::unexpected(text.error());
///         return text->substr(0, text->find('\n'));
///     }
///     first_line(sys::real(), "/etc/hostname");               // the machine's own
///     sys::recorded machine; machine.add_file("/etc/hostname", "web1\n");
///     first_line(machine, "/etc/hostname");                   // one that is not there (recorded.hpp); also failing.hpp, fake_clock.hpp
///
/// Kernel: the system call table.
#pragma once

#include <cohort/sys/facts.hpp>
#include <cohort/sys/files.hpp>
#include <cohort/sys/processes.hpp>

namespace cohort::sys {

/// Synchronization: any thread may call anything.
class os : public files, public processes, public facts {};

/// The running system; lives as long as the program.
os& real();

/// Hands every call to another os; a base for those that change a few (fake_clock) or watch all (failing).
class forwarding : public os {
public:
    /// inner must outlive this.
    explicit forwarding(os& inner) : inner_(inner) {}

    result<int> open(const std::string& path, open_flags flags, unsigned mode) override { return inner_.open(path, flags, mode); }
    result<void> close(int fd) override { return inner_.close(fd); }
    result<std::size_t> read(int fd, std::span<std::byte> into) override { return inner_.read(fd, into); }
    result<std::size_t> pread(int fd, std::span<std::byte> into, std::uint64_t offset) override { return inner_.pread(fd, into, offset); }
    result<std::size_t> write(int fd, std::span<const std::byte> from) override { return inner_.write(fd, from); }
    result<std::size_t> pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) override { return inner_.pwrite(fd, from, offset); }
    result<file_info> fstat(int fd) override { return inner_.fstat(fd); }
    result<file_info> stat(const std::string& path) override { return inner_.stat(path); }
    result<void> fsync(int fd) override { return inner_.fsync(fd); }
    result<void> ftruncate(int fd, std::uint64_t size) override { return inner_.ftruncate(fd, size); }
    result<void> rename(const std::string& from, const std::string& to) override { return inner_.rename(from, to); }
    result<void> unlink(const std::string& path) override { return inner_.unlink(path); }
    result<void> mkdir(const std::string& path, unsigned mode) override { return inner_.mkdir(path, mode); }
    result<void> rmdir(const std::string& path) override { return inner_.rmdir(path); }
    result<void> chown(const std::string& path, unsigned uid, std::int64_t gid) override { return inner_.chown(path, uid, gid); }
    result<std::vector<std::string>> list_dir(const std::string& path) override { return inner_.list_dir(path); }
    result<std::string> readlink(const std::string& path) override { return inner_.readlink(path); }
    result<pipe_ends> pipe() override { return inner_.pipe(); }
    result<std::size_t> set_pipe_size(int fd, std::size_t bytes) override { return inner_.set_pipe_size(fd, bytes); }
    result<void> set_nonblocking(int fd, bool on) override { return inner_.set_nonblocking(fd, on); }
    result<int> memfd(const std::string& name) override { return inner_.memfd(name); }
    result<int> poll(std::span<poll_item> items, std::optional<std::uint64_t> timeout_ns) override { return inner_.poll(items, timeout_ns); }
    bool isatty(int fd) override { return inner_.isatty(fd); }
    result<int> terminal_width(int fd) override { return inner_.terminal_width(fd); }

    result<int> spawn(const spawn_request& request) override { return inner_.spawn(request); }
    result<exit_status> wait(int pid) override { return inner_.wait(pid); }
    result<std::optional<exit_status>> try_wait(int pid) override { return inner_.try_wait(pid); }
    result<int> pidfd(int pid) override { return inner_.pidfd(pid); }
    result<void> kill(int pid, int signal) override { return inner_.kill(pid, signal); }
    result<void> exec(const std::vector<std::string>& argv) override { return inner_.exec(argv); }
    result<void> in_new_thread(const std::function<void()>& body) override { return inner_.in_new_thread(body); }
    result<std::uint64_t> sched_core(core_command command, int id, int type) override { return inner_.sched_core(command, id, type); }

    cpu_place getcpu() override { return inner_.getcpu(); }
    result<cpumask> sched_getaffinity(int tid) override { return inner_.sched_getaffinity(tid); }
    result<void> sched_setaffinity(int tid, const cpumask& mask) override { return inner_.sched_setaffinity(tid, mask); }
    result<mempolicy> get_mempolicy() override { return inner_.get_mempolicy(); }
    result<void> set_mempolicy(const mempolicy& policy) override { return inner_.set_mempolicy(policy); }
    result<void> mbind(void* address, std::size_t bytes, const mempolicy& policy, bool move) override { return inner_.mbind(address, bytes, policy, move); }
    result<std::size_t> migrate_pages(int pid, const nodemask& from, const nodemask& to) override { return inner_.migrate_pages(pid, from, to); }
    std::uint64_t now() override { return inner_.now(); }
    void sleep_until(std::uint64_t deadline) override { inner_.sleep_until(deadline); }
    int getpid() override { return inner_.getpid(); }
    int gettid() override { return inner_.gettid(); }
    std::optional<std::string> getenv(const std::string& name) override { return inner_.getenv(name); }

protected:
    os& inner_;  // [const after init]
};

}  // namespace cohort::sys
