// SPDX-License-Identifier: Apache-2.0
/// The shells of an instance, and what stands at their heads.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include <cohort/base/mutex.hpp>
#include <cohort/padata/detail/runner.hpp>
#include <cohort/padata/head.hpp>
#include <cohort/padata/shell.hpp>

namespace cohort::padata::detail {

class streams;

/// What a control tells of a shell.
struct shell_state {
    std::string name;
    std::uint32_t window = 0;
    shell_stats stats;
};
struct shell_states {
    std::size_t shells = 0;        ///< of the instance
    std::uint64_t in_flight = 0;   ///< jobs, of all of them
    std::vector<shell_state> some; ///< the newest
};

/// A shell as streams sees it. On the list from add() to remove().
class stream {
public:
    stream() = default;
    stream(const stream&) = delete;
    stream& operator=(const stream&) = delete;

    /// Its name, or "#N".
    std::string shown_name() const { return label().empty() ? "#" + std::to_string(number_) : label(); }

protected:
    virtual ~stream() = default;

private:
    friend class streams;
    /// What the oldest job in flight does; nothing when none is. Fills all but `instance`, `shell` and `since`. By any thread while the stream lives.
    virtual std::optional<head_state> head(const std::vector<runner::snapshot>& running) const = 0;
    virtual const std::string& label() const = 0;
    virtual shell_stats stats() const = 0;
    virtual std::uint32_t window() const = 0;

    std::uint64_t number_ = 0;            // [const after add()]
    // [guarded: the list's lock]
    stream *next_ = nullptr, *prev_ = nullptr;
    std::uint64_t seen_ = 0, seen_at_ = 0;  // the head as it was seen last, and the first time; 0: never
    bool told_ = false;                     // by the watchdog, about that head
};

/// Synchronization: any thread may call anything. lock_ is held while heads are looked at: shells come and go in between.
class streams {
public:
    explicit streams(std::string instance) : instance_(std::move(instance)) {}
    void add(stream& s);
    void remove(stream& s);
    bool empty() const;
    /// Of the newest `most` shells one by one.
    shell_states states(std::size_t most) const;
    /// Those that have a job in flight, longest there first. untold: only heads that have been there for `least_ns`, each once.
    std::vector<head_state> heads(std::uint64_t least_ns = 0, bool untold = false);

private:
    const std::string instance_;                          // [const after init]
    mutable mutex lock_;
    stream* first_ COHORT_GUARDED_BY(lock_) = nullptr;
    std::uint64_t made_ COHORT_GUARDED_BY(lock_) = 0;     // shells so far
};

}  // namespace cohort::padata::detail
