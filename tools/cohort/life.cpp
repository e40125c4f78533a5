// SPDX-License-Identifier: Apache-2.0
#include "life.hpp"

#include <algorithm>

#include <fmt/format.h>

namespace cohort::cli {

using group::undo_note;
using group::up_state;

life::~life() {
    if (left_) return;
    if (const std::string log = file_->now().log; own_log_) (void)os_.unlink(log);
    (void)file_->remove();
}

group::about_to_make life::about_to() {
    return [this](const std::string& name) { (void)file_->change([&](up_state& s) { s.undo.push_back({undo_note::form::file, name}); }); };
}

result<void> life::open_log(const std::optional<std::string>& asked) {
    own_log_ = !asked;
    const std::string path = asked ? *asked : run_dir_ + "/" + file_->now().name + ".log";
    auto noted = file_->change([&](up_state& s) {
        s.log = path;
        if (own_log_) s.undo.push_back({undo_note::form::file, path});
    });
    if (!noted) return noted;
    auto fd = sys::open_file(os_, path, sys::open_write | sys::open_create | sys::open_append | (own_log_ ? sys::open_truncate : sys::open_write), own_log_ ? 0600 : 0666);
    if (!fd) return std::unexpected(fd.error());
    log_ = std::move(*fd);
    return {};
}

result<void> life::prepared(const std::vector<group::pool_place>& pools) {
    auto noted = file_->change([&](up_state& s) {
        for (const group::pool_place& p : pools) {
            for (group::up_cohort& c : s.cohorts) {
                if (c.name == p.cohort) c.pool = group::up_pool{p.id, p.socket, p.bytes};
            }
            if (!p.own) s.undo.push_back({undo_note::form::pool, fmt::format("{} {} {}", p.id, p.cohort.substr(0, 31), p.socket)});
        }
    });
    if (noted && log_) noted = sys::redirect(2, log_.get());
    return noted;
}

void life::jobs(const std::vector<group::job_report>& now) {
    (void)file_->change([&](up_state& s) {
        up_state next = s;
        group::note_jobs(next, now);
        if (s.phase == group::up_phase::starting) next.phase = group::up_phase::up;
        bool moved = next.phase != s.phase;
        for (std::size_t i = 0; i < s.jobs.size(); ++i) {
            group::up_job was = s.jobs[i];
            was.bytes_in = next.jobs[i].bytes_in, was.bytes_out = next.jobs[i].bytes_out, was.queues = next.jobs[i].queues;
            moved = moved || was != next.jobs[i];
        }
        if (!moved && os_.now() < next_figures_) return;
        next_figures_ = os_.now() + 1'000'000'000;
        s = std::move(next);
    });
}

result<void> life::changing(const group::difference& d, const group::plan& next) {
    return file_->change([&](up_state& s) {
        add_notes(s, notes_of(d.steps, os_, run_dir_));
        note_plan(s, next, d.kept(), os_);
    });
}

void life::stands(const group::plan& stands, const std::vector<std::string>& kept, const std::vector<group::step>& no_more) {
    (void)file_->change([&](up_state& s) {
        // A set that was made anew has the same undo.
        std::vector<undo_note> gone = notes_of(no_more, os_, run_dir_);
        const std::vector<undo_note> there = notes_of(stands.steps, os_, run_dir_);
        std::erase_if(gone, [&](const undo_note& n) { return std::ranges::find(there, n) != there.end(); });
        drop_notes(s, gone);
        note_plan(s, stands, kept, os_);
    });
}

void life::now_from(const std::string& spec) {
    (void)file_->change([&](up_state& s) { s.spec = spec; });
}

void life::ending() {
    (void)file_->change([](up_state& s) { s.phase = group::up_phase::ending; });
}

}  // namespace cohort::cli
