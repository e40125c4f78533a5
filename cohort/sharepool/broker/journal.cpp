// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/journal.hpp>

#include <algorithm>

#include <cohort/sharepool/broker/detail/record_codec.hpp>
#include <cohort/sys/boot.hpp>

namespace cohort::sharepool {

namespace {
constexpr std::uint64_t second_ns = 1'000'000'000, longest_pause_ns = 64 * second_ns, least_to_rewrite = 256 << 10;
}

result<journal> journal::open(sys::os& system, std::string path) {
    const auto boot = sys::boot_id(system);
    if (!boot) return std::unexpected(boot.error());
    journal j(system, std::move(path), *boot);
    const auto bytes = sys::read_file(system, j.path_);
    if (!bytes && bytes.error().code == ENOENT) return j;
    if (!bytes) return std::unexpected(bytes.error());
    auto content = detail::read_journal(*bytes, j.path_, j.boot_);
    if (!content) return std::unexpected(content.error());
    j.records_ = std::move(content->records);
    j.cut_ = content->cut;
    j.earlier_boot_ = content->earlier_boot;
    return j;
}

result<void> journal::append(const record& r) {
    if (behind_) {
        ++missed_;
        return {};
    }
    const std::string frame = detail::frame_of(r, sequence_ + 1);
    if (auto done = sys::write_all(*os_, file_.get(), frame); !done) {
        behind_ = true;  // the file may end with a part of the record
        missed_ = 1;
        next_try_ns_ = os_->now() + second_ns, pause_ns_ = second_ns;
        return fail(done.error().code, path_, "write a record", done.error().reason + "; the broker goes on, and writes the journal anew as soon as it can");
    }
    ++sequence_;
    bytes_ += frame.size();
    return {};
}

result<void> journal::rewrite(const directory& d) {
    const std::string beside = path_ + ".new";
    std::string all = detail::journal_header(boot_);
    std::uint64_t sequence = 0;
    for (const record& r : d.snapshot()) all += detail::frame_of(r, ++sequence);
    auto file = sys::open_file(*os_, beside, sys::open_write | sys::open_create | sys::open_truncate | sys::open_append, 0600);
    if (!file) return fail(file.error().code, path_, "write the journal anew", "open " + beside + ": " + file.error().reason);
    auto done = sys::write_all(*os_, file->get(), all);
    if (done) done = os_->rename(beside, path_);
    if (!done) {
        (void)os_->unlink(beside);
        return fail(done.error().code, path_, "write the journal anew", done.error().reason);
    }
    file_ = std::move(*file);
    bytes_ = grown_ = all.size();
    sequence_ = sequence;
    behind_ = false;
    missed_ = pause_ns_ = next_try_ns_ = 0;
    return {};
}

result<void> journal::tend(const directory& d) {
    const bool has_grown = !behind_ && bytes_ >= std::max(least_to_rewrite, 4 * grown_);
    if (!behind_ && !has_grown) return {};
    const std::uint64_t now = os_->now();
    if (now < next_try_ns_) return {};
    auto done = rewrite(d);
    if (!done) {
        pause_ns_ = std::clamp(2 * pause_ns_, second_ns, longest_pause_ns);
        next_try_ns_ = now + pause_ns_;
    }
    return done;
}

}  // namespace cohort::sharepool
