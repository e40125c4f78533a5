// SPDX-License-Identifier: Apache-2.0
// What is up, seen, ended and killed by others: up --detach, status, down, run; up, kill -9, up again.
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <random>

#include "up_guest.hpp"

namespace up_guest {
namespace {

std::string spec_that_stays() {
    return cohort("rt", "2-3", "partition = \"isolated\"\ncookie = \"own\"\n" + require_set + require_cookie) + cohort("out", "4-7", "mems = \"1\"\npartition = \"root\"\ncookie = \"x\"\n" + require_set) +
           cohort("in", "6-7", "inside = \"out\"\npartition = \"root\"\n") + job("rt", "in-rt", "\"stay\"") + job("out", "in-out", "\"stay\"") + job("in", "in-in", "\"stay\"");
}
void detached() {
    const std::string spec = write_spec(spec_that_stays());
    const outcome up = command({"up", "--detach", "-q", "--json", "--name", "it", spec});
    claim("up --detach is well", up.code == 0, up.said());
    const auto running = [] {
        const outcome s = command({"status", "it", "--json"});
        if (s.code != 0 || !s.report.contains("ups") || s.report["ups"].size() != 1) return false;
        for (const auto& j : s.report["ups"][0]["jobs"]) {
            if (j["state"] != "running" || j["pids"].size() != 1) return false;
        }
        return true;
    };
    claim("status shows its jobs run", comes_true(running), command({"status"}).out);
    const auto it = command({"status", "it", "--json"}).report.value("ups", nlohmann::json::array());
    if (it.size() != 1) return claim("status shows one up", false, std::to_string(it.size()));
    claim("status: it lives, and is up", it[0]["alive"] == true && it[0]["phase"] == "up" && it[0]["detached"] == true, it[0].dump());
    std::vector<std::string> cookies;
    for (std::size_t i = 0; i < 3; ++i) {
        const std::string name = it[0]["jobs"][i]["name"], pid = std::to_string(it[0]["jobs"][i]["pids"][0].get<int>());
        const std::string procs = it[0]["cohorts"][i]["procs"];
        claim("the process that status names for " + name + " stands where it says", contents(procs), pid + "\n");
        cookies.push_back(cookie_of(std::stoi(pid)));
    }
    claim("asked from outside, each has its cookie", is_cookie(cookies[0]) && is_cookie(cookies[1]) && cookies[0] != cookies[1] && cookies[2] == cookies[1], cookies[0] + " " + cookies[1] + " " + cookies[2]);
    claim("the top has what its partition leaves", contents("/sys/fs/cgroup/cpuset.cpus.effective"), "0-1\n");
    const outcome second = command({"up", "-q", "--name", "it", spec});
    claim("a second one of that name is refused", second.code == 5 && second.err.find("it is up already") != std::string::npos, second.said());
    const outcome other = command({"up", "-q", "--name", "other", spec});
    claim("and one of its cohorts' names", other.code != 0 && !left().starts_with("nothing"), other.said());
    claim("neither has harmed the first", contents("/sys/fs/cgroup/cohort-rt/cpuset.cpus.partition"), "isolated\n");
    const outcome down = command({"down", "it"});
    claim("down is well", down.code == 0 && down.out == "it is down\n", down.said() + down.out);
    claim("after down nothing is left", left(), "nothing");
}

/// An edited spec, brought up over what runs: what is not touched goes on.
void edited() {
    const auto spec = [](const std::string& web) {
        return write_spec(cohort("rt", "2-3", "partition = \"isolated\"\ncookie = \"own\"\n" + require_set + require_cookie) + cohort("web", web, require_set) + job("rt", "in-rt", "\"stay\"") + job("web", "in-web", "\"stay\""));
    };
    const auto in_set = [](const char* set) { return contents(std::string("/sys/fs/cgroup/") + set + "/cgroup.procs"); };
    const auto both = [&] { return !in_set("cohort-rt").empty() && !in_set("cohort-web").empty(); };
    claim("before an edit: up is well", command({"up", "--detach", "-q", "--name", "it", spec("4-5")}).code == 0, "another exit code");
    (void)comes_true(both);
    const std::string rt = in_set("cohort-rt"), cookie = rt.empty() ? "none" : cookie_of(std::stoi(rt));
    const outcome again = command({"up", "--detach", "-q", "--name", "it", spec("5-6")});
    claim("an edited spec comes up over it", again.code == 0, again.said());
    (void)comes_true(both);
    claim("its set has the new CPUs", contents("/sys/fs/cgroup/cohort-web/cpuset.cpus.effective"), "5-6\n");
    claim("who is in it may use those", in_set("cohort-web").empty() ? "nobody" : value_of(contents("/proc/" + std::to_string(std::stoi(in_set("cohort-web"))) + "/status"), "Cpus_allowed_list"), "5-6");
    claim("the process beside it has gone on", in_set("cohort-rt"), rt);
    claim("in its partition", contents("/sys/fs/cgroup/cohort-rt/cpuset.cpus.partition"), "isolated\n");
    claim("with its cookie", is_cookie(cookie) && cookie_of(std::stoi(rt)) == cookie, cookie);
    claim("after the edit: down is well", command({"down", "it"}).code == 0, "another exit code");
    claim("after the edit: nothing is left", left(), "nothing");
}

void one_command() {
    const outcome o = command({"run", "--cookie", "own", "--policy", "require", "--cpus", "2-3", "--mems", "0", "--", "/program", "tell"});
    claim("run --cookie own --cpus: the command is in it", o.out, "cpus 2-3 mems 0 set /cohort-run-...");
    claim("it has a cookie", is_cookie(word_after(o.out, "cookie")), o.out);
    claim("its exit code is the command's", command({"run", "--", "/program", "end", "7"}).code == 7, "another");
    const outcome wrong = command({"run", "--cpus", "8", "--", "/program", "tell"});
    claim("a CPU that is not there is refused", wrong.code == 2 && wrong.out.empty(), wrong.said());
    claim("after run nothing is left", left(), "nothing");
}

/// Killed at another moment each time; every fourth when all its jobs run.
void killed(int rounds) {
    const std::string spec = write_spec(spec_that_stays());
    std::mt19937 random(20261123);
    double longest = 3;  // seconds from its start until all jobs run; measured
    int well = 0, stood = 0, swept = 0;
    std::string wrong;
    for (int round = 0; round < rounds && wrong.empty(); ++round) {
        for (const char* name : {"in-rt", "in-out", "in-in"}) std::filesystem::remove(std::string("/tmp/job/") + name);
        // Outputs are under another name until their job has ended: that all have begun is seen in their sets.
        const auto begun = [] {
            for (const char* set : {"cohort-rt", "cohort-out/jobs", "cohort-out/cohort-in"}) {
                if (contents(std::string("/sys/fs/cgroup/") + set + "/cgroup.procs").empty()) return false;
            }
            return true;
        };
        const double start = seconds_now();
        const pid_t pid = begin({"up", "-q", "--name", "it", spec});
        if (round % 4 == 0) {
            if (!comes_true(begun)) wrong = "round " + std::to_string(round) + ": it does not come up";
            longest = seconds_now() - start, ++stood;
        } else {
            pause_for(std::uniform_real_distribution<double>(0, longest)(random));
        }
        ::kill(pid, SIGKILL);
        const outcome end = finish(pid);
        if (end.code != 1000 + SIGKILL) wrong = "round " + std::to_string(round) + ": it ended by itself: " + end.said();
        if (left() != "nothing") ++swept;
        if (round % 4 != 3 || !wrong.empty()) continue;
        // Up again, of the same name, with jobs that end.
        const outcome again = command({"up", "-q", "--json", "--name", "it", write_spec(cohort("rt", "2-3", "partition = \"isolated\"\ncookie = \"own\"\n" + require_set + require_cookie) + job("rt", "again"))});
        if (again.code != 0) wrong = "round " + std::to_string(round) + ": up again: " + again.said();
        else if (!told("again").starts_with("cpus 2-3 mems 0-1 set /cohort-rt partition isolated cookie ") || !is_cookie(word_after(told("again"), "cookie"))) wrong = "up again is in " + told("again");
        else if (const std::string rest = left(); rest != "nothing") wrong = "round " + std::to_string(round) + ": of the killed one there is still " + rest;
        else ++well;
        (void)write_spec(spec_that_stays());
    }
    claim("up, kill -9, up again: " + std::to_string(rounds) + " rounds leave nothing", wrong.empty() && well == rounds / 4, wrong);
    claim("and there was something to remove", stood > 0 && swept >= stood, std::to_string(swept) + " of " + std::to_string(rounds));
    std::printf("    %d rounds: %d with something left by the killed one, %d whole ups after; up takes %.1f s here\n", rounds, swept, well, longest);
    const outcome down = command({"down", "--all"});
    claim("down after kill -9 is well", down.code == 0, down.said());
    claim("and leaves nothing", left(), "nothing");
}

}  // namespace

void lives(int rounds) {
    detached();
    edited();
    one_command();
    killed(rounds);
}

}  // namespace up_guest
