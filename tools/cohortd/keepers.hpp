// SPDX-License-Identifier: Apache-2.0
/// Named cookies that the daemon keeps: a thread carries each, and answers to its name (cohort/coresched/keeper.hpp) until it is told to end.
///
///     auto k = cli::keepers::start({"web", "db"});       // all of them, or none
///     k->now();                                          // "web" kept, 0x..
///     ~keepers                                           // the names are free; who has a cookie keeps it
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::cli {

struct kept_cookie {
    std::string name;
    std::uint64_t value = 0;
    bool kept = true;  ///< false: it was told to end
};

class keepers {
public:
    /// Errors: EINVAL, no such name, or the same one twice; EEXIST, somebody keeps it; those of coresched::take(), where there is no core scheduling, say.
    static result<keepers> start(const std::vector<std::string>& names);
    keepers(keepers&&) noexcept;
    keepers& operator=(keepers&&) = delete;
    ~keepers();

    /// Any thread.
    std::vector<kept_cookie> now() const;
    /// Names that were told to end since the last call.
    std::vector<std::string> ended();

private:
    struct one;
    keepers() = default;
    std::vector<std::unique_ptr<one>> all_;
};

}  // namespace cohort::cli
