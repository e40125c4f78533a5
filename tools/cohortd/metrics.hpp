// SPDX-License-Identifier: Apache-2.0
/// The daemon's figures for Prometheus, over HTTP on an address of this machine's own: the broker's, those of what is up, the cookies it keeps.
///
///     auto m = cli::metrics::serve("127.0.0.1:9464", 256);
///     m->show(broker, watch.look(), keepers.now());           // now and then, by the broker's thread; http://127.0.0.1:9464/metrics has what was shown last
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/group/up_watch.hpp>
#include <cohort/sharepool/broker/broker.hpp>

#include "keepers.hpp"

namespace cohort::cli {

/// Synchronization: show() by one thread. What is scraped is served by threads of its own.
class metrics {
public:
    /// address: 127.x.x.x:PORT, localhost:PORT or [::1]:PORT; port 0: any. most_groups: so many groups have series of their own. Errors: EINVAL, no such address; EADDRINUSE, somebody listens there, or it cannot be had.
    static result<metrics> serve(const std::string& address, std::size_t most_groups);
    metrics(metrics&&) noexcept;
    metrics& operator=(metrics&&) = delete;
    ~metrics();

    /// 127.0.0.1:9464
    const std::string& address() const;
    void show(const sharepool::broker& b, const group::ups_seen& up, const std::vector<kept_cookie>& cookies);

private:
    struct state;
    explicit metrics(std::unique_ptr<state> s);
    std::unique_ptr<state> state_;
};

}  // namespace cohort::cli
