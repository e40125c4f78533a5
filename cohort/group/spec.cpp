// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/spec.hpp>

#include <algorithm>
#include <charconv>
#include <filesystem>
#include <set>

#include <fmt/format.h>

#include <cohort/group/detail/table_reader.hpp>
#include <cohort/group/spell.hpp>

namespace cohort::group {

using detail::fault_list;
using detail::place_of;
using detail::table_reader;

std::string fault::line() const {
    std::string out = file;
    if (at.line > 0) out += fmt::format(":{}:{}", at.line, at.column);
    if (!object.empty()) out += ": " + object;
    return out + ": " + text;
}

std::string command_line::text() const {
    if (shell && words.size() == 3) return words[2];
    std::string out;
    for (const std::string& w : words) {
        const bool plain = !w.empty() && w.find_first_of(" \t\n\"'\\$&|;<>()*?[]{}~#`!") == std::string::npos;
        out += (out.empty() ? "" : " ") + (plain ? w : "'" + w + "'");
    }
    return out;
}

const cohort_spec* spec::cohort_named(std::string_view name) const {
    const auto it = std::find_if(cohorts.begin(), cohorts.end(), [&](const cohort_spec& c) { return c.name == name; });
    return it == cohorts.end() ? nullptr : &*it;
}

bool spec::wants_cpusets() const {
    return std::any_of(cohorts.begin(), cohorts.end(), [](const cohort_spec& c) { return c.cpuset != cpuset_policy::none; });
}

const job_spec* spec::job_named(std::string_view name) const {
    const auto it = std::find_if(jobs.begin(), jobs.end(), [&](const job_spec& j) { return j.name == name; });
    return it == jobs.end() ? nullptr : &*it;
}

result<std::string> expand(std::string_view text, const environment& env) {
    const std::string object = "text \"" + std::string(text) + "\"";
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '$') {
            out += text[i];
        } else if (i + 1 < text.size() && text[i + 1] == '$') {
            out += '$';
            ++i;
        } else if (i + 1 < text.size() && text[i + 1] == '{') {
            std::size_t end = i + 2;
            for (int depth = 1; end < text.size(); ++end) {
                if (text[end] == '{') ++depth;
                if (text[end] == '}' && --depth == 0) break;
            }
            if (end >= text.size()) return fail(EINVAL, object, "expand", "\"${\" without \"}\"");
            const std::string_view inside = text.substr(i + 2, end - i - 2);
            const auto colon = inside.find(":-");
            const std::string_view name = inside.substr(0, colon);
            const auto value = env(name);
            if (value && !value->empty()) {
                out += *value;
            } else if (colon != std::string_view::npos) {
                auto otherwise = expand(inside.substr(colon + 2), env);
                if (!otherwise) return otherwise;
                out += *otherwise;
            } else {
                return fail(EINVAL, object, "expand",
                            fmt::format("the environment has no {0}; write ${{{0}:-default}} or set it", name));
            }
            i = end;
        } else {
            out += '$';
        }
    }
    return out;
}

namespace {

constexpr std::int64_t most_threads = max_cpus;
constexpr std::int64_t most_instances = 1 << 20;
constexpr std::string_view pipe_keys[] = {"input", "output", "codec", "level", "decompress", "records", "block", "threads"};
constexpr std::string_view exec_keys[] = {"instances", "env", "stdin", "stdout", "stderr", "cwd"};

struct parser {
    spec& out;
    fault_list& faults;
    const environment& env;

    void root(const toml::table& table);
    void cohort(const toml::table& table, std::size_t index);
    void job(const toml::table& table, std::size_t index);
    void cpus(table_reader& in, cpu_wish& wish);
    void cpuset(table_reader& in, cohort_spec& c);
    void pipe(table_reader& in, pipe_spec& p);
    void exec(table_reader& in, exec_spec& e);
    void input(table_reader& in, pipe_spec& p);
    void environment_of(table_reader& in, exec_spec& e);
    void check_references(const toml::table& table);
    void check_outputs();
    void check_cycles();
};

void parser::root(const toml::table& table) {
    table_reader in(table, "", faults, env);
    const auto section = [&](const std::string& name, const std::string& example, const auto& read) {
        const toml::node* n = in.node(name);
        if (!n) return;
        const toml::table* t = n->as_table();
        if (!t) return in.fault_at(place_of(*n), "\"" + name + "\" must be a table: [" + name + "] and then " + example);
        table_reader of(*t, name, faults, env);
        read(of);
        of.finish();
    };
    section("machine", "topology = \"live\"", [&](table_reader& of) { out.machine = of.path("topology").value_or(""); });
    section("cpuset", "under = \"a/b\"", [&](table_reader& of) { out.cpusets_under = of.string("under").value_or(""); });
    out.about = in.string("about").value_or("");
    out.workdir = in.path("workdir").value_or("");
    out.stop_on_failure = in.word("on_failure", {"continue", "stop"}).value_or("continue") == "stop";
    in.tables("cohort", [&](const toml::table& t, std::size_t i) { cohort(t, i); });
    in.tables("job", [&](const toml::table& t, std::size_t i) { job(t, i); });
    in.finish();
    if (!in.has("cohort")) faults.add({1, 1}, "", "no [[cohort]]: a spec has at least one");
    check_references(table);
    check_outputs();
    check_cycles();
}

void parser::cohort(const toml::table& table, std::size_t index) {
    table_reader in(table, fmt::format("cohort #{}", index + 1), faults, env);
    cohort_spec c;
    c.at = in.at("name");
    in.require("name");
    if (auto name = in.name("name")) {
        c.name = *name;
        in.name_object("cohort \"" + c.name + "\"");
        if (const cohort_spec* other = out.cohort_named(c.name)) {
            in.fault_at(c.at, fmt::format("the name is used twice, first in line {}", other->at.line));
        }
    }
    cpus(in, c.cpus);
    cpuset(in, c);
    if (auto memory = in.bytes("memory")) c.memory = *memory;
    in.finish();
    out.cohorts.push_back(std::move(c));
}

/// "1/2" -> 1, 2
bool read_part(std::string_view text, int& part, int& of) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) return false;
    const auto number = [](std::string_view t, int& into) {
        const auto [end, problem] = std::from_chars(t.data(), t.data() + t.size(), into);
        return !t.empty() && problem == std::errc() && end == t.data() + t.size();
    };
    return number(text.substr(0, slash), part) && number(text.substr(slash + 1), of) && part >= 1 && of >= part && of <= max_cpus;
}

void parser::cpus(table_reader& in, cpu_wish& wish) {
    const toml::node* n = in.node("cpus");
    wish.at = in.at("cpus");
    if (!n) return;
    if (const toml::table* t = n->as_table()) {
        table_reader inner(*t, in.object(), faults, env);
        inner.require("part", "as in cpus = { part = \"1/2\" }");
        if (auto text = inner.string("part")) {
            wish.kind = cpu_wish::form::part;
            wish.text = *text;
            if (!read_part(*text, wish.part, wish.of)) {
                inner.fault_at(inner.at("part"), fmt::format("part \"{}\" must be two numbers such as \"1/2\", the first 1 to the second, "
                                                             "the second at most {}", *text, max_cpus));
            }
        }
        inner.finish();
        return;
    }
    if (!n->is_string()) {
        in.fault_at(wish.at, "key \"cpus\" must be a list in a string, such as \"0-3,8\", or { part = \"1/2\" }");
        return;
    }
    wish.kind = cpu_wish::form::list;
    wish.text = in.string("cpus").value_or("");
    const auto mask = cpumask::parse_list(wish.text);
    if (!mask) in.fault_at(wish.at, fmt::format("cpus \"{}\": {}", wish.text, mask.error().reason));
    else if (mask->empty()) in.fault_at(wish.at, fmt::format("cpus \"{}\": the list is empty", wish.text));
}

void parser::cpuset(table_reader& in, cohort_spec& c) {
    c.mems_at = in.at("mems");
    if (auto text = in.string("mems")) {
        const auto nodes = nodemask::parse_list(*text);
        if (!nodes) in.fault_at(c.mems_at, fmt::format("mems \"{}\": {}", *text, nodes.error().reason));
        else if (nodes->empty()) in.fault_at(c.mems_at, fmt::format("mems \"{}\": the list is empty", *text));
        c.mems = *text;
    }
    c.partition = in.word("partition", {"member", "root", "isolated"}).value_or("");
    const auto policy = in.word("cpuset", {"require", "prefer", "emulate"});
    if (policy) c.cpuset = *policy == "require" ? cpuset_policy::require : *policy == "prefer" ? cpuset_policy::prefer : cpuset_policy::emulate;
    else if (!c.mems.empty() || !c.partition.empty()) c.cpuset = cpuset_policy::prefer;
}

void parser::job(const toml::table& table, std::size_t index) {
    table_reader in(table, fmt::format("job #{}", index + 1), faults, env);
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
    j.verify = in.command("verify").value_or(command_line{});
    in.require("kind", "\"pipe\" or \"exec\"");
    const auto kind = in.word("kind", {"pipe", "exec"});
    std::vector<std::pair<std::string, std::string>> others;
    if (!kind) {
        // Without a kind nobody can say which keys belong here: only those of neither kind are reported.
        for (std::string_view k : pipe_keys) in.node(k);
        for (std::string_view k : exec_keys) in.node(k);
        in.node("command");
    } else if (*kind == "pipe") {
        j.kind = job_spec::form::pipe;
        pipe(in, j.pipe);
        for (std::string_view k : exec_keys) others.emplace_back(k, "belongs to kind \"exec\", this job is a \"pipe\"");
    } else {
        j.kind = job_spec::form::exec;
        exec(in, j.exec);
        for (std::string_view k : pipe_keys) others.emplace_back(k, "belongs to kind \"pipe\", this job is an \"exec\"");
    }
    in.finish(others);
    out.jobs.push_back(std::move(j));
}

void parser::input(table_reader& in, pipe_spec& p) {
    in.require("input", "a file, or { command = ... } that makes the bytes");
    const toml::node* n = in.node("input");
    if (!n) return;
    if (const toml::table* t = n->as_table()) {
        table_reader inner(*t, in.object(), faults, env);
        inner.require("command", "as in input = { command = \"tar -cf - .\" }");
        p.input_command = inner.command("command").value_or(command_line{});
        inner.finish();
    } else {
        p.input = in.path("input").value_or("");
    }
}

void parser::pipe(table_reader& in, pipe_spec& p) {
    input(in, p);
    in.require("output");
    p.output = in.path("output").value_or("");
    p.codec = in.word("codec", {"zstd", "gzip", "lz4"}).value_or("");
    p.command = in.command("command").value_or(command_line{});
    p.decompress = in.boolean("decompress").value_or(false);
    p.records = in.boolean("records").value_or(false);
    if (auto block = in.bytes("block")) p.block = *block;
    if (auto threads = in.integer("threads", 1, most_threads)) p.threads = static_cast<int>(*threads);
    const std::pair<std::int64_t, std::int64_t> levels = p.codec == "gzip" ? std::pair{0, 12} : p.codec == "lz4" ? std::pair{1, 12} : std::pair{-7, 22};
    if (auto level = in.integer("level", levels.first, levels.second)) p.level = static_cast<int>(*level);

    if (in.has("codec") && in.has("command")) in.fault_at(in.at("command"), "\"codec\" and \"command\" exclude each other");
    if (!in.has("codec") && !in.has("command")) in.fault_at(in.at(), "needs \"codec\" or \"command\"");
    for (std::string_view key : {"level", "decompress"}) {
        if (in.has(key) && in.has("command") && !in.has("codec")) in.fault_at(in.at(key), fmt::format("\"{}\" goes with \"codec\" only", key));
    }
    if (p.records && !in.has("command")) in.fault_at(in.at("records"), "\"records\" goes with \"command\" only");
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

void parser::exec(table_reader& in, exec_spec& e) {
    in.require("command");
    e.command = in.command("command").value_or(command_line{});
    if (auto n = in.integer("instances", 1, most_instances)) e.instances = static_cast<int>(*n);
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

void parser::check_references(const toml::table& table) {
    std::vector<std::string> cohorts, jobs;
    for (const cohort_spec& c : out.cohorts) cohorts.push_back(c.name);
    for (const job_spec& j : out.jobs) jobs.push_back(j.name);
    const toml::array* tables_of_jobs = table["job"].as_array();
    for (std::size_t i = 0; i < out.jobs.size(); ++i) {
        const job_spec& j = out.jobs[i];
        const std::string object = j.name.empty() ? fmt::format("job #{}", i + 1) : "job \"" + j.name + "\"";
        if (!j.cohort.empty() && !out.cohort_named(j.cohort)) {
            faults.add(j.cohort_at, object, fmt::format("cohort \"{}\" does not exist{}", j.cohort, did_you_mean(j.cohort, cohorts)));
        }
        for (std::size_t k = 0; k < j.after.size(); ++k) {
            place at = j.at;
            if (tables_of_jobs && i < tables_of_jobs->size()) {
                if (const toml::node* n = (*tables_of_jobs)[i].at_path(fmt::format("after[{}]", k)).node()) at = place_of(*n);
            }
            if (!j.name.empty() && j.after[k] == j.name) faults.add(at, object, "it waits for itself");
            else if (!out.job_named(j.after[k])) {
                faults.add(at, object, fmt::format("job \"{}\" does not exist{}", j.after[k], did_you_mean(j.after[k], jobs)));
            }
        }
    }
}

void parser::check_outputs() {
    std::map<std::string, const job_spec*> writers;
    for (const job_spec& j : out.jobs) {
        for (const std::string* file : {&j.pipe.output, &j.exec.stdout_file, &j.exec.stderr_file}) {
            if (file->empty() || *file == "/dev/null") continue;
            const auto [it, fresh] = writers.emplace(std::filesystem::path(*file).lexically_normal().string(), &j);
            if (!fresh && it->second != &j) {
                faults.add(j.at, "job \"" + j.name + "\"", fmt::format("it writes \"{}\", so does job \"{}\"", *file, it->second->name));
            }
        }
    }
}

/// A walk in depth along `after`; a job met again while it is still open closes a cycle, reported once.
void parser::check_cycles() {
    std::map<std::string_view, int> color;  // 0 new, 1 open, 2 done
    std::vector<const job_spec*> path;
    const std::function<void(const job_spec&)> visit = [&](const job_spec& j) {
        color[j.name] = 1;
        path.push_back(&j);
        for (const std::string& before : j.after) {
            const job_spec* next = out.job_named(before);
            if (!next || next == &j) continue;
            if (color[next->name] == 0) {
                visit(*next);
            } else if (color[next->name] == 1) {
                std::string text;
                for (auto it = std::find(path.begin(), path.end(), next); it != path.end(); ++it) text += "\"" + (*it)->name + "\" waits for ";
                faults.add(j.at, "job \"" + j.name + "\"", "a cycle in after: " + text + "\"" + next->name + "\"");
            }
        }
        path.pop_back();
        color[j.name] = 2;
    };
    for (const job_spec& j : out.jobs) {
        if (!j.name.empty() && color[j.name] == 0) visit(j);
    }
}

}  // namespace

spec_reading read_spec(std::string file, std::string_view text, const environment& env) {
    spec_reading out;
    out.value.file = file;
    fault_list faults(file);
    detail::read_toml(file, text, faults, [&](const toml::table& table) { parser{out.value, faults, env}.root(table); });
    out.faults = faults.take();
    return out;
}

}  // namespace cohort::group
