// SPDX-License-Identifier: Apache-2.0
#include <cstring>
#include <vector>

#include <cohort/base/testing/fuzz.hpp>
#include <cohort/sharepool/broker/wire.hpp>

/// What is a packet is that packet again; what it says of rows fits what it has.
FUZZ(text) {
    namespace wire = cohort::sharepool::wire;
    std::vector<std::byte> bytes(text.size());
    if (!text.empty()) std::memcpy(bytes.data(), text.data(), text.size());
    const auto p = wire::decode(bytes);
    if (!p) return;
    const auto again = wire::decode(wire::encode(*p));
    CLAIM(again && *again == *p);
    (void)wire::error_of(*p);
}
