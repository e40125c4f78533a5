// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/testing/fuzz.hpp>
#include <cohort/stream/frames.hpp>

/// The cuts of any bytes are those bytes, whole and in order, however many are there at a time. The first byte says the codec and how many.
FUZZ(text) {
    using namespace cohort::stream;
    if (text.empty()) return;
    const auto first = static_cast<std::uint8_t>(text.front());
    text.remove_prefix(1);
    constexpr codec kinds[] = {codec::zstd, codec::gzip, codec::lz4};
    const std::size_t grain = 1 + (first >> 2) * 7;
    cutter c({.kind = kinds[first % 3], .target_in = 64, .target_out = 256, .max_in = 512, .max_out = 4096});
    const byte_view all(reinterpret_cast<const std::uint8_t*>(text.data()), text.size());
    std::size_t done = 0, there = 0;
    while (done < all.size()) {
        there = std::max(there, std::min(done + grain, all.size()));
        const byte_view pending = all.subspan(done, there - done);
        const cut here = c.next(pending, there == all.size());
        CLAIM(here.length <= pending.size());
        if (here.length == 0) {
            CLAIM(pending.size() < 512 && there < all.size());
            there = std::min(there + grain, all.size());
        }
        done += here.length;
    }
    (void)gzip_member_size(all);
    CLAIM(find_gzip_member(all, 0) <= all.size());
}
