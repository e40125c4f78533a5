// SPDX-License-Identifier: Apache-2.0
/// No test: the program that testing::process starts. It reads a command a line and answers each with a line.
#include <fcntl.h>
#include <grp.h>
#include <linux/falloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstring>
#include <iostream>
#include <map>
#include <random>
#include <sstream>
#include <string>
#include <thread>

#include <cohort/sharepool/detail/attachment.hpp>
#include <cohort/sharepool/testing/broker.hpp>
#include <cohort/sharepool/testing/shared.hpp>

namespace cohort::sharepool {
namespace {

using testing::must;

class interpreter {
public:
    std::string run(const std::string& line) {
        std::istringstream words(line);
        std::string verb;
        words >> verb;
        if (verb == "attach") return attach();
        if (verb == "detach") return pool_.reset(), "ok";
        if (verb == "add") return add(words);
        if (verb == "del") return del(words);
        if (verb == "ids") return ids(number(words));
        if (verb == "local") return text(pool().id_of_current());
        if (verb == "alloc") return alloc(words);
        if (verb == "free") return free(words);
        if (verb == "put") return put(words);
        if (verb == "get") return get(words);
        if (verb == "walk") return walk(number(words));
        if (verb == "follow") return follow();
        if (verb == "deaths") return deaths();
        if (verb == "user") return user(number(words));
        if (verb == "thread") return thread();
        if (verb == "swarm") return swarm(words);
        if (verb == "count") return count(number(words));
        if (verb == "exec") return ::execlp("sleep", "sleep", "1000", static_cast<char*>(nullptr)), "error";
        if (verb == "current") return current();
        if (verb == "break") return break_in(number(words));
        if (verb == "churn") return churn(number(words));
        if (verb == "rest") return rest();
        if (verb == "serve") return serve(words);
        if (verb == "forget") return forget();
        return "unknown command";
    }

private:
    share_pool& pool() {
        if (!pool_) std::abort();
        return *pool_;
    }
    static int number(std::istream& words) {
        int n = 0;
        words >> n;
        return n;
    }
    static std::string text(const error& e) { return e.line(); }
    template <class T>
    static std::string text(const result<T>& r) {
        if (!r) return r.error().line();
        if constexpr (std::is_void_v<T>) return "ok";
        else return "ok " + std::to_string(*r);
    }
    std::string attach() {
        auto p = share_pool::attach({.patience = std::chrono::seconds(60)});
        if (!p) return text(p.error());
        rest();
        pool_ = std::move(*p);
        return "ok";
    }
    std::string add(std::istream& words) {
        const int pid = number(words), id = number(words);
        std::string how;
        words >> how;
        add_options o{.prot = how.find('r') == std::string::npos ? access::read_write : access::read, .single = how.find('s') != std::string::npos, .populate = how.find('p') != std::string::npos};
        trace seen;
        if (how.find('t') != std::string::npos) o.checks = &seen;
        std::string r = text(pool().group_add_task(pid == 0 ? ::getpid() : pid, id, o));
        for (const check& c : seen) r += "|" + c.what + "=" + c.found + "=" + std::to_string(c.code);
        return r;
    }
    std::string del(std::istream& words) {
        const int pid = number(words), id = number(words);
        return text(pool().group_del_task(pid == 0 ? ::getpid() : pid, id));
    }
    std::string ids(int pid) {
        const auto all = pool().group_id_by_pid(pid == 0 ? ::getpid() : pid);
        if (!all) return text(all.error());
        std::string r = "ok";
        for (const int id : *all) r += ' ' + std::to_string(id);
        return r;
    }
    std::string walk(int id) {
        const auto all = pool().group_walk(id);
        if (!all) return text(all.error());
        std::string r = "ok";
        for (const member_facts& m : *all) r += ' ' + std::to_string(m.process.pid) + (m.prot == access::read ? "r" : "w");
        return r;
    }
    std::string alloc(std::istream& words) {
        const int id = number(words), bytes = number(words);
        member* m = pool().in(id);
        if (!m) return "not in it for writing";
        void* p = m->alloc(static_cast<std::size_t>(bytes));
        if (!p) return "no memory";
        std::string how;
        words >> how;
        if (how == "kept") (void)m->hand_over(p);
        return "ok " + std::to_string(reinterpret_cast<std::uintptr_t>(p));
    }
    std::string free(std::istream& words) {
        const int id = number(words);
        return pool().in(id) ? text(pool().in(id)->try_free(pointer(words))) : "not in it for writing";
    }
    static char* pointer(std::istream& words) {
        std::uintptr_t at = 0;
        words >> at;
        return reinterpret_cast<char*>(at);
    }
    static std::string put(std::istream& words) {
        char* at = pointer(words);
        std::string what;
        words >> what;
        std::memcpy(at, what.c_str(), what.size() + 1);
        return "ok";
    }
    static std::string get(std::istream& words) { return "ok " + std::string(pointer(words)); }
    std::string follow() { return "ok " + std::to_string(pool().register_notifier([this](int id) { died_.lock()->push_back(id); })); }
    std::string deaths() {
        std::string r = "ok";
        const auto died = died_.lock();  // held as long as the loop goes
        for (const int id : *died) r += ' ' + std::to_string(id);
        return r;
    }
    static std::string user(int uid) {
        if (::setgroups(0, nullptr) != 0 || ::setresgid(static_cast<gid_t>(uid), static_cast<gid_t>(uid), static_cast<gid_t>(uid)) != 0 || ::setresuid(static_cast<uid_t>(uid), static_cast<uid_t>(uid), static_cast<uid_t>(uid)) != 0) return "error";
        ::prctl(PR_SET_DUMPABLE, 1);
        return "ok";
    }
    /// Another thread's number; it lives as long as the program.
    static std::string thread() {
        std::atomic<int> number{0};
        std::thread([&number] {
            number.store(static_cast<int>(::syscall(SYS_gettid)));
            for (;;) ::pause();
        }).detach();
        while (number.load() == 0) ::usleep(100);
        return "ok " + std::to_string(number.load());
    }
    /// n children that attach and join; they end with this program. What went wrong first, or "ok".
    static std::string swarm(std::istream& words) {
        const int n = number(words), id = number(words);
        int report[2], keep[2];
        if (::pipe(report) != 0 || ::pipe(keep) != 0) return "no pipe";
        for (int i = 0; i < n; ++i) {
            const pid_t child = ::fork();
            if (child != 0) continue;
            ::prctl(PR_SET_PDEATHSIG, SIGKILL);
            ::close(keep[1]);
            interpreter me;
            std::string r = me.attach();
            if (r == "ok" && id != 0) r = me.run("add 0 " + std::to_string(id));
            r += '\n';
            (void)!::write(report[1], r.data(), r.size());
            char end;
            (void)!::read(keep[0], &end, 1);
            ::_exit(0);
        }
        ::close(report[1]);
        std::string all, line, wrong;
        char buffer[4096];
        for (int answers = 0; answers < n;) {
            const ssize_t got = ::read(report[0], buffer, sizeof buffer);
            if (got <= 0) break;
            for (ssize_t i = 0; i < got; ++i) {
                if (buffer[i] != '\n') {
                    line += buffer[i];
                    continue;
                }
                if (!line.starts_with("ok") && wrong.empty()) wrong = line;
                ++answers;
                line.clear();
            }
        }
        return wrong.empty() ? "ok" : wrong;
    }
    std::string count(int id) {
        if (!pool().in(id)) return "not in it for writing";
        const census c = pool().in(id)->count();
        return "ok owned " + std::to_string(c.owned) + " kept " + std::to_string(c.kept) + " lost " + std::to_string(c.lost) + " twice " + std::to_string(c.twice) + " members " +
               std::to_string(pool().in(id)->processes().size());
    }
    /// Allocates and frees in every group 1 to 3 that the process is in, until rest().
    std::string churn(int seed) {
        stop_.store(false);
        worker_ = std::thread([this, seed] {
            std::mt19937 random(static_cast<unsigned>(seed));
            std::map<int, std::vector<void*>> held;
            while (!stop_.load()) {
                const int id = 1 + static_cast<int>(random() % 3);
                const auto g = pool().internals().find(id);  // keeps it while it is used
                if (!g || !g->writes) {
                    held.erase(id);
                    continue;
                }
                auto& mine = held[id];
                if (mine.size() < 64 && random() % 2 == 0) {
                    if (void* p = g->writes->alloc(16 << random() % 10)) mine.push_back(p);
                } else if (!mine.empty()) {
                    g->writes->free(mine.back());
                    mine.pop_back();
                }
            }
            for (auto& [id, mine] : held) {
                const auto g = pool().internals().find(id);
                for (void* p : mine) {
                    if (g && g->writes) g->writes->free(p);
                }
            }
        });
        return "ok";
    }
    std::string rest() {
        stop_.store(true);
        if (worker_.joinable()) worker_.join();
        return "ok";
    }
    static std::string current() {
        share_pool* p = share_pool::current();
        if (!p) return "none";
        std::string r = "ok";
        for (const int id : p->group_id_by_pid(::getpid()).value_or(std::vector<int>{})) r += ' ' + std::to_string(id);
        return r;
    }
    /// All that a member for reading can try with its descriptors and its mapping. What came of it: for the data, and for the metadata.
    std::string break_in(int id) {
        const auto g = pool().internals().find(id);
        if (!g || !g->reads) return "not in it for reading";
        const auto code = [](bool done) { return done ? std::string("done") : errno_name(errno); };
        std::string open, map, write, punch, cut;
        for (const int fd : {g->data.get(), g->metadata.get()}) {
            open += ' ' + code(::open(("/proc/self/fd/" + std::to_string(fd)).c_str(), O_RDWR) >= 0);
            map += ' ' + code(::mmap(nullptr, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0) != MAP_FAILED);
            write += ' ' + code(::pwrite(fd, "x", 1, 0) == 1);
            punch += ' ' + code(::fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, 4096) == 0);
            cut += ' ' + code(::ftruncate(fd, 0) == 0);
        }
        const std::string protect = code(::mprotect(reinterpret_cast<void*>(g->base), 4096, PROT_READ | PROT_WRITE) == 0);
        return "ok: open" + open + ", map" + map + ", protect " + protect + ", write" + write + ", punch" + punch + ", cut" + cut;
    }
    /// A broker, until it is killed: SOCKET, milliseconds of its patience, a journal or nothing.
    static std::string serve(std::istream& words) {
        broker_options o;
        words >> o.socket;
        o.patience = std::chrono::milliseconds(number(words));
        words >> o.journal;
        auto b = broker::create(o);
        if (!b) return text(b.error());
        std::cout << "ok" << std::endl;
        for (;;) must((*b)->step(std::chrono::seconds(1)));
    }
    /// A child of fork() has none of it.
    std::string forget() {
        const pid_t child = ::fork();
        if (child == 0) {
            const auto r = pool_->group_add_task(::getpid(), 1);
            const bool none = !r && r.error().code == ECONNRESET && share_pool::current() == nullptr;
            pool_.reset();
            ::_exit(none ? 0 : 1);
        }
        int status = -1;
        ::waitpid(child, &status, 0);
        return status == 0 ? "ok" : "the child says otherwise";
    }

    std::unique_ptr<share_pool> pool_;
    std::thread worker_;
    std::atomic<bool> stop_{false};
    guarded<std::vector<int>> died_;
};

TEST(member_program, DISABLED_run) {
    if (!std::getenv("COHORT_TEST_MEMBER")) GTEST_SKIP() << "it is no test";
    std::cout << "ready" << std::endl;
    interpreter i;
    for (std::string line; std::getline(std::cin, line);) std::cout << i.run(line) << std::endl;
    ::_exit(0);
}

}  // namespace
}  // namespace cohort::sharepool
