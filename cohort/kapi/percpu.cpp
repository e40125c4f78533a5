// SPDX-License-Identifier: Apache-2.0
#include <cohort/kapi/percpu.h>

#include <cohort/percpu/stats.hpp>
#include <cohort/sys/address_space.hpp>

unsigned long pcpu_nr_pages() {
    return static_cast<unsigned long>(cohort::percpu::default_allocator().stats().resident_bytes / cohort::sys::page_bytes());
}
