// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/ida.hpp>

#include <bit>

namespace cohort {
namespace {
constexpr int block_size = 4096;
}

int ida::first_free(const block& b, int from) {
    const int at = from / 64;
    const std::uint64_t here = ~b.word[static_cast<std::size_t>(at)] & (~std::uint64_t{0} << (from % 64));
    if (here) return at * 64 + std::countr_zero(here);
    const std::uint64_t rest = at == 63 ? 0 : ~b.full & (~std::uint64_t{0} << (at + 1));
    if (!rest) return -1;
    const int w = std::countr_zero(rest);
    return w * 64 + std::countr_one(b.word[static_cast<std::size_t>(w)]);
}

result<int> ida::alloc_range(int min, int max) {
    const auto object = [&] { return "ids " + std::to_string(min) + "-" + std::to_string(max); };
    if (min < 0 || max < min) return fail(EINVAL, object(), "allocate", "not a range of numbers from 0 up");
    const lock_guard hold(lock_);
    for (int number = min / block_size, from = min % block_size; number <= max / block_size; ++number, from = 0) {
        const auto it = blocks_.find(number);
        const int found = it == blocks_.end() ? from : first_free(it->second, from);
        if (found < 0) continue;
        const int id = number * block_size + found;
        if (id > max) break;
        block& b = it == blocks_.end() ? blocks_[number] : it->second;
        auto& word = b.word[static_cast<std::size_t>(found / 64)];
        word |= std::uint64_t{1} << (found % 64);
        if (word == ~std::uint64_t{0}) b.full |= std::uint64_t{1} << (found / 64);
        return id;
    }
    return fail(ENOSPC, object(), "allocate", "all are taken");
}

result<void> ida::free(int id) {
    const lock_guard hold(lock_);
    const auto it = id < 0 ? blocks_.end() : blocks_.find(id / block_size);
    const int at = id % block_size;
    const std::uint64_t bit = std::uint64_t{1} << (at & 63);
    if (it == blocks_.end() || !(it->second.word[static_cast<std::size_t>(at / 64)] & bit)) {
        return fail(EINVAL, "id " + std::to_string(id), "free", "it is not taken");
    }
    block& b = it->second;
    b.word[static_cast<std::size_t>(at / 64)] &= ~bit;
    b.full &= ~(std::uint64_t{1} << (at / 64));
    if (b.word == decltype(b.word){}) blocks_.erase(it);
    return {};
}

bool ida::taken(int id) const {
    const lock_guard hold(lock_);
    const auto it = id < 0 ? blocks_.end() : blocks_.find(id / block_size);
    return it != blocks_.end() && (it->second.word[static_cast<std::size_t>(id % block_size / 64)] >> (id % 64) & 1);
}

bool ida::empty() const {
    const lock_guard hold(lock_);
    return blocks_.empty();
}

}  // namespace cohort
