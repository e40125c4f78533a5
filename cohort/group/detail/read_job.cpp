// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/read_job.hpp>

#include <algorithm>

#include <fmt/format.h>

namespace cohort::group::detail {
namespace {

constexpr std::int64_t most_threads = max_cpus;
constexpr std::int64_t most_instances = 1 << 20;
constexpr std::string_view pipe_keys[] = {"input", "output", "codec", "level", "records", "block", "threads"};
constexpr std::string_view pipe_only_keys[] = {"decompress"};
constexpr std::string_view flow_only_keys[] = {"plugin"};
constexpr std::string_view exec_keys[] = {"instances", "restart", "env", "stdin", "stdout", "stderr", "cwd"};

struct parser {
    spec& out;
    fault_list& faults;
    const environment& env;

    void job(const toml::table& table, std::size_t index);
    void pipe(table_reader& in, pipe_spec& p, bool flow);
    void input(table_reader& in, pipe_spec& p);
    void output(table_reader& in, pipe_spec& p);
    void check_work(table_reader& in, const pipe_spec& p, bool flow);
    void exec(table_reader& in, exec_spec& e);
    void environment_of(table_reader& in, exec_spec& e);
    void restart(table_reader& in, restart_rule& r);
};

void parser::job(const toml::table& table, std::size_t index) {
    table_reader in(table, fmt::format("job #{}", index + 1), faults, env);
    in.learn_as("job");
    job_spec j;
    j.at = in.at("name");
    in.require("name");
    if (auto name = in.name("name")) {
        j.name = *name;
        in.name_object("job \"" + j.name + "\"");
        if (const job_spec* other = out.job_named(j.name)) {
            in.fault_at(j.at, fmt::format("the name is used twice, first in line {}", other->at.line));
        }
    }
    in.require("cohort");
    j.cohort = in.string("cohort").value_or("");
    j.cohort_at = in.at("cohort");
    j.after = in.strings("after").value_or(std::vector<std::string>{});
    j.after_at = in.entries_at("after");
    j.verify = in.command("verify").value_or(command_line{});
    in.require("kind", "\"pipe\", \"exec\" or \"flow\"");
    const auto kind = in.word("kind", {"pipe", "exec", "flow"});
    std::vector<std::pair<std::string, std::string>> others;
    const auto belong = [&](const auto& keys, const char* to) {
        for (std::string_view k : keys) {
            // Without a kind nobody can say which keys belong here: only those of no kind are reported.
            if (!kind) in.node(k);
            else others.emplace_back(k, fmt::format("belongs to {}, this job is {} \"{}\"", to, *kind == "exec" ? "an" : "a", *kind));
        }
    };
    if (!kind) in.node("command");
    if (kind && *kind != "exec") {
        j.kind = *kind == "pipe" ? job_spec::form::pipe : job_spec::form::flow;
        pipe(in, j.pipe, *kind == "flow");
    } else if (kind) {
        exec(in, j.exec);
    }
    if (j.kind == job_spec::form::exec || !kind) belong(pipe_keys, "kinds \"pipe\" and \"flow\"");
    if (j.kind != job_spec::form::pipe || !kind) belong(pipe_only_keys, "kind \"pipe\"");
    if (j.kind != job_spec::form::flow || !kind) belong(flow_only_keys, "kind \"flow\"");
    if (j.kind != job_spec::form::exec || !kind) belong(exec_keys, "kind \"exec\"");
    in.finish(others);
    out.jobs.push_back(std::move(j));
}

void parser::input(table_reader& in, pipe_spec& p) {
    in.require("input", "a file, or { command = ... } that makes the bytes");
    const toml::node* n = in.node("input");
    if (!n) return;
    if (const toml::table* t = n->as_table()) {
        table_reader inner(*t, in.object(), faults, env);
        inner.learn_as("job.input");
        inner.require("command", "as in input = { command = \"tar -cf - .\" }");
        p.input_command = inner.command("command").value_or(command_line{});
        inner.finish();
    } else {
        p.input = in.path("input").value_or("");
    }
}

void parser::output(table_reader& in, pipe_spec& p) {
    const toml::node* n = in.node("output");
    const toml::table* t = n ? n->as_table() : nullptr;
    if (!t) return void(p.output = in.path("output").value_or(""));
    table_reader inner(*t, in.object(), faults, env);
    inner.learn_as("job.output");
    inner.require("command", "as in output = { command = \"tar -xf -\" }");
    p.output_command = inner.command("command").value_or(command_line{});
    inner.finish();
}

void parser::pipe(table_reader& in, pipe_spec& p, bool flow) {
    input(in, p);
    in.require("output", flow ? "a file, or { command = ... } that takes the bytes" : "");
    if (flow) output(in, p);
    else p.output = in.path("output").value_or("");
    p.codec = in.word("codec", {"zstd", "gzip", "lz4"}).value_or("");
    p.command = in.command("command").value_or(command_line{});
    if (flow) p.plugin = in.path("plugin").value_or("");
    else p.decompress = in.boolean("decompress").value_or(false);
    p.records = in.boolean("records").value_or(false);
    if (auto block = in.bytes("block")) p.block = *block;
    if (auto threads = in.integer("threads", 1, most_threads)) p.threads = static_cast<int>(*threads);
    const std::pair<std::int64_t, std::int64_t> levels = p.codec == "gzip" ? std::pair{0, 12} : p.codec == "lz4" ? std::pair{1, 12} : std::pair{-7, 22};
    if (auto level = in.integer("level", levels.first, levels.second)) p.level = static_cast<int>(*level);
    check_work(in, p, flow);
}

/// What belongs together, and what does not.
void parser::check_work(table_reader& in, const pipe_spec& p, bool flow) {
    std::vector<std::string_view> work;
    for (std::string_view key : {"codec", "command", "plugin"}) {
        if (in.has(key) && (flow || key != "plugin")) work.push_back(key);
    }
    if (work.size() > 1) in.fault_at(in.at(work[1]), fmt::format("\"{}\" and \"{}\" exclude each other", work[0], work[1]));
    if (work.empty()) in.fault_at(in.at(), flow ? "needs \"codec\", \"command\" or \"plugin\"" : "needs \"codec\" or \"command\"");
    const bool codec = !work.empty() && work[0] == "codec";
    for (std::string_view key : {"level", "decompress"}) {
        if (in.has(key) && !codec && !work.empty() && (!flow || key == "level")) in.fault_at(in.at(key), fmt::format("\"{}\" goes with \"codec\" only", key));
    }
    if (p.records && (codec || work.empty())) in.fault_at(in.at("records"), flow ? "\"records\" goes with \"command\" and \"plugin\" only" : "\"records\" goes with \"command\" only");
    if (p.decompress && in.has("level")) in.fault_at(in.at("level"), "\"level\" has no meaning with decompress = true");
    if (!p.output.empty() && p.output == p.input) in.fault_at(in.at("output"), "the output is the input");
}

void parser::environment_of(table_reader& in, exec_spec& e) {
    const toml::node* n = in.node("env");
    if (!n) return;
    const toml::table* t = n->as_table();
    if (!t) {
        in.fault_at(place_of(*n), "key \"env\" must be a table, such as { LANG = \"C\" }");
        return;
    }
    table_reader inner(*t, in.object(), faults, env);
    for (const auto& [key, value] : *t) {
        if (key.str().empty() || key.str().find('=') != std::string_view::npos) {
            inner.fault_at(place_of(key), fmt::format("\"{}\" cannot be the name of a variable", key.str()));
            inner.node(key.str());
        } else if (auto text = inner.string(key.str())) {
            e.env[std::string(key.str())] = *text;
        }
    }
}

void parser::restart(table_reader& in, restart_rule& r) {
    static const std::vector<std::string> words = {"never", "on-failure", "always"};
    const toml::node* n = in.node("restart");
    if (!n) return;
    const auto read = [&](table_reader& from, std::string_view key) {
        const auto word = from.word(key, words);
        if (word) r.kind = *word == "never" ? restart_rule::form::never : *word == "always" ? restart_rule::form::always : restart_rule::form::on_failure;
    };
    const toml::table* t = n->as_table();
    if (!t) {
        if (n->is_string()) read(in, "restart");
        else in.fault_at(place_of(*n), "key \"restart\" must be \"never\", \"on-failure\", \"always\", or { when = ..., max = ..., backoff = ..., longest = ... }");
        return;
    }
    table_reader inner(*t, in.object(), faults, env);
    inner.learn_as("job.restart");
    inner.require("when", "\"never\", \"on-failure\" or \"always\"");
    read(inner, "when");
    r.max = static_cast<int>(inner.integer("max", 1, 1'000'000).value_or(0));
    r.backoff_ns = inner.duration("backoff").value_or(r.backoff_ns);
    r.longest_ns = inner.duration("longest").value_or(std::max(r.longest_ns, r.backoff_ns));
    if (r.longest_ns < r.backoff_ns) inner.fault_at(inner.at("longest"), "the longest back-off is shorter than the first");
    for (std::string_view key : {"max", "backoff", "longest"}) {
        if (!r && inner.has(key) && inner.has("when")) inner.fault_at(inner.at(key), fmt::format("\"{}\" has no meaning where nothing is started again", key));
    }
    inner.finish();
}

void parser::exec(table_reader& in, exec_spec& e) {
    in.require("command");
    e.command = in.command("command").value_or(command_line{});
    if (auto n = in.integer("instances", 1, most_instances)) e.instances = static_cast<int>(*n);
    restart(in, e.restart);
    environment_of(in, e);
    e.stdin_file = in.path("stdin").value_or("");
    e.stdout_file = in.path("stdout").value_or("");
    e.stderr_file = in.path("stderr").value_or("");
    e.cwd = in.path("cwd").value_or("");
    for (const auto& [key, file] : {std::pair{"stdout", &e.stdout_file}, std::pair{"stderr", &e.stderr_file}}) {
        if (e.instances > 1 && !file->empty() && file->find("{instance}") == std::string::npos) {
            in.fault_at(in.at(key), fmt::format("{} instances cannot share \"{}\"; put {{instance}} into the name", e.instances, *file));
        }
    }
    if (!e.stdout_file.empty() && e.stdout_file == e.stderr_file) in.fault_at(in.at("stderr"), "stdout and stderr are the same file");
    if (!e.stdin_file.empty() && e.stdin_file == e.stdout_file) in.fault_at(in.at("stdout"), "the output is the input");
}

}  // namespace

void read_job(const toml::table& table, std::size_t index, spec& out, fault_list& faults, const environment& env) { parser{out, faults, env}.job(table, index); }

}  // namespace cohort::group::detail
