// SPDX-License-Identifier: Apache-2.0
// cohortd on a kernel that has sets and cookies: the cookies that it keeps, and what it tells of partitions that break and CPUs that leave.
#include <arpa/inet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <csignal>
#include <cstring>

#include "up_guest.hpp"

namespace up_guest {
namespace {

constexpr int port = 9464;

/// 127.0.0.1 is there once this is up.
bool loopback_up() {
    const int fd = ::socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    ifreq r{};
    std::strcpy(r.ifr_name, "lo");
    r.ifr_flags = IFF_UP | IFF_RUNNING;
    const bool good = fd >= 0 && ::ioctl(fd, SIOCSIFFLAGS, &r) == 0;
    ::close(fd);
    return good;
}

/// What http://127.0.0.1:9464/metrics says; empty: nobody answers.
std::string figures() {
    const int fd = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in to{};
    to.sin_family = AF_INET, to.sin_port = htons(port), to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    std::string out;
    const char ask[] = "GET /metrics HTTP/1.0\r\n\r\n";
    if (::connect(fd, reinterpret_cast<const sockaddr*>(&to), sizeof to) == 0 && ::write(fd, ask, sizeof ask - 1) > 0) {
        char some[4096];
        for (ssize_t n; (n = ::read(fd, some, sizeof some)) > 0;) out.append(some, static_cast<std::size_t>(n));
    }
    ::close(fd);
    return out;
}
/// The value of a series; "?": it is not there.
std::string figure(const std::string& series) { return value_of(figures(), series); }
/// A claim that holds within two minutes.
void claim_soon(const std::string& name, const std::string& series, const std::string& wanted) {
    (void)comes_true([&] { return figure(series) == wanted; });
    claim(name, figure(series), wanted);
}

std::string cookie_by_name(const char* name) { return word_after(command({"coresched", "copy", "--name", name, "--", "/program", "tell"}).out, "cookie"); }

void cookies() {
    claim_soon("cohortd keeps the cookies that were asked for", "cohort_cookie_kept{name=\"web\"}", "1");
    const std::string web = cookie_by_name("web"), db = cookie_by_name("db");
    claim("who asks for a name has its cookie", is_cookie(web) && cookie_by_name("web") == web, web);
    claim("and another for another name", is_cookie(db) && db != web, db);
    const outcome second = command({"coresched", "keep", "web"});
    claim("nobody else keeps that name", second.code == 5 && second.err.find("it is kept already") != std::string::npos, second.said());
    const outcome again = finish(begin({"--socket", "/tmp/other.sock", "--no-journal", "--keep", "other,web"}, "/bin/cohortd"));
    claim("a second daemon is refused whole", again.code == 5 && again.err.find("it is kept already") != std::string::npos && command({"coresched", "copy", "--name", "other", "--", "/program", "tell"}).code == 5, again.said());
    claim("one can be told to end", command({"coresched", "keep", "web", "--end"}).code == 0, "another exit code");
    claim_soon("which the figures say", "cohort_cookie_kept{name=\"web\"}", "0");
    claim("and the other one stays", cookie_by_name("db"), db);
}

void sets() {
    const std::string partition = "/sys/fs/cgroup/cohort-rt/cpuset.cpus.partition", third = "/sys/devices/system/cpu/cpu3/online", rt = "{up=\"it\",cohort=\"rt\"}";
    put("/proc/sys/kernel/sched_schedstats", "1");
    const outcome up = command({"up", "--detach", "-q", "--name", "it", write_spec(cohort("rt", "2-3", "partition = \"isolated\"\ncookie = \"own\"\n" + require_set + require_cookie) + job("rt", "in-rt", "\"stay\""))});
    claim("beside cohortd: up --detach is well", up.code == 0, up.said());
    claim_soon("its partition is valid", "cohort_partition_valid" + rt, "1");
    claim("it has two CPUs", figure("cohort_effective_cpus" + rt), "2");
    claim("its job runs", figure("cohort_job_state{up=\"it\",cohort=\"rt\",job=\"in-rt\",kind=\"exec\",state=\"running\"}"), "1");
    claim("the kernel tells what it forced idle", figure("cohort_job_forced_idle_seconds{up=\"it\",cohort=\"rt\",job=\"in-rt\"}") != "?", "no such series");
    put(third, "0");
    claim_soon("a CPU that goes offline has left", "cohort_cpus_left_total" + rt, "1");
    claim("one is left", figure("cohort_effective_cpus" + rt), "1");
    put(third, "1");
    claim_soon("and comes back", "cohort_cpus_come_total" + rt, "1");
    put(partition, "member");
    claim_soon("a partition that somebody takes back is broken", "cohort_partition_valid" + rt, "0");
    put(partition, "isolated");
    claim_soon("and whole again when it is given back", "cohort_partition_valid" + rt, "1");
    claim("it broke once", figure("cohort_watch_partitions_broken_total"), "1");
    claim("down is well beside cohortd", command({"down", "it"}).code == 0, "another exit code");
    claim_soon("then nothing is up", "cohort_ups", "0");
}

}  // namespace

void daemon() {
    claim("127.0.0.1 can be had", loopback_up(), "no interface lo");
    const pid_t pid = begin({"--socket", "/tmp/pool.sock", "--no-journal", "--metrics", "127.0.0.1:" + std::to_string(port), "--keep", "web,db"}, "/bin/cohortd");
    claim("cohortd answers", comes_true([] { return !figures().empty(); }), "nobody does");
    cookies();
    sets();
    ::kill(pid, SIGTERM);
    const outcome end = finish(pid);
    claim("cohortd ends when it is told", end.code == 0, end.said());
    for (const char* line : {"up \"it\", cohort \"rt\": CPU 3 has left, it has CPU 2", "CPU 3 has come", "its partition reads \"member\"", "its partition is isolated again", "cookie \"web\" is kept no longer"}) {
        claim(std::string("it has said: ") + line, end.err.find(line) != std::string::npos, end.err);
    }
    claim("beside cohortd: nothing is left", left(), "nothing");
}

}  // namespace up_guest
