// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/up_watch.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/process_figures.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>

namespace cohort::group {
namespace {

constexpr std::uint64_t settling_ns = 10'000'000'000;

std::string about(const seen_cohort& c) { return fmt::format("up \"{}\", cohort \"{}\": ", c.up, c.name); }
std::string text_of(const cpumask& cpus) { return cpus.empty() ? "no CPU" : cpus_text(cpus); }

/// Of an up, and of none after it that has the same name.
std::string key_of(const up_state& s) { return s.name + " " + s.who.mark() + " " + s.who.boot; }

seen_job look_at_job(sys::os& os, const up_state& s, const up_job& j) {
    return {.up = s.name, .cohort = j.cohort, .name = j.name, .kind = j.kind, .state = j.state, .bytes_in = j.bytes_in, .bytes_out = j.bytes_out, .processes = j.pids.size(), .cpu_seconds = cpu_seconds(os, s, j), .forced_idle_seconds = forced_idle_seconds(os, j)};
}

}  // namespace

ups_seen up_watch::look() {
    ups_seen out;
    still_.clear(), still_alive_.clear(), still_unread_.clear();
    const auto place = cpuset::find_mount(os_);
    auto tree = place && place->mounted() ? cpuset::open_cgroup(os_, *place) : result<std::unique_ptr<cpuset::backend>>(std::unexpect);
    sets_ = tree ? std::move(*tree) : nullptr;
    const auto online = sys::read_line(os_, sys::paths::cpu + "/online");
    online_ = online ? cpumask::parse_list(*online).value_or(cpumask{}) : cpumask{};
    for (const std::string& dir : run_dirs_) {
        const auto there = group::ups(os_, dir);
        if (!there) {
            cannot_read(there.error(), out);
            continue;
        }
        for (const error& e : there->unread) cannot_read(e, out);
        for (const up_state& s : there->all) look_at(s, out);
    }
    out.totals = totals_;
    known_.swap(still_), alive_.swap(still_alive_), unread_.swap(still_unread_);
    return out;
}

void up_watch::cannot_read(const error& e, ups_seen& out) {
    ++out.unread;
    still_unread_.insert(e.line());
    if (!unread_.contains(e.line())) out.news.push_back(e.line());
}

void up_watch::look_at(const up_state& s, ups_seen& out) {
    const bool lives = alive(os_, s);
    const std::string key = key_of(s);
    out.ups.push_back({s.name, phase_name(s.phase), lives, static_cast<double>(os_.now() - std::min(os_.now(), s.since_ns)) / 1e9});
    if (!lives) {
        if (!alive_.contains(key)) return;
        ++totals_.owners_killed;
        out.news.push_back(fmt::format("up \"{}\": its process {} was killed; `cohort down {}`, or the next `cohort up`, removes what it left", s.name, s.who.pid, s.name));
        return;
    }
    still_alive_.insert(key);
    for (const up_job& j : s.jobs) out.jobs.push_back(look_at_job(os_, s, j));
    if (s.phase != up_phase::up) return;
    for (const up_cohort& c : s.cohorts) out.cohorts.push_back(look_at(s, c, key + " " + c.name, out));
}

seen_cohort up_watch::look_at(const up_state& s, const up_cohort& c, const std::string& key, ups_seen& out) {
    seen_cohort now{.up = s.name, .name = c.name, .set = c.set, .planned = cpumask::parse_list(c.cpus).value_or(cpumask{}), .now = {}, .partition = {}, .pool_bytes = c.pool ? c.pool->bytes : 0};
    if (c.set.empty()) now.now = now.planned & online_;
    else if (sets_) {
        // A set that is gone has none.
        if (const auto cpus = sets_->read(c.set, sets_->v1() ? "cpuset.effective_cpus" : "cpuset.cpus.effective")) now.now = cpumask::parse_list(*cpus).value_or(cpumask{});
        now.partition = sets_->read(c.set, "cpuset.cpus.partition").value_or("");
    }
    const auto it = known_.find(key);
    memory m = it == known_.end() ? memory{} : it->second;
    const std::string plan = c.cpus + "\n" + c.set + "\n" + c.kept;
    if (!m.plan.empty() && m.plan != plan) m.settled = os_.now() + settling_ns, m.had.reset(), m.was_partition.clear(), m.broken = false;
    m.plan = plan;
    if (os_.now() >= m.settled) {
        follow_cpus(now, m, out);
        follow_partition(now, m, out);
    }
    now.left = m.left, now.came = m.came, now.breaks = m.breaks;
    still_[key] = m;
    return now;
}

void up_watch::follow_cpus(seen_cohort& c, memory& m, ups_seen& out) {
    // What it was given and does not have when it is seen first has left before.
    const cpumask had = m.had ? *m.had : c.set.empty() ? c.planned : c.now, left = had - c.now, came = m.had ? c.now - had : cpumask{};
    if (!left.empty()) out.news.push_back(about(c) + fmt::format("{} {} left, it has {}", cpus_text(left), left.weight() == 1 ? "has" : "have", text_of(c.now)));
    if (!came.empty()) out.news.push_back(about(c) + fmt::format("{} {} come, it has {}", cpus_text(came), came.weight() == 1 ? "has" : "have", text_of(c.now)));
    m.left += left.weight(), m.came += came.weight(), m.had = c.now;
    totals_.cpus_left += left.weight(), totals_.cpus_came += came.weight();
}

void up_watch::follow_partition(seen_cohort& c, memory& m, ups_seen& out) {
    const std::string word = c.partition.substr(0, c.partition.find(' '));
    const bool is_one = c.partition == "root" || c.partition == "isolated", invalid = !is_one && (word == "root" || word == "isolated");
    if (is_one) m.was_partition = c.partition;
    const bool broken = invalid || (!m.was_partition.empty() && !is_one);
    if (broken && !m.broken) {
        ++m.breaks, ++totals_.partitions_broken;
        out.news.push_back(about(c) + (c.partition.empty() ? "its partition is gone" : fmt::format("its partition reads \"{}\"", c.partition)));
    } else if (!broken && m.broken) {
        out.news.push_back(about(c) + fmt::format("its partition is {} again", c.partition));
    }
    m.broken = broken;
    c.broken = broken;
}

}  // namespace cohort::group
