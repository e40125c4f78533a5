// SPDX-License-Identifier: Apache-2.0
/// What a directory holds, and the steps its calls are made of. Every way in (a call, a record of the journal) goes through the same ones: insert, enter, leave, die, settle.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <unordered_map>
#include <utility>
#include <vector>

#include <cohort/base/ida.hpp>
#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool {

namespace detail {

inline bool same_process(const sys::process_identity& a, const sys::process_identity& b) { return a.pid == b.pid && (a.mark == b.mark || a.mark == 0 || b.mark == 0); }
inline bool is_given_out(int id) { return (id >= spg_id_auto_min && id <= spg_id_auto_max) || (id >= spg_id_local_min && id <= spg_id_local_max) || (id >= spg_id_dvpp_min && id <= spg_id_dvpp_max); }
inline std::string group_name(int id) { return id == spg_id_auto ? "new group" : id == spg_id_dvpp ? "new pass-through group" : "group " + std::to_string(id); }

/// The checks of a request, one after another: what a trace shows and what an error says.
class checks {
public:
    checks(trace* seen, std::string object, std::string act) : seen_(seen), object_(std::move(object)), act_(std::move(act)) {}
    void pass(const char* what, std::string found) {
        if (seen_) seen_->push_back({what, std::move(found), 0});
    }
    std::unexpected<error> stop(int code, const char* what, std::string reason) {
        if (seen_) seen_->push_back({what, reason, code});
        return fail(code, object_, act_, std::move(reason));
    }

private:
    trace* seen_;
    std::string object_, act_;
};

}  // namespace detail

struct directory::impl {
    struct group {
        spg facts;
        std::vector<std::uint64_t> since;      // of each member, the number of its joining: rising, so that a member is found by it
        int tickets = 0, finders = 0;          // facts.references is their sum
        int private_imports = 0;               // of facts.imports
        bool recorded = false;                 // false: only tickets and finders know of it
    };
    struct process {
        sys::process_identity who;
        std::map<int, std::uint64_t> groups;   // id -> the number of its joining; the local one apart
        std::map<int, std::uint64_t> asked;    // id -> the ticket by which it is being added; the local one apart
        int local = 0;
        std::uint64_t local_since = 0, local_ticket = 0;
    };
    struct pending {
        int id = 0;
        member_facts joiner;
        bool gone = false;                     // the process has been detached since
    };
    /// Gives an id back unless it was kept.
    class reserved_id {
    public:
        reserved_id(ida& ids, int id) : ids_(&ids), id_(id) {}
        reserved_id(reserved_id&& o) noexcept : ids_(o.ids_), id_(std::exchange(o.id_, 0)) {}
        reserved_id& operator=(reserved_id&&) = delete;
        ~reserved_id() {
            if (id_ != 0) (void)ids_->free(id_);
        }
        void keep() { id_ = 0; }

    private:
        ida* ids_;
        int id_;
    };

    impl(directory_settings s, look f, std::function<void(const record&)> c) : settings(std::move(s)), facts(std::move(f)), changed(std::move(c)), addresses(settings.window) {}

    // ---- steps: nothing is checked, nothing is told (directory_state.cpp) ----
    group* any(int id);
    group* living(int id);
    process* attached(const sys::process_identity& p);
    bool is_member(int pid, int id);
    /// g.range is taken already, and so is its id if it is one that is given out.
    group& insert(spg g);
    void enter(group& g, process& p, const member_facts& m);
    /// Whether the group died of it. It may be gone after this, as after die() and settle().
    bool leave(int id, process& p);
    void die(group& g);
    /// Ends a group that nobody can join or commit any more, and frees one that is dead and that nobody refers to.
    void settle(int id);
    void count(const group& g, int sign);
    void put(group& g, const import_facts& f);
    void take_out(group& g, std::vector<import_facts>::iterator i);
    void expel_all(group& g);
    void tell(const record& r) const {
        if (changed) changed(r);
    }
    static spg bare(const group& g);

    // ---- checks (directory_join.cpp, directory.cpp) ----
    struct asked_process {
        process* known;
        process_facts facts;
    };
    result<asked_process> check_process(const caller& who, int pid, bool for_itself, detail::checks& c);
    result<int> new_id(int kind, detail::checks& c);
    result<group*> make(const caller& who, int id, const group_request& r, bool kept, bool local, detail::checks& c);
    result<group*> find_or_make(const caller& who, int id, access prot, detail::checks& c);
    ticket give_ticket(group& g, process& p, const member_facts& m);
    bool fits(const group& g, const import_facts& f) const;
    std::string refused(const record& r);

    directory_settings settings;
    look facts;
    std::function<void(const record&)> changed;
    std::map<int, group> groups;
    std::unordered_map<int, process> processes;             // by pid
    std::unordered_map<std::uint64_t, pending> tickets;     // by number
    ida ids;                                                // those that are given out
    address_ranges addresses;
    std::uint64_t joinings = 0, last_ticket = 0;
    totals sums;
};

}  // namespace cohort::sharepool
