// SPDX-License-Identifier: Apache-2.0
/// A machine that is not there: files, directories and links in memory, an affinity mask, a clock that stands.
///
///     sys::recorded host;
///     host.add_file("/sys/devices/system/cpu/online", "0-63\n");
///     host.set_affinity(cpumask::range(0, 15));
///     host.load(sys::real(), "tests/machines/epyc");          // or a directory tree, its top becoming "/"
///     use(host);  host.writes();                              // what was written: {path, text}, in order
///
/// Kernel: no counterpart. hwloc's HWLOC_FSROOT is the model.
#pragma once

#include <map>
#include <memory>
#include <mutex>

#include <cohort/sys/os.hpp>

namespace cohort::sys {

/// It has no pipes and runs no processes: those calls answer ENOSYS. It has no core scheduling; a new thread is the caller for a while. Permissions are not modelled, save read-only paths.
/// Synchronization: any thread may call anything.
class recorded : public os {
public:
    recorded();
    ~recorded() override;

    /// Paths are absolute; missing parents are made. A file that is there is replaced.
    void add_file(const std::string& path, std::string content);
    void add_dir(const std::string& path);
    void add_link(const std::string& path, std::string target);
    /// open for writing, unlink and rename of it answer EACCES.
    void set_read_only(const std::string& path);
    void set_affinity(const cpumask& mask);
    void set_place(cpu_place place);
    void set_now(std::uint64_t ns);
    void set_env(const std::string& name, std::string value);
    /// Adds what stands under `dir` of another os. Links are kept as links; what cannot be read is left out. Errors: `dir` cannot be listed.
    result<void> load(os& from, const std::string& dir);

    struct written {
        std::string path, text;
        bool operator==(const written&) const = default;
    };
    /// Every write so far, in order.
    std::vector<written> writes() const;
    std::optional<std::string> content(const std::string& path) const;

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
    bool isatty(int) override { return false; }
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
    int getpid() override { return 1; }
    int gettid() override { return 1; }
    std::optional<std::string> getenv(const std::string& name) override;

private:
    struct node;
    struct opened;
    /// The real path of `path`, links followed; the last one only when follow_last. Errors: ELOOP.
    result<std::string> resolve(const std::string& path, bool follow_last, const char* act) const;
    result<std::shared_ptr<node>> find(const std::string& path, bool follow_last, const char* act) const;
    result<opened*> at(int fd, const char* act);
    void add(const std::string& path, std::shared_ptr<node> what);
    bool has_children(const std::string& path) const;
    result<void> load_dir(os& from, const std::string& dir, const std::string& to);

    mutable std::mutex mutex_;
    std::map<std::string, std::shared_ptr<node>> nodes_;  // [guarded: mutex_] by absolute path without a '/' at the end; "/" is the top
    std::map<int, opened> open_;                          // [guarded: mutex_]
    std::vector<written> writes_;                         // [guarded: mutex_]
    std::map<std::string, std::string> env_;              // [guarded: mutex_]
    cpumask affinity_{0};                                 // [guarded: mutex_]
    mempolicy policy_;                                    // [guarded: mutex_]
    cpu_place place_;                                     // [guarded: mutex_]
    std::uint64_t now_ = 0;                               // [guarded: mutex_]
    int next_fd_ = 1000;                                  // [guarded: mutex_] far from real ones, so that a mix-up shows
};

}  // namespace cohort::sys
