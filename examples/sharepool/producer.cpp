// SPDX-License-Identifier: Apache-2.0
/// Counts words into std::unordered_maps in the pool's memory and passes each on by raw pointer.
///
///     cohort pool exec --id 7 -- producer 1000 500 | cohort pool exec --id 7 -- consumer     (MAPS, 0: no end; WORDS in each)
///
/// Its first line of output is the channel's address, which means the same in the consumer. Killed at any moment, it leaves what it had passed on to the consumer, whole.
#include "word_counts.hpp"

int main(int argc, char** argv) {
    using namespace example;
    pool::member& m = my_pool("producer");
    const unsigned long maps = argc > 1 ? std::strtoul(argv[1], nullptr, 10) : 1000, words = argc > 2 ? std::strtoul(argv[2], nullptr, 10) : 500;
    pool::channel* const c = must("producer", pool::channel::create(m, 16));
    auto out = must("producer", pool::channel_writer::open(m, c));
    std::printf("%p\n", static_cast<void*>(c));
    std::fflush(stdout);
    for (unsigned long i = 0; maps == 0 || i < maps; ++i) {
        auto* counts = pool::make<table>(m, pool::allocator<char>(m));
        for (unsigned long w = 0; w < words; ++w) {
            // Every word twice as often as the one before; the number of the map is one of them.
            (*counts)[text(("a word that does not fit into the string itself: " + std::to_string(w)).c_str(), pool::allocator<char>(m))] = w * 2;
        }
        (*counts)[text("map", pool::allocator<char>(m))] = i;
        if (auto sent = out.push(counts); !sent) {
            std::fprintf(stderr, "producer: %s\n", sent.error().line().c_str());
            return 5;
        }
    }
    return 0;  // the writer's destructor ends the stream
}
