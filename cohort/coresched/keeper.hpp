// SPDX-License-Identifier: Apache-2.0
/// Named cookies. A cookie lives as long as somebody carries it, and the kernel has no names for them: a keeper is a process that carries one and answers to a name.
///
///     auto k = keeper::create(os, "web", {.what = origin::fresh});       // the keeper: takes a cookie and the name
///     k->serve(stop_fd);                                                 // until it is told to end, or stop_fd can be read
///     kept web = find_kept("web").value();                               // another process: whose cookie to copy
///     tag(os, {.what = origin::of, .id = web.id, .expected = web.value}, {.ids = {4711}});
///     end_kept("web");                                                   // the name is free; who has the cookie keeps it
///
/// Kernel: no counterpart. Names are a user's own: each has those of its keepers, in its network namespace.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/coresched/control.hpp>

namespace cohort::coresched {

/// A keeper, as it tells of itself.
struct kept {
    std::string name = {};
    int id = 0;                ///< the thread that carries the cookie
    cookie value = no_cookie;
};

/// Errors: EINVAL, not 1 to 64 letters, digits, '.', '_', '-', the first a letter or digit.
result<void> check_keeper_name(const std::string& name);

class keeper {
public:
    /// The calling thread takes the cookie, and carries it from then on. Errors: EEXIST, the name is kept; those of take(); EINVAL, no such name.
    static result<std::unique_ptr<keeper>> create(sys::os& os, const std::string& name, const source& from, const tag_options& o = {});
    ~keeper();
    keeper(const keeper&) = delete;
    keeper& operator=(const keeper&) = delete;

    const kept& about() const { return about_; }
    /// Answers this user's and root's questions until it is told to end or stop_fd becomes readable (-1: there is none). Errors: those of poll.
    result<void> serve(int stop_fd);

private:
    keeper(kept about, int listener) : about_(std::move(about)), listener_(listener) {}
    /// True: it was told to end.
    bool answer();
    const kept about_;     // [const after init]
    const int listener_;   // [const after init]
};

/// Errors: ENOENT, nobody keeps it; EPERM, another user has taken its place; EIO, it does not answer as a keeper does.
result<kept> find_kept(const std::string& name);
/// This user's, by name.
result<std::vector<kept>> all_kept();
/// Errors: those of find_kept().
result<void> end_kept(const std::string& name);

}  // namespace cohort::coresched
