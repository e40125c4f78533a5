// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/detail/control_place.hpp>

#include <algorithm>

#include <cohort/padata/control.hpp>
#include <cohort/padata/detail/control_files.hpp>
#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/watch.hpp>

namespace cohort::padata::detail {

namespace {

/// A directory of this user's that nobody else writes in. A link is refused: who made it could turn it.
result<void> make_private(sys::os& os, const std::string& path) {
    if (auto made = os.mkdir(path, 0700); !made && made.error().code != EEXIST) return made;
    const auto info = os.stat(path);
    if (!info) return std::unexpected(info.error());
    if (os.readlink(path) || info->kind != sys::file_kind::directory) return fail(EPERM, path, "use for control directories", "it is no directory");
    if (info->uid != sys::effective_uid()) return fail(EPERM, path, "use for control directories", "it is another user's");
    if ((info->mode & 022) != 0) return fail(EPERM, path, "use for control directories", "others may write in it");
    return {};
}

bool is_directory(sys::os& os, const std::string& path) {
    const auto info = os.stat(path);
    return info && info->kind == sys::file_kind::directory;
}

void remove_files(sys::os& os, const std::string& path) {
    const auto names = os.list_dir(path);
    if (!names) return;
    for (const std::string& name : *names) {
        if (control_files::is_name(name)) (void)os.unlink(path + "/" + name);
    }
}

}  // namespace

/// Of all that is this user's.
static std::string control_top(sys::os& os) {
    if (const auto dir = os.getenv("COHORT_RUN_DIR"); dir && !dir->empty()) return *dir;
    if (const auto xdg = os.getenv("XDG_RUNTIME_DIR"); xdg && !xdg->empty() && is_directory(os, *xdg)) return *xdg + "/cohort";
    return "/tmp/cohort-" + std::to_string(sys::effective_uid());
}

result<std::string> control_base(sys::os& os) {
    const std::string top = control_top(os);
    if (auto r = make_private(os, top); !r) return std::unexpected(r.error());
    if (auto r = make_private(os, top + "/padata"); !r) return std::unexpected(r.error());
    return top + "/padata";
}

/// A stale one may be removed between our looking and our holding: then the path leads elsewhere, or nowhere.
result<control_place> control_place::hold(sys::os& os, const std::string& path, bool made) {
    auto fd = sys::open_file(os, path, sys::open_read | sys::open_directory);
    if (!fd) return std::unexpected(fd.error());
    if (auto held = sys::try_hold(fd->get()); !held) {
        return fail(held.error().code == EAGAIN ? EBUSY : held.error().code, path, "use as control directory", held.error().code == EAGAIN ? "another process controls it" : held.error().reason);
    }
    const auto here = os.fstat(fd->get()), there = os.stat(path);
    if (!here) return std::unexpected(here.error());
    if (!there) return std::unexpected(there.error());
    if (here->inode != there->inode || here->device != there->device) return fail(ENOENT, path, "use as control directory", "it was removed meanwhile");
    return control_place(os, path, std::move(*fd), made);
}

result<control_place> control_place::own(sys::os& os, const std::string& id) {
    const auto base = control_base(os);
    if (!base) return std::unexpected(base.error());
    (void)remove_stale(os, *base);
    for (int attempt = 0;; ++attempt) {
        auto made = os.mkdir(*base + "/" + id, 0700);
        if (!made && made.error().code != EEXIST) return std::unexpected(made.error());
        auto place = made ? hold(os, *base + "/" + id, true) : result<control_place>(fail(EBUSY, *base + "/" + id, "make", "it is there"));
        // Another process may take a new one for stale, and remove it; then it is made again.
        if (place || !made || attempt == 100 || (place.error().code != EBUSY && place.error().code != ENOENT)) return place;
    }
}

result<control_place> control_place::given(sys::os& os, const std::string& path) {
    const auto made = os.mkdir(path, 0700);
    if (!made && made.error().code != EEXIST) return std::unexpected(made.error());
    const auto info = os.stat(path);
    if (!info) return std::unexpected(info.error());
    if (info->kind != sys::file_kind::directory) return fail(EEXIST, path, "use as control directory", "it is no directory");
    auto place = hold(os, path, made.has_value());
    if (!place) return place;
    const auto names = os.list_dir(path);
    if (!names) return std::unexpected(names.error());
    for (const std::string& name : *names) {
        if (!control_files::is_name(name)) return fail(ENOTEMPTY, path, "use as control directory", "it holds other files, such as \"" + name + "\"");
    }
    if (!names->empty()) place->made_ = true;  // of a process that died
    remove_files(os, path);
    return place;
}

void control_place::leave() {
    remove_files(*os_, path_);
    if (made_) (void)os_->rmdir(path_);
    (void)held_.close();
}

int remove_stale(sys::os& os, const std::string& base) {
    const auto names = os.list_dir(base);
    int removed = 0;
    for (const std::string& name : names ? *names : std::vector<std::string>{}) {
        const std::string path = base + "/" + name;
        if (os.readlink(path)) continue;
        auto fd = sys::open_file(os, path, sys::open_read | sys::open_directory);
        if (!fd || !sys::try_hold(fd->get())) continue;
        remove_files(os, path);
        if (os.rmdir(path)) ++removed;
    }
    return removed;
}

}  // namespace cohort::padata::detail

namespace cohort::padata {

int remove_dead_controls(sys::os& os) { return detail::remove_stale(os, detail::control_top(os) + "/padata"); }

}  // namespace cohort::padata
