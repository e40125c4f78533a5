// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/flow_job.hpp>

#include <algorithm>
#include <iterator>
#include <optional>
#include <vector>

#include <fmt/format.h>

#include <cohort/group/detail/pools.hpp>
#include <cohort/stream/flow.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {
namespace {

using stream::flow;
using stream::flow_role;

constexpr std::uint64_t look_every_ns = 100'000'000;

stream::flow_options options_of(const job_plan& job) {
    const pipe_spec& p = job.spec.pipe;
    stream::flow_options o;
    if (auto kind = stream::parse_codec(p.codec)) o.kind = *kind;
    o.level = p.level;
    o.argv = p.command.words;
    o.plugin = p.plugin;
    o.records = p.records;
    o.block_bytes = p.block;
    o.workers = job.threads;
    o.name = job.spec.name;
    return o;
}

/// The processes of a flow, in the order in which a failure is told: the stages, the commands at both ends.
class processes {
public:
    processes(const job_plan& job, const job_context& c, const std::vector<std::string>& environment, const std::function<result<child>(sys::spawn_request)>& launch)
        : job_(job), c_(c), os_(c.os), environment_(environment), launch_(launch) {}

    result<void> start(const flow& f, int output_fd);
    /// Until all have ended well, or one has not.
    result<void> wait(const flow& f);
    double cpu_seconds() const { return cpu_; }

private:
    struct one {
        std::string name;
        std::optional<flow_role> role;
        std::optional<child> process;
        std::optional<sys::exit_status> status;
    };
    result<void> add(std::string name, std::optional<flow_role> role, sys::spawn_request request);
    result<void> stage(const flow& f, flow_role role, int in, int out);
    void ended(one& p, std::optional<sys::exit_status> status);
    /// Those that have not ended, and whose they are.
    std::pair<std::vector<child*>, std::vector<one*>> running();
    void hear_others(const flow& f);
    bool is_explained(const flow& f) const;
    error first_failure(const flow& f) const;

    const job_plan& job_;
    const job_context& c_;
    sys::os& os_;
    const std::vector<std::string>& environment_;
    const std::function<result<child>(sys::spawn_request)>& launch_;
    std::vector<one> all_;
    double cpu_ = 0;
};

result<void> processes::add(std::string name, std::optional<flow_role> role, sys::spawn_request request) {
    request.environment = environment_;
    if (role) std::ranges::copy(c_.pool->environment(false), std::back_inserter(request.environment));
    auto started = launch_(std::move(request));
    if (!started) return std::unexpected(started.error());
    all_.push_back({std::move(name), role, std::move(*started), std::nullopt});
    return {};
}

result<void> processes::stage(const flow& f, flow_role role, int in, int out) {
    sys::spawn_request r{.argv = c_.options.flow_program, .stdin_fd = in, .stdout_fd = out};
    for (std::string& word : f.words(role, c_.pool->id())) r.argv.push_back(std::move(word));
    return add(role_name(role), role, std::move(r));
}

result<void> processes::start(const flow& f, int output_fd) {
    const pipe_spec& p = job_.spec.pipe;
    auto nothing = sys::open_file(os_, "/dev/null", sys::open_read);
    if (!nothing) return std::unexpected(nothing.error());
    auto nowhere = sys::open_file(os_, "/dev/null", sys::open_write);
    if (!nowhere) return std::unexpected(nowhere.error());
    sys::owned_fd from, to, far_from, far_to;
    const auto join = [this](sys::owned_fd& read, sys::owned_fd& write) -> result<void> {
        auto ends = os_.pipe();
        if (!ends) return std::unexpected(ends.error());
        read = sys::owned_fd(os_, ends->read), write = sys::owned_fd(os_, ends->write);
        return {};
    };
    if (p.input.empty()) {
        if (auto r = join(from, far_to); !r) return r;
    } else {
        auto file = sys::open_file(os_, p.input, sys::open_read);
        if (!file) return std::unexpected(file.error());
        from = std::move(*file);
    }
    if (output_fd < 0) {
        if (auto r = join(far_from, to); !r) return r;
        if (auto r = add("output command \"" + p.output_command.text() + "\"", {}, {.argv = p.output_command.words, .stdin_fd = far_from.get(), .stdout_fd = 2}); !r) return r;
        output_fd = to.get();
    }
    if (auto r = stage(f, flow_role::consumer, nothing->get(), output_fd); !r) return r;
    if (auto r = stage(f, flow_role::workers, nothing->get(), nowhere->get()); !r) return r;
    if (auto r = stage(f, flow_role::producer, from.get(), nowhere->get()); !r) return r;
    if (p.input.empty()) return add("input command \"" + p.input_command.text() + "\"", {}, {.argv = p.input_command.words, .stdin_fd = nothing->get(), .stdout_fd = far_to.get()});
    return {};
}

void processes::ended(one& p, std::optional<sys::exit_status> status) {
    p.process.reset();
    p.status = std::move(status);
    if (p.status) cpu_ += static_cast<double>(p.status->user_ns + p.status->system_ns) / 1e9;
}

std::pair<std::vector<child*>, std::vector<processes::one*>> processes::running() {
    std::pair<std::vector<child*>, std::vector<one*>> out;
    for (one& p : all_) {
        if (p.process) out.first.push_back(&*p.process), out.second.push_back(&p);
    }
    return out;
}

result<void> processes::wait(const flow& f) {
    result<void> bad;
    for (;;) {
        const auto [alive, whose] = running();
        if (alive.empty()) return {};
        auto first = child::first_ended(os_, alive, c_.stop_fd, look_every_ns);
        if (!first) bad = std::unexpected(first.error());
        else if (*first) {
            one& p = *whose[**first];
            auto status = p.process->collect();
            if (!status) return std::unexpected(status.error());
            ended(p, *status);
            if (!status->ok()) bad = std::unexpected(error{});
        }
        c_.pool->look();
        const stream::flow_report now = f.now();
        c_.update([&](job_report& r) {
            r.bytes_in = now.of(flow_role::producer).bytes, r.bytes_out = now.of(flow_role::consumer).bytes;
            r.queues = {now.for_workers, now.with_workers, now.for_consumer};
        });
        if (!bad) break;
    }
    const bool stopped = bad.error().code == ECANCELED;
    if (!stopped) hear_others(f);
    for (one& p : all_) {
        if (!p.process) continue;
        (void)p.process->end(stopped ? c_.options.patience_ns : 0);
        ended(p, std::nullopt);  // by us: it is not what failed
    }
    if (stopped) return bad;
    return std::unexpected(first_failure(f));
}

/// After one has failed: others may be failing of it, or of what came before it: a moment for them to end, and longer while nobody has said why. A process that was killed is seen to be gone by the others some time before it can be
/// collected.
void processes::hear_others(const flow& f) {
    constexpr std::uint64_t long_ns = 5'000'000'000;
    const std::uint64_t from = os_.now();
    for (;;) {
        const auto [alive, whose] = running();
        const std::uint64_t until = from + (is_explained(f) ? 3 * look_every_ns : long_ns), now = os_.now();
        if (alive.empty()) return;
        // However late it is: who has ended by himself says why.
        const auto gone = child::first_ended(os_, alive, c_.stop_fd, now < until ? until - now : 0);
        if (!gone || !*gone) {
            if (!gone || os_.now() >= until) return;
            continue;
        }
        one& p = *whose[**gone];
        auto status = p.process->collect();
        ended(p, status ? std::optional(*status) : std::nullopt);
    }
}

/// Whether somebody has failed of himself, and not of others.
bool processes::is_explained(const flow& f) const {
    const stream::flow_report now = f.now();
    return std::ranges::any_of(all_, [&](const one& p) {
        if (!p.status || p.status->ok()) return false;
        return p.status->signal != 0 || !p.role || !now.of(*p.role).consequence;
    });
}

/// Who was killed by a signal; else who says what went wrong with itself; else whichever ended badly.
error processes::first_failure(const flow& f) const {
    const stream::flow_report now = f.now();
    for (const one& p : all_) {
        if (p.status && p.status->signal != 0) return {ECHILD, p.name, p.role ? "run as process " + std::to_string(p.status->pid) : "run", p.status->text()};
    }
    for (const one& p : all_) {
        if (!p.role || !p.status || p.status->ok()) continue;
        const stream::flow_stage_report& s = now.of(*p.role);
        // A pipe that breaks is the fault of the command behind it.
        if (s.why && !s.consequence && s.why->code != EPIPE) {
            error e = *s.why;
            e.object = p.name + ": " + e.object;
            return e;
        }
    }
    const auto bad = [](const one& p) { return p.status && !p.status->ok(); };
    const auto says_of_others = [&](const one& p) { return p.role && now.of(*p.role).why && now.of(*p.role).consequence; };
    for (const bool commands : {true, false}) {
        for (const one& p : all_) {
            if (bad(p) && commands != p.role.has_value() && !says_of_others(p)) return {ECHILD, p.name, "run", p.status->text()};
        }
    }
    for (const one& p : all_) {
        if (bad(p)) return {ECHILD, p.name, "run", p.status->text()};
    }
    return {ECHILD, "flow", "run", "a process ended"};
}

}  // namespace

result<void> run_flow(const job_plan& job, const job_context& c, int output_fd, const std::vector<std::string>& environment, const std::function<result<child>(sys::spawn_request)>& launch) {
    if (!c.pool) return fail(EINVAL, "flow", "run", "its cohort has no pool");
    auto f = flow::create(c.pool->member(), options_of(job));
    if (!f) return std::unexpected(f.error());
    if (!job.spec.pipe.input.empty()) {
        if (auto info = c.os.stat(job.spec.pipe.input); info && info->kind == sys::file_kind::regular) c.update([&](job_report& r) { r.bytes_total = info->size; });
    }
    double cpu = 0;
    result<void> done;
    {
        processes all(job, c, environment, launch);
        done = all.start(*f, output_fd);
        if (done) done = all.wait(*f);
        cpu = all.cpu_seconds();
    }  // none of them lives on
    const stream::flow_report end = f->finish();
    c.pool->look();
    c.update([&](job_report& r) {
        const auto &producer = end.of(flow_role::producer), &workers = end.of(flow_role::workers), &consumer = end.of(flow_role::consumer);
        r.bytes_in = producer.bytes, r.bytes_out = consumer.bytes;
        r.queues.clear();
        r.blocks = r.ordered = end.blocks;
        r.window = end.in_flight, r.window_bytes = end.in_flight_bytes, r.waits = producer.waits;
        r.flow = flow_figures{.producer_waits = producer.waits, .workers_wait = workers.waits, .consumer_waits = consumer.waits, .records = producer.records, .results = consumer.records, .left = end.left};
        r.cpu_seconds = cpu, r.cpu_known = true;
    });
    if (done && end.of(flow_role::producer).records != end.of(flow_role::workers).records) {
        return fail(EPROTO, "flow", "count", fmt::format("{} of {} records came to the workers", end.of(flow_role::workers).records, end.of(flow_role::producer).records));
    }
    return done;
}

}  // namespace cohort::group::detail
