// SPDX-License-Identifier: Apache-2.0
/// oneTBB's parallel_pipeline: input in order, work in parallel, output in order; a value of eight bytes or a pointer travels.
#include <memory>

#include <oneapi/tbb/parallel_pipeline.h>

#include "support.hpp"
#include "tbb_arena.hpp"

namespace cohort::bench {
namespace {

struct value_item {
    std::uint32_t seq, value;
};

void run_values(tbb::task_arena& arena, const load& l, std::size_t tokens, std::uint32_t n, sink& out) {
    std::uint32_t next = 0;
    arena.execute([&] {
        tbb::parallel_pipeline(tokens, tbb::make_filter<void, value_item>(tbb::filter_mode::serial_in_order,
                                                                          [&](tbb::flow_control& control) {
                                                                              if (next == n) control.stop();
                                                                              return value_item{next == n ? 0 : next++, 0};
                                                                          }) &
                                           tbb::make_filter<value_item, value_item>(tbb::filter_mode::parallel,
                                                                                    [&](value_item i) {
                                                                                        i.value = l.result(i.seq);
                                                                                        return i;
                                                                                    }) &
                                           tbb::make_filter<value_item, void>(tbb::filter_mode::serial_in_order,
                                                                              [&](value_item i) { out.take(i.seq, i.value); }));
    });
}

struct alignas(64) heap_item {
    std::uint32_t seq = 0, value = 0;
};

void run_pointers(tbb::task_arena& arena, const load& l, std::size_t tokens, std::uint32_t n, sink& out) {
    std::uint32_t next = 0;
    // Output is in order and at most `tokens` items are on their way, so an item may be used again after `tokens` others.
    const auto ring = std::make_unique<heap_item[]>(tokens);
    arena.execute([&] {
        tbb::parallel_pipeline(tokens, tbb::make_filter<void, heap_item*>(tbb::filter_mode::serial_in_order,
                                                                          [&](tbb::flow_control& control) -> heap_item* {
                                                                              if (next == n) {
                                                                                  control.stop();
                                                                                  return nullptr;
                                                                              }
                                                                              heap_item* i = &ring[next % tokens];
                                                                              i->seq = next++;
                                                                              return i;
                                                                          }) &
                                           tbb::make_filter<heap_item*, heap_item*>(tbb::filter_mode::parallel,
                                                                                    [&](heap_item* i) {
                                                                                        i->value = l.result(i->seq);
                                                                                        return i;
                                                                                    }) &
                                           tbb::make_filter<heap_item*, void>(tbb::filter_mode::serial_in_order,
                                                                              [&](heap_item* i) { out.take(i->seq, i->value); }));
    });
}

}  // namespace

std::vector<variant> tbb_variants(const settings& s, load l, bool only_256_tokens) {
    const auto shared = std::make_shared<arena_of>(s.cpus);
    const std::string peer = "oneTBB parallel_pipeline";
    std::vector<variant> all;
    for (const std::size_t tokens : {4u, 16u, 64u, 256u}) {
        const std::string side = only_256_tokens && tokens != 256 ? "shown" : "peer";
        const std::string suffix = ", " + std::to_string(tokens) + " tokens";
        all.push_back({"oneTBB value" + suffix, side, peer, [=](std::uint32_t n) {
                           sink out;
                           run_values(shared->arena, l, tokens, n, out);
                           check(out, l, n, "oneTBB value");
                       }});
        all.push_back({"oneTBB pointer" + suffix, side, peer, [=](std::uint32_t n) {
                           sink out;
                           run_pointers(shared->arena, l, tokens, n, out);
                           check(out, l, n, "oneTBB pointer");
                       }});
    }
    return all;
}

}  // namespace cohort::bench
