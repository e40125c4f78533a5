// SPDX-License-Identifier: Apache-2.0
#include <cohort/sys/recorded.hpp>

#include <algorithm>
#include <cstring>
#include <ranges>

#include <cohort/base/check.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::sys {

struct recorded::node {
    file_kind kind = file_kind::regular;
    std::string text = {};  // a file's content, a link's target
    bool read_only = false;
    std::uint64_t inode = 0;
    unsigned uid = 0, gid = 0;

    file_info info() const { return {.kind = kind, .size = text.size(), .device = 1, .inode = inode, .mode = 0644, .uid = uid, .gid = gid}; }
};

struct recorded::opened {
    std::shared_ptr<node> file;
    std::string path;
    std::uint64_t offset = 0;
    open_flags flags = open_read;
};

namespace {

std::unexpected<error> refuse(int code, std::string object, const char* act) { return fail(code, std::move(object), act, errno_text(code)); }
std::unexpected<error> no_such_thing(std::string object, const char* act) {
    return fail(ENOSYS, std::move(object), act, "a recorded machine has files only");
}

std::string parent_of(const std::string& path) {
    const std::size_t slash = path.rfind('/');
    return slash == 0 ? "/" : path.substr(0, slash);
}

}  // namespace

recorded::recorded() { nodes_["/"] = std::make_shared<node>(node{.kind = file_kind::directory}); }
recorded::~recorded() = default;

void recorded::add(const std::string& path, std::shared_ptr<node> what) {
    COHORT_CHECK(path.starts_with('/') && (path.size() == 1 || !path.ends_with('/')), "path of a recorded file is absolute, without a '/' at the end");
    for (std::string up = path; up != "/";) {
        up = parent_of(up);
        auto& dir = nodes_[up];
        if (!dir) dir = std::make_shared<node>(node{.kind = file_kind::directory});
    }
    what->inode = nodes_.size() + 1;
    nodes_[path] = std::move(what);
}

void recorded::add_file(const std::string& path, std::string content) {
    const std::lock_guard lock(mutex_);
    add(path, std::make_shared<node>(node{.text = std::move(content)}));
}
void recorded::add_dir(const std::string& path) {
    const std::lock_guard lock(mutex_);
    if (!nodes_.contains(path)) add(path, std::make_shared<node>(node{.kind = file_kind::directory}));
}
void recorded::add_link(const std::string& path, std::string target) {
    const std::lock_guard lock(mutex_);
    add(path, std::make_shared<node>(node{.kind = file_kind::symlink, .text = std::move(target)}));
}
void recorded::set_read_only(const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, true, "set read-only");
    COHORT_CHECK(found.has_value(), "set_read_only of a path that was not added");
    (*found)->read_only = true;
}
void recorded::set_affinity(const cpumask& mask) {
    const std::lock_guard lock(mutex_);
    affinity_ = mask;
}
void recorded::set_place(cpu_place place) {
    const std::lock_guard lock(mutex_);
    place_ = place;
}
void recorded::set_now(std::uint64_t ns) {
    const std::lock_guard lock(mutex_);
    now_ = ns;
}
void recorded::set_env(const std::string& name, std::string value) {
    const std::lock_guard lock(mutex_);
    env_[name] = std::move(value);
}

result<void> recorded::load(os& from, const std::string& dir) { return load_dir(from, dir, ""); }

result<void> recorded::load_dir(os& from, const std::string& dir, const std::string& to) {
    auto names = from.list_dir(dir);
    if (!names) return std::unexpected(names.error());
    for (const std::string& name : *names) {
        const std::string there = dir + "/" + name, here = to + "/" + name;
        if (auto target = from.readlink(there)) {
            add_link(here, *target);
        } else if (auto info = from.stat(there); info && info->kind == file_kind::directory) {
            add_dir(here);
            (void)load_dir(from, there, here);
        } else if (auto text = info && info->kind == file_kind::regular ? read_file(from, there) : result<std::string>(std::unexpect)) {
            add_file(here, std::move(*text));
        }
    }
    return {};
}

std::vector<recorded::written> recorded::writes() const {
    const std::lock_guard lock(mutex_);
    return writes_;
}

std::optional<std::string> recorded::content(const std::string& path) const {
    const std::lock_guard lock(mutex_);
    auto found = find(path, true, "read");
    if (!found || (*found)->kind != file_kind::regular) return std::nullopt;
    return (*found)->text;
}

result<std::string> recorded::resolve(const std::string& path, bool follow_last, const char* act) const {
    std::string rest = path, done;  // done: resolved so far, "" is the top
    for (int links = 0; !rest.empty();) {
        const std::size_t slash = rest.find('/');
        const std::string part = rest.substr(0, slash);
        rest = slash == std::string::npos ? "" : rest.substr(slash + 1);
        if (part.empty() || part == ".") continue;
        if (part == "..") {
            done.erase(done.empty() ? 0 : done.rfind('/'));
            continue;
        }
        const auto it = nodes_.find(done + "/" + part);
        const bool last = rest.find_first_not_of('/') == std::string::npos;
        if (it != nodes_.end() && it->second->kind == file_kind::symlink && (follow_last || !last)) {
            if (++links > 40) return refuse(ELOOP, path, act);
            if (it->second->text.starts_with('/')) done.clear();
            rest = it->second->text + (rest.empty() ? "" : "/" + rest);
            continue;
        }
        done += "/" + part;
    }
    return done.empty() ? std::string("/") : done;
}

result<std::shared_ptr<recorded::node>> recorded::find(const std::string& path, bool follow_last, const char* act) const {
    auto real_path = resolve(path, follow_last, act);
    if (!real_path) return std::unexpected(real_path.error());
    const auto it = nodes_.find(*real_path);
    if (it == nodes_.end()) return refuse(ENOENT, path, act);
    return it->second;
}

result<recorded::opened*> recorded::at(int fd, const char* act) {
    const auto it = open_.find(fd);
    if (it == open_.end()) return refuse(EBADF, fd_name(fd), act);
    return &it->second;
}

bool recorded::has_children(const std::string& path) const {
    const std::string prefix = path == "/" ? path : path + "/";
    const auto it = nodes_.upper_bound(prefix);
    return it != nodes_.end() && it->first.starts_with(prefix);
}

result<int> recorded::open(const std::string& path, open_flags flags, unsigned) {
    const std::lock_guard lock(mutex_);
    auto real_path = resolve(path, true, "open");
    if (!real_path) return std::unexpected(real_path.error());
    auto it = nodes_.find(*real_path);
    if (it == nodes_.end()) {
        if (!(flags & open_create)) return refuse(ENOENT, path, "open");
        const auto dir = nodes_.find(parent_of(*real_path));
        if (dir == nodes_.end()) return refuse(ENOENT, path, "open");
        if (dir->second->kind != file_kind::directory) return refuse(ENOTDIR, path, "open");
        if (dir->second->read_only) return refuse(EACCES, path, "open");
        add(*real_path, std::make_shared<node>());
        it = nodes_.find(*real_path);
    } else if ((flags & open_create) && (flags & open_exclusive)) {
        return refuse(EEXIST, path, "open");
    }
    node& file = *it->second;
    const bool is_dir = file.kind == file_kind::directory;
    if (is_dir && (flags & open_write)) return refuse(EISDIR, path, "open");
    if (!is_dir && (flags & open_directory)) return refuse(ENOTDIR, path, "open");
    if (file.read_only && (flags & open_write)) return refuse(EACCES, path, "open");
    if (flags & open_truncate) file.text.clear();
    open_[next_fd_] = opened{it->second, *real_path, 0, flags};
    return next_fd_++;
}

result<void> recorded::close(int fd) {
    const std::lock_guard lock(mutex_);
    if (open_.erase(fd) == 0) return refuse(EBADF, fd_name(fd), "close");
    return {};
}

result<std::size_t> recorded::pread(int fd, std::span<std::byte> into, std::uint64_t offset) {
    const std::lock_guard lock(mutex_);
    auto file = at(fd, "read");
    if (!file) return std::unexpected(file.error());
    if ((*file)->file->kind == file_kind::directory) return refuse(EISDIR, fd_name(fd), "read");
    if (((*file)->flags & open_write) && !((*file)->flags & open_read)) return refuse(EBADF, fd_name(fd), "read");
    const std::string& text = (*file)->file->text;
    if (offset >= text.size()) return std::size_t{0};
    const std::size_t n = std::min(into.size(), text.size() - static_cast<std::size_t>(offset));
    std::memcpy(into.data(), text.data() + offset, n);
    return n;
}

result<std::size_t> recorded::read(int fd, std::span<std::byte> into) {
    std::uint64_t offset = 0;
    {
        const std::lock_guard lock(mutex_);
        auto file = at(fd, "read");
        if (!file) return std::unexpected(file.error());
        offset = (*file)->offset;
    }
    auto n = pread(fd, into, offset);
    const std::lock_guard lock(mutex_);
    if (auto file = at(fd, "read"); n && file) (*file)->offset = offset + *n;
    return n;
}

result<std::size_t> recorded::pwrite(int fd, std::span<const std::byte> from, std::uint64_t offset) {
    const std::lock_guard lock(mutex_);
    auto file = at(fd, "write");
    if (!file) return std::unexpected(file.error());
    if (!((*file)->flags & open_write)) return refuse(EBADF, fd_name(fd), "write");
    std::string& text = (*file)->file->text;
    if (text.size() < offset + from.size()) text.resize(offset + from.size());
    std::memcpy(text.data() + offset, from.data(), from.size());
    writes_.push_back({(*file)->path, std::string(reinterpret_cast<const char*>(from.data()), from.size())});
    return from.size();
}

result<std::size_t> recorded::write(int fd, std::span<const std::byte> from) {
    std::uint64_t offset = 0;
    {
        const std::lock_guard lock(mutex_);
        auto file = at(fd, "write");
        if (!file) return std::unexpected(file.error());
        offset = (*file)->flags & open_append ? (*file)->file->text.size() : (*file)->offset;
    }
    auto n = pwrite(fd, from, offset);
    const std::lock_guard lock(mutex_);
    if (auto file = at(fd, "write"); n && file) (*file)->offset = offset + *n;
    return n;
}

result<file_info> recorded::fstat(int fd) {
    const std::lock_guard lock(mutex_);
    auto file = at(fd, "fstat");
    if (!file) return std::unexpected(file.error());
    return (*file)->file->info();
}

result<file_info> recorded::stat(const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, true, "stat");
    if (!found) return std::unexpected(found.error());
    return (*found)->info();
}

result<void> recorded::fsync(int fd) {
    const std::lock_guard lock(mutex_);
    if (auto file = at(fd, "fsync"); !file) return std::unexpected(file.error());
    return {};
}

result<void> recorded::ftruncate(int fd, std::uint64_t size) {
    const std::lock_guard lock(mutex_);
    auto file = at(fd, "ftruncate");
    if (!file) return std::unexpected(file.error());
    (*file)->file->text.resize(size);
    return {};
}

result<void> recorded::rename(const std::string& from, const std::string& to) {
    const std::lock_guard lock(mutex_);
    auto source = resolve(from, false, "rename");
    auto target = resolve(to, false, "rename");
    if (!source) return std::unexpected(source.error());
    if (!target) return std::unexpected(target.error());
    const auto it = nodes_.find(*source);
    if (it == nodes_.end() || !nodes_.contains(parent_of(*target))) return refuse(ENOENT, from, "rename");
    if (it->second->kind == file_kind::directory) return fail(ENOSYS, from, "rename", "a recorded machine renames files only");
    if (const auto there = nodes_.find(*target); there != nodes_.end()) {
        if (there->second->kind == file_kind::directory) return refuse(EISDIR, from, "rename");
        if (there->second->read_only) return refuse(EACCES, from, "rename");
    }
    auto file = it->second;
    nodes_.erase(it);
    nodes_[*target] = std::move(file);
    return {};
}

result<void> recorded::unlink(const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, false, "unlink");
    if (!found) return std::unexpected(found.error());
    if ((*found)->kind == file_kind::directory) return refuse(EISDIR, path, "unlink");
    if ((*found)->read_only) return refuse(EACCES, path, "unlink");
    nodes_.erase(*resolve(path, false, "unlink"));
    return {};
}

result<void> recorded::mkdir(const std::string& path, unsigned) {
    const std::lock_guard lock(mutex_);
    auto real_path = resolve(path, true, "mkdir");
    if (!real_path) return std::unexpected(real_path.error());
    if (nodes_.contains(*real_path)) return refuse(EEXIST, path, "mkdir");
    const auto dir = nodes_.find(parent_of(*real_path));
    if (dir == nodes_.end()) return refuse(ENOENT, path, "mkdir");
    if (dir->second->kind != file_kind::directory) return refuse(ENOTDIR, path, "mkdir");
    if (dir->second->read_only) return refuse(EACCES, path, "mkdir");
    add(*real_path, std::make_shared<node>(node{.kind = file_kind::directory}));
    return {};
}

result<void> recorded::rmdir(const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, false, "rmdir");
    if (!found) return std::unexpected(found.error());
    if ((*found)->kind != file_kind::directory) return refuse(ENOTDIR, path, "rmdir");
    const std::string real_path = *resolve(path, false, "rmdir");
    if (real_path == "/") return refuse(EBUSY, path, "rmdir");
    if (has_children(real_path)) return refuse(ENOTEMPTY, path, "rmdir");
    nodes_.erase(real_path);
    return {};
}

result<void> recorded::chown(const std::string& path, unsigned uid, std::int64_t gid) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, true, "chown");
    if (!found) return std::unexpected(found.error());
    (*found)->uid = uid;
    if (gid >= 0) (*found)->gid = static_cast<unsigned>(gid);
    return {};
}

result<std::vector<std::string>> recorded::list_dir(const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, true, "list");
    if (!found) return std::unexpected(found.error());
    if ((*found)->kind != file_kind::directory) return refuse(ENOTDIR, path, "list");
    const std::string real_path = *resolve(path, true, "list");
    const std::string prefix = real_path == "/" ? real_path : real_path + "/";
    std::vector<std::string> out;
    for (auto it = nodes_.upper_bound(prefix); it != nodes_.end() && it->first.starts_with(prefix); ++it) {
        const std::string name = it->first.substr(prefix.size());
        if (name.find('/') == std::string::npos) out.push_back(name);
    }
    std::ranges::sort(out);
    return out;
}

result<std::string> recorded::readlink(const std::string& path) {
    const std::lock_guard lock(mutex_);
    auto found = find(path, false, "readlink");
    if (!found) return std::unexpected(found.error());
    if ((*found)->kind != file_kind::symlink) return refuse(EINVAL, path, "readlink");
    return (*found)->text;
}

result<int> recorded::memfd(const std::string& name) {
    const std::lock_guard lock(mutex_);
    open_[next_fd_] = opened{std::make_shared<node>(), "memfd:" + name, 0, open_read | open_write};
    return next_fd_++;
}

result<int> recorded::poll(std::span<poll_item> items, std::optional<std::uint64_t>) {
    for (poll_item& item : items) {  // files are always ready
        item.can_read = item.want_read;
        item.can_write = item.want_write;
        item.hung_up = false;
    }
    return static_cast<int>(items.size());
}

result<int> recorded::terminal_width(int fd) { return refuse(ENOTTY, fd_name(fd), "ask for the terminal's width"); }
result<void> recorded::set_nonblocking(int fd, bool) {
    const std::lock_guard lock(mutex_);
    if (auto file = at(fd, "fcntl"); !file) return std::unexpected(file.error());
    return {};
}
result<pipe_ends> recorded::pipe() { return no_such_thing("", "pipe"); }
result<std::size_t> recorded::set_pipe_size(int fd, std::size_t) { return no_such_thing(fd_name(fd), "set the pipe's size"); }
result<int> recorded::spawn(const spawn_request& request) { return no_such_thing(request.argv.empty() ? "command" : request.argv[0], "spawn"); }
result<exit_status> recorded::wait(int pid) { return no_such_thing("process " + std::to_string(pid), "wait"); }
result<std::optional<exit_status>> recorded::try_wait(int pid) { return no_such_thing("process " + std::to_string(pid), "wait"); }
result<int> recorded::pidfd(int pid) { return no_such_thing("process " + std::to_string(pid), "pidfd_open"); }
result<void> recorded::kill(int pid, int) { return no_such_thing("process " + std::to_string(pid), "kill"); }
result<void> recorded::exec(const std::vector<std::string>& argv) { return no_such_thing(argv.empty() ? "command" : argv[0], "exec"); }
result<void> recorded::in_new_thread(const std::function<void()>& body) {
    body();
    return {};
}
result<std::uint64_t> recorded::sched_core(core_command, int id, int) { return fail(EINVAL, "thread " + std::to_string(id), "prctl PR_SCHED_CORE", errno_text(EINVAL)); }

cpu_place recorded::getcpu() {
    const std::lock_guard lock(mutex_);
    return place_;
}
result<cpumask> recorded::sched_getaffinity(int) {
    const std::lock_guard lock(mutex_);
    return affinity_;
}
result<void> recorded::sched_setaffinity(int, const cpumask& mask) {
    const std::lock_guard lock(mutex_);
    if (mask.empty()) return fail(EINVAL, "this thread", "sched_setaffinity \"\"", "the mask is empty");
    affinity_ = mask;
    return {};
}
result<mempolicy> recorded::get_mempolicy() {
    const std::lock_guard lock(mutex_);
    return policy_;
}
result<void> recorded::set_mempolicy(const mempolicy& policy) {
    const std::lock_guard lock(mutex_);
    policy_ = policy;
    return {};
}
result<void> recorded::mbind(void*, std::size_t, const mempolicy&, bool) { return no_such_thing("memory", "mbind"); }
result<std::size_t> recorded::migrate_pages(int, const nodemask&, const nodemask&) { return std::size_t{0}; }
std::uint64_t recorded::now() {
    const std::lock_guard lock(mutex_);
    return now_;
}
void recorded::sleep_until(std::uint64_t deadline) {
    const std::lock_guard lock(mutex_);
    now_ = std::max(now_, deadline);
}
std::optional<std::string> recorded::getenv(const std::string& name) {
    const std::lock_guard lock(mutex_);
    const auto it = env_.find(name);
    if (it == env_.end()) return std::nullopt;
    return it->second;
}

}  // namespace cohort::sys
