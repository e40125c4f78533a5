// SPDX-License-Identifier: Apache-2.0
/// The first of two tenants: packs its standard input with zstd, on all CPUs that it may use, into memory of the pool, and passes block after block on by raw pointer, in order.
///
///     compress <in >handle          its output is one line, the channel's address, for the other tenant (encrypt.cpp)
#include <unistd.h>

#include <atomic>
#include <memory>
#include <new>
#include <vector>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>
#include <cohort/stream/codec.hpp>

#include "../sharepool/pool_program.hpp"
#include "packed.hpp"

namespace {

using namespace example;
namespace stream = cohort::stream;

constexpr char me[] = "compress";
constexpr std::size_t block_bytes = 1 << 20;

/// Up to a block, less only at the end.
std::vector<std::uint8_t> next_block() {
    std::vector<std::uint8_t> block(block_bytes);
    std::size_t got = 0;
    for (ssize_t n; got < block.size() && (n = ::read(0, block.data() + got, block.size() - got)) != 0; got += static_cast<std::size_t>(n)) {
        if (n < 0) {
            std::perror("compress: read standard input");
            std::exit(5);
        }
    }
    block.resize(got);
    return block;
}

/// One for each worker: a compressor is one thread's.
stream::compressor& packer() {
    static thread_local const auto c = must(me, stream::compressor::create(stream::codec::zstd, 3));
    return *c;
}

packed* pack(pool::member& m, const std::vector<std::uint8_t>& block) {
    const std::size_t most = packer().bound(block.size());
    auto* p = static_cast<packed*>(m.alloc(sizeof(packed) + most));
    if (!p) must(me, cohort::result<void>(cohort::fail(ENOMEM, "pool", "hold a packed block", "it is full")));
    new (p) packed;
    p->size = must(me, packer().block(block, {p->bytes(), most}));
    return p;
}

}  // namespace

int main() {
    pool::member& m = my_pool(me);
    pool::channel* const c = must(me, pool::channel::create(m, 64));
    auto to = must(me, pool::channel_writer::open(m, c));
    std::printf("%p\n", static_cast<void*>(c));
    std::fclose(stdout);  // the other tenant waits for it
    auto inst = must(me, cohort::padata::instance::create());
    auto order = must(me, cohort::padata::shell::create(*inst, {.window = 64}));
    for (auto block = next_block(); !block.empty(); block = next_block()) {
        auto work = std::make_shared<std::pair<std::vector<std::uint8_t>, packed*>>(std::move(block), nullptr);
        must(me, order.submit([&m, work] { work->second = pack(m, work->first); },  //
                              [&to, work] { must(me, to.push(work->second)); }));
    }
    must(me, order.drain());
    return 0;  // the writer's destructor ends the stream
}
