// SPDX-License-Identifier: Apache-2.0
/// A spec: cohorts, their CPUs and their jobs, read from TOML into pure data.
///
///     auto read = read_spec("two.toml", text, environment);       // text of the file; environment for ${NAME}
///     for (const fault& f : read.faults) print(f.line());          // two.toml:14:9: job "logs": cohort "ingset" does not exist; ...
///     if (read.faults.empty()) use(read.value.cohorts, read.value.jobs);
///
/// Kernel: none; a cohort is what an administrator writes into a cpuset directory by hand.
#pragma once

#include <cstdint>
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/cpumask.hpp>
#include <cohort/base/error.hpp>

namespace cohort::group {

/// Line and column in the file, both counted from 1; 0 where there is none.
struct place {
    int line = 0;
    int column = 0;
    bool operator==(const place&) const = default;
};

/// One thing that is wrong with a spec.
struct fault {
    std::string file;
    place at;
    std::string object;  // `job "logs"`; empty at the top level
    std::string text;

    /// "file:line:col: object: text"
    std::string line() const;
    bool operator==(const fault&) const = default;
};

/// Which CPUs a cohort asks for.
struct cpu_wish {
    enum class form {
        all,   // every usable CPU (no `cpus` in the spec)
        list,  // cpus = "0-3,8": the kernel's list grammar; N is the machine's last CPU
        part,  // cpus = { part = "1/2" }: the first of two equal runs of the usable CPUs, whole cores together
    };
    form kind = form::all;
    std::string text = {};  // as written: the list, or "1/2"
    int part = 1;
    int of = 1;
    place at = {};
};

/// By what a cohort's CPUs and nodes are kept.
enum class cpuset_policy {
    none,     // affinity, set once: nothing was said about cpusets
    require,  // by a set of the kernel's, or not at all
    prefer,   // by a set of the kernel's where that can be, else as emulate; the report says why
    emulate,  // by affinities and memory policies that are looked after
};

struct cohort_spec {
    std::string name;
    cpu_wish cpus;
    std::string mems;          // nodes as a list, "0-1"; empty: not said
    std::string partition;     // member, root, isolated; empty: not said
    cpuset_policy cpuset = cpuset_policy::none;  // with mems or partition and nothing said: prefer
    place mems_at = {};
    std::uint64_t memory = 0;  // bytes that blocks of its pipes may take together; 0: no limit
    place at;
};

/// A command: words, or one line for sh.
struct command_line {
    std::vector<std::string> words;  // argv; {"/bin/sh", "-c", line} for a shell line
    bool shell = false;

    bool empty() const { return words.empty(); }
    /// As a person would type it.
    std::string text() const;
};

/// Paths are as written, `${NAME}` already put in; the plan makes them absolute.
struct pipe_spec {
    std::string input;            // a file, or empty when input_command makes the bytes
    command_line input_command;   // its stdout is the input
    std::string output;
    std::string codec;            // zstd, gzip, lz4, or empty when `command` does the work
    std::optional<int> level;
    bool decompress = false;
    command_line command;         // fed with blocks, its outputs joined in order
    bool records = false;
    std::uint64_t block = 0;      // bytes; 0: the engine's own choice
    int threads = 0;              // 0: one for each CPU of the cohort
};

struct exec_spec {
    command_line command;
    int instances = 1;
    std::map<std::string, std::string> env;
    std::string stdin_file;
    std::string stdout_file;      // "{instance}" is replaced by the number of the instance
    std::string stderr_file;
    std::string cwd;
};

struct job_spec {
    enum class form { pipe, exec };
    std::string name;
    std::string cohort;
    form kind = form::exec;
    pipe_spec pipe;
    exec_spec exec;
    std::vector<std::string> after;  // jobs that must have succeeded before
    command_line verify;             // re-checks the result; sees $INPUT and $OUTPUT; exit status 0 says yes
    place at;
    place cohort_at;
};

struct spec {
    std::string file;
    std::string about;     // a few words for people, shown when it runs
    std::string machine;   // live, synthetic:..., or a file; empty: not said
    std::string workdir;   // relative paths start here, jobs run here; empty: the current directory
    std::string cpusets_under; // the set below which sets of cohorts are made, from the top; empty: the top
    bool stop_on_failure = false;
    std::vector<cohort_spec> cohorts;
    std::vector<job_spec> jobs;

    const cohort_spec* cohort_named(std::string_view name) const;
    const job_spec* job_named(std::string_view name) const;
    /// Whether a plan has to look at the machine's cpusets.
    bool wants_cpusets() const;
};

struct spec_reading {
    spec value;                 // as much as could be understood
    std::vector<fault> faults;  // in the order of the file
};

/// The value of an environment variable; nullopt when it is not set.
using environment = std::function<std::optional<std::string>(std::string_view name)>;

/// Reads a whole spec and finds all of its faults in one run: syntax, unknown keys and words (with the nearest right one), wrong
/// types, sizes that are zero or negative, names used twice, cohorts and jobs that do not exist, cycles, outputs written twice.
/// Whether its CPUs exist is checked by check_cpus() (plan.hpp), which needs a machine. Pure: reads no file.
spec_reading read_spec(std::string file, std::string_view text, const environment& env);

/// Puts `${NAME}` and `${NAME:-default}` in (`$$` is one `$`; defaults may nest). Errors: EINVAL (unfinished `${`, a variable that is
/// not set and has no default).
result<std::string> expand(std::string_view text, const environment& env);

}  // namespace cohort::group
