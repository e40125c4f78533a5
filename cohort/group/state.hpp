// SPDX-License-Identifier: Apache-2.0
/// What one `cohort up` has up: written down by its owner before each step, so that anybody can see it, end it, and put in order what a killed owner left.
///
///     up_state s = state_of(plan, os, run_dir, "two-tenants", "/etc/two-tenants.toml");
///     auto mine = state_file::create(os, run_dir, s);                  // sweeps first; EBUSY: that name is up
///     mine->change([](up_state& now) { now.phase = up_phase::up; });
///     for (const up_state& u : ups(os, run_dir)->all) print(u.name, alive(os, u));     // other processes
///     sweep_report r = sweep(os, run_dir);                              // what dead owners left is gone
///     mine->remove();
///
/// A file RUN_DIR/NAME.state is JSON, replaced by a rename each time. Kernel: none.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <cohort/base/error.hpp>
#include <cohort/group/detail/owner.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/group/run.hpp>
#include <cohort/sys/os.hpp>

namespace cohort::group {

/// One thing to undo when the owner is gone. Undoing what was not done yet does nothing.
struct undo_note {
    enum class form {
        claim,      // a file of the owner's, removed when it still says so
        file,       // removed
        directory,  // removed when it is empty
        cpuset,     // an operation, as a line
        pool,       // a group of a broker that is not the owner's: "ID NAME SOCKET"
    };
    form kind = form::file;
    std::string what;
    bool operator==(const undo_note&) const = default;
};

struct up_pool {
    int id = 0;
    std::string socket;
    std::uint64_t bytes = 0;
    bool operator==(const up_pool&) const = default;
};

struct up_cohort {
    std::string name, cpus;  ///< a list, "0-3"
    std::string kept;        ///< by what, in words
    std::string set, procs;  ///< of the kernel's; empty: none
    std::string cookie, cookie_kept;
    std::optional<up_pool> pool;
    bool operator==(const up_cohort&) const = default;
};

struct up_job {
    std::string name, cohort, kind, state;  ///< state: state_word()
    std::string cpus;
    std::vector<int> pids;   ///< of its processes; a pipe's workers are threads of the owner
    std::string control;     ///< of a pipe that runs: the directory of its masks (padata/control.hpp)
    std::uint64_t bytes_in = 0, bytes_out = 0;
    std::string why;         ///< of one that did not succeed
    std::vector<int> threads = {};           ///< of the owner, that work for it: a pipe's reader and workers
    std::vector<std::uint64_t> queues = {};  ///< as queue_names() calls them; as of the last second, as bytes_in and bytes_out
    bool operator==(const up_job&) const = default;
};

enum class up_phase { starting, up, ending };
const char* phase_name(up_phase p);

struct up_state {
    std::string name, spec;  ///< spec: its file, absolute; "-" came from standard input
    owner who;
    bool detached = false;
    up_phase phase = up_phase::starting;
    std::uint64_t since_ns = 0;     ///< os.now() when it began
    std::uint64_t patience_ns = 0;  ///< between SIGTERM and SIGKILL
    std::string log;                ///< of a detached one
    std::vector<up_cohort> cohorts;
    std::vector<up_job> jobs;
    std::vector<undo_note> undo;    ///< in the order in which it is done; undone from the last on
    bool operator==(const up_state&) const = default;
};

/// With schema_version 1. The reading's errors: EPROTO, it is none, or of another version.
std::string state_json(const up_state& s);
result<up_state> read_state(const std::string& text);
/// The same as a value; what `cohort status` shows has it inside.
nlohmann::ordered_json state_value(const up_state& s);

/// What carrying out `p` will have to undo, and who we are. Directories count that are not there now.
up_state state_of(const plan& p, sys::os& os, const std::string& run_dir, const std::string& name, const std::string& spec);
/// What carrying out these steps will have to undo.
std::vector<undo_note> notes_of(const std::vector<step>& steps, sys::os& os, const std::string& run_dir);

/// It becomes what `p` says: cohorts in `kept`, and their jobs, stay as they are noted.
void note_plan(up_state& s, const plan& p, const std::vector<std::string>& kept, sys::os& os);
/// Adds those that are not there, at the end.
void add_notes(up_state& s, const std::vector<undo_note>& notes);
void drop_notes(up_state& s, const std::vector<undo_note>& notes);

/// What the jobs do now.
void note_jobs(up_state& s, const std::vector<job_report>& jobs);

/// Names are 1 to 64 of letters, digits, '-', '_', '.', and begin with none of the last three. "dir/two tenants.toml" -> "two-tenants".
bool is_up_name(const std::string& name);
std::string up_name_of(const std::string& spec_path);

inline bool alive(sys::os& os, const up_state& s) { return lives(os, s.who); }

struct ups_there {
    std::vector<up_state> all;   ///< by name
    std::vector<error> unread;   ///< files that are no states
};
/// All that are written down. A directory that is not there has none. Errors: those of listing it.
result<ups_there> ups(sys::os& os, const std::string& run_dir);

struct sweep_report {
    std::vector<std::string> swept;   ///< names whose owner was dead, and of which nothing is left
    std::vector<error> not_swept;     ///< what could not be undone: it stays written down
};
/// Ends the processes that dead owners left, and undoes what they had done. Takes turns with others who sweep or begin: a minute at most. Errors in the report: EBUSY,
/// others did not let us; those of undoing. Processes are found by owner_variable in their environment, and in the owner's sets; our own is left alone.
sweep_report sweep(sys::os& os, const std::string& run_dir);

/// Sweeps, and says whether that name is free: before a plan is made, as what a killed one left still has its CPUs. state_file::create() decides. Errors: as there, save those of writing.
result<void> make_room(sys::os& os, const std::string& run_dir, const std::string& name);

/// The owner's file. A resource: its destructor leaves the file for a sweep; remove() is for who has undone all.
/// Synchronization: any thread may call anything.
class state_file {
public:
    /// Sweeps, then takes the name. `s.who` is this process. Errors: EBUSY, that name is up; what a sweep of that name could not do; those of writing.
    static result<std::unique_ptr<state_file>> create(sys::os& os, const std::string& run_dir, up_state s);
    state_file(const state_file&) = delete;
    state_file& operator=(const state_file&) = delete;

    /// Changes it and writes it, where that makes a difference. Errors: those of writing.
    result<void> change(const std::function<void(up_state&)>& act);
    up_state now() const;
    result<void> remove();

private:
    state_file(sys::os& os, std::string path, up_state s) : os_(os), path_(std::move(path)), state_(std::move(s)) {}
    result<void> write();

    sys::os& os_;               // [const after init]
    const std::string path_;    // [const after init]
    mutable std::mutex mutex_;  // held over the writing, so that the file is never older than what a caller has heard
    up_state state_;            // [guarded: mutex_]
};

}  // namespace cohort::group
