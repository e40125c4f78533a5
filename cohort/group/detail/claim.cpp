// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/claim.hpp>

#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {
namespace {

constexpr std::size_t most_bytes = 4096;
constexpr int patient_rounds = 20;
constexpr std::uint64_t pause_ns = 5'000'000;

/// Moved aside first, by a rename that only one of several rivals wins. Between the reading and the rename a rival may have taken it over: then it was his that was
/// moved, and is put back.
result<void> move_away(sys::os& os, const std::string& path, const std::string& text) {
    const std::string aside = path + "." + std::to_string(os.getpid());
    if (auto moved = os.rename(path, aside); !moved) return moved.error().code == ENOENT ? result<void>{} : moved;  // a rival was quicker
    const auto taken = sys::read_file(os, aside, most_bytes);
    if (taken && *taken != text) (void)os.rename(aside, path);
    else (void)os.unlink(aside);
    return {};
}

}  // namespace

result<void> take_claim(sys::os& os, const std::string& path, const owner& me) {
    for (int round = 0; round < 50; ++round) {
        auto fd = sys::open_file(os, path, sys::open_write | sys::open_create | sys::open_exclusive, 0600);
        if (fd) {
            auto written = sys::write_all(os, fd->get(), me.claim());
            if (!written) (void)os.unlink(path);
            return written;
        }
        if (fd.error().code != EEXIST) return std::unexpected(fd.error());
        const auto text = sys::read_file(os, path, most_bytes);
        if (!text) {
            if (text.error().code == ENOENT) continue;  // given back between the two calls
            return std::unexpected(text.error());
        }
        const auto whose = owner::parse(*text);
        if (whose && lives(os, *whose)) return fail(EBUSY, path, "take the name", "it is up already, in process " + std::to_string(whose->pid));
        if (text->empty() && round < patient_rounds) {  // its owner is about to write it
            os.sleep_until(os.now() + pause_ns);
            continue;
        }
        if (auto moved = move_away(os, path, *text); !moved) return moved;
    }
    return fail(EBUSY, path, "take the name", "others take and give it back all the time");
}

result<void> remove_claim(sys::os& os, const std::string& path, const owner& whose) {
    for (int round = 0;; ++round) {
        const auto text = sys::read_file(os, path, most_bytes);
        if (!text) return text.error().code == ENOENT ? result<void>{} : std::unexpected(text.error());
        if (*text == whose.claim() || (text->empty() && round == patient_rounds)) return move_away(os, path, *text);
        if (!text->empty()) return {};
        os.sleep_until(os.now() + pause_ns);  // killed before it wrote, or another who is about to
    }
}

}  // namespace cohort::group::detail
