// SPDX-License-Identifier: Apache-2.0
/// What lab/cpuset_guest is made of: a hierarchy, tasks that obey, and a session that performs one line after another.
#pragma once

#include <sys/types.h>

#include <map>
#include <string>
#include <string_view>
#include <vector>

namespace lab {

constexpr uid_t user_id = 1000;  ///< the user that `as delegate` acts as

/// One write to a file that must be there, with no O_CREAT. Returns 0 or errno.
int put(const std::string& path, std::string_view text);
/// All of a file without newlines at its end. Returns 0 or errno.
int get(const std::string& path, std::string& text);
std::vector<std::string> words_of(const std::string& line);
/// Of a list such as "0-3,6".
std::vector<int> numbers_of(const std::string& list);
/// The list of a mask in hexadecimal, such as "0000000f".
std::string list_of_mask(const std::string& hex);

/// The hierarchy that cpuset is bound to.
class tree {
public:
    void mount_v1();
    void mount_v2();
    bool is_v1() const { return v1_; }
    std::string directory(const std::string& path) const;
    /// All cgroups but the root, each after those below it.
    std::vector<std::string> below() const;
    std::vector<std::string> files(const std::string& path) const;

private:
    bool v1_ = false;
};

/// Ownership: a resource type, the open file.
class watched_file {
public:
    explicit watched_file(const std::string& path);
    ~watched_file();
    watched_file(const watched_file&) = delete;
    watched_file& operator=(const watched_file&) = delete;
    /// All of it as of now, without newlines at its end. Returns 0 or errno.
    int read(std::string& text) const;

private:
    int fd_;
};

/// The cpuset files of all cgroups, by "PATH FILE".
class watch {
public:
    watch();
    /// Which files there are changes with commands alone; this is told of each.
    void follow(const tree& t, const std::vector<std::string>& command, bool done);
    template <class Visit>
    void each(Visit visit) const {
        for (const auto& [path, files] : sets_) {
            for (const auto& [key, file] : files) visit(key, file);
        }
    }

private:
    void add(const tree& t, const std::string& path);
    void renew_below(const tree& t, const std::string& path);
    void renew(const tree& t);

    std::map<std::string, std::map<std::string, watched_file>> sets_;
};

struct task_view {
    std::string cpus, mems, path;
};

/// Processes that wait for orders. A task's children are children of this process too, so that it sees each of them end.
class tasks {
public:
    tasks();
    bool has(const std::string& name) const { return all_.contains(name); }
    pid_t pid(const std::string& name) const { return all_.at(name).pid; }
    std::vector<std::string> names() const;
    /// The names of those among these process numbers that are tasks, sorted.
    std::vector<std::string> names_of(const std::vector<std::string>& pids) const;
    task_view view(const std::string& name, bool v1) const;

    /// All return 0 or errno. Order: the task itself makes the calls that have no process argument.
    int start(const std::string& name);
    int fork(const std::string& name, const std::string& child);
    int exit(const std::string& name);
    int affinity(const std::string& name, const std::string& cpus);
    int policy(const std::string& name, bool vma, const std::string& mode, const std::string& nodes);
    int become_user(const std::string& name);

private:
    struct entry {
        pid_t pid;
        int slot;
    };
    struct order;
    int ask(int slot, const order& o);
    [[noreturn]] void obey(int slot);
    int free_slot() const;

    static constexpr int slots = 64;
    int orders_[slots][2], replies_[slots][2];  // made before the first task: all of them have all ends
    std::map<std::string, entry> all_;
};

struct answer {
    enum shapes { nothing, text_value, list_value, task_value };
    int code = 0;
    std::string value = {}, mems = {}, path = {};
    std::vector<std::string> list = {};
    shapes shape = nothing;
    bool skipped = false;
};

class session {
public:
    session(bool v1, bool with_state);
    answer perform(const std::string& line);
    std::string json(std::size_t number, const answer& a);

private:
    answer on_tree(const std::vector<std::string>& w, const std::string& line);
    answer on_machine(const std::vector<std::string>& w);
    answer carry_out(const std::vector<std::string>& w, const std::string& line);
    answer attach(const std::string& path, const std::string& name);
    answer delegate(const std::string& path);
    void reset();
    void rebuild_domains();
    std::vector<std::string> domains();
    std::map<std::string, std::string> snapshot();
    std::string changes();

    tree tree_;
    watch watch_;
    watched_file schedstat_{"/proc/schedstat"};
    tasks tasks_;
    std::string user_;  // the delegated cgroup whose user acts; empty: root
    std::string offline_nodes_;
    std::map<std::string, std::string> before_;
    bool started_v1_, with_state_, quiet_ = false;
};

}  // namespace lab
