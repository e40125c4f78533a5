// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/detail/books.hpp>

#include <algorithm>

namespace cohort::coresched::detail {

books::books(int places) {
    core only;
    for (int p = 0; p < places; ++p) {
        queue q;
        q.cpu = p;
        state_.cpus.push_back(std::move(q));
        only.cpus.push_back(p);
    }
    state_.cores.push_back(std::move(only));
}

/// What has passed is charged as things stood.
void books::settle(std::uint64_t now) {
    core& c = state_.cores.front();
    if (c.since == 0) c.since = now;  // the first event of all
    const bool nobody = std::none_of(runs_.begin(), runs_.end(), [](const run& r) { return r.used; });
    if (nobody && !(waiting_.empty() && coming_.empty())) changing_ns_ += now - c.since;
    state_.now = now;
    account(state_, c);
}

/// Who runs and who is kept from it, from now on.
void books::look_again() {
    bool busy = false;
    for (queue& q : state_.cpus) {
        q.curr = idle;
        q.forced = false;
    }
    for (const run& r : runs_) {
        if (!r.used || r.place < 0) continue;
        busy = true;
        queue& q = state_.queue_of(r.place);
        if (q.curr != idle) continue;  // two of one cookie on one CPU take turns by the system's choice: the first is charged
        q.curr = r.who;
        state_.cores.front().tag = r.tag;
    }
    if (!busy) return;
    for (const wait& w : waiting_) {
        if (w.place < 0) continue;
        queue& q = state_.queue_of(w.place);
        if (q.curr != idle || q.forced) continue;
        q.forced = true;
        q.hindered = w.tag;
    }
}

books::ticket books::begin(int place, cookie tag, std::uint32_t who, std::uint64_t now, bool waited) {
    settle(now);
    if (waited) {
        const auto came = std::find_if(coming_.begin(), coming_.end(), [&](const wait& w) { return w.place == place && w.tag == tag; });
        longest_wait_ = std::max(longest_wait_, now - came->since);
        coming_.erase(came);
    }
    if (any_ && tag != last_) {
        ++turns_;
        if (empty_since_ != 0) changes_.add(now - empty_since_);
    }
    empty_since_ = 0;
    any_ = true;
    last_ = tag;
    const auto free = std::find_if(runs_.begin(), runs_.end(), [](const run& r) { return !r.used; });
    const auto t = static_cast<ticket>(free - runs_.begin());
    if (free == runs_.end()) runs_.emplace_back();
    runs_[t] = {place, tag, who, detect_ ? detector_.begin(tag, now) : 0, true};
    ++state_.tasks[who].switches;
    look_again();
    return t;
}

void books::end(ticket t, std::uint64_t now) {
    settle(now);
    if (detect_) detector_.end(runs_[t].proof, now);
    runs_[t].used = false;
    const bool nobody = std::none_of(runs_.begin(), runs_.end(), [](const run& r) { return r.used; });
    if (nobody && !(waiting_.empty() && coming_.empty())) empty_since_ = now;
    look_again();
}

void books::waits(int place, cookie tag, std::uint64_t now) {
    settle(now);
    waiting_.push_back({place, tag, now});
    look_again();
}

void books::comes(int place, cookie tag, std::uint64_t now) {
    settle(now);
    const auto it = std::find_if(waiting_.begin(), waiting_.end(), [&](const wait& w) { return w.place == place && w.tag == tag; });
    coming_.push_back(*it);
    waiting_.erase(it);
    look_again();
}

const state& books::ledger(std::uint64_t now) {
    settle(now);
    return state_;
}

}  // namespace cohort::coresched::detail
