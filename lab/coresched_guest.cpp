// SPDX-License-Identifier: Apache-2.0
// prctl(PR_SCHED_CORE) on a real kernel, rule by rule, and the control of it. One line a claim on standard output, "ok NAME" or "FAILED NAME: what was there instead"; exit 0
// when all hold. cohort/coresched/process_table_test.cpp makes the same claims of the fake kernel.
//
//     lab/run --kernel 6.12 -- ~/.cache/cohort/lab/coresched_guest           as root; without SMT: rule 2 alone
//     ~/.cache/cohort/lab/coresched_guest without                            on a kernel without CONFIG_SCHED_CORE: rule 1; exit 3 where the kernel has it
#include <fcntl.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <functional>
#include <string>
#include <thread>

#include <cohort/coresched/control.hpp>
#include <cohort/coresched/keeper.hpp>
#include <cohort/sys/fd.hpp>

namespace {

using namespace cohort;
using namespace cohort::coresched;

constexpr unsigned long get = 0, create = 1, share_to = 2, share_from = 3;
constexpr unsigned long pid_type = 0, tgid_type = 1, pgid_type = 2;
constexpr long nobody_there = 4'000'000;

int failed = 0;

void claim(const std::string& name, const std::string& got, const std::string& wanted) {
    std::printf(got == wanted ? "ok %s\n" : "FAILED %s: \"%s\", not \"%s\"\n", name.c_str(), got.c_str(), wanted.c_str());
    std::fflush(stdout);
    failed += got != wanted;
}
void claim(const std::string& name, bool holds, const std::string& what) { claim(name, holds ? what : "not " + what, what); }

/// "ok" or the errno's name.
std::string call(unsigned long command, long id, unsigned long type, unsigned long address = 0) {
    static unsigned long long value;
    if (command == get && address == 0) address = reinterpret_cast<unsigned long>(&value);
    return ::prctl(62, command, static_cast<unsigned long>(id), type, address) < 0 ? errno_name(errno) : "ok";
}
unsigned long long cookie_of(long id) {
    unsigned long long value = ~0ull;
    return ::prctl(62, get, static_cast<unsigned long>(id), pid_type, &value) < 0 ? ~0ull : value;
}

/// A process with some threads more, that sleeps until it goes out of scope. `prepare` runs in it first.
class sleeper {
public:
    explicit sleeper(int threads = 0, const std::function<void()>& prepare = {}) {
        shared_ = static_cast<page*>(::mmap(nullptr, sizeof(page), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0));
        pid_ = ::fork();
        if (pid_ == 0) {
            for (int i = 0; i < threads; ++i) {
                std::thread([this, i] {
                    shared_->tids[i] = ::gettid();
                    for (;;) ::pause();
                }).detach();
            }
            if (prepare) prepare();
            for (int i = 0; i < threads; ++i) {
                while (shared_->tids[i] == 0) ::usleep(1000);
            }
            shared_->ready = 1;
            for (;;) ::pause();
        }
        while (shared_->ready == 0) ::usleep(1000);
    }
    ~sleeper() {
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
        ::munmap(shared_, sizeof(page));
    }
    int pid() const { return pid_; }
    int thread(int i) const { return shared_->tids[i]; }

private:
    struct page {
        std::atomic<int> ready, tids[8];
    };
    page* shared_;
    pid_t pid_ = -1;
};

/// Runs it in a process of its own and tells what it wrote last.
std::string in_child(const std::function<std::string()>& body) {
    const auto ends = sys::real().pipe().value();
    const pid_t pid = ::fork();
    if (pid == 0) {
        const std::string text = body();
        (void)!::write(ends.write, text.data(), text.size());
        ::_exit(0);
    }
    ::close(ends.write);
    const sys::owned_fd in(sys::real(), ends.read);
    const std::string text = sys::read_rest(sys::real(), in.get()).value_or("nothing");
    ::waitpid(pid, nullptr, 0);
    return text;
}
std::string as_user(unsigned uid, const std::function<std::string()>& body) {
    return in_child([&] {
        if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) return std::string("no user");
        ::prctl(PR_SET_DUMPABLE, 1);
        return body();
    });
}
std::function<void()> user(unsigned uid) {
    return [uid] {
        if (::setresgid(uid, uid, uid) != 0 || ::setresuid(uid, uid, uid) != 0) ::_exit(1);
        ::prctl(PR_SET_DUMPABLE, 1);
    };
}

void put(const std::string& path, const std::string& text) {
    if (auto fd = sys::open_file(sys::real(), path, sys::open_write)) (void)sys::write_all(sys::real(), fd->get(), text + "\n");
}
/// Waits for it, a minute at most.
void wait_until(const std::function<bool()>& so) {
    for (int i = 0; i < 6000 && !so(); ++i) ::usleep(10000);
}

void rule_1() {
    std::string all;
    for (const unsigned long command : {get, create, share_to, share_from, 9ul}) {
        for (const long id : {0l, -1l, nobody_there}) all += call(command, id, pid_type) == "EINVAL" ? "" : std::to_string(command) + " ";
    }
    claim("rule 1: a kernel without it answers EINVAL to everything", all, "");
}

bool smt_is(const char* wanted) { return sys::read_line(sys::real(), "/sys/devices/system/cpu/smt/active").value_or("") == wanted; }

void without_smt() {
    std::string all;
    for (const unsigned long command : {get, create, share_to, share_from, 9ul}) all += call(command, -1, 99) == "ENODEV" ? "" : std::to_string(command) + " ";
    claim("rule 2: without SMT ENODEV comes before any look at the arguments", all, "");
    claim("rule 2: and is told as such", std::to_string(facility(sys::real()).code), std::to_string(ENODEV));
}

void rule_2() {
    sleeper s;
    claim("rule 2: a cookie before SMT goes", call(create, s.pid(), pid_type), "ok");
    const auto before = cookie_of(s.pid());
    put("/sys/devices/system/cpu/smt/control", "off");
    wait_until([] { return smt_is("0"); });
    without_smt();
    put("/sys/devices/system/cpu/smt/control", "on");
    wait_until([] { return smt_is("1"); });
    claim("rule 2: cookies stay over it", cookie_of(s.pid()) == before && before != 0, "the same cookie");
}

void rule_3() {
    claim("rule 3: a wrong type before the thread is looked for", call(get, nobody_there, 3), "EINVAL");
    claim("rule 3: a wrong command", call(4, nobody_there, pid_type), "EINVAL");
    claim("rule 3: a negative thread", call(create, -1, pid_type), "EINVAL");
    for (const unsigned long command : {create, share_to, share_from}) claim("rule 3: an address for command " + std::to_string(command), call(command, nobody_there, pid_type, 8), "EINVAL");
}

void rule_4() {
    const std::string got = in_child([] {
        std::string out;
        std::thread([&] { out = call(create, 0, pid_type); }).join();
        std::thread([&] {
            (void)call(create, 0, pid_type);
            out += cookie_of(0) != 0 && cookie_of(::getpid()) == 0 ? " the thread alone" : " more than the thread";
        }).join();
        return out;
    });
    claim("rule 4: 0 is the calling thread", got, "ok the thread alone");
    for (const unsigned long command : {get, create, share_to, share_from}) claim("rule 4: a thread that is not there, command " + std::to_string(command), call(command, nobody_there, pid_type), "ESRCH");
    const int ended = [] {
        const pid_t child = ::fork();
        if (child == 0) ::_exit(0);
        ::waitpid(child, nullptr, 0);
        return child;
    }();
    claim("rule 4: one that has ended", call(get, ended, pid_type), "ESRCH");
}

void rule_5() {
    sleeper mine(0, user(1000)), others(0, user(1001)), root, hidden(0, [] {
        user(1000)();
        ::prctl(PR_SET_DUMPABLE, 0);
    });
    for (const unsigned long command : {get, create, share_to, share_from}) {
        claim("rule 5: another user's, command " + std::to_string(command), as_user(1000, [&] { return call(command, others.pid(), pid_type); }), "EPERM");
        claim("rule 5: an own process, command " + std::to_string(command), as_user(1000, [&] { return call(command, mine.pid(), pid_type); }), "ok");
    }
    claim("rule 5: root's, by a user", as_user(1000, [&] { return call(get, root.pid(), pid_type); }), "EPERM");
    claim("rule 5: an own process that is not dumpable", as_user(1000, [&] { return call(get, hidden.pid(), pid_type); }), "EPERM");
    claim("rule 5: root may", call(get, hidden.pid(), pid_type) + call(create, others.pid(), pid_type), "okok");
    claim("rule 5: one's own process, always", as_user(1000, [&] {
              ::prctl(PR_SET_DUMPABLE, 0);
              const int first = ::gettid();
              std::string out;
              std::thread([&] { out = call(get, first, pid_type); }).join();
              return out;
          }),
          "ok");
}

void rule_6() {
    sleeper others(0, user(1001));
    alignas(8) char place[16];
    const auto at = reinterpret_cast<unsigned long>(place);
    claim("rule 6: GET of a process", call(get, 0, tgid_type), "EINVAL");
    claim("rule 6: GET of a process that is not there", call(get, nobody_there, tgid_type), "ESRCH");
    claim("rule 6: GET of another's process", as_user(1000, [&] { return call(get, others.pid(), tgid_type); }), "EPERM");
    claim("rule 6: an address that is not aligned", call(get, 0, pid_type, at + 4), "EINVAL");
    claim("rule 6: no address", ::prctl(62, get, 0, pid_type, 0) < 0 ? errno_name(errno) : "ok", "EFAULT");
    claim("rule 6: an aligned one", call(get, 0, pid_type, at + 8), "ok");
    claim("rule 6: 0 is no cookie", std::to_string(cookie_of(0)), "0");
}

void rule_7() {
    sleeper a, b;
    claim("rule 7: CREATE", call(create, a.pid(), pid_type) + call(create, b.pid(), pid_type), "okok");
    claim("rule 7: each its own", cookie_of(a.pid()) != cookie_of(b.pid()) && cookie_of(a.pid()) != 0 && cookie_of(b.pid()) != 0, "different");
    const auto first = cookie_of(a.pid());
    claim("rule 7: anew", call(create, a.pid(), pid_type), "ok");
    claim("rule 7: another one", cookie_of(a.pid()) != first, "different");
}

void rule_8() {
    sleeper a(1);
    claim("rule 8: SHARE_TO", in_child([&] {
              std::string out = call(create, 0, pid_type);
              out += call(share_to, a.pid(), pid_type);
              return out + (cookie_of(a.pid()) == cookie_of(0) && cookie_of(0) != 0 ? " the caller's" : " another") + (cookie_of(a.thread(0)) == 0 ? " alone" : " and more");
          }),
          "okok the caller's alone");
    claim("rule 8: it outlives who made it", cookie_of(a.pid()) != 0, "there");
    claim("rule 8: a caller without one", call(share_to, a.pid(), pid_type), "ok");
    claim("rule 8: clears", std::to_string(cookie_of(a.pid())), "0");
}

void rule_9() {
    sleeper a;
    (void)call(create, a.pid(), pid_type);
    claim("rule 9: SHARE_FROM of a process", call(share_from, a.pid(), tgid_type), "EINVAL");
    std::string out;
    std::thread([&] {
        out = call(share_from, a.pid(), pid_type);
        out += cookie_of(0) == cookie_of(a.pid()) && cookie_of(0) != 0 ? " its" : " another";
        out += cookie_of(::getpid()) == 0 ? ", this thread alone" : ", and others";
    }).join();
    claim("rule 9: SHARE_FROM", out, "ok its, this thread alone");
}

void rule_10() {
    sleeper a(1, [] { ::setpgid(0, 0); }), b(0, [&] { ::setpgid(0, a.pid()); });
    claim("rule 10: CREATE of a group", call(create, a.pid(), pgid_type), "ok");
    const auto all = cookie_of(a.pid());
    claim("rule 10: all have it", all != 0 && cookie_of(a.thread(0)) == all && cookie_of(b.pid()) == all, "the same");
    const std::string refused = as_user(1000, [&] {
        const pid_t own = ::fork();  // a process of the user's in root's group: the user may not look at all of them
        if (own == 0) {
            for (;;) ::pause();
        }
        ::setpgid(own, a.pid());
        std::string out = call(create, own, pgid_type) + " " + (cookie_of(own) == 0 ? "0" : "changed");
        ::kill(own, SIGKILL);
        return out;
    });
    claim("rule 10: a group with one that may not be looked at", refused, "EPERM 0");
    claim("rule 10: nothing was changed", cookie_of(a.pid()) == all && cookie_of(a.thread(0)) == all && cookie_of(b.pid()) == all, "the same");
}

void rule_11() {
    sleeper a(2, [] { ::setpgid(0, 0); }), b(0, [&] { ::setpgid(0, a.pid()); });
    claim("rule 11: CREATE of a process by a thread that does not lead", call(create, a.thread(1), tgid_type), "ok");
    const auto all = cookie_of(a.pid());
    claim("rule 11: the whole process", all != 0 && cookie_of(a.thread(0)) == all && cookie_of(a.thread(1)) == all && cookie_of(b.pid()) == 0, "the same");
    claim("rule 11: CREATE of a group by one that does not lead", call(create, b.pid(), pgid_type), "ok");
    claim("rule 11: the whole group", cookie_of(a.thread(1)) == cookie_of(b.pid()) && cookie_of(b.pid()) != all, "the same");
}

void inheritance() {
    claim("fork inherits the calling thread's cookie", in_child([] {
              (void)call(create, 0, pid_type);
              const auto mine = cookie_of(0);
              return in_child([&] { return std::string(cookie_of(0) == mine && mine != 0 ? "the same" : "another"); });
          }),
          "the same");
    claim("a thread of another thread does not", in_child([] {
              std::thread([] { (void)call(create, 0, pid_type); }).join();
              std::string out;
              std::thread([&] { out = std::to_string(cookie_of(0)); }).join();
              return out;
          }),
          "0");
}

std::string text_of(const tag_report& r) {
    return r.ok() ? "ok " + std::to_string(r.changed.size()) : errno_name(r.failure->code) + " at " + std::to_string(r.failed_id) + ", " + std::to_string(r.changed.size()) + " changed";
}

void control_of_it() {
    sys::os& os = sys::real();
    claim("control: the facility is there", facility(os).why, "");
    control kernel(os);
    claim("control: missing threads are told", kernel.get(nobody_there).error().line(), "thread 4000000: get its cookie: ESRCH: there is no such thread");
    {
        sleeper a(2), b(1);
        claim("control: one cookie for two processes of five threads", text_of(tag(os, {}, {.ids = {a.pid(), b.pid()}})), "ok 5");
        claim("control: the same for all", cookie_of(a.thread(1)) == cookie_of(b.thread(0)) && cookie_of(b.pid()) != 0, "the same");
        claim("control: the caller has none", std::to_string(cookie_of(0)), "0");
        claim("control: list", std::to_string(list(os).value().threads.size()), "5");
        const auto before = cookie_of(a.pid());
        claim("control: a dry run", text_of(tag(os, {}, {.ids = {a.pid()}}, {.dry_run = true})), "ok 3");
        claim("control: changes nothing", cookie_of(a.pid()) == before, "the same");
        claim("control: one that is not there, before anything is changed", text_of(tag(os, {}, {.ids = {a.pid(), static_cast<int>(nobody_there)}})), "ESRCH at 4000000, 0 changed");
        claim("control: nothing was", cookie_of(a.pid()) == before, "the same");
        claim("control: clearing", text_of(tag(os, {.what = origin::none}, {.ids = {a.pid(), b.pid()}})), "ok 5");
        claim("control: nobody has one", std::to_string(list(os).value().threads.size()), "0");
        claim("control: a user may not tag another's", as_user(1000, [&] { return text_of(tag(os, {}, {.ids = {a.pid()}})).substr(0, 5); }), "EPERM");
        // A caller with a cookie clears through a thread that takes from one without.
        claim("control: a tagged caller clears others and keeps its own", in_child([&] {
                  (void)call(create, 0, pid_type);
                  const auto mine = cookie_of(0);
                  (void)call(share_to, a.pid(), tgid_type);
                  const auto r = kernel.clear(a.pid(), scope::process);
                  return r ? std::to_string(cookie_of(a.thread(0))) + (cookie_of(0) == mine ? " kept" : " lost") : r.error().line();
              }),
              "0 kept");
    }
    {
        // A storm of forks in a cgroup: all of them have the cookie in the end, and their children.
        ::mkdir("/sys/fs/cgroup/storm", 0755);
        ::mkdir("/sys/fs/cgroup/storm/below", 0755);
        const auto storm = [](const char* group) {
            return [group] {
                put(std::string("/sys/fs/cgroup/") + group + "/cgroup.procs", std::to_string(::getpid()));
                ::signal(SIGCHLD, SIG_IGN);
                if (::fork() != 0) return;
                for (;;) {
                    if (::fork() != 0) ::_exit(0);  // a chain: each is alive for a moment only
                    ::usleep(200);
                }
            };
        };
        sleeper a(3, storm("storm")), b(0, storm("storm/below"));
        const auto directory = cgroup_directory(os, "storm");
        const auto r = tag(os, {}, {.cgroups = {directory.value_or("")}}, {.most_rounds = 1000});
        claim("control: a cgroup in a storm of forks", text_of(r).substr(0, 2), "ok");
        ::usleep(200'000);
        const auto all = list(os, {directory.value_or("")});
        std::size_t with = 0;
        for (const auto& t : all.value().threads) with += t.after == r.value;
        claim("control: none is without, none has another", std::to_string(all->untagged) + " " + std::to_string(all->threads.size() - with), "0 0");
        claim("control: and some are there", with >= 5, "five or more");
        put("/sys/fs/cgroup/storm/below/cgroup.kill", "1");
        put("/sys/fs/cgroup/storm/cgroup.kill", "1");
    }
    claim("keeper: a name, copied and ended", in_child([&] {
              auto k = keeper::create(os, "web", {}).value();
              const int owner = ::getpid();
              std::string out;
              const pid_t user_of_it = ::fork();
              if (user_of_it == 0) {
                  const auto found = find_kept("web");
                  const bool same = found && found->id == owner && take(os, {origin::of, found->id, found->value}).value_or(0) == found->value;
                  (void)end_kept("web");
                  ::_exit(same ? 0 : 1);
              }
              const auto served = k->serve(-1);
              int status = 0;
              ::waitpid(user_of_it, &status, 0);
              return std::string(served && status == 0 ? "done" : "not done");
          }),
          "done");
}

}  // namespace

int main(int argc, char** argv) {
    if (argc > 1 && std::strcmp(argv[1], "without") == 0) {
        if (call(get, 0, pid_type) != "EINVAL") return 3;
        rule_1();
        return failed ? 1 : 0;
    }
    if (!smt_is("1")) {  // qemu's processors show 6.1 no siblings
        without_smt();
        return failed ? 1 : 0;
    }
    rule_2();
    rule_3();
    rule_4();
    rule_5();
    rule_6();
    rule_7();
    rule_8();
    rule_9();
    rule_10();
    rule_11();
    inheritance();
    control_of_it();
    return failed ? 1 : 0;
}
