// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/testing/fuzz.hpp>
#include <cohort/sharepool/broker/detail/record_codec.hpp>

/// Records that are read are written as they were read. A journal begins with its header, so that what is tried gets behind it.
FUZZ(text) {
    using namespace cohort::sharepool::detail;
    const std::string boot = "00000000-0000-0000-0000-000000000000";
    for (const std::string& bytes : {std::string(text), journal_header(boot) + std::string(text)}) {
        const auto read = read_journal(bytes, "journal", boot);
        if (!read) continue;
        CLAIM(read->cut <= bytes.size());
        std::string written = journal_header(boot);
        std::uint64_t number = 0;
        for (const auto& r : read->records) written += frame_of(r, ++number);
        const auto again = read_journal(written, "journal", boot);
        CLAIM(again && again->records == read->records);
    }
}
