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
#include <set>
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
        count, // cpus = { count = 4, whole_cores = true, same_node = true, apart_from = "web" }: so many, nobody else's, wherever that is best
    };
    form kind = form::all;
    std::string text = {};  // as written: the list, or "1/2"
    int part = 1;
    int of = 1;
    int count = 0;
    bool whole_cores = false;              // every CPU of its cores: perhaps more than count
    bool same_node = false;
    std::vector<std::string> apart_from = {};   // cohorts with which it shares no core
    place apart_at = {};
    place at = {};
};

/// By what a cohort's CPUs and nodes are kept.
enum class cpuset_policy {
    none,     // affinity, set once: nothing was said about cpusets
    require,  // by a set of the kernel's, or not at all
    prefer,   // by a set of the kernel's where that can be, else as emulate; the report says why
    emulate,  // by affinities and memory policies that are looked after
};

/// By what a cohort with a cookie is kept off cores on which others run at the same time.
enum class cookie_policy {
    require,  // by the kernel's core scheduling, or not at all
    prefer,   // by the kernel where it can, else as emulate, else by nothing; the report says why
    emulate,  // without the kernel: by whole cores, or by the executor for what runs in pipes; or not at all
};

/// What a cookie is made of, as it is written.
struct cookie_part {
    enum class form {
        label,    // "x": of all cohorts that write it
        own,      // "own": of this cohort
        same_as,  // { same_as = "web" }: whatever that one's is made of
    };
    form kind = form::label;
    std::string name = {};  // the label, or the other cohort
    place at = {};
};

/// The memory that a cohort's processes share by raw pointer (sharepool/group.hpp).
struct pool_spec {
    enum class pages { never, prefer, require };  // huge ones
    std::uint64_t bytes = 0;   // of addresses; 0: the cohort has no pool of its own
    std::string of = {};       // the cohort whose pool it is in instead; empty: none
    pages huge = pages::never;
    bool read_only = false;    // its exec jobs may only read
    std::uint64_t limit = 0;   // bytes of memory; 0: as many as there are addresses
    place at = {}, of_at = {};

    /// Whether the cohort has one of its own.
    explicit operator bool() const { return bytes > 0; }
    /// "1 GiB, huge pages if possible, exec jobs may read only, limit 512 MiB".
    std::string text() const;
};

struct cohort_spec {
    std::string name;
    std::string inside;        // the cohort of whose CPUs it has some; empty: it stands by itself
    place inside_at = {};
    cpu_wish cpus;
    std::string mems;          // nodes as a list, "0-1"; empty: not said
    std::string partition;     // member, root, isolated; empty: not said
    cpuset_policy cpuset = cpuset_policy::none;  // nothing said: that of the cohort it is inside of, or of [policy], or with mems or partition: prefer
    place cpuset_at = {};      // line 0: not said
    place mems_at = {};
    std::vector<cookie_part> cookie_wish;   // as written; empty: nothing, or "none"
    std::vector<std::string> cookie_parts;  // what it comes to, with those of the cohort it is inside of: sorted labels, and own(NAME)
    std::string cookie;        // the parts as one word, "own(web)+x"; cohorts with equal ones may run on one core at the same time; empty: none
    cookie_policy coresched = cookie_policy::prefer;
    place cookie_at = {}, coresched_at = {};  // line 0: not said
    std::uint64_t memory = 0;  // bytes that blocks of its pipes, and of those of cohorts inside of it, may take together; 0: no limit
    place memory_at = {};
    pool_spec pool;
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

/// Of a pipe or a flow. Paths are as written, `${NAME}` already put in; the plan makes them absolute.
struct pipe_spec {
    std::string input;            // a file, or empty when input_command makes the bytes
    command_line input_command;   // its stdout is the input
    std::string output;           // a file; of a flow: empty when output_command takes the bytes
    command_line output_command;  // a flow's: its stdin is the output
    std::string plugin;           // a flow's: a library whose function is called on each block
    std::string codec;            // zstd, gzip, lz4, or empty when `command` does the work
    std::optional<int> level;
    bool decompress = false;
    command_line command;         // fed with blocks, its outputs joined in order
    bool records = false;
    std::uint64_t block = 0;      // bytes; 0: the engine's own choice
    int threads = 0;              // 0: one for each CPU of the cohort
};

/// When an instance of a command that has ended is started again.
struct restart_rule {
    enum class form { never, on_failure, always };
    form kind = form::never;
    int max = 0;                                // times, of each instance; 0: as often as it takes
    std::uint64_t backoff_ns = 100'000'000;     // before the first time; twice that before the next, and so on
    std::uint64_t longest_ns = 10'000'000'000;  // no longer than that; who ran for so long begins anew

    explicit operator bool() const { return kind != form::never; }
    /// "on failure, at most 5 times, after 100 ms to 10 s".
    std::string text() const;
};

struct exec_spec {
    command_line command;
    int instances = 1;
    restart_rule restart;
    std::map<std::string, std::string> env;
    std::string stdin_file;
    std::string stdout_file;      // "{instance}" is replaced by the number of the instance
    std::string stderr_file;
    std::string cwd;
};

struct job_spec {
    enum class form { pipe, exec, flow };
    std::string name;
    std::string cohort;
    form kind = form::exec;
    pipe_spec pipe;                  // of a flow, too
    exec_spec exec;
    bool streams() const { return kind != form::exec; }
    std::vector<std::string> after;  // jobs that must have succeeded before
    std::vector<place> after_at;     // of each of them
    command_line verify;             // re-checks the result; sees $INPUT and $OUTPUT; exit status 0 says yes
    place at;
    place cohort_at;
};

struct spec {
    std::string file;
    std::string about;     // a few words for people, shown when it runs
    std::string machine;   // live, synthetic:..., or a file; empty: not said
    std::vector<cpumask> cores;  // declared: CPUs that count as siblings of one core, whatever the machine says
    place cores_at = {};
    std::string workdir;   // relative paths start here, jobs run here; empty: the current directory
    std::string cpusets_under; // the set below which sets of cohorts are made, from the top; empty: the top
    std::optional<cpuset_policy> cpuset;     // [policy]: of cohorts that say nothing
    std::optional<cookie_policy> coresched;  // likewise, of those with a cookie
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
    /// Keys that the reader knows in each kind of table that the file has: "" (the top), "machine", "cohort", "cohort.pool", "job" of its kinds, ...
    std::map<std::string, std::set<std::string>> keys;
};

/// The value of an environment variable; nullopt when it is not set.
using environment = std::function<std::optional<std::string>(std::string_view name)>;

/// Reads a whole spec and finds all of its faults in one run: syntax, unknown keys and words (with the nearest right one), wrong
/// types, sizes that are zero or negative, names used twice, cohorts and jobs that do not exist, cycles, outputs written twice.
/// Whether its CPUs exist is checked by check_cpus() (plan.hpp), which needs a machine. Pure: reads no file.
spec_reading read_spec(std::string file, std::string_view text, const environment& env);

/// The same jobs on a machine that nobody has divided, to compare with: each cohort may use every CPU and node, and has neither a set nor a cookie. Pools and limits stay.
spec without_cohorts(spec s);

/// Puts `${NAME}` and `${NAME:-default}` in (`$$` is one `$`; defaults may nest). Errors: EINVAL (unfinished `${`, a variable that is
/// not set and has no default).
result<std::string> expand(std::string_view text, const environment& env);

}  // namespace cohort::group
