// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/control.hpp>

#include <charconv>
#include <optional>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::coresched {
namespace {

std::string thread_name(int id) { return id == 0 ? std::string("this thread") : "thread " + std::to_string(id); }

std::string release_of(sys::os& os) { return sys::read_line(os, sys::paths::release).value_or("(unknown)"); }

/// The kernel's answer, given that the arguments are right: it looks at its own configuration first, then at SMT, then at them.
std::string why(sys::os& os, int code, sys::core_command command) {
    switch (code) {
        case EINVAL: return "CONFIG_SCHED_CORE is not set in kernel " + release_of(os);
        case ENODEV: return "no core has two CPUs online: there is nothing to share";
        case ESRCH: return "there is no such thread";
        case EPERM: return command == sys::core_command::get ? "it may not be looked at: another user's, or undumpable, or a filter (seccomp) forbids the call"
                                                             : "it, or a thread of the same process or group, may not be looked at; nothing was changed by this call";
        default: return errno_text(code);
    }
}

/// "5.15" of "5.15.0-91-generic".
std::optional<std::pair<int, int>> version_of(const std::string& release) {
    int major = 0, minor = 0;
    const char* end = release.data() + release.size();
    const auto [dot, bad] = std::from_chars(release.data(), end, major);
    if (bad != std::errc() || dot == end || *dot != '.' || std::from_chars(dot + 1, end, minor).ec != std::errc()) return std::nullopt;
    return std::pair{major, minor};
}

result<void> has_no_cookie(control& kernel, int id) {
    const auto value = kernel.get(id);
    if (!value) return std::unexpected(value.error());
    if (*value != no_cookie) return fail(EBUSY, thread_name(id), "share from it", "it has a cookie");
    return {};
}

/// The calling thread loses its cookie, to one without: nobody can put a cookie down, but anybody can take another's.
result<void> become_untagged(sys::os& os, control& kernel) {
    const auto take_from = [&](int id) { return has_no_cookie(kernel, id) && kernel.share_from(id) && has_no_cookie(kernel, 0); };
    if (has_no_cookie(kernel, 0)) return {};
    for (int tid : sys::threads_of_process(os, os.getpid()).value_or(std::vector<int>{})) {
        if (take_from(tid)) return {};
    }
    const auto all = sys::all_processes(os);
    if (!all) return std::unexpected(all.error());
    for (int pid : *all) {
        if (take_from(pid)) return {};
    }
    return fail(EPERM, "this thread", "put its cookie down", "it has one, and no process without a cookie is its to share from; do it as a user who may look at one");
}

}  // namespace

availability facility(sys::os& os) {
    availability out;
    const std::string release = release_of(os);
    if (const auto got = os.sched_core(sys::core_command::get, 0, 0); !got) {
        out.code = got.error().code;
        out.why = out.code == EPERM ? "a filter (seccomp) forbids prctl PR_SCHED_CORE" : why(os, out.code, sys::core_command::get);
    }
    // Seen on 7.1 with several schedulers: sched-ext/scx issue 3715. Without cookies it does not happen.
    if (const auto state = sys::read_line(os, sys::paths::sched_ext_state); state && *state != "disabled") {
        const auto ops = sys::read_line(os, sys::paths::sched_ext_name);
        out.dangers.push_back("sched_ext is " + *state + (ops ? " (" + *ops + ")" : "") + ": cookies under it have stopped whole machines (sched-ext/scx issue 3715)");
    }
    const auto version = version_of(release);
    if (version && *version >= std::pair{5, 14} && *version < std::pair{5, 18}) {
        out.notes.push_back("kernel " + release + ": before 5.18 forced-idle balancing could run where it must not; see that commit 5b6547ed97f4 (sched/core: Fix forceidle balancing) is in it");
    }
    if (const auto on = sys::read_line(os, sys::paths::schedstats); on && *on == "0") {
        out.notes.push_back("kernel.sched_schedstats is 0: the kernel does not count forced idleness");
    }
    return out;
}

result<std::uint64_t> control::call(sys::core_command command, int id, scope whom) {
    constexpr const char* acts[] = {"get its cookie", "create a cookie", "share to it", "share from it"};
    const char* act = acts[static_cast<int>(command)];
    if (id < 0) return fail(ESRCH, thread_name(id), act, "there is no such thread");
    auto got = os_.sched_core(command, id, static_cast<int>(whom));
    if (!got) return fail(got.error().code, thread_name(id), act, why(os_, got.error().code, command));
    return got;
}

result<cookie> control::get(int id) { return call(sys::core_command::get, id, scope::thread); }
result<void> control::create(int id, scope whom) {
    if (auto r = call(sys::core_command::create, id, whom); !r) return std::unexpected(r.error());
    return {};
}
result<void> control::share_to(int id, scope whom) {
    if (auto r = call(sys::core_command::share_to, id, whom); !r) return std::unexpected(r.error());
    return {};
}
result<void> control::share_from(int id) {
    if (auto r = call(sys::core_command::share_from, id, scope::thread); !r) return std::unexpected(r.error());
    return {};
}

result<void> control::clear(int id, scope whom) {
    const auto mine = get(0);
    if (!mine) return std::unexpected(mine.error());
    if (*mine == no_cookie) return share_to(id, whom);
    const int target = id == 0 ? os_.gettid() : id;
    result<void> out;
    // In a thread that ends: the caller keeps its cookie, of which it may be the last holder.
    const auto ran = os_.in_new_thread([&] {
        out = become_untagged(os_, *this);
        if (out) out = share_to(target, whom);
    });
    if (!ran) return ran;
    return out;
}

result<cookie> take(sys::os& os, const source& from, const tag_options& o) {
    control kernel(os);
    const availability here = facility(os);
    if (!here.there()) return fail(here.code, "core scheduling", "take a cookie", here.why);
    if (!here.safe() && !o.even_if_unsafe) return fail(EOPNOTSUPP, "core scheduling", "take a cookie", "not safe here: " + here.dangers.front());
    result<void> done;
    switch (from.what) {
        case origin::fresh: done = kernel.create(0, scope::thread); break;
        case origin::of: done = from.id == 0 ? result<void>{} : kernel.share_from(from.id); break;
        case origin::none: done = become_untagged(os, kernel); break;
    }
    if (!done) return std::unexpected(done.error());
    auto value = kernel.get(0);
    if (value && *value == no_cookie && from.what == origin::of) return fail(EINVAL, thread_name(from.id), "copy its cookie", "it has none; clearing is what takes cookies away");
    if (value && from.expected != no_cookie && *value != from.expected) return fail(ESTALE, thread_name(from.id), "copy its cookie", "it is no longer the one that was asked for");
    return value;
}

}  // namespace cohort::coresched
