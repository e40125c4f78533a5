// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/detail/control_files.hpp>

#include <algorithm>

#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::padata::detail {

namespace {

constexpr std::size_t longest = 64 << 10;  // bytes of a request; 8192 CPUs one by one take 40 KiB

std::string_view trimmed(std::string_view text) {
    const auto begin = text.find_first_not_of(" \t\r\n");
    return begin == text.npos ? std::string_view() : text.substr(begin, text.find_last_not_of(" \t\r\n") - begin + 1);
}

/// For one line of an error: at most 60 bytes, none of which moves a cursor.
std::string quoted(std::string_view text) {
    std::string out;
    for (const char c : text.substr(0, 60)) out += c >= ' ' && c != 127 ? c : '?';
    return "\"" + out + (text.size() > 60 ? "...\"" : "\"");
}

}  // namespace

result<cpumask> parse_mask(instance& inst, mask_kind kind, bool hex, std::string_view text) {
    const std::string object = "padata \"" + inst.name() + "\"", act = std::string("set ") + (kind == mask_kind::parallel ? "parallel" : "serial") + " mask " + quoted(text);
    const int cpus = std::clamp(inst.internals().possible_cpus(), 1, max_cpus);
    auto mask = hex ? cpumask::parse_hex(text, cpus) : cpumask::parse_list(text, cpus);
    if (!mask) return fail(mask.error().code, object, act, mask.error().reason);
    return *mask;
}

const std::vector<control_files::kind_of_file> control_files::kinds = {
    {"parallel_cpumask", kind_of_file::hex},
    {"serial_cpumask", kind_of_file::hex, mask_kind::serial},
    {"parallel_cpulist", kind_of_file::list},
    {"serial_cpulist", kind_of_file::list, mask_kind::serial},
    {"usable_parallel_cpumask", kind_of_file::hex, mask_kind::parallel, true},
    {"usable_serial_cpumask", kind_of_file::hex, mask_kind::serial, true},
    {"usable_parallel_cpulist", kind_of_file::list, mask_kind::parallel, true},
    {"usable_serial_cpulist", kind_of_file::list, mask_kind::serial, true},
    {"state", kind_of_file::state},
    {"last_error", kind_of_file::error},  // last: it is written when all else is
};

control_files::control_files(sys::os& os, instance& inst, std::string directory) : os_(os), inst_(inst), directory_(std::move(directory)) {
    for (const kind_of_file& k : kinds) files_.push_back({.kind = &k, .stands = {}, .known = {}, .seen = {}});
}

bool control_files::is_name(std::string_view name) {
    name = name.substr(0, name.find('.'));  // one that was about to be renamed
    return std::any_of(kinds.begin(), kinds.end(), [&](const kind_of_file& k) { return name == k.name; });
}

result<void> control_files::create() {
    for (file& f : files_) {
        if (auto r = write(f, wanted(f)); !r) return r;
    }
    return {};
}

std::string control_files::wanted(const file& f) const {
    if (f.kind->form == kind_of_file::error) return error_.empty() ? "" : error_ + "\n";
    if (f.kind->form == kind_of_file::state) return inst_.stopped() ? "stopped: " + inst_.why_stopped() + "\n" : "running\n";
    const cpumask mask = f.kind->usable ? inst_.usable_mask(f.kind->which) : inst_.user_mask(f.kind->which);
    return (f.kind->form == kind_of_file::hex ? mask.hex() : mask.list()) + "\n";
}

// ---- the files

result<std::string> control_files::read(const file& f) {
    auto fd = sys::open_file(os_, path(f), sys::open_read | sys::open_nonblock);
    if (!fd) return std::unexpected(fd.error());
    const auto info = os_.fstat(fd->get());
    if (!info) return std::unexpected(info.error());
    if (info->kind != sys::file_kind::regular) return fail(EINVAL, f.kind->name, "read", "it is no plain file any more");
    return sys::read_rest(os_, fd->get(), longest);
}

result<void> control_files::write(file& f, const std::string& text) {
    result<void> done = f.kind->writable() ? write_in_place(f, text) : replace(f, text);
    if (!done) {
        done.error().object = path(f);
        return done;
    }
    f.stands = text;
    f.known = f.seen = sign(f);
    return {};
}

/// In place, so that whoever has the file open writes into the one that counts. The new text covers the old one, the rest being line ends, before the file is cut:
/// a reader in between sees the new text.
result<void> control_files::write_in_place(file& f, const std::string& text) {
    if (os_.readlink(path(f))) (void)os_.unlink(path(f));
    auto fd = sys::open_file(os_, path(f), sys::open_read | sys::open_write | sys::open_create | sys::open_nonblock, 0600);
    if (!fd) return std::unexpected(fd.error());
    if (counted_) ++f.own;
    const auto info = os_.fstat(fd->get());
    if (!info) return std::unexpected(info.error());
    if (info->kind != sys::file_kind::regular) return fail(EINVAL, path(f), "write", "it is no plain file any more");
    std::string padded = text;
    padded.resize(std::max<std::size_t>(padded.size(), std::min<std::size_t>(info->size, longest)), '\n');
    result<void> done = sys::write_all(os_, fd->get(), padded);
    if (done) done = os_.ftruncate(fd->get(), text.size());
    if (auto closed = fd->close(); done) done = closed;
    return done;
}

/// One that nobody but root may open for writing, its owner included.
result<void> control_files::replace(file& f, const std::string& text) {
    auto made = sys::temp_file::create(os_, path(f), 0400);
    if (!made) return std::unexpected(made.error());
    if (auto r = sys::write_all(os_, made->fd(), text); !r) return r;
    if (auto r = made->commit(); !r) return r;
    if (counted_) ++f.own;
    return {};
}

control_files::signature control_files::sign(const file& f) {
    const auto info = os_.stat(path(f));
    return info ? signature{info->inode, info->size, info->changed_ns} : signature{};
}

// ---- what others did

void control_files::take(const sys::dir_event& e) {
    if (e.what == sys::dir_event::lost) {
        for (file& f : files_) {
            f.own = 0;
            f.writing = false;
            const auto text = read(f);
            f.changed = text && *text != f.stands;
        }
        return;
    }
    const auto f = std::find_if(files_.begin(), files_.end(), [&](const file& x) { return e.name == x.kind->name; });
    if (f == files_.end()) return;
    if (e.what == sys::dir_event::writing) f->writing = true;
    if (e.what == sys::dir_event::gone) {
        f->writing = false;
        f->gone = true;
    }
    if (e.what == sys::dir_event::changed) {
        f->writing = false;
        if (f->own > 0) --f->own;
        else f->changed = true;
    }
}

void control_files::look() {
    for (file& f : files_) {
        const signature now = sign(f);
        if (now == f.known || now == signature{}) continue;
        if (now == f.seen) {
            f.known = now;
            f.changed = true;
        }
        f.seen = now;
    }
}

// ---- what it means

result<void> control_files::apply_mask(const file& f, std::string_view text) {
    if (text.empty()) return fail(EINVAL, f.kind->name, "write", "nothing was written");
    auto mask = parse_mask(inst_, f.kind->which, f.kind->form == kind_of_file::hex, text);
    if (!mask) return std::unexpected(mask.error());
    return inst_.set_cpumask(f.kind->which, *mask);
}

void control_files::apply(file& f, const result<std::string>& text) {
    if (text) f.stands = *text;
    else if (text.error().code == ENOENT) return;  // refresh() makes it anew, unless the whole directory goes
    else f.stands.assign(1, '\0');  // who knows
    if (f.kind->writable()) say(text ? apply_mask(f, trimmed(*text)) : result<void>(std::unexpected(text.error())));
    else if (f.stands != wanted(f)) say(fail(EACCES, f.kind->name, "write", "it is only for reading"));
    else refresh();
}

void control_files::say(const result<void>& done) {
    error_ = done ? "" : done.error().line();
    std::replace(error_.begin(), error_.end(), '\n', ' ');
    refresh();
}

void control_files::refresh(bool missing) {
    for (file& f : files_) {
        const bool gone = missing && (f.gone || !counted_) && sign(f) == signature{};
        if (missing) f.gone = false;
        if (f.writing && !gone) continue;  // what its writer asks for comes first
        const std::string text = wanted(f);
        if (text == f.stands && !gone) continue;
        if (auto r = write(f, text); !r && f.kind->form != kind_of_file::error) error_ = r.error().line();
    }
}

}  // namespace cohort::padata::detail
