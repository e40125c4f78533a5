// SPDX-License-Identifier: Apache-2.0
#include <cohort/stream/detail/feed.hpp>

#include <algorithm>
#include <utility>

#include <cohort/stream/records.hpp>

namespace cohort::stream::detail {

namespace {

constexpr std::size_t least_part = 1u << 20;

class block_cuts final : public block_feed {
public:
    block_cuts(const reading& r, std::size_t size) : r_(r), block_(size) {}

    result<block> next() override {
        if (ended_) return block{.bytes = {}, .part = false, .end = true};
        const bool first = sent_ < block_;
        const std::size_t want = first ? std::min(part_of(block_), block_ - sent_) : block_;
        buffer b = r_.buffers.take(want);
        auto n = r_.in.fill(b.tail().first(want), r_.stop_fd);
        if (!n) return std::unexpected(n.error());
        b.resize(*n);
        ended_ = *n < want;
        // Empty input makes one empty frame: an empty file is no zstd, and no gzip either.
        if (first && *n == 0 && sent_) {
            r_.buffers.give(std::move(b));
            return block{.bytes = {}, .part = false, .end = true};
        }
        sent_ += *n;
        return block{.bytes = std::move(b), .part = first, .end = false};
    }

private:
    const reading r_;
    const std::size_t block_;
    std::size_t sent_ = 0;
    bool ended_ = false;
};

/// Output depends on block size and input alone: every block is filled before it is cut.
class record_cuts final : public block_feed {
public:
    record_cuts(const reading& r, std::size_t size, bool records, std::string separator) : r_(r), block_(size), records_(records), separator_(std::move(separator)) {}

    result<block> next() override {
        auto b = fill();
        if (!b) return std::unexpected(b.error());
        start_ += b->size();
        const bool end = b->size() == 0;
        return block{.bytes = std::move(*b), .part = true, .end = end};
    }

private:
    /// The next block; empty at the end.
    result<buffer> fill() {
        buffer b = r_.buffers.take(std::max(block_, rest_.size()));
        b.append(rest_.view());
        rest_.clear();
        std::size_t want = block_;
        for (;;) {
            if (want > b.size()) {
                if (b.capacity() < want) {
                    buffer bigger = r_.buffers.take(want);
                    bigger.append(b.view());
                    r_.buffers.give(std::exchange(b, std::move(bigger)));
                }
                auto n = r_.in.fill(b.tail().first(want - b.size()), r_.stop_fd);
                if (!n) return std::unexpected(n.error());
                b.resize(b.size() + *n);
                if (b.size() < want) return b;  // the end: its last record needs no separator
            }
            if (!records_) return b;
            const std::size_t end = last_record_end(b.view(), separator_);
            if (end) return split(std::move(b), end);
            const std::size_t limit = std::max<std::uint64_t>(r_.memory / 2, block_);
            if (want >= limit) {
                return fail(EFBIG, r_.in.name(), "find the end of the record at byte " + std::to_string(start_),
                            "it is longer than " + std::to_string(limit) + " bytes; a larger memory limit allows it");
            }
            want = std::min<std::size_t>(want * 2, limit);
        }
    }
    result<buffer> split(buffer b, std::size_t end) {
        rest_.reserve(b.size() - end);
        rest_.append(b.view().subspan(end));
        b.resize(end);
        return b;
    }

    const reading r_;
    const std::size_t block_;
    const bool records_;
    const std::string separator_;
    buffer rest_;
    std::uint64_t start_ = 0;
};

}  // namespace

std::size_t part_of(std::size_t block) { return std::max(block / 4, std::min(block, least_part)); }

std::unique_ptr<block_feed> cut_blocks(const reading& r, std::size_t block) { return std::make_unique<block_cuts>(r, block); }

std::unique_ptr<block_feed> cut_records(const reading& r, std::size_t block, bool records, std::string separator) {
    return std::make_unique<record_cuts>(r, block, records, std::move(separator));
}

}  // namespace cohort::stream::detail
