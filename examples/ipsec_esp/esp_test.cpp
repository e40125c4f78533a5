// SPDX-License-Identifier: Apache-2.0
/// What a foreign tool cannot show: packets that only a hostile or odd peer sends, the anti-replay window beside a model, bytes at random.
/// COHORT_SEED repeats a run.
#include "esp.hpp"

#include <gtest/gtest.h>
#include <openssl/evp.h>

#include <algorithm>
#include <cstdlib>
#include <deque>
#include <iostream>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "sa.hpp"
#include "tunnel.hpp"

namespace esp {
namespace {

using bytes = std::vector<std::uint8_t>;

std::uint64_t seed() {
    const char* text = std::getenv("COHORT_SEED");
    const std::uint64_t s = text ? std::strtoull(text, nullptr, 10) : std::random_device{}();
    std::cout << "COHORT_SEED=" << s << '\n';
    return s;
}

const char* const two_sas =
    "sa 0x1001 192.0.2.1 192.0.2.2 000102030405060708090a0b0c0d0e0fcafebabe for=10.2.0.0/16\n"
    "sa 0x1002 2001:db8::1 2001:db8::2 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1fdeadbeef\n";

sa_table table_of(const char* text) {
    auto t = sa_table::parse(text, "test");
    EXPECT_TRUE(t) << t.error().line();
    return std::move(*t);
}

/// An IPv4 packet of `size` bytes to 10.2.0.1 with the given TOS.
bytes ip4(std::size_t size, std::uint8_t tos = 0) {
    bytes p(size);
    for (std::size_t i = 20; i < size; ++i) p[i] = static_cast<std::uint8_t>(i * 7);
    p[0] = 0x45;
    p[1] = tos;
    store16(&p[2], static_cast<std::uint32_t>(size));
    p[8] = 64;
    p[9] = 17;
    const std::uint8_t ends[] = {10, 1, 0, 1, 10, 2, 0, 1};
    std::copy_n(ends, 8, &p[12]);
    std::uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) sum += load16(&p[static_cast<std::size_t>(i)]);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    store16(&p[10], ~sum);
    return p;
}

std::uint16_t header_sum(const std::uint8_t* ip) {
    std::uint32_t sum = 0;
    for (int i = 0; i < 20; i += 2) sum += load16(ip + i);
    while (sum >> 16) sum = (sum & 0xffff) + (sum >> 16);
    return static_cast<std::uint16_t>(sum);
}

/// Any clear text (inner packet, padding, pad length, next header) as ESP of this SA, sealed here by hand and not by seal().
bytes sealed_by_hand(const sa& s, const bytes& clear, std::uint32_t seq, std::uint8_t tos = 0, std::uint64_t iv_high = 0x11223344) {
    bytes p(20 + 16 + clear.size() + 16);
    p[0] = 0x45;
    p[1] = tos;
    store16(&p[2], static_cast<std::uint32_t>(p.size()));
    p[9] = 50;
    std::copy_n(s.from.bytes.data(), 4, &p[12]);
    std::copy_n(s.to.bytes.data(), 4, &p[16]);
    store32(&p[20], s.spi);
    store32(&p[24], seq);
    store64(&p[28], iv_high << 32 | seq);
    bytes nonce(s.salt, s.salt + 4);
    nonce.insert(nonce.end(), p.begin() + 28, p.begin() + 36);
    EVP_CIPHER_CTX* c = EVP_CIPHER_CTX_new();
    int n = 0;
    bool good = EVP_EncryptInit_ex(c, EVP_aes_128_gcm(), nullptr, s.key.data(), nonce.data()) == 1;
    good = good && EVP_EncryptUpdate(c, nullptr, &n, &p[20], 8) == 1;
    good = good && EVP_EncryptUpdate(c, &p[36], &n, clear.data(), static_cast<int>(clear.size())) == 1;
    good = good && EVP_EncryptFinal_ex(c, &p[36 + clear.size()], &n) == 1;
    good = good && EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_AEAD_GET_TAG, 16, &p[36 + clear.size()]) == 1;
    EVP_CIPHER_CTX_free(c);
    EXPECT_TRUE(good);
    return p;
}

bytes with_trailer(bytes inner, std::initializer_list<std::uint8_t> tail) {
    inner.insert(inner.end(), tail);
    return inner;
}

struct worked {
    packet p;
    bytes in, out;
    bytes result() const { return {out.begin(), out.begin() + p.out_bytes}; }
};

/// One packet through classify, work, settle of a tunnel's end.
struct ends {
    explicit ends(const char* text = two_sas) : table(table_of(text)) {
        auto deliver = [](burst&) {};
        send = std::move(*tunnel::create(table, {.way = direction::encrypt, .link = link_type::raw, .iv_high = 7}, deliver));
        receive = std::move(*tunnel::create(table, {.way = direction::decrypt, .link = link_type::raw}, deliver));
    }
    static worked through(tunnel& t, const bytes& frame) {
        worked w;
        w.in = frame;
        w.in.resize(frame.size() + tail_room);
        w.out.resize(frame.size() + seal_room);
        w.p.in = w.in.data();
        w.p.out = w.out.data();
        w.p.captured = static_cast<std::uint32_t>(frame.size());
        if (t.classify(w.p) >= 0) {
            t.work(w.p);
            t.settle(w.p);
        }
        return w;
    }
    worked seal(const bytes& frame) { return through(*send, frame); }
    worked open(const bytes& frame) { return through(*receive, frame); }

    sa_table table;
    std::unique_ptr<tunnel> send, receive;
};

TEST(ipsec_esp, opens_what_it_sealed_whatever_the_size) {
    ends e;
    for (std::size_t size = 20; size < 120; ++size) {
        const bytes clear = ip4(size);
        const worked out = e.seal(clear);
        ASSERT_EQ(out.p.what, verdict::sealed);
        EXPECT_EQ(load16(&out.out[2]), out.p.out_bytes);
        EXPECT_EQ((out.p.out_bytes - 20) % 4, 0u);
        EXPECT_EQ(header_sum(out.out.data()), 0xffff);
        EXPECT_EQ(load32(&out.out[24]), size - 19) << "sequence numbers are those of the order of submission";
        const worked back = e.open(out.result());
        ASSERT_EQ(back.p.what, verdict::opened) << name_of(back.p.what);
        EXPECT_EQ(back.result(), clear);
    }
}

TEST(ipsec_esp, another_implementation_opens_what_it_sealed_and_it_opens_theirs) {
    ends e;
    const bytes padded = with_trailer(ip4(60), {1, 2, 2, 4});
    const worked back = e.open(sealed_by_hand(e.table[0], padded, 9));
    ASSERT_EQ(back.p.what, verdict::opened) << name_of(back.p.what);
    EXPECT_EQ(back.result(), ip4(60));
    const worked ours = e.seal(ip4(60));
    const bytes hand = sealed_by_hand(e.table[0], padded, 1, 0, 7);
    ASSERT_EQ(ours.p.out_bytes, hand.size());
    EXPECT_TRUE(std::equal(hand.begin() + 20, hand.end(), ours.out.begin() + 20)) << "ESP header, IV, cipher text and check value";
}

TEST(ipsec_esp, a_flipped_bit_anywhere_in_esp_is_found) {
    ends e;
    const bytes wire = e.seal(ip4(64)).result();
    for (std::size_t bit = 20 * 8; bit < wire.size() * 8; ++bit) {
        bytes bad = wire;
        bad[bit / 8] ^= static_cast<std::uint8_t>(1 << bit % 8);
        const verdict v = e.open(bad).p.what;
        EXPECT_EQ(v, bit < 24 * 8 ? verdict::no_sa : verdict::forged) << "bit " << bit;  // in the SPI: another SA
    }
    EXPECT_EQ(e.open(wire).p.what, verdict::opened) << "forged packets did not move the window";
    EXPECT_EQ(e.open(wire).p.what, verdict::replayed);
}

TEST(ipsec_esp, what_is_authentic_but_no_packet_of_the_tunnel_is_refused) {
    ends e;
    const sa& s = e.table[0];
    std::uint32_t seq = 0;
    auto what = [&](const bytes& clear) { return e.open(sealed_by_hand(s, clear, ++seq)).p.what; };
    EXPECT_EQ(what(with_trailer(ip4(58), {0, 4})), verdict::opened);
    EXPECT_EQ(what(with_trailer(ip4(58), {0, 41})), verdict::bad_inside) << "next header says IPv6";
    EXPECT_EQ(what(with_trailer(ip4(58), {0, 17})), verdict::bad_inside) << "transport mode";
    EXPECT_EQ(what(with_trailer(ip4(57), {7, 1, 4})), verdict::bad_inside) << "padding is 1, 2, 3 ...";
    EXPECT_EQ(what(with_trailer(ip4(58), {200, 4})), verdict::bad_inside) << "more padding than there is";
    bytes part = ip4(58);
    part.resize(18);
    EXPECT_EQ(what(with_trailer(part, {0, 4})), verdict::bad_inside) << "a part of a header";
    bytes longer = ip4(58);
    store16(&longer[2], 59);
    EXPECT_EQ(what(with_trailer(longer, {0, 4})), verdict::bad_inside) << "longer than what is there";
    bytes elsewhere = ip4(58);
    elsewhere[17] = 3;
    EXPECT_EQ(what(with_trailer(elsewhere, {0, 4})), verdict::bad_inside) << "10.3.0.1 is not of this SA";
    EXPECT_EQ(what(with_trailer(bytes(58), {0, 59})), verdict::dummy);
    const std::uint32_t used = seq;
    seq = 3;
    EXPECT_EQ(what(with_trailer(ip4(58), {0, 4})), verdict::replayed) << "a packet that was refused for its inside was authentic: its number is used";
    seq = used;
    // Bytes behind the inner packet hide its length (RFC 4303 section 2.7).
    const worked hidden = e.open(sealed_by_hand(s, with_trailer(ip4(58), {9, 9, 9, 9, 0, 4}), ++seq));
    EXPECT_EQ(hidden.p.what, verdict::opened);
    EXPECT_EQ(hidden.result(), ip4(58));
}

TEST(ipsec_esp, refuses_what_cannot_be_sent_or_is_not_for_it) {
    ends e("sa 0x1001 192.0.2.1 192.0.2.2 000102030405060708090a0b0c0d0e0fcafebabe for=10.2.0.0/16 seq=0xffffffff\n");
    EXPECT_EQ(e.seal(ip4(65535)).p.what, verdict::too_long);
    EXPECT_EQ(e.seal(ip4(65479)).p.what, verdict::too_long);
    const worked last = e.seal(ip4(65478));  // with 2 bytes behind it, 8 + 8 before, 16 + 20 around: 65,532
    EXPECT_EQ(last.p.what, verdict::sealed);
    EXPECT_EQ(last.p.seq, 0xffffffffu);
    EXPECT_EQ(e.open(last.result()).result(), ip4(65478));
    EXPECT_EQ(e.seal(ip4(64)).p.what, verdict::used_up);
    bytes other = ip4(64);
    other[17] = 9;
    EXPECT_EQ(e.seal(other).p.what, verdict::no_sa);
    EXPECT_EQ(e.open(ip4(64)).p.what, verdict::clear);
    bytes part = sealed_by_hand(e.table[0], with_trailer(ip4(58), {0, 4}), 1);
    store16(&part[6], 0x2000);
    EXPECT_EQ(e.open(part).p.what, verdict::fragment);
    bytes shorter(part.begin(), part.begin() + 20 + 32);
    store16(&shorter[2], 52);
    store16(&shorter[6], 0);
    EXPECT_EQ(e.open(shorter).p.what, verdict::too_short);
}

TEST(ipsec_esp, a_burst_that_a_stopped_instance_refuses_is_delivered_in_its_place) {
    const sa_table table = table_of(two_sas);
    std::vector<std::pair<std::uint64_t, verdict>> came;
    const auto made = tunnel::create(table, {.way = direction::encrypt, .link = link_type::raw, .bursts = 4, .iv_high = 7, .usable = cohort::cpumask{0, 2}}, [&](burst& b) {
        for (std::uint32_t i = 0; i < b.count; ++i) came.emplace_back(b.first + i, b.packets[i].what);
    });
    ASSERT_TRUE(made) << made.error().line();
    tunnel& t = **made;
    std::deque<worked> kept;
    const auto submit = [&](bytes frame) {
        worked& w = kept.emplace_back();
        w.out.resize(frame.size() + seal_room);
        burst& b = t.next();
        b.packets[0] = {};
        b.packets[0].captured = static_cast<std::uint32_t>(frame.size());
        w.in = std::move(frame);
        w.in.resize(w.in.size() + tail_room);
        b.packets[0].in = w.in.data();
        b.packets[0].out = w.out.data();
        b.count = 1;
        return t.submit(b);
    };
    const auto parallel = [&](int cpu) { return t.instance().set_cpumask(cohort::padata::mask_kind::parallel, cohort::cpumask{cpu}); };
    bytes part = ip4(64);
    part.resize(60);
    for (int round = 0; round < 20; ++round) {
        came.clear();
        const std::uint64_t first = t.next().first;
        for (int i = 0; i < 3; ++i) ASSERT_TRUE(submit(ip4(64)));
        ASSERT_TRUE(parallel(1));  // it is not usable
        for (const bytes& frame : {ip4(64), part}) {
            const auto r = submit(frame);
            ASSERT_FALSE(r);
            EXPECT_EQ(r.error().code, EINVAL);
        }
        ASSERT_TRUE(parallel(2));
        ASSERT_TRUE(submit(ip4(64)));
        ASSERT_TRUE(t.finish());
        const verdict expected[] = {verdict::sealed, verdict::sealed, verdict::sealed, verdict::failed, verdict::cut, verdict::sealed};
        ASSERT_EQ(came.size(), std::size(expected));
        for (std::size_t i = 0; i < came.size(); ++i) EXPECT_EQ(came[i], std::pair(first + i, expected[i])) << i;
    }
}

TEST(ipsec_esp, congestion_on_the_way_is_told_inside) {
    // Rows of RFC 6040 figure 4: inner, outer -> what leaves (-1: dropped).
    const int rows[][3] = {{0, 0, 0}, {0, 1, 0}, {0, 2, 0}, {0, 3, -1}, {2, 0, 2}, {2, 1, 1}, {2, 2, 2}, {2, 3, 3},
                           {1, 0, 1}, {1, 1, 1}, {1, 2, 1}, {1, 3, 3},  {3, 0, 3}, {3, 1, 3}, {3, 2, 3}, {3, 3, 3}};
    ends e;
    std::uint32_t seq = 0;
    for (const auto& row : rows) {
        const auto dscp = static_cast<std::uint8_t>(0xb8);
        const worked w = e.open(sealed_by_hand(e.table[0], with_trailer(ip4(58, static_cast<std::uint8_t>(dscp | row[0])), {0, 4}), ++seq, static_cast<std::uint8_t>(row[1])));
        if (row[2] < 0) {
            EXPECT_EQ(w.p.what, verdict::bad_inside);
            continue;
        }
        ASSERT_EQ(w.p.what, verdict::opened);
        EXPECT_EQ(w.out[1], dscp | row[2]) << row[0] << ' ' << row[1];
        EXPECT_EQ(header_sum(w.out.data()), 0xffff);
    }
    EXPECT_EQ(e.seal(ip4(64, 0xba)).out[1], 0xba) << "the outer packet has the inner one's DSCP and ECN";
}

TEST(replay_window, agrees_with_a_set_of_all_numbers_that_were_seen) {
    std::mt19937_64 rng(seed());
    for (const std::uint32_t size : {32u, 64u, 65u, 100u, 1024u}) {
        replay_window w(size);
        std::set<std::uint32_t> seen;
        std::uint32_t newest = 0;
        for (int i = 0; i < 20'000; ++i) {
            const std::uint32_t jump = rng() % 50 == 0 ? static_cast<std::uint32_t>(rng() % (3 * size)) : static_cast<std::uint32_t>(rng() % 4);
            const std::uint32_t back = static_cast<std::uint32_t>(rng() % (size + size / 4));
            const std::uint32_t seq = rng() % 2 ? newest + jump : newest > back ? newest - back : 0;
            const verdict expected = seq == 0 || (seq <= newest && newest - seq >= size) ? verdict::late : seen.contains(seq) ? verdict::replayed : verdict::opened;
            ASSERT_EQ(w.take(seq), expected) << "window " << size << ", newest " << newest << ", number " << seq;
            if (expected == verdict::opened) seen.insert(seq);
            newest = std::max(newest, seq);
        }
    }
}

TEST(replay_window, goes_to_the_last_number_and_takes_everything_when_it_is_off) {
    replay_window w(64);
    EXPECT_EQ(w.take(0xffffffff), verdict::opened);
    EXPECT_EQ(w.take(0xffffffff), verdict::replayed);
    EXPECT_EQ(w.take(0xffffffff - 63), verdict::opened);
    EXPECT_EQ(w.take(0xffffffff - 64), verdict::late);
    EXPECT_EQ(w.take(1), verdict::late);
    replay_window off(0);
    EXPECT_EQ(off.take(5), verdict::opened);
    EXPECT_EQ(off.take(5), verdict::opened);
}

TEST(ipsec_esp, bytes_at_random_are_looked_at_within_their_bounds) {
    std::mt19937_64 rng(seed());
    ends e;
    const bytes good = e.seal(ip4(100)).result();
    for (int i = 0; i < 200'000; ++i) {
        bytes b(rng() % 120);
        for (auto& x : b) x = static_cast<std::uint8_t>(rng());
        if (i % 2) {  // near a good one
            b.assign(good.begin(), good.begin() + static_cast<std::ptrdiff_t>(rng() % (good.size() + 1)));
            for (int k = 0; k < 3 && !b.empty(); ++k) b[rng() % std::min<std::size_t>(b.size(), 60)] = static_cast<std::uint8_t>(rng());
        } else if (!b.empty()) {
            b[0] = static_cast<std::uint8_t>((rng() % 2 ? 0x40 : 0x60) | (b[0] & 15));
        }
        const bytes exact(b);  // its own allocation: AddressSanitizer sees a step beyond it
        const frame f = look_at(i % 3 ? link_type::raw : link_type::ethernet, exact.data(), static_cast<std::uint32_t>(exact.size()));
        if (f.kind == frame_kind::ip) {
            ASSERT_LE(f.ip + f.ip_bytes, exact.size());
            (void)flow_hash(f, exact.data());
        }
        // Outside of ESP much may change on the way.
        const bool opened = e.open(b).p.what == verdict::opened;
        ASSERT_TRUE(!opened || (b.size() == good.size() && std::equal(b.begin() + 20, b.end(), good.begin() + 20)));
        (void)e.seal(b);
    }
}

TEST(security_associations, say_which_line_is_wrong_and_why) {
    const std::pair<const char*, const char*> wrong[] = {
        {"", "test: read SAs: EINVAL: there is none"},
        {"# only a comment\n\n", "test: read SAs: EINVAL: there is none"},
        {"xx\n", "test:1: read an SA: EINVAL: a line begins with \"sa\", not with \"xx\""},
        {"\nsa 0x1001 192.0.2.1\n", "test:2: read an SA: EINVAL: an SA is: sa SPI FROM TO KEY [for=PREFIX] [replay=N] [seq=N]"},
        {"sa 255 1.1.1.1 2.2.2.2 00", "test:1: read an SA: EINVAL: \"255\": an SPI is a number from 256 to 0xffffffff"},
        {"sa 0x100000000 1.1.1.1 2.2.2.2 00", "test:1: read an SA: EINVAL: \"0x100000000\": an SPI is a number from 256 to 0xffffffff"},
        {"sa 256 1.1.1 2.2.2.2 00", "test:1: read an SA: EINVAL: \"1.1.1\" is no IPv4 or IPv6 address"},
        {"sa 256 1.1.1.1 ::1 00", "test:1: read an SA: EINVAL: one end of the tunnel is IPv4, the other IPv6"},
        {"sa 256 1.1.1.1 2.2.2.2 00", "test:1: read an SA: EINVAL: key and salt are 20 bytes (AES-128) or 36 (AES-256), as hex; there are 2 digits"},
        {"sa 256 1.1.1.1 2.2.2.2 00010203040506070809z00b0c0d0e0fcafebabe", "test:1: read an SA: EINVAL: the key has a character that is no hex digit, at place 21"},
        {"sa 256 1.1.1.1 2.2.2.2 000102030405060708090a0b0c0d0e0fcafebabe for=10.0.0.0/33", "test:1: read an SA: EINVAL: \"for=10.0.0.0/33\": for= takes an address or ADDRESS/BITS"},
        {"sa 256 1.1.1.1 2.2.2.2 000102030405060708090a0b0c0d0e0fcafebabe replay=31", "test:1: read an SA: EINVAL: \"replay=31\": replay= takes 32 to 65536 packets, or 0 for no check"},
        {"sa 256 1.1.1.1 2.2.2.2 000102030405060708090a0b0c0d0e0fcafebabe seq=0", "test:1: read an SA: EINVAL: \"seq=0\": seq= takes 1 to 0xffffffff"},
        {"sa 256 1.1.1.1 2.2.2.2 000102030405060708090a0b0c0d0e0fcafebabe x=1", "test:1: read an SA: EINVAL: \"x=1\" is no option; there are for=, replay=, seq="},
        {"sa 256 1.1.1.1 2.2.2.2 000102030405060708090a0b0c0d0e0fcafebabe\nsa 256 3.3.3.3 2.2.2.2 000102030405060708090a0b0c0d0e0fcafebabe",
         "test:2: read an SA: EINVAL: there is one with this SPI and this destination already"},
    };
    for (const auto& [text, line] : wrong) {
        const auto t = sa_table::parse(text, "test");
        ASSERT_FALSE(t) << text;
        EXPECT_EQ(t.error().line(), line);
    }
}

TEST(security_associations, are_found_by_destination_outbound_and_by_spi_inbound) {
    const sa_table t = table_of(two_sas);
    ASSERT_EQ(t.size(), 2u);
    EXPECT_EQ(t[0].key.size(), 16u);
    EXPECT_EQ(t[1].key.size(), 32u);
    EXPECT_EQ(to_string(t[1].to), "2001:db8::2");
    bytes p = ip4(40);
    frame f = look_at_ip(p.data(), 40);
    EXPECT_EQ(t.outbound(f, p.data()), 0);
    p[17] = 3;
    EXPECT_EQ(t.outbound(f, p.data()), 1) << "the second has no for=";
    EXPECT_EQ(t.inbound(0x1001, 4, t[0].to.bytes.data()), 0);
    EXPECT_EQ(t.inbound(0x1001, 6, t[1].to.bytes.data()), -1);
    EXPECT_EQ(t.inbound(0x1002, 6, t[1].to.bytes.data()), 1);
    const prefix seven{{4, {10, 0x80}}, 9};
    const std::uint8_t inside[] = {10, 0xff, 0, 0}, outside[] = {10, 0x7f, 0, 0};
    EXPECT_TRUE(seven.covers(4, inside));
    EXPECT_FALSE(seven.covers(4, outside));
    EXPECT_FALSE(seven.covers(6, inside));
}

TEST(flow_hash, is_the_flow_and_nothing_else) {
    bytes a = ip4(60), b = ip4(200);
    auto hash = [](const bytes& p) { return flow_hash(look_at_ip(p.data(), static_cast<std::uint32_t>(p.size())), p.data()); };
    EXPECT_EQ(hash(a), hash(b));
    bytes ports = a;
    ports[22] ^= 1;
    EXPECT_NE(hash(a), hash(ports));
    bytes first = a, second = ports;  // two fragments of one packet: the second has no ports, so nobody's ports count
    store16(&first[6], 0x2000);
    store16(&second[6], 8);
    EXPECT_EQ(hash(first), hash(second));
}

}  // namespace
}  // namespace esp
