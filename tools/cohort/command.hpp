// SPDX-License-Identifier: Apache-2.0
/// How a command of the program is written: one file, one registration function, no parsing of its own.
///
///     struct options { bool json = false; std::string spec; };
///     void add_plan(registry& all) {
///         auto o = std::make_shared<options>();
///         command& c = all.add("plan", "Show what a spec would do on a machine");
///         c.flag("--json", o->json, "print JSON");
///         c.argument("SPEC", o->spec, "the spec, a TOML file");
///         c.run([o]() -> outcome { return plan(*o); });        // exit_code, or an error that is printed and mapped
///     }
///
/// main.cpp lists the registration functions. Data goes to stdout, talk and errors to stderr.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::cli {

/// The program's exit codes; scripts rely on them.
enum class exit_code : int { ok = 0, no = 1, usage = 2, unsupported = 3, permission = 4, failed = 5 };

using outcome = result<exit_code>;

/// The one place where an errno becomes an exit code: EPERM, EACCES -> permission; ENOSYS, EOPNOTSUPP -> unsupported; others -> failed.
exit_code exit_code_of(const error& e);

/// Prints `cohort: TEXT` on stderr (the program's name).
void complain(const std::string& text);

/// A usage error found after parsing ("--svg and --json exclude each other"): prints it and answers exit_code::usage.
outcome usage(const std::string& text);

/// One command being described. Targets are references to variables that live until the program ends (capture a shared_ptr in run()).
/// A name is "--long" or "-s,--long".
class command {
public:
    command& flag(const std::string& name, bool& target, const std::string& help);
    command& option(const std::string& name, std::string& target, const std::string& value, const std::string& help);
    command& option(const std::string& name, std::optional<std::string>& target, const std::string& value, const std::string& help);
    /// May be given several times.
    command& option(const std::string& name, std::vector<std::string>& target, const std::string& value, const std::string& help);
    /// A whole number in low .. high; anything else is a usage error.
    command& number(const std::string& name, std::int64_t& target, std::int64_t low, std::int64_t high, const std::string& help);
    /// A size in bytes, at least 1: 4096, 64K, 1M, 2G (powers of 1024).
    command& bytes(const std::string& name, std::uint64_t& target, const std::string& help);
    command& choice(const std::string& name, std::string& target, const std::vector<std::string>& values, const std::string& help);
    /// A positional argument; they fill in the order in which they are described.
    command& argument(const std::string& name, std::string& target, const std::string& help, bool required = true);
    /// Everything after `--`, untouched. `given`, when not null, tells whether a `--` stood there at all.
    command& rest(const std::string& name, std::vector<std::string>& target, const std::string& help, bool* given = nullptr);
    /// Free text below the options in --help: examples, exit codes.
    command& notes(const std::string& text);
    command& run(std::function<outcome()> body);

    command(const command&) = delete;
    command& operator=(const command&) = delete;

private:
    friend class registry;
    struct state;
    command& below(const std::string& text);
    explicit command(std::unique_ptr<state> s);
    std::unique_ptr<state> state_;

public:
    ~command();
};

/// All commands of the program.
class registry {
public:
    explicit registry(const std::string& program = "cohort", const std::string& summary = "Cohort: cores, order and memory for user-space programs, by the kernel's own rules.");
    ~registry();

    /// The program itself, where it has no commands.
    command& program();

    /// A noun that commands stand under; before them.
    void noun(const std::string& name, const std::string& summary);
    /// `name` is an everyday verb ("plan") or a noun and a verb ("cookie show").
    command& add(const std::string& name, const std::string& summary);

    /// Parses and runs; answers the process's exit code. Prints help, version and usage errors itself, flushes stdout and treats an
    /// output that cannot be written as exit_code::failed.
    /// The words `command-table` alone print table() instead.
    int main(int argc, char** argv);

    /// Every command with its options, arguments and notes as JSON: what pages, completion and their checks are made from.
    std::string table() const;

private:
    struct state;
    std::unique_ptr<state> state_;
};

void add_doctor(registry& all);
void add_topology(registry& all);
void add_pipe(registry& all);
void add_plan(registry& all);
/// words: the program's, from the command on; owner: it was started to stay behind by one that detaches.
void add_up(registry& all, const std::vector<std::string>& words, bool owner);
void add_down(registry& all);
void add_run(registry& all);
void add_status(registry& all);
void add_top(registry& all);
void add_cpuset_change(registry& all);
void add_cpuset_show(registry& all);
void add_cpuset_explain(registry& all);
void add_cpuset_lint(registry& all);
void add_cpuset_plan(registry& all);
void add_cpuset_snapshot(registry& all);
void add_cpuset_watch(registry& all);
void add_coresched_check(registry& all);
void add_coresched_control(registry& all);
void add_coresched_exec(registry& all);
void add_coresched_ls(registry& all);
void add_coresched_simulate(registry& all);
void add_cpuset_simulate(registry& all);
void add_cpuset_what_if(registry& all);
void add_padata(registry& all);
void add_padata_demo(registry& all);
void add_percpu_bench(registry& all);
void add_percpu_demo(registry& all);
void add_percpu_stat(registry& all);
void add_pool_create(registry& all);
void add_pool_join(registry& all);
void add_pool_ls(registry& all);
void add_pool_top(registry& all);

}  // namespace cohort::cli
