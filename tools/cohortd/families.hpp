// SPDX-License-Identifier: Apache-2.0
/// Figures as Prometheus has them.
#pragma once

#include <string>
#include <vector>

#include <prometheus/metric_family.h>

#include <cohort/group/up_watch.hpp>

#include "keepers.hpp"

namespace cohort::cli {

using families = std::vector<prometheus::MetricFamily>;
using labels = std::vector<prometheus::ClientMetric::Label>;

inline prometheus::MetricFamily family(const char* name, const char* help, prometheus::MetricType type) {
    prometheus::MetricFamily f;
    f.name = name, f.help = help, f.type = type;
    return f;
}

inline prometheus::ClientMetric value(prometheus::MetricType type, double v, labels l = {}) {
    prometheus::ClientMetric m;
    m.label = std::move(l);
    (type == prometheus::MetricType::Counter ? m.counter.value : m.gauge.value) = v;
    return m;
}

/// What is up: series for each up, cohort and job, and the watch's own totals. Families without series are left out.
void families_of(const group::ups_seen& up, families& all);
void families_of(const std::vector<kept_cookie>& cookies, families& all);

}  // namespace cohort::cli
