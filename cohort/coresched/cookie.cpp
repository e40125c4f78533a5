// SPDX-License-Identifier: Apache-2.0
#include <cohort/coresched/cookie.hpp>

#include <algorithm>
#include <utility>

#include <cohort/base/check.hpp>

namespace cohort::coresched {

cookie cookie_table::add(std::vector<cookie> parts) {
    if (entries_.empty()) ++enabled_;
    entries_.emplace(++last_, entry{.parts = std::move(parts)});
    return last_;
}

cookie cookie_table::create() { return add({}); }

cookie cookie_table::compose(std::vector<cookie> parts) {
    std::ranges::sort(parts);
    const auto [same, end] = std::ranges::unique(parts);
    parts.erase(same, end);
    if (!parts.empty() && parts.front() == no_cookie) parts.erase(parts.begin());
    if (parts.empty()) return no_cookie;
    if (parts.size() == 1) {
        get(parts.front());
        return parts.front();
    }
    if (const auto it = composites_.find(parts); it != composites_.end()) {
        get(it->second);
        return it->second;
    }
    for (const cookie c : parts) get(c);
    const cookie made = add(parts);
    composites_.emplace(std::move(parts), made);
    return made;
}

void cookie_table::get(cookie c) {
    if (c == no_cookie) return;
    const auto it = entries_.find(c);
    COHORT_CHECK(it != entries_.end(), "a cookie is taken that does not live");
    ++it->second.references;
}

void cookie_table::put(cookie c) {
    if (c == no_cookie) return;
    const auto it = entries_.find(c);
    COHORT_CHECK(it != entries_.end(), "a cookie is put back that does not live");
    if (--it->second.references > 0) return;
    const std::vector<cookie> parts = std::move(it->second.parts);
    entries_.erase(it);
    if (parts.empty()) return;
    composites_.erase(parts);
    for (const cookie part : parts) put(part);
}

std::size_t cookie_table::references(cookie c) const {
    const auto it = entries_.find(c);
    return it == entries_.end() ? 0 : it->second.references;
}

}  // namespace cohort::coresched
