// SPDX-License-Identifier: Apache-2.0
// Jobs on their way through a padata instance, told step by step as it happens.
#include <nlohmann/json.hpp>

#include <cohort/base/mutex.hpp>
#include <cohort/base/trace.hpp>
#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>
#include <cohort/sys/thread.hpp>

#include <array>
#include <atomic>
#include <cstdio>
#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <vector>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::json;

struct options {
    bool trace = false, json = false;
};

/// What is told, by several threads: whole lines as they happen, or one document at the end. One at a time: a command runs once.
/// Synchronization: any thread.
class teller {
public:
    void begin(bool as_json) { as_json_ = as_json; }
    /// `event` has its kind under "event".
    void tell(json event, const std::string& line) {
        if (!as_json_) return print(line + "\n");
        const lock_guard hold(lock_);
        events_.push_back(std::move(event));
    }
    void end(bool good) {
        if (!as_json_) return print(good ? "\nall as it should be\n" : "\nnot all was as it should be\n");
        const lock_guard hold(lock_);
        print_json(json{{"schema_version", 1}, {"events", events_}, {"good", good}});
    }

private:
    bool as_json_ = false;  // [const while others tell]
    mutex lock_;
    json events_ COHORT_GUARDED_BY(lock_) = json::array();
};
teller out;

void begin_part(int number, const std::string& what) { out.tell({{"event", "part"}, {"number", number}, {"what", what}}, "\n" + std::to_string(number) + ". " + what); }

using values = std::array<std::uint64_t, 4>;

std::string number(std::uint64_t n) { return std::to_string(n); }
std::string jobs(std::uint64_t first, std::uint64_t count) { return count == 1 ? "job " + number(first) : "jobs " + number(first) + " to " + number(first + count - 1); }
std::string on_cpu(std::uint64_t cpu) { return static_cast<int>(cpu) < 0 ? "anywhere" : "on cpu " + number(cpu); }

/// What each trace point of the room says, in words.
const std::map<std::string_view, std::string (*)(const values&)> words = {
    {"padata:cb_cpu", [](const values& v) { return "cb_cpu check: " + number(v[0]) + (v[0] == v[1] ? " is in the usable serial mask" : " is not in the usable serial mask: replaced by " + number(v[1]) + " and written back"); }},
    {"padata:full", [](const values& v) { return "window check: " + number(v[0]) + " jobs are in flight, it is full" + (v[1] ? ": the submitter waits" : ""); }},
    {"padata:enter", [](const values& v) { return "enter: job " + number(v[0]) + " has its place in the order; " + number(v[2]) + " before it in flight"; }},
    {"padata:inline", [](const values& v) { return "inline: job " + number(v[0]) + " is cheaper than a hand-over and nothing is before it: it runs in the submitter, on cpu " + number(v[1]); }},
    {"padata:claim", [](const values& v) { return "claim: a worker takes " + jobs(v[0], v[1]) + " " + on_cpu(v[2]); }},
    {"padata:finish", [](const values& v) { return "finish: " + jobs(v[0], v[1]) + (v[1] == 1 ? " is done; serial() when its turn comes" : " are done; serial() when their turn comes"); }},
    {"padata:serial", [](const values& v) { return "turn: it is at job " + number(v[0]) + ", serial() runs on cpu " + number(v[1]); }},
    {"padata:handover", [](const values& v) { return "hand over: " + jobs(v[0], v[1]) + (v[1] == 1 ? " goes" : " go") + " with the turn to the worker of cpu " + number(v[2]); }},
    {"padata:pass", [](const values& v) { return "pass: the turn waits at job " + number(v[0]) + " for whoever finishes it"; }},
    {"padata:home", [](const values& v) { return "home: everything before job " + number(v[0]) + " is delivered, nothing is in flight"; }},
};

class narrator : public trace_sink {
public:
    void record(const trace_record& r) override {
        const auto found = words.find(r.point->name());
        char name[32];
        std::snprintf(name, sizeof name, "    %-16s ", std::string(r.point->name()).c_str());
        std::string line = name;
        if (found != words.end()) line += found->second(r.values);
        else for (std::size_t i = 0; i < r.point->fields().size(); ++i) line += std::string(i ? ", " : "") + r.point->fields()[i] + " " + number(r.values[i]);
        json event{{"event", r.point->name()}};
        for (std::size_t i = 0; i < r.point->fields().size(); ++i) event[r.point->fields()[i]] = static_cast<std::int64_t>(r.values[i]);  // -1: any CPU
        out.tell(std::move(event), line);
    }
};

/// A job that says what happens to it. Kept: somebody else finishes it.
struct told : padata::job {
    void parallel() override {
        const int cpu = sys::current_cpu();
        out.tell({{"event", "parallel"}, {"job", seq()}, {"cpu", cpu}, {"kept", kept}},
                 "    job " + number(seq()) + ": parallel() on cpu " + std::to_string(cpu) + (kept ? ", which leaves it to a device" : ""));
        if (!kept) padata::do_serial(*this);
        else ready->fetch_add(1);
    }
    void serial() override {
        const int cpu = sys::current_cpu();
        out.tell({{"event", "serial"}, {"job", seq()}, {"cpu", cpu}, {"info", info}},
                 "    job " + number(seq()) + ": serial() on cpu " + std::to_string(cpu) + ", info " + std::to_string(info));
        in_order = seq() == *next && !in_order;
        ++*next;
    }
    bool kept = false, in_order = false;
    std::atomic<int>* ready = nullptr;
    std::uint64_t* next = nullptr;
};

void answer(const result<void>& r, const std::string& good) {
    json event{{"event", "answer"}, {"good", r.has_value()}, {"text", r ? good : r.error().line()}};
    if (!r) event["errno"] = r.error().code;
    out.tell(std::move(event), "  -> " + (r ? good : r.error().line()));
}

/// The parts of the walk that have a shell in common.
class walk {
public:
    explicit walk(padata::instance& inst) : inst_(inst) {}

    bool ordinary() {
        auto stream = padata::shell::create(inst_, {.name = "flow", .inline_jobs = false}).value();
        std::uint64_t next = 0;
        told one, two, three;
        for (told* j : {&one, &two, &three}) j->next = &next;
        const cpumask serial = inst_.usable_mask(padata::mask_kind::serial);
        int cpu = serial.first();
        begin_part(1, "a job whose serial() is to run on cpu " + std::to_string(cpu));
        answer(stream.do_parallel(one, cpu), "accepted");
        (void)stream.drain();

        const int last = serial.last(), top = inst_.usable_mask(padata::mask_kind::serial).weight() > 1 ? serial.first() : last;
        (void)inst_.set_cpumask(padata::mask_kind::serial, cpumask{last});
        cpu = top;
        begin_part(2, "the serial mask is " + std::to_string(last) + " now; a job asks for cpu " + std::to_string(top));
        answer(stream.do_parallel(two, cpu), "accepted, serial() runs on cpu " + std::to_string(cpu));
        (void)stream.drain();
        (void)inst_.set_cpumask(padata::mask_kind::serial, serial);

        cpu = max_cpus;
        begin_part(3, "a job asks for cpu " + std::to_string(cpu));
        const auto refused = stream.do_parallel(three, cpu);
        answer(refused, "accepted");
        return one.in_order && two.in_order && !refused && refused.error().code == EINVAL;
    }

    /// Five jobs for a window of four.
    bool device() {
        auto stream = padata::shell::create(inst_, {.name = "device", .window = 4, .when_full = padata::full_policy::eagain}).value();
        std::uint64_t next = 0;
        std::atomic<int> ready = 0;
        std::array<told, 5> job;
        begin_part(4, "four jobs that a device finishes later, the youngest first; the window has room for four");
        result<void> last;
        for (told& j : job) {
            j.kept = true;
            j.ready = &ready;
            j.next = &next;
            last = stream.do_parallel(j);
            answer(last, "accepted");
        }
        while (ready < 4) sys::yield_thread();
        for (std::size_t i = 4; i-- > 0;) {
            out.tell({{"event", "device"}, {"job", i}}, "  the device is done with job " + number(i));
            padata::do_serial(job[i]);
        }
        (void)stream.drain();
        return !last && last.error().code == EAGAIN && next == 4 && job[0].in_order && job[3].in_order;
    }

    bool masks() {
        begin_part(5, "masks");
        const cpumask before = inst_.user_mask(padata::mask_kind::parallel);
        const auto empty = inst_.set_cpumask(padata::mask_kind::parallel, {});
        answer(empty, "taken");
        const auto beyond = inst_.set_cpumask(padata::mask_kind::parallel, cpumask{max_cpus - 1});
        answer(beyond, "taken");
        const cpumask one{inst_.usable_mask(padata::mask_kind::parallel).last()};
        const auto taken = inst_.set_cpumask(padata::mask_kind::parallel, one);
        answer(taken, "the parallel mask is " + one.list());
        auto stream = padata::shell::create(inst_, {.name = "moved", .inline_jobs = false}).value();
        std::uint64_t next = 0;
        std::vector<told> some(3);
        for (told& j : some) {
            j.next = &next;
            answer(stream.do_parallel(j), "accepted");
        }
        (void)stream.drain();
        (void)inst_.set_cpumask(padata::mask_kind::parallel, before);
        return !empty && !beyond && taken && next == 3 && some[0].in_order && some[1].in_order && some[2].in_order;
    }

private:
    padata::instance& inst_;
};

/// Not traced until the engine has learned what a job costs.
bool cheap(padata::instance& inst, const std::function<result<void>()>& watch) {
    auto stream = padata::shell::create(inst, {.name = "cheap"}).value();
    for (int i = 0; i < 10'000 && stream.stats().ran_inline == 0; ++i) {
        for (int k = 0; k < 100; ++k) (void)stream.submit([] {}, [] {});
        (void)stream.drain();
    }
    begin_part(6, "a job that costs next to nothing, as many before it did");
    if (auto r = watch(); !r) return false;
    const bool accepted = stream.submit([] {}, [] {}).has_value();
    (void)stream.drain();
    return accepted && stream.stats().ran_inline > 0;
}

outcome demo(const options& o) {
    out.begin(o.json);
    narrator sink;
    std::optional<trace_session> session;
    const auto watch = [&]() -> result<void> {
        if (!o.trace) return {};
        auto s = trace_session::start("padata:*", sink);
        if (!s) return std::unexpected(s.error());
        session.emplace(std::move(*s));
        return {};
    };
    if (auto r = watch(); !r) return std::unexpected(r.error());
    auto made = padata::instance::create({.name = "demo"});
    if (!made) return std::unexpected(made.error());
    padata::instance& inst = **made;
    const std::string parallel = inst.usable_mask(padata::mask_kind::parallel).list(), serial = inst.usable_mask(padata::mask_kind::serial).list();
    out.tell({{"event", "instance"}, {"name", "demo"}, {"parallel", parallel}, {"serial", serial}}, "instance \"demo\": parallel mask " + parallel + ", serial mask " + serial + " usable");
    walk way(inst);
    bool good = way.ordinary();
    good = way.device() && good;
    good = way.masks() && good;
    session.reset();
    good = cheap(inst, watch) && good;
    session.reset();
    out.end(good);
    return good ? exit_code::ok : exit_code::no;
}

}  // namespace

void add_padata_demo(registry& all) {
    auto o = std::make_shared<options>();
    all.add("padata demo", "Walk jobs through a padata instance")
        .flag("--json", o->json, "print JSON: what happens, in the order in which it was told")
        .flag("--trace", o->trace, "tell each check and step as it happens: cb_cpu, window, place in the order, claim, finish, turn, hand-over")
        .run([o] { return demo(*o); });
}

}  // namespace cohort::cli
