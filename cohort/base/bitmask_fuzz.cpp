// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/cpumask.hpp>
#include <cohort/base/testing/fuzz.hpp>

/// What is read is written in one way, and that reads the same.
FUZZ(text) {
    for (const int bits : {8, 64, 100, 1024}) {
        if (const auto list = cohort::cpumask::parse_list(text, bits)) {
            CLAIM(list->last() < bits);
            CLAIM(cohort::cpumask::parse_list(list->list(), bits) == *list);
            CLAIM(cohort::cpumask::parse_hex(list->hex(), bits) == *list);
        }
        if (const auto hex = cohort::cpumask::parse_hex(text, bits)) {
            CLAIM(hex->last() < bits);
            CLAIM(cohort::cpumask::parse_hex(hex->hex(), bits) == *hex);
        }
    }
}
