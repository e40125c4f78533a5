// SPDX-License-Identifier: Apache-2.0
/// What a stream's oldest job does, asked by somebody who only looks.
#include <mutex>

#include <cohort/padata/detail/shell_core.hpp>

namespace cohort::padata::detail {

/// With the lock, under which no slots are freed, and the head may have gone on. Where the lock is biased to the submitter, this ends the bias.
bool shell_core::waits_for_its_job(std::uint64_t head) const {
    std::lock_guard hold(ring_);
    return ring_.head() == head && head < ring_.tail() && ring_.turn_waits_at(head);
}

std::optional<head_state> shell_core::head(const std::vector<runner::snapshot>& running) const {
    head_state out;
    const std::uint64_t head = ring_.head(), tail = ring_.tail();
    if (head >= tail) return std::nullopt;
    out.seq = out.job = head;
    out.behind = tail - head - 1;
    const bool turn_waits = waits_for_its_job(head);
    const void* self = static_cast<const void*>(this);
    const runner::snapshot* by = nullptr;
    for (const runner::snapshot& r : running) {
        if (r.shell != self || r.seq < head || r.from > head) continue;
        if (!r.serial && !turn_waits) continue;  // finished: the mark has not moved on yet
        // Who drains has run the job before, and may be inside of the batch it belonged to.
        if (!by || r.serial > by->serial || (r.serial == by->serial && r.seq < by->seq)) by = &r;
    }
    const std::uint64_t last = inline_last_.load(std::memory_order_relaxed);
    if (by) {
        out.phase = by->serial ? head_phase::delivering : head_phase::running;
        out.job = by->seq;
        out.cpu = by->cpu;
        out.thread = by->thread;
    } else if (!turn_waits && last >> cpu_bits == head << cpu_bits >> cpu_bits) {  // it has the turn itself
        out.phase = head_phase::in_do_parallel;
        out.cpu = static_cast<int>(last & ((std::uint64_t{1} << cpu_bits) - 1));
    }
    else if (!turn_waits) out.phase = head_phase::delivering;
    else if (ring_.claimed() <= head) out.phase = head_phase::waiting;
    else out.phase = head_phase::unfinished;
    return out;
}

}  // namespace cohort::padata::detail
