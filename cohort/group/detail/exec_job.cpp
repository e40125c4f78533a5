// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/exec_job.hpp>

#include <algorithm>
#include <iterator>

#include <fmt/format.h>

#include <cohort/group/detail/pools.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {
namespace {

std::string with_instance(std::string text, int instance) {
    for (std::size_t at; (at = text.find("{instance}")) != std::string::npos;) text.replace(at, 10, std::to_string(instance));
    return text;
}

struct instance {
    int number = 0;
    int out = 2, err = 2;                // stdout is for data: a command without a file of its own talks to the terminal's error side
    std::optional<child> process = {};
    std::uint64_t started = 0, due = 0;  // ns of the clock; due: of the next start
    std::uint64_t pause = 0;             // before it
    int restarts = 0;
    bool over = false;
    std::string exit = "stopped";
    result<void> outcome = {};
};

class exec_run {
public:
    exec_run(const job_plan& job, const job_context& c, const exec_hands& hands) : e_(job.spec.exec), c_(c), hands_(hands), os_(c.os) {}

    result<void> run() {
        for (int i = 0; i < e_.instances; ++i) {
            if (auto made = prepare(i); !made) return made;
        }
        const result<void> done = loop();
        result<void> first = done;
        std::vector<std::string> exits;
        int restarts = 0;
        for (const instance& one : all_) {
            exits.push_back(one.exit + (one.restarts > 0 ? fmt::format(" (started {} times)", one.restarts + 1) : ""));
            restarts += one.restarts;
            if (first && !one.outcome) first = one.outcome;
        }
        c_.update([&](job_report& r) {
            r.exits = std::move(exits);
            r.restarts = restarts;
            r.ends = std::move(ends_);
            r.cpu_seconds = cpu_seconds_;
            r.cpu_known = true;
        });
        return first;
    }

private:
    result<void> prepare(int number) {
        instance one{.number = number, .out = c_.options.foreground ? 1 : 2, .pause = e_.restart.backoff_ns};
        for (const auto& [file, fd] : {std::pair(&e_.stdout_file, &one.out), std::pair(&e_.stderr_file, &one.err)}) {
            if (file->empty()) continue;
            auto made = hands_.add_output(with_instance(*file, number));
            if (!made) return std::unexpected(made.error());
            *fd = *made;
        }
        all_.push_back(std::move(one));
        return {};
    }

    result<void> start(instance& one) {
        result<sys::owned_fd> in = sys::owned_fd();
        if (!c_.options.foreground || !e_.stdin_file.empty()) in = sys::open_file(os_, e_.stdin_file.empty() ? "/dev/null" : with_instance(e_.stdin_file, one.number), sys::open_read);
        if (!in) return std::unexpected(in.error());
        std::vector<std::string> env = hands_.environment;
        env.push_back("COHORT_INSTANCE=" + std::to_string(one.number));
        if (e_.restart) env.push_back("COHORT_RESTARTS=" + std::to_string(one.restarts));
        if (c_.pool) std::ranges::copy(c_.pool->environment(c_.cohort.pool.read_only), std::back_inserter(env));
        for (const auto& [name, value] : e_.env) env.push_back(name + "=" + value);
        auto started = hands_.launch({.argv = e_.command.words, .stdin_fd = in->get(), .stdout_fd = one.out, .stderr_fd = one.err, .environment = std::move(env)});
        if (!started) return std::unexpected(started.error());
        one.process.emplace(std::move(*started));
        one.started = os_.now();
        return {};
    }

    /// Those that run when it fails are ended by their destructors.
    result<void> loop() {
        for (;;) {
            const std::uint64_t now = os_.now();
            std::optional<std::uint64_t> due;
            for (instance& one : all_) {
                if (one.process || one.over) continue;
                if (one.due > now) {
                    due = due ? std::min(*due, one.due) : one.due;
                    continue;
                }
                if (c_.stop.stop_requested()) return stopped();
                if (auto r = start(one); !r) return r;
            }
            // Without a rule nothing has to be done when one ends before another: they are waited for in their order.
            if (!e_.restart) return wait_for_all();
            const auto ended = wait_for_one(due);
            if (!ended) return stopped();
            if (std::ranges::all_of(all_, &instance::over)) return {};
        }
    }

    result<void> stopped() {
        (void)wait_for_all();
        return fail(ECANCELED, "command", "wait", "it was stopped");
    }

    /// Where the run is to stop, they are ended.
    result<void> wait_for_all() {
        result<void> all;
        for (instance& one : all_) {
            if (!one.process) continue;
            auto end = one.process->wait(c_.stop_fd, c_.options.patience_ns);
            if (end) note(one, *end);
            else one.outcome = std::unexpected(end.error());
            one.process.reset();
            one.over = true;
        }
        return all;
    }

    /// Until one has ended, or one is due. Errors: ECANCELED.
    result<void> wait_for_one(std::optional<std::uint64_t> due) {
        std::vector<child*> running;
        std::vector<instance*> whose;
        for (instance& one : all_) {
            if (!one.process) continue;
            running.push_back(&*one.process);
            whose.push_back(&one);
        }
        const std::uint64_t now = os_.now(), at_most = 1'000'000'000, left = std::min(due ? (*due > now ? *due - now : 0) : at_most, at_most);
        if (running.empty()) {
            sys::poll_item stop{.fd = c_.stop_fd, .want_read = true};
            auto ready = os_.poll({&stop, 1}, left);
            if (!ready) return std::unexpected(ready.error());
            return stop.can_read || stop.hung_up ? fail(ECANCELED, "command", "wait", "it was stopped") : result<void>{};
        }
        auto ended = child::first_ended(os_, running, c_.stop_fd, left);
        if (!ended) return std::unexpected(ended.error());
        if (!*ended) return {};
        instance& one = *whose[**ended];
        auto end = one.process->collect();
        one.process.reset();
        if (!end) return std::unexpected(end.error());
        note(one, *end);
        decide(one, end->ok());
        return {};
    }

    void note(instance& one, const sys::exit_status& end) {
        cpu_seconds_ += static_cast<double>(end.user_ns + end.system_ns) / 1e9;
        one.exit = end.text();
        ends_.push_back(end);
        one.outcome = {};
        if (end.ok()) return;
        std::string why = one.exit;
        if (one.restarts > 0) why += fmt::format("; it was started {} times", one.restarts + 1);
        one.outcome = fail(ECHILD, "command \"" + e_.command.text() + "\"" + (all_.size() > 1 ? fmt::format(" (instance {})", one.number) : ""), "run", why);
    }

    void decide(instance& one, bool ok) {
        const restart_rule& rule = e_.restart;
        const bool wanted = rule.kind == restart_rule::form::always || !ok;
        if (!wanted || (rule.max > 0 && one.restarts >= rule.max)) {
            one.over = true;
            return;
        }
        const std::uint64_t now = os_.now();
        if (now - one.started >= rule.longest_ns) one.pause = rule.backoff_ns;
        one.due = now + one.pause;
        one.pause = std::min(2 * one.pause, rule.longest_ns);
        ++one.restarts;
        c_.update([](job_report& r) { ++r.restarts; });
    }

    const exec_spec& e_;
    const job_context& c_;
    const exec_hands& hands_;
    sys::os& os_;
    std::vector<instance> all_;
    double cpu_seconds_ = 0;
    std::vector<sys::exit_status> ends_;  // of those that ended by themselves
};

}  // namespace

result<void> run_exec(const job_plan& job, const job_context& c, const exec_hands& hands) { return exec_run(job, c, hands).run(); }

}  // namespace cohort::group::detail
