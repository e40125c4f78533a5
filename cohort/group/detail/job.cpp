// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/job.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/detail/child.hpp>
#include <cohort/group/detail/exec_job.hpp>
#include <cohort/group/detail/flow_job.hpp>
#include <cohort/group/detail/pools.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::group::detail {
namespace {

double seconds_between(std::uint64_t from, std::uint64_t to) { return static_cast<double>(to - from) / 1e9; }

/// An output that is not there before it is published. Devices and pipes are written directly: they have no unfinished state to hide.
class output {
public:
    static result<output> create(sys::os& os, const std::string& path, const std::function<void(const std::string&)>& about_to) {
        output out;
        out.path_ = path;
        const auto info = os.stat(path);
        if (info && info->kind != sys::file_kind::regular) {
            auto fd = sys::open_file(os, path, sys::open_write);
            if (!fd) return std::unexpected(fd.error());
            out.direct_ = std::move(*fd);
            return out;
        }
        auto temp = sys::temp_file::create(os, path, 0666, about_to);
        if (!temp) return std::unexpected(temp.error());
        out.temp_.emplace(std::move(*temp));
        return out;
    }
    int fd() const { return temp_ ? temp_->fd() : direct_.get(); }
    /// Where the bytes stand now.
    const std::string& place() const { return temp_ ? temp_->name() : path_; }
    result<void> publish() { return temp_ ? temp_->commit() : direct_.close(); }

private:
    output() = default;
    std::string path_;
    std::optional<sys::temp_file> temp_;
    sys::owned_fd direct_;
};

class runner {
public:
    runner(const job_plan& job, const job_context& context) : job_(job), spec_(job.spec), c_(context), os_(context.os) {}

    void run() {
        const account::scope paid_by(c_.payer);
        const std::uint64_t start = os_.now();
        result<void> done = spec_.kind == job_spec::form::pipe ? pipe() : spec_.kind == job_spec::form::flow ? flow() : exec();
        c_.update([&](job_report& r) { r.seconds = seconds_between(start, os_.now()); });
        if (done) done = check();
        for (std::size_t i = 0; done && i < outputs_.size(); ++i) done = outputs_[i].publish();
        outputs_.clear();  // removes what was not published
        c_.update([&](job_report& r) {
            if (done) {
                r.state = job_state::ok;
            } else {
                r.state = refused_ ? job_state::refused : c_.stop.stop_requested() && done.error().code == ECANCELED ? job_state::stopped : job_state::failed;
                r.why = done.error();
            }
        });
    }

private:
    result<void> pipe();
    result<void> exec();
    result<void> flow();
    result<void> check();
    result<sys::owned_fd> input_of(const std::string& path);
    result<int> add_output(const std::string& path);
    /// A command on the cohort's CPUs and nodes, by what the plan says.
    result<child> launch(sys::spawn_request request);
    stream::pipe_options pipe_options();

    const job_plan& job_;
    const job_spec& spec_;
    const job_context& c_;
    sys::os& os_;
    std::vector<output> outputs_;
    bool refused_ = false;
    bool checking_ = false;  // the check is no part of the job's use of the machine
};

/// What every process of the job finds in its environment.
std::vector<std::string> names_of(const job_plan& job, const std::string& mark) {
    std::vector<std::string> out{"COHORT_NAME=" + job.spec.cohort, "COHORT_JOB=" + job.spec.name, "COHORT_CPUS=" + job.cpus.list()};
    if (!mark.empty()) out.push_back(mark);
    return out;
}

result<sys::owned_fd> runner::input_of(const std::string& path) { return sys::open_file(os_, path.empty() ? "/dev/null" : path, sys::open_read); }

result<int> runner::add_output(const std::string& path) {
    auto out = output::create(os_, path, c_.options.about_to);
    if (!out) return std::unexpected(out.error());
    outputs_.push_back(std::move(*out));
    c_.update([&](job_report& r) { r.outputs.push_back(path); });
    return outputs_.back().fd();
}

result<child> runner::launch(sys::spawn_request request) {
    const keeping& keep = c_.cohort.keep;
    request.affinity = job_.cpus;
    request.directory = job_.cwd;
    sys::placement place;
    if (keep.by == keeping::form::kernel) place.join = {keep.procs};
    if (keep.by == keeping::form::emulated && !keep.mems.empty()) place.memory = sys::mempolicy{.mode = sys::mempolicy_bind, .nodes = keep.mems};
    request.ends_with_parent = true;  // this thread reaps it, and so outlives it unless we are killed
    auto started = child::start(os_, std::move(request), place, !c_.options.foreground);
    if (!started) return started;
    const int pid = started->pid();
    const bool emulated = keep.by == keeping::form::emulated;
    if (!checking_) c_.use.take(c_.index, pid);
    started->before_reaping([this, emulated, pid] {
        if (emulated) c_.hold.drop(pid);
        c_.use.drop(c_.index, pid);
        c_.update([pid](job_report& r) { std::erase(r.pids, pid); });
    });
    c_.update([pid](job_report& r) { r.pids.push_back(pid); });
    if (!emulated) return started;
    if (auto held = c_.hold.take(pid, c_.cohort, *c_.what.machine.cpusets); !held) return std::unexpected(held.error());  // the child is ended by its destructor
    return started;
}

stream::pipe_options runner::pipe_options() {
    const pipe_spec& p = spec_.pipe;
    stream::pipe_options o;
    if (auto kind = stream::parse_codec(p.codec)) o.kind = *kind;
    o.level = p.level;
    o.decompress = p.decompress;
    o.argv = p.command.words;
    o.records = p.records;
    o.environment = names_of(job_, c_.options.mark);
    o.directory = job_.cwd;
    o.cpus = job_.cpus;
    o.serial_cpus = job_.cpus;
    o.reader_cpus = job_.cpus;
    o.workers = p.threads;
    o.block_bytes = p.block;
    // Half of it for blocks that wait or are worked on; the rest for those being read and written, and for idle ones.
    o.memory = job_.memory / 2;
    o.stop = c_.stop;
    o.name = spec_.name;
    o.gate = c_.gate;
    o.control = "";
    o.on_control = [this](const std::string& directory) { c_.update([&](job_report& r) { r.control = directory; }); };
    o.stuck_after = std::chrono::seconds(10);
    o.progress = [this](const stream::pipe_progress& now) {
        c_.update([&](job_report& r) {
            r.bytes_in = now.bytes_in;
            r.bytes_out = now.bytes_out;
            r.bytes_total = now.bytes_total;
        });
    };
    return o;
}

result<void> runner::pipe() {
    const pipe_spec& p = spec_.pipe;
    stream::pipe_options o = pipe_options();
    auto out = add_output(p.output);
    if (!out) return std::unexpected(out.error());
    o.output_fd = *out;

    std::optional<child> producer;
    sys::owned_fd from;
    if (p.input.empty()) {
        auto ends = os_.pipe();
        if (!ends) return std::unexpected(ends.error());
        from = sys::owned_fd(os_, ends->read);
        sys::owned_fd to(os_, ends->write);
        auto nothing = input_of("");
        if (!nothing) return std::unexpected(nothing.error());
        auto started = launch({.argv = p.input_command.words, .stdin_fd = nothing->get(), .stdout_fd = to.get(), .environment = names_of(job_, c_.options.mark)});
        if (!started) return std::unexpected(started.error());
        producer.emplace(std::move(*started));
        o.input_fd = from.get();
    } else {
        o.input_path = p.input;
    }
    // This thread is the pipe's reader; the workers' share is in the engine's report.
    stream::pipe_look look;
    o.look = &look;
    c_.use.take_pipe(c_.index, os_.gettid(), look);
    const std::uint64_t reader_before = sys::thread_cpu_ns();
    auto done = c_.options.pipe_engine(o, os_);
    c_.use.drop_pipe(c_.index);
    const double reader_cpu = seconds_between(reader_before, sys::thread_cpu_ns());
    if (!done) return std::unexpected(done.error());  // the producer is ended by its destructor
    double producer_cpu = 0;
    if (producer) {
        (void)from.close();
        auto end = producer->wait(c_.stop_fd, c_.options.patience_ns);
        if (!end) return std::unexpected(end.error());
        if (!end->ok()) return fail(ECHILD, "input command \"" + p.input_command.text() + "\"", "run", end->text());
        producer_cpu = static_cast<double>(end->user_ns + end->system_ns) / 1e9;
    }
    c_.update([&](job_report& r) {
        r.bytes_in = done->bytes_in;
        r.bytes_out = done->bytes_out;
        r.blocks = done->blocks;
        r.ordered = done->ordered;
        r.window = done->window;
        r.window_bytes = done->memory;
        r.waits = done->waits;
        r.latency = done->latency;
        r.stuck = done->stuck;
        r.threads = done->workers;
        r.cpu_seconds = reader_cpu + done->work_cpu_seconds + done->child_cpu_seconds + producer_cpu;
        r.cpu_known = true;
    });
    if (done->ordered != done->blocks) {
        return fail(EPROTO, "stream", "order", fmt::format("{} of {} blocks came in order", done->ordered, done->blocks));
    }
    return {};
}

result<void> runner::flow() {
    result<int> out = -1;
    if (!spec_.pipe.output.empty()) out = add_output(spec_.pipe.output);
    if (!out) return std::unexpected(out.error());
    return run_flow(job_, c_, *out, names_of(job_, c_.options.mark), [this](sys::spawn_request r) { return launch(std::move(r)); });
}

result<void> runner::exec() {
    const result<void> done = run_exec(job_, c_, {names_of(job_, c_.options.mark), [this](const std::string& path) { return add_output(path); }, [this](sys::spawn_request r) { return launch(std::move(r)); }});
    std::uint64_t bytes = 0;
    for (const output& o : outputs_) {
        if (auto info = os_.fstat(o.fd())) bytes += info->size;
    }
    c_.update([&](job_report& r) { r.bytes_out = bytes; });
    return done;
}

result<void> runner::check() {
    if (spec_.verify.empty()) return {};
    checking_ = true;
    c_.update([](job_report& r) { r.state = job_state::checking; });
    const std::uint64_t start = os_.now();
    auto nothing = input_of("");
    if (!nothing) return std::unexpected(nothing.error());
    std::vector<std::string> env = names_of(job_, c_.options.mark);
    env.push_back("INPUT=" + (spec_.streams() ? spec_.pipe.input : spec_.exec.stdin_file));
    if (!outputs_.empty()) env.push_back("OUTPUT=" + outputs_.front().place());
    auto started = launch({.argv = spec_.verify.words, .stdin_fd = nothing->get(), .stdout_fd = 2, .environment = std::move(env)});
    if (!started) return std::unexpected(started.error());
    auto end = started->wait(c_.stop_fd, c_.options.patience_ns);
    if (!end) return std::unexpected(end.error());
    c_.update([&](job_report& r) {
        r.verify_seconds = seconds_between(start, os_.now());
        r.verified = end->ok();
    });
    if (end->ok()) return {};
    refused_ = true;
    return fail(EBADMSG, "check \"" + spec_.verify.text() + "\"", "run", end->text());
}

}  // namespace

void run_job(const job_plan& job, const job_context& context) { runner(job, context).run(); }

}  // namespace cohort::group::detail
