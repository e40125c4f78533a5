// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/detail/streams.hpp>

#include <algorithm>
#include <cstdio>

#include <cohort/sys/os.hpp>

namespace cohort::padata {

std::string head_state::line() const {
    const std::string number = std::to_string(seq);
    std::string what;
    if (phase == head_phase::waiting) what = "job " + number + " waits for a worker";
    if (phase == head_phase::running && job == seq) what = "job " + number + " runs parallel()";
    if (phase == head_phase::running && job != seq) what = "job " + std::to_string(job) + " runs parallel(), before job " + number + " of its batch is finished,";
    if (phase == head_phase::unfinished) what = "job " + number + " has left parallel() and nobody has called do_serial";
    if (phase == head_phase::in_do_parallel) what = "job " + number + " runs inside do_parallel";
    if (phase == head_phase::delivering) what = "job " + (thread >= 0 ? std::to_string(job) + " runs serial()" : number + " is finished and waits for its turn");
    if (cpu >= 0) what += " on cpu " + std::to_string(cpu);
    if (thread >= 0) what += " (thread " + std::to_string(thread) + ")";
    char time[64];
    std::snprintf(time, sizeof time, " for %.3g s; ", static_cast<double>(since.count()) / 1e9);
    return "shell \"" + shell + "\": " + what + time + std::to_string(behind) + (behind == 1 ? " job behind it" : " jobs behind it");
}

}  // namespace cohort::padata

namespace cohort::padata::detail {

void streams::add(stream& s) {
    const lock_guard hold(lock_);
    s.number_ = made_++;
    s.next_ = first_;
    if (first_) first_->prev_ = &s;
    first_ = &s;
}

void streams::remove(stream& s) {
    const lock_guard hold(lock_);
    (s.prev_ ? s.prev_->next_ : first_) = s.next_;
    if (s.next_) s.next_->prev_ = s.prev_;
}

bool streams::empty() const {
    const lock_guard hold(lock_);
    return first_ == nullptr;
}

shell_states streams::states(std::size_t most) const {
    shell_states out;
    const lock_guard hold(lock_);
    for (const stream* s = first_; s; s = s->next_) {
        const shell_stats stats = s->stats();
        ++out.shells;
        out.in_flight += stats.submitted - std::min(stats.delivered, stats.submitted);
        if (out.some.size() < most) out.some.push_back({s->shown_name(), s->window(), stats});
    }
    return out;
}

std::vector<head_state> streams::heads(std::uint64_t least_ns, bool untold) {
    const std::vector<runner::snapshot> running = runner::all();
    std::vector<head_state> out;
    const lock_guard hold(lock_);
    const std::uint64_t now = sys::real().now();
    for (stream* s = first_; s; s = s->next_) {
        auto head = s->head(running);
        if (!head) {
            s->seen_at_ = 0;
            continue;
        }
        if (s->seen_at_ == 0 || s->seen_ != head->seq) {
            s->seen_ = head->seq;
            s->seen_at_ = now;
            s->told_ = false;
        }
        head->since = std::chrono::nanoseconds(now - s->seen_at_);
        if (now - s->seen_at_ < least_ns || (untold && s->told_)) continue;
        if (untold) s->told_ = true;
        head->instance = instance_;
        head->shell = s->shown_name();
        out.push_back(std::move(*head));
    }
    std::sort(out.begin(), out.end(), [](const head_state& a, const head_state& b) { return a.since > b.since; });
    return out;
}

}  // namespace cohort::padata::detail
