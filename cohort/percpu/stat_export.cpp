// SPDX-License-Identifier: Apache-2.0
#include <cohort/percpu/stat_export.hpp>

#include <span>
#include <string_view>
#include <system_error>
#include <thread>

#include <cohort/base/mutex.hpp>
#include <cohort/percpu/stats.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/local_socket.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/say.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::percpu {

namespace {

std::string socket_name(int pid) { return "cohort-percpu-" + std::to_string(pid); }
std::string object_of(int pid) { return "process " + std::to_string(pid); }

// A question is one word and a line's end; an answer begins with "ok" or "refused" and a line's end.
constexpr std::string_view ask_json = "json\n", ask_text = "text\n", says_ok = "ok\n", says_refused = "refused\n";

void answer(const sys::local_peer& who) {
    sys::os& os = sys::real();
    const sys::owned_fd fd(os, who.fd);
    char word[ask_json.size()];
    const auto got = sys::read_full(os, fd.get(), std::as_writable_bytes(std::span(word)));
    if (!got || *got != sizeof word) return;
    if (who.uid != sys::effective_uid() && who.uid != 0) return (void)sys::send_local(fd.get(), says_refused);
    const bool json = std::string_view(word, sizeof word) == ask_json;
    (void)sys::send_local(fd.get(), std::string(says_ok) + (json ? process_stats_json() + "\n" : process_stats_text()));
}

/// The thread that answers. One in a process.
struct {
    mutex lock;
    int listener COHORT_GUARDED_BY(lock) = -1;
    std::thread* thread COHORT_GUARDED_BY(lock) = nullptr;
} server;

void serve(int listener) {
    sys::name_thread("percpu-stat");
    while (auto who = sys::accept_local(listener)) answer(*who);
}

/// At the program's end, before the list of allocators goes.
struct stopper {
    ~stopper() {
        const lock_guard hold(server.lock);
        if (!server.thread) return;
        sys::end_listening(server.listener);
        server.thread->join();
        delete server.thread;
        (void)sys::real().close(server.listener);
        server.thread = nullptr;
        server.listener = -1;
    }
};

void before_fork() COHORT_NO_THREAD_SAFETY_ANALYSIS { server.lock.lock(); }
void after_fork() COHORT_NO_THREAD_SAFETY_ANALYSIS { server.lock.unlock(); }
/// The thread is the parent's; its object has nothing to join here and is left.
void after_fork_in_child() COHORT_NO_THREAD_SAFETY_ANALYSIS {
    if (server.listener >= 0) (void)sys::real().close(server.listener);
    server.listener = -1;
    server.thread = nullptr;
    server.lock.unlock();
}

}  // namespace

result<void> export_stats() {
    static const int asked = sys::at_fork(before_fork, after_fork, after_fork_in_child);
    if (asked != 0) return fail(asked, "percpu statistics", "export", errno_text(asked));
    static const stopper at_end;
    const lock_guard hold(server.lock);
    if (server.thread) return {};
    auto listener = sys::listen_local(socket_name(sys::real().getpid()));
    if (!listener) return std::unexpected(listener.error());
    try {
        const sys::signals_blocked quiet;  // no handler of the program's runs on it
        server.thread = new std::thread(serve, *listener);
    } catch (const std::system_error& e) {
        (void)sys::real().close(*listener);
        return fail(e.code().value(), "percpu statistics", "start a thread", errno_text(e.code().value()));
    }
    server.listener = *listener;
    return {};
}

result<std::string> ask_stats(int pid, bool json) {
    sys::os& os = sys::real();
    if (const auto there = os.kill(pid, 0); !there && there.error().code == ESRCH) return fail(ESRCH, object_of(pid), "ask for statistics", "there is no such process");
    const auto server_end = sys::connect_local(socket_name(pid));
    if (!server_end) {
        if (server_end.error().code != ECONNREFUSED) return std::unexpected(server_end.error());
        return fail(EOPNOTSUPP, object_of(pid), "ask for per-CPU statistics", "it does not answer: start it with COHORT_PERCPU_STAT=1 in its environment, or let it call cohort::percpu::export_stats()");
    }
    const sys::owned_fd fd(os, server_end->fd);
    // Names are anybody's to take.
    if (server_end->pid != pid) return fail(EPROTO, object_of(pid), "ask for statistics", "process " + std::to_string(server_end->pid) + " answers in its place");
    if (auto w = sys::send_local(fd.get(), json ? ask_json : ask_text); !w) return std::unexpected(w.error());
    const auto all = sys::read_rest(os, fd.get());
    if (!all) return std::unexpected(all.error());
    if (*all == says_refused) return fail(EACCES, object_of(pid), "ask for statistics", "it is another user's");
    if (!all->starts_with(says_ok) || all->size() == says_ok.size()) return fail(EPROTO, object_of(pid), "ask for statistics", "the answer is cut short");
    return all->substr(says_ok.size());
}

std::string process_stats_text() {
    std::string out;
    for (const allocator_stats& s : all_stats()) out += s.text();
    return out.empty() ? "no per-CPU allocator was made yet\n" : out;
}

std::string process_stats_json() {
    std::string out = "{\"schema_version\": 1, \"pid\": " + std::to_string(sys::real().getpid()) + ", \"allocators\": [";
    const char* between = "";
    for (const allocator_stats& s : all_stats()) {
        out += between + s.json();
        between = ", ";
    }
    return out + "]}";
}

}  // namespace cohort::percpu
