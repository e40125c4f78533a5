// SPDX-License-Identifier: Apache-2.0
/// What it takes to make of a running plan another one. Pure.
///
///     difference d = difference_of(now, next);
///     print(difference_text(d));
///     if (!d.nothing()) up->change(d, next);           // apply.hpp: names and sets
///     changes.ask({.next = next, .kept = d.kept(), ...});   // run.hpp: jobs, cookies, pools
///
/// Cohorts that hang together come up and end together: one is inside of the other, they have the same cookie or the same pool, a job of one comes after a job of the other, their pipes wait for each other, or all are to
/// be stopped when one fails. Such a component goes on as it is when nothing in it differs; else it ends and begins anew.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include <nlohmann/json_fwd.hpp>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/plan.hpp>

namespace cohort::group {

/// The cohorts of a plan by what hangs together; each in the order of the plan, and those of the first cohort first. Cost: cohorts and jobs, times log.
std::vector<std::vector<std::string>> components(const plan& p);
/// The plan of these cohorts and their jobs; without steps, which are the whole one's.
plan part_of(const plan& p, const std::vector<std::string>& cohorts);

struct difference {
    enum class fate { kept, begun, replaced, ended };
    struct cohort {
        std::string name;
        fate what = fate::kept;
        std::vector<std::string> why = {};   ///< of one that is replaced: `cpus "0-3", not "0-1"`; else empty
        std::vector<std::string> jobs = {};  ///< that go on, begin, begin anew, or end
        bool operator==(const cohort&) const = default;
    };
    std::vector<cohort> cohorts;  ///< in the order of the next plan; then those that it does not have
    std::vector<step> undo;       ///< steps of the running plan, in the order in which they are undone
    std::vector<step> steps;      ///< of the next one, in the order in which they are done

    /// Nothing begins and nothing ends.
    bool nothing() const;
    std::vector<std::string> kept() const;
};
/// "goes on", "begins", "begins anew", "ends".
const char* fate_word(difference::fate f);

/// sets_anew: every cohort that has a set begins anew, and its set is made anew (see change_of()).
difference difference_of(const plan& now, const plan& next, bool sets_anew = false);

/// The way back.
difference reversed(difference d);

std::string difference_text(const difference& d);
nlohmann::ordered_json difference_json(const difference& d);

/// A machine as it would be without what `now` has made of sets there: `seen` is the machine as it is, `now` having been brought up by this process. The next plan is made for it.
machine_view without_own(const machine_view& seen, const plan& now);

/// The difference as it can be carried out where cpusets are as `seen` shows, tried on the model: where sets cannot be changed one by one while the others stay, all begin anew.
difference change_of(const plan& now, const plan& next, const machine_view& seen);

}  // namespace cohort::group
