// SPDX-License-Identifier: Apache-2.0
/// What is known about the free runs of a stretch of bits (a block, a unit) without a look at the bits.
#pragma once

#include <algorithm>
#include <bit>

namespace cohort::percpu::detail {

struct free_run {
    int start = 0, length = 0;
    constexpr int end() const { return start + length; }
    friend constexpr bool operator==(free_run, free_run) = default;
};

/// The longer one; of two as long the one that starts on the higher power of two, which serves more alignments; then the later one, because allocations take
/// the first that fits and the hint shall outlive them.
constexpr bool better(free_run a, free_run b) {
    if (a.length != b.length) return a.length > b.length;
    const int of_a = std::countr_zero(static_cast<unsigned>(a.start)), of_b = std::countr_zero(static_cast<unsigned>(b.start));
    return of_a != of_b ? of_a > of_b : a.start > b.start;
}

/// Where `bits` aligned bits fit into the run; -1 when they do not. `align` is a power of two.
constexpr int fit_in(free_run run, int bits, int align) {
    const int at = (run.start + align - 1) & -align;
    return at + bits <= run.end() ? at : -1;
}

/// Invariants (R: the free runs of the stretch, cut at its borders):
///  * contig_hint is the length of the longest of R, and one of that length starts at contig_hint_start; both 0 without a free bit;
///  * no other of R is longer than runner_up; runner_up <= contig_hint. (It lets an allocation out of the longest run keep the hint without a scan.)
///  * no one of R that starts before scan_hint_start is longer than scan_hint. (A request for more starts its scan there.)
template <class Int>
struct run_hints {
    Int contig_hint = 0, contig_hint_start = 0;
    Int runner_up = 0;
    Int scan_hint = 0, scan_hint_start = 0;

    constexpr free_run contig() const { return {contig_hint_start, contig_hint}; }
    constexpr void set_contig(free_run run) {
        contig_hint = static_cast<Int>(run.length);
        contig_hint_start = static_cast<Int>(run.length ? run.start : 0);
    }

    /// `run` is one of R now: it grew out of its neighbours, which it includes, or is new.
    constexpr void appeared(free_run run) {
        const free_run longest = contig();
        if (longest.length && run.start <= longest.start && longest.end() <= run.end()) {
            set_contig(run);
        } else if (better(run, longest)) {
            runner_up = contig_hint;
            set_contig(run);
        } else {
            runner_up = std::max(runner_up, static_cast<Int>(run.length));
        }
        if (run.start < scan_hint_start && run.length > scan_hint) scan_hint_start = static_cast<Int>(run.start);
    }

    /// `area`, a part of one of R, is taken. False: the longest is not known any more, the caller has to look (rescan).
    constexpr bool taken(free_run area) {
        const free_run longest = contig();
        if (area.start < longest.start || area.start >= longest.end()) return true;
        free_run kept{longest.start, area.start - longest.start}, rest{area.end(), longest.end() - area.end()};
        if (better(rest, kept)) std::swap(kept, rest);
        if (kept.length < runner_up) return false;
        set_contig(kept);
        runner_up = std::max(runner_up, static_cast<Int>(rest.length));
        return true;
    }

    /// Starts a rescan: every run of R follows by found(), or is covered by a runner_up that the caller raises.
    constexpr void forget() { contig_hint = contig_hint_start = runner_up = 0; }
    constexpr void found(free_run run) {
        if (better(run, contig())) {
            runner_up = std::max(runner_up, contig_hint);  // it may be a bound on runs that are not found yet
            set_contig(run);
        } else {
            runner_up = std::max(runner_up, static_cast<Int>(run.length));
        }
    }

    /// A search for `bits` saw that no run before `start` is longer than `longest`. Kept when it reaches further than what is known, or when what is known was
    /// of no use to this search.
    constexpr void learn(int bits, int longest, int start) {
        if (start <= scan_hint_start && (bits > scan_hint || longest == 0)) return;
        scan_hint = static_cast<Int>(longest);
        scan_hint_start = static_cast<Int>(start);
    }
};

}  // namespace cohort::percpu::detail
