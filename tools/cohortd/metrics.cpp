// SPDX-License-Identifier: Apache-2.0
#include "metrics.hpp"

#include "families.hpp"

#include <charconv>
#include <exception>
#include <mutex>
#include <utility>
#include <vector>

#include <prometheus/collectable.h>
#include <prometheus/exposer.h>

namespace cohort::cli {
namespace {

/// Synchronization: what is collected is what was set last.
class shown final : public prometheus::Collectable {
public:
    void set(families now) {
        const std::lock_guard hold(lock_);
        now_ = std::move(now);
    }
    families Collect() const override {
        const std::lock_guard hold(lock_);
        return now_;
    }

private:
    mutable std::mutex lock_;
    families now_;  // [guarded: lock_]
};

void totals_of(const sharepool::broker_figures& f, families& all) {
    using enum prometheus::MetricType;
    const auto n = [](auto v) { return static_cast<double>(v); };
    const struct {
        const char *name, *help;
        prometheus::MetricType type;
        double now;
    } each[] = {
        {"cohort_pool_groups", "Living groups, without the hidden ones of processes", Gauge, n(f.totals.groups)},
        {"cohort_pool_groups_dead", "Dead groups that somebody refers to still", Gauge, n(f.totals.dead)},
        {"cohort_pool_groups_local", "Hidden groups of processes", Gauge, n(f.totals.local)},
        {"cohort_pool_members", "Memberships of processes in groups", Gauge, n(f.totals.members)},
        {"cohort_pool_processes", "Attached processes", Gauge, n(f.totals.processes)},
        {"cohort_pool_imports", "Imported areas", Gauge, n(f.totals.imports)},
        {"cohort_pool_address_bytes", "Addresses that groups have", Gauge, n(f.totals.addresses)},
        {"cohort_pool_connections", "Connections now", Gauge, n(f.connections)},
        {"cohort_pool_requests_total", "Requests served", Counter, n(f.requests)},
        {"cohort_pool_refused_total", "Requests that were answered an error", Counter, n(f.refused)},
        {"cohort_pool_malformed_total", "Messages that were none", Counter, n(f.malformed)},
        {"cohort_pool_joins_total", "Joins that went well", Counter, n(f.joins)},
        {"cohort_pool_failed_joins_total", "Joins that were put back", Counter, n(f.failed_joins)},
        {"cohort_pool_deaths_total", "Attached processes that ended or lost their connection", Counter, n(f.deaths)},
        {"cohort_pool_recoveries_total", "Recoveries that were asked of members", Counter, n(f.recoveries_asked)},
        {"cohort_pool_groups_lost_total", "Groups that nobody held after a restart of the broker", Counter, n(f.groups_lost)},
        {"cohort_pool_groups_again_total", "Groups that were taken up after a restart of the broker", Counter, n(f.groups_again)},
        {"cohort_pool_slowest_request_seconds", "The longest that the broker took for one request", Gauge, n(f.slowest_request_ns) / 1e9},
    };
    for (const auto& e : each) {
        all.push_back(family(e.name, e.help, e.type));
        all.back().metric.push_back(value(e.type, e.now));
    }
}

void groups_of(const sharepool::directory& d, std::size_t most, families& all) {
    using enum prometheus::MetricType;
    auto members = family("cohort_pool_group_members", "Members of a group", Gauge), imports = family("cohort_pool_group_imports", "Imported areas of a group", Gauge),
         bytes = family("cohort_pool_group_bytes", "Addresses of a group", Gauge), limits = family("cohort_pool_group_limit_bytes", "The limit of a group; 0: none", Gauge);
    // Local ids are hidden; a look at one copies its members, so that no more are looked at than are shown.
    std::size_t shown_groups = 0;
    for (const int id : d.groups(0, most)) {
        const auto g = d.look_at(id);
        if (!g || g->local || g->dead) continue;
        const std::vector<prometheus::ClientMetric::Label> labels = {{"id", std::to_string(id)}, {"name", g->name}};
        members.metric.push_back(value(Gauge, static_cast<double>(g->members.size()), labels));
        imports.metric.push_back(value(Gauge, static_cast<double>(g->imports.size()), labels));
        bytes.metric.push_back(value(Gauge, static_cast<double>(g->range.bytes), labels));
        limits.metric.push_back(value(Gauge, static_cast<double>(g->limit), labels));
        ++shown_groups;
    }
    for (auto* f : {&members, &imports, &bytes, &limits}) {
        if (!f->metric.empty()) all.push_back(std::move(*f));
    }
    all.push_back(family("cohort_pool_groups_shown", "Groups that have series of their own", Gauge));
    all.back().metric.push_back(value(Gauge, static_cast<double>(shown_groups)));
}

/// Of this machine alone: who may look is who may log in.
bool is_loopback(const std::string& host) { return host == "localhost" || host == "[::1]" || (host.starts_with("127.") && host.find_first_not_of("0123456789.") == std::string::npos); }

}  // namespace

struct metrics::state {
    std::size_t most_groups = 0;
    std::string address;
    std::shared_ptr<shown> figures = std::make_shared<shown>();
    std::unique_ptr<prometheus::Exposer> server;  // ends before what it serves
};

metrics::metrics(std::unique_ptr<state> s) : state_(std::move(s)) {}
metrics::metrics(metrics&&) noexcept = default;
metrics::~metrics() = default;
const std::string& metrics::address() const { return state_->address; }

result<metrics> metrics::serve(const std::string& address, std::size_t most_groups) {
    const std::size_t colon = address.rfind(':');
    const std::string host = address.substr(0, colon);
    unsigned port = 0;
    const char* const end = address.data() + address.size();
    const auto read = colon == std::string::npos ? std::from_chars_result{nullptr, std::errc::invalid_argument} : std::from_chars(address.data() + colon + 1, end, port);
    if (read.ec != std::errc() || read.ptr != end || port > 65'535 || !is_loopback(host)) {
        return fail(EINVAL, "metrics \"" + address + '"', "listen", "it is no address of this machine alone, such as 127.0.0.1:9464, localhost:9464 or [::1]:9464");
    }
    auto s = std::make_unique<state>();
    s->most_groups = most_groups;
    s->address = address;
    try {
        s->server = std::make_unique<prometheus::Exposer>((host == "localhost" ? "127.0.0.1" : host) + ":" + std::to_string(port), 1);
        s->server->RegisterCollectable(s->figures);
        const auto ports = s->server->GetListeningPorts();
        if (port == 0 && !ports.empty()) s->address = host + ":" + std::to_string(ports.front());
    } catch (const std::exception& e) {
        return fail(EADDRINUSE, "metrics " + address, "listen", e.what());
    }
    return metrics(std::move(s));
}

void metrics::show(const sharepool::broker& b, const group::ups_seen& up, const std::vector<kept_cookie>& cookies) {
    families all;
    totals_of(b.figures(), all);
    groups_of(b.groups(), state_->most_groups, all);
    families_of(up, all);
    families_of(cookies, all);
    state_->figures->set(std::move(all));
}

}  // namespace cohort::cli
