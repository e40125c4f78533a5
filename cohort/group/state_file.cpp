// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/state_lock.hpp>
#include <cohort/group/apply.hpp>
#include <cohort/group/state.hpp>

#include <cohort/sys/fd.hpp>

namespace cohort::group {
namespace {

constexpr const char* ending = ".state";

result<void> make_room_locked(sys::os& os, const std::string& run_dir, const std::string& name) {
    const sweep_report swept = detail::sweep_locked(os, run_dir);
    const auto there = ups(os, run_dir);
    if (!there) return std::unexpected(there.error());
    for (const up_state& other : there->all) {
        if (other.name != name) continue;
        if (alive(os, other)) return fail(EBUSY, "\"" + name + "\"", "bring up", "it is up already, in process " + std::to_string(other.who.pid) + " (" + other.spec + "); --name gives another name");
        return swept.not_swept.empty() ? fail(EBUSY, "\"" + name + "\"", "bring up", "what a killed one left is still there") : std::unexpected(swept.not_swept.front());
    }
    return {};
}

}  // namespace

result<void> make_room(sys::os& os, const std::string& run_dir, const std::string& name) {
    if (!os.stat(run_dir)) return {};
    const auto lock = detail::state_lock::take(os, run_dir);
    if (!lock) return std::unexpected(lock.error());
    return make_room_locked(os, run_dir, name);
}

result<ups_there> ups(sys::os& os, const std::string& run_dir) {
    ups_there out;
    const auto names = os.list_dir(run_dir);
    if (!names && names.error().code == ENOENT) return out;
    if (!names) return std::unexpected(names.error());
    for (const std::string& name : *names) {
        if (!name.ends_with(ending)) continue;
        const std::string path = run_dir + "/" + name;
        const auto info = os.stat(path);
        if (!info && info.error().code == ENOENT) continue;  // it has ended meanwhile
        // Opening a pipe would wait for whoever writes it.
        const bool file = info && info->kind == sys::file_kind::regular;
        const auto text = file ? sys::read_file(os, path, std::size_t{64} << 20) : info ? fail(EPROTO, path, "read", "it is no file") : result<std::string>(std::unexpected(info.error()));
        if (!text && text.error().code == ENOENT) continue;
        auto state = text ? read_state(*text) : std::unexpected(text.error());
        if (state && state->name + ending != name) state = fail(EPROTO, path, "read", "it is of an up that is called \"" + state->name + "\"");
        if (state) {
            out.all.push_back(std::move(*state));
        } else {
            state.error().object = path;
            out.unread.push_back(state.error());
        }
    }
    return out;
}

result<std::unique_ptr<state_file>> state_file::create(sys::os& os, const std::string& run_dir, up_state s) {
    if (!is_up_name(s.name)) return fail(EINVAL, "name \"" + s.name + "\"", "bring up", "a name is 1 to 64 letters, digits, '-', '_' and '.', and begins with a letter or digit");
    if (auto made = make_run_directory(os, run_dir); !made) return std::unexpected(made.error());
    const auto lock = detail::state_lock::take(os, run_dir);
    if (!lock) return std::unexpected(lock.error());
    if (auto free = make_room_locked(os, run_dir, s.name); !free) return std::unexpected(free.error());
    const std::string path = run_dir + "/" + s.name + ending;
    std::unique_ptr<state_file> out(new state_file(os, path, std::move(s)));
    if (auto w = out->write(); !w) return std::unexpected(w.error());
    return out;
}

/// The name beside it is always the same one: of a writer that was killed, the next write or a sweep makes use.
result<void> state_file::write() {
    const std::string beside = path_ + ".new";
    auto written = sys::write_file(os_, beside, state_json(state_));
    if (written) written = os_.rename(beside, path_);
    if (!written) (void)os_.unlink(beside);
    return written;
}

result<void> state_file::change(const std::function<void(up_state&)>& act) {
    const std::lock_guard hold(mutex_);
    const up_state before = state_;
    act(state_);
    return state_ == before ? result<void>{} : write();
}

up_state state_file::now() const {
    const std::lock_guard hold(mutex_);
    return state_;
}

result<void> state_file::remove() {
    const std::lock_guard hold(mutex_);
    return os_.unlink(path_);
}

}  // namespace cohort::group
