// SPDX-License-Identifier: Apache-2.0
/// Did unequal cookies ever run together? Stretches of time in which tasks ran on one core, compared with each other.
///
///     overlap_detector d;
///     auto a = d.begin(web, 100), b = d.begin(db, 140);       // monotonic ns
///     d.end(a, 150);
///     d.end(b, 200);
///     d.total(200).ns == 10;
///
/// It knows nothing of rooms and turns: it is the judge of them. A stretch is kept while one that began before its end is open.
#pragma once

#include <algorithm>
#include <cstdint>
#include <vector>

#include <cohort/coresched/cookie.hpp>

namespace cohort::coresched::detail {

/// Not thread-safe. Cost: what runs at once, squared; a core has few CPUs.
class overlap_detector {
public:
    using ticket = std::uint32_t;
    struct sums {
        std::uint64_t ns = 0;          ///< of each pair of stretches with unequal cookies
        std::uint64_t stretches = 0;   ///< that have ended
    };

    ticket begin(cookie tag, std::uint64_t now) {
        std::size_t i = 0;
        while (i < open_.size() && open_[i].used) ++i;
        if (i == open_.size()) open_.emplace_back();
        open_[i] = {now, 0, tag, true};
        return static_cast<ticket>(i);
    }
    /// t: given by begin() and not ended yet.
    void end(ticket t, std::uint64_t now) {
        stretch& mine = open_[t];
        mine.end = now;
        for (const stretch& other : closed_) sums_.ns += together(mine, other);
        ++sums_.stretches;
        closed_.push_back(mine);
        mine.used = false;
        std::uint64_t earliest = ~std::uint64_t{0};
        for (const stretch& s : open_) {
            if (s.used) earliest = std::min(earliest, s.begin);
        }
        std::erase_if(closed_, [earliest](const stretch& s) { return s.end <= earliest; });
    }
    /// What still runs included.
    sums total(std::uint64_t now) const {
        sums all = sums_;
        for (std::size_t i = 0; i < open_.size(); ++i) {
            if (!open_[i].used) continue;
            const stretch mine{open_[i].begin, now, open_[i].tag, true};
            for (const stretch& other : closed_) all.ns += together(mine, other);
            for (std::size_t k = 0; k < i; ++k) {
                if (open_[k].used) all.ns += together(mine, {open_[k].begin, now, open_[k].tag, true});
            }
        }
        return all;
    }
    std::size_t kept() const { return closed_.size(); }

private:
    struct stretch {
        std::uint64_t begin = 0, end = 0;
        cookie tag = no_cookie;
        bool used = false;
    };
    static std::uint64_t together(const stretch& a, const stretch& b) {
        if (a.tag == b.tag) return 0;
        const std::uint64_t from = std::max(a.begin, b.begin), to = std::min(a.end, b.end);
        return to > from ? to - from : 0;
    }

    std::vector<stretch> open_;    // by ticket
    std::vector<stretch> closed_;
    sums sums_;
};

}  // namespace cohort::coresched::detail
