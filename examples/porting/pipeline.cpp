// SPDX-License-Identifier: Apache-2.0
/// What a pipeline of three filters (serial in order, parallel, serial in order) becomes: docs/porting.md. Squares numbers, adds them up in order, and says whether the order held.
#include <cstdint>
#include <cstdio>
#include <memory>
#include <optional>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>

namespace {

constexpr std::uint64_t count = 100'000;

struct block {
    std::uint64_t number = 0, squared = 0;
};

/// The first filter.
std::unique_ptr<block> next_block(std::uint64_t& at) {
    if (at == count) return nullptr;
    return std::make_unique<block>(block{.number = at++});
}
/// The parallel one.
void work(block& b) { b.squared = b.number * b.number; }

/// The last one: never two at a time, in the order of submission.
struct writer {
    std::uint64_t expected = 0, sum = 0;
    bool in_order = true;
    void write(const block& b) {
        in_order = in_order && b.number == expected++;
        sum += b.squared;
    }
};

int failed(const cohort::error& e) {
    std::fprintf(stderr, "pipeline: %s\n", e.line().c_str());
    return 5;
}

}  // namespace

int main() {
    writer out;
    std::uint64_t at = 0;

    auto workers = cohort::padata::instance::create();
    if (!workers) return failed(workers.error());
    auto stream = cohort::padata::shell::create(**workers, {.window = 64}).value();
    while (std::shared_ptr<block> b = next_block(at)) {
        if (auto taken = stream.submit([b] { work(*b); }, [b, &out] { out.write(*b); }); !taken) return failed(taken.error());
    }
    if (auto end = stream.drain(); !end) return failed(end.error());

    std::printf("%llu blocks, sum %llu\n", static_cast<unsigned long long>(out.expected), static_cast<unsigned long long>(out.sum));
    return out.in_order && out.expected == count && out.sum == (count - 1) * count * (2 * count - 1) / 6 ? 0 : 1;
}
