// SPDX-License-Identifier: Apache-2.0
// The whole allocator against a plain reference: every byte, every size, every figure after every step of random sequences.
#include <gtest/gtest.h>

#include <random>

#include <cohort/percpu/testing/allocator_ops.hpp>
#include <cohort/percpu/testing/failing_address_space.hpp>
#include <cohort/percpu/testing/respawn.hpp>

namespace cohort::percpu {
namespace {

using testing::allocator_model;
using testing::scaled;

void random_sequence(allocator_options options, int steps, unsigned seed) {
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937 random(seed);
    allocator_model model(std::move(options), 64);
    for (int step = 0; step < steps; ++step) {
        std::array<std::uint8_t, 6> bytes;
        for (auto& b : bytes) b = static_cast<std::uint8_t>(random());
        // What gives all pages back is rarer than the rest.
        auto op = testing::decode(bytes.data());
        if (op.kind == testing::allocator_op::trim && random() % 8 != 0) op.kind = testing::allocator_op::free_live;
        const std::string broken = model.perform(op);
        ASSERT_EQ(broken, "") << "step " << step << ", operation " << int{op.kind} << ", size " << op.size << ", align " << op.align;
    }
}

TEST(percpu_allocator_random, equals_the_reference_after_every_step) {
    random_sequence({.name = "model"}, scaled(4000), std::random_device{}());
}
TEST(percpu_allocator_random, equals_the_reference_without_magazines_and_with_a_small_reserve) {
    random_sequence({.name = "model", .reserved_bytes = 512, .magazines = false}, scaled(3000), std::random_device{}());
}
TEST(percpu_allocator_random, equals_the_reference_by_cid) {
    random_sequence({.name = "model", .index = by::cid, .reserved_bytes = 64 << 10}, scaled(3000), std::random_device{}());
}
TEST(percpu_allocator_random, equals_the_reference_on_a_machine_with_absent_cpus) {
    if (!testing::in_program_with("COHORT_POSSIBLE_CPUS", "24")) return;
    random_sequence({.name = "model"}, scaled(1500), std::random_device{}());
}

}  // namespace
}  // namespace cohort::percpu
