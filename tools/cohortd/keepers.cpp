// SPDX-License-Identifier: Apache-2.0
#include "keepers.hpp"

#include <algorithm>
#include <atomic>
#include <future>
#include <thread>
#include <utility>

#include <cohort/coresched/keeper.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::cli {

/// Synchronization: the thread alone takes the cookie and serves; its owner asks it to end by closing the pipe's write end.
struct keepers::one {
    std::string name;                  // [const after init]
    std::uint64_t value = 0;           // [const after init]
    std::atomic<bool> kept = true;     // the thread writes false once, relaxed: nothing else hangs on it
    bool told = false;                 // that it has ended
    sys::owned_fd stop_read, stop_write;
    std::thread thread;

    result<void> start() {
        auto ends = sys::real().pipe();
        if (!ends) return std::unexpected(ends.error());
        stop_read = sys::owned_fd(sys::real(), ends->read), stop_write = sys::owned_fd(sys::real(), ends->write);
        std::promise<result<std::uint64_t>> taken;
        auto begun = taken.get_future();
        thread = std::thread([this, taken = std::move(taken)]() mutable {
            auto k = coresched::keeper::create(sys::real(), name, {.what = coresched::origin::fresh});
            if (!k) return taken.set_value(std::unexpected(k.error()));
            taken.set_value((*k)->about().value);
            (void)(*k)->serve(stop_read.get());
            kept.store(false, std::memory_order_relaxed);
        });
        auto first = begun.get();
        if (!first) return std::unexpected(first.error());
        value = *first;
        return {};
    }
    ~one() {
        (void)stop_write.close();
        if (thread.joinable()) thread.join();
    }
};

keepers::keepers(keepers&&) noexcept = default;
keepers::~keepers() = default;

result<keepers> keepers::start(const std::vector<std::string>& names) {
    keepers out;
    for (const std::string& name : names) {
        if (std::ranges::count(names, name) > 1) return fail(EINVAL, "named cookie \"" + name + "\"", "keep it", "it is named twice");
        if (auto good = coresched::check_keeper_name(name); !good) return std::unexpected(good.error());
    }
    for (const std::string& name : names) {
        auto k = std::make_unique<one>();
        k->name = name;
        if (auto begun = k->start(); !begun) return std::unexpected(begun.error());
        out.all_.push_back(std::move(k));
    }
    return out;
}

std::vector<kept_cookie> keepers::now() const {
    std::vector<kept_cookie> out;
    for (const auto& k : all_) out.push_back({k->name, k->value, k->kept.load(std::memory_order_relaxed)});
    return out;
}

std::vector<std::string> keepers::ended() {
    std::vector<std::string> out;
    for (auto& k : all_) {
        if (!k->kept.load(std::memory_order_relaxed) && !std::exchange(k->told, true)) out.push_back(k->name);
    }
    return out;
}

}  // namespace cohort::cli
