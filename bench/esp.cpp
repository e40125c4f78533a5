// SPDX-License-Identifier: Apache-2.0
/// padata/esp: packets of 512 bytes through ESP (examples/ipsec_esp), from memory to memory, beside one thread and oneTBB's pipeline.
///
/// All sides run the same three steps on the same bursts: classify (flow, SA, sequence number) in the order of the input, seal (AES-GCM-128) anywhere, and
/// a sink, in order, that looks at each sequence number and each verdict. At the end of a run the last burst is decrypted and compared.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <memory>
#include <utility>
#include <vector>

#include <oneapi/tbb/parallel_pipeline.h>

#include "bytes.hpp"
#include "esp.hpp"
#include "sa.hpp"
#include "support.hpp"
#include "tbb_arena.hpp"
#include "tunnel.hpp"

namespace cohort::bench {
namespace {

constexpr std::uint32_t size = 512, flows = 8;
/// Room for one packet, as in a network card's buffers: whole cache lines, and far enough from the next packet that no CPU fetches ahead into what another works on.
constexpr std::uint32_t room = 2048 + 128;

[[noreturn]] void give_up(const std::string& why) {
    std::fprintf(stderr, "bench: padata/esp: %s\n", why.c_str());
    std::exit(5);
}

const esp::sa_table& table() {
    static const auto t = esp::sa_table::parse("sa 0x1001 192.0.2.1 192.0.2.2 000102030405060708090a0b0c0d0e0fcafebabe", "bench");
    if (!t) give_up(t.error().line());
    return *t;
}

/// What the packets of one burst stand in. The clear ones are written once; each run seals them again.
struct memory {
    memory() : in(lines()), out(lines()) {
        for (std::uint32_t i = 0; i < esp::burst::most; ++i) {
            std::uint8_t* p = at(i);
            for (std::uint32_t k = 20; k < size; ++k) p[k] = static_cast<std::uint8_t>(k * 13 + i);
            p[0] = 0x45;
            esp::store16(p + 2, size);
            p[8] = 64;
            p[9] = 17;
            esp::store32(p + 12, 0x0a010001);
            esp::store32(p + 16, 0x0a020001);
            esp::store32(p + 20, 0x13881389);
            // The flows of neighbours differ, and each of them has a shell of its own.
            while (esp::flow_hash(esp::look_at(esp::link_type::raw, p, size), p) % flows != i % flows) esp::store32(p + 12, esp::load32(p + 12) + 1);
        }
    }
    std::uint8_t* at(std::uint32_t i) { return in.get() + std::size_t{i} * room; }
    void fill(esp::burst& b, std::uint32_t count) {
        for (std::uint32_t i = 0; i < count; ++i) {
            b.packets[i].in = at(i);
            b.packets[i].captured = size;
            b.packets[i].out = out.get() + std::size_t{i} * room;
        }
        b.count = count;
    }

    struct give_back {
        void operator()(std::uint8_t* p) const { std::free(p); }
    };
    using buffer = std::unique_ptr<std::uint8_t[], give_back>;
    static buffer lines() {
        const std::size_t bytes = std::size_t{esp::burst::most} * room;
        auto* p = static_cast<std::uint8_t*>(std::aligned_alloc(64, bytes));
        if (!p) give_up("no memory");
        return buffer(static_cast<std::uint8_t*>(std::memset(p, 0, bytes)));
    }
    buffer in, out;
};

/// The serial end: every packet came once, in order, sealed.
class wire {
public:
    void take(esp::burst& b) {
        for (const auto& p : b.all()) __builtin_prefetch(p.out + 24);  // another CPU wrote it
        for (const auto& p : b.all()) {
            const std::uint32_t seq = esp::load32(p.out + 24);
            if (p.what != esp::verdict::sealed || seq != next_) {
                std::fprintf(stderr, "bench: padata/esp: WRONG ORDER: %s packet %u where %u was due\n", esp::name_of(p.what), seq, next_);
                std::exit(1);
            }
            ++next_;
        }
        last_ = &b;
    }
    /// So many came since the last call; the last burst can be decrypted to what it was.
    void check(std::uint32_t n) {
        if (next_ - begin_ != n) give_up(std::to_string(next_ - begin_) + " of " + std::to_string(n) + " packets came");
        begin_ = next_;
        std::vector<std::uint8_t> back(size + esp::seal_room);
        for (const auto& sent : last_->all()) {
            esp::packet p;
            p.in = sent.out;
            p.out = back.data();
            p.captured = sent.out_bytes;
            p.at = esp::look_at(esp::link_type::raw, p.in, p.captured);
            esp::open(p, table()[0], esp::link_type::raw);
            if (p.what != esp::verdict::opened || p.out_bytes != size || std::memcmp(back.data(), sent.in, size) != 0) give_up("a packet did not decrypt to what it was");
        }
    }

private:
    std::uint32_t next_ = 1, begin_ = 1;
    esp::burst* last_ = nullptr;
};

/// One side: a tunnel's end (its classify and work are everybody's), memory for a ring of bursts, and a wire.
struct side {
    side(const settings& s, unsigned bursts, bool one_cpu = false) {
        cpumask mask;
        for (const int c : s.cpus) mask.set(c);
        if (one_cpu) mask = {s.cpus[0]};
        auto made = esp::tunnel::create(table(), {.link = esp::link_type::raw, .shells = flows, .bursts = bursts, .parallel = mask, .serial = mask},
                                        [this](esp::burst& b) { out.take(b); });
        if (!made) give_up(made.error().line());
        tunnel = std::move(*made);
        memories.resize(std::size_t{1} + bursts);
    }

    void run_padata(std::uint32_t n) {
        for (std::uint32_t done = 0; done < n;) {
            esp::burst& b = tunnel->next();
            if (!b.user) b.user = &memories[filled++];
            const std::uint32_t count = std::min(esp::burst::most, n - done);
            static_cast<memory*>(b.user)->fill(b, count);
            if (auto r = tunnel->submit(b); !r) give_up(r.error().line());
            done += count;
        }
        if (auto r = tunnel->finish(); !r) give_up(r.error().line());
        out.check(n);
    }

    std::vector<memory> memories;
    std::size_t filled = 0;
    wire out;
    std::unique_ptr<esp::tunnel> tunnel;
};

/// Bursts that pass by hand, without padata's shells.
struct ring {
    ring(const settings& s, std::size_t count) : end(s, 1, true), memories(count), bursts(std::make_unique<esp::burst[]>(count)), places(count) {}

    esp::burst* take_in(std::uint32_t& done, std::uint32_t n, std::uint32_t per) {
        const std::size_t place = next++ % places;
        esp::burst& b = bursts[place];
        memories[place].fill(b, std::min(per, n - done));
        done += b.count;
        for (auto& p : b.all()) {
            if (end.tunnel->classify(p) < 0) give_up("a packet was refused");
        }
        return &b;
    }
    void work(esp::burst& b) {
        for (auto& p : b.all()) end.tunnel->work(p);
    }

    void run_alone(std::uint32_t n, std::uint32_t per) {
        for (std::uint32_t done = 0; done < n;) {
            esp::burst* b = take_in(done, n, per);
            work(*b);
            end.out.take(*b);
        }
        end.out.check(n);
    }

    void run_tbb(tbb::task_arena& arena, std::uint32_t n, std::uint32_t per) {
        std::uint32_t done = 0;
        arena.execute([&] {
            tbb::parallel_pipeline(places, tbb::make_filter<void, esp::burst*>(tbb::filter_mode::serial_in_order,
                                                                               [&](tbb::flow_control& control) -> esp::burst* {
                                                                                   if (done == n) {
                                                                                       control.stop();
                                                                                       return nullptr;
                                                                                   }
                                                                                   return take_in(done, n, per);
                                                                               }) &
                                               tbb::make_filter<esp::burst*, esp::burst*>(tbb::filter_mode::parallel,
                                                                                          [&](esp::burst* b) {
                                                                                              work(*b);
                                                                                              return b;
                                                                                          }) &
                                               tbb::make_filter<esp::burst*, void>(tbb::filter_mode::serial_in_order, [&](esp::burst* b) { end.out.take(*b); }));
        });
        end.out.check(n);
    }

    side end;
    std::vector<memory> memories;
    std::unique_ptr<esp::burst[]> bursts;
    std::size_t places, next = 0;
};

/// A variant that tells its packets a second beside the time of each.
variant told(std::string name, std::string kind, std::string peer, std::function<void(std::uint32_t)> run) {
    const auto rate = std::make_shared<double>();
    auto timed = [rate, run = std::move(run)](std::uint32_t n) {
        const auto began = std::chrono::steady_clock::now();
        run(n);
        *rate = n / std::chrono::duration<double, std::micro>(std::chrono::steady_clock::now() - began).count();
    };
    return {std::move(name), std::move(kind), std::move(peer), std::move(timed), {}, "million packets/s", [rate] { return *rate; }};
}

}  // namespace

void run_esp(const settings& s) {
    const std::string name = "padata/esp";
    if (name.find(s.only) == std::string::npos) return;
    pin_to(s.cpus);  // threads are made while this one may run on every CPU
    std::vector<variant> all;
    const auto ours = std::make_shared<side>(s, 4);
    all.push_back(told("cohort, a shell for each of 8 flows", "ours", "", [=](std::uint32_t n) { ours->run_padata(n); }));
    const auto arena = std::make_shared<arena_of>(s.cpus);
    for (const std::uint32_t per : {32u, 64u, 128u, 256u}) {
        for (const std::size_t tokens : {4u, 8u, 16u}) {
            const auto r = std::make_shared<ring>(s, tokens);
            all.push_back(told("oneTBB " + std::to_string(per) + " packets, " + std::to_string(tokens) + " tokens", "peer", "oneTBB parallel_pipeline",
                               [=](std::uint32_t n) { r->run_tbb(arena->arena, n, per); }));
        }
    }
    for (const std::uint32_t per : {32u, 128u, esp::burst::most}) {
        const auto r = std::make_shared<ring>(s, 2);
        all.push_back(told("one thread, " + std::to_string(per) + " packets", "single", "one thread", [=](std::uint32_t n) { r->run_alone(n, per); }));
    }
    measure(s, name, "ns", 1e9, 200'000, std::move(all));
}

}  // namespace cohort::bench
