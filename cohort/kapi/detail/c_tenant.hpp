// SPDX-License-Identifier: Apache-2.0
/// A tenant as cohort.h hands it out: what padata instances are given it by.
#pragma once

#include <memory>

#include <cohort/coresched/executor.hpp>

struct cohort_tenant {
    std::unique_ptr<cohort::coresched::tenant> gate;
};
