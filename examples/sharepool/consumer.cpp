// SPDX-License-Identifier: Apache-2.0
/// Takes the producer's maps by raw pointer, looks whether each is whole, and frees it: the producer's memory, from another process.
///
///     cohort pool exec --id 7 -- consumer [ADDRESS of the channel; without it: from standard input]
///
/// Exit code: 0, all that came was whole and the producer has ended the stream; 1, a map was not; 3, the producer has died, and all that it had passed on was whole.
#include "word_counts.hpp"

int main(int argc, char** argv) {
    using namespace example;
    pool::member& m = my_pool("consumer");
    char line[64] = {};
    const char* where = argc > 1 ? argv[1] : std::fgets(line, sizeof line, stdin);
    auto* const c = where ? reinterpret_cast<pool::channel*>(std::strtoull(where, nullptr, 16)) : nullptr;
    auto in = must("consumer", pool::channel_reader::open(m, c));
    unsigned long maps = 0, words = 0, wrong = 0;
    cohort::result<void*> next;
    for (; (next = in.pop()); ++maps) {
        auto* counts = static_cast<table*>(*next);
        const unsigned long number = counts->at(text("map", pool::allocator<char>(m))), here = counts->size() - 1;
        unsigned long sum = 0;
        for (const auto& [word, n] : *counts) sum += n;
        if (number != maps || sum != number + here * (here - 1)) ++wrong;
        words += here;
        pool::drop(m, counts);
        in.done();
    }
    const bool died = next.error().code == EOWNERDEAD;
    std::printf("%lu maps of %lu words by raw pointer, %lu of them wrong%s\n", maps, words, wrong, died ? "; the producer has died" : "");
    if (!died && next.error().code != ENODATA) std::fprintf(stderr, "consumer: %s\n", next.error().line().c_str());
    in.close();
    if (auto gone = pool::channel::destroy(m, c); !gone) std::fprintf(stderr, "consumer: %s\n", gone.error().line().c_str());
    return wrong != 0 ? 1 : died ? 3 : next.error().code == ENODATA ? 0 : 5;
}
