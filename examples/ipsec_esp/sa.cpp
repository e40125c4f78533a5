// SPDX-License-Identifier: Apache-2.0
#include "sa.hpp"

#include <arpa/inet.h>
#include <openssl/crypto.h>

#include <atomic>
#include <charconv>
#include <optional>

#include <cohort/sys/fd.hpp>
#include <cohort/sys/os.hpp>

namespace esp {

using cohort::fail;
using cohort::result;

namespace {

std::optional<std::uint64_t> number(std::string_view text, std::uint64_t most) {
    int base = 10;
    if (text.starts_with("0x")) {
        text.remove_prefix(2);
        base = 16;
    }
    std::uint64_t value = 0;
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), value, base);
    if (ec != std::errc{} || end != text.data() + text.size() || text.empty() || value > most) return {};
    return value;
}

std::optional<address> parse_address(std::string_view text) {
    const std::string z(text);
    address a;
    if (inet_pton(AF_INET, z.c_str(), a.bytes.data()) == 1) a.version = 4;
    else if (inet_pton(AF_INET6, z.c_str(), a.bytes.data()) == 1) a.version = 6;
    else return {};
    return a;
}

std::optional<prefix> parse_prefix(std::string_view text) {
    const auto slash = text.find('/');
    const auto base = parse_address(text.substr(0, slash));
    if (!base) return {};
    const int most = base->size() * 8;
    const auto bits = slash == text.npos ? std::optional<std::uint64_t>(most) : number(text.substr(slash + 1), static_cast<std::uint64_t>(most));
    if (!bits) return {};
    return prefix{*base, static_cast<int>(*bits)};
}

int nibble(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    if (c >= 'a' && c <= 'f') return c - 'a' + 10;
    if (c >= 'A' && c <= 'F') return c - 'A' + 10;
    return -1;
}

std::vector<std::string_view> words_of(std::string_view line) {
    std::vector<std::string_view> words;
    line = line.substr(0, line.find('#'));
    for (;;) {
        const auto begin = line.find_first_not_of(" \t\r");
        if (begin == line.npos) return words;
        line.remove_prefix(begin);
        const auto end = std::min(line.find_first_of(" \t\r"), line.size());
        words.push_back(line.substr(0, end));
        line.remove_prefix(end);
    }
}

/// An empty answer: fine; else what is wrong with the word. The key is never part of a message.
std::string read_key(sa& s, std::string_view hex) {
    if (hex.starts_with("0x")) hex.remove_prefix(2);
    if (hex.size() != 40 && hex.size() != 72) return "key and salt are 20 bytes (AES-128) or 36 (AES-256), as hex; there are " + std::to_string(hex.size()) + " digits";
    s.key.resize(hex.size() / 2 - 4);
    for (std::size_t i = 0; i < hex.size() / 2; ++i) {
        const int high = nibble(hex[2 * i]), low = nibble(hex[2 * i + 1]);
        if (high < 0 || low < 0) return "the key has a character that is no hex digit, at place " + std::to_string(2 * i + (high < 0 ? 1 : 2));
        (i < s.key.size() ? s.key[i] : s.salt[i - s.key.size()]) = static_cast<std::uint8_t>(high << 4 | low);
    }
    return {};
}

std::string read_option(sa& s, std::string_view word) {
    const auto is = word.find('=');
    const std::string_view name = word.substr(0, is), value = is == word.npos ? "" : word.substr(is + 1);
    if (name == "for") {
        const auto p = parse_prefix(value);
        if (!p) return "\"" + std::string(word) + "\": for= takes an address or ADDRESS/BITS";
        s.selector = *p;
    } else if (name == "replay") {
        const auto n = number(value, 65536);
        if (!n || (*n != 0 && *n < 32)) return "\"" + std::string(word) + "\": replay= takes 32 to 65536 packets, or 0 for no check";
        s.replay = static_cast<std::uint32_t>(*n);
    } else if (name == "seq") {
        const auto n = number(value, 0xffffffff);
        if (!n || *n == 0) return "\"" + std::string(word) + "\": seq= takes 1 to 0xffffffff";
        s.first_seq = static_cast<std::uint32_t>(*n);
    } else {
        return "\"" + std::string(word) + "\" is no option; there are for=, replay=, seq=";
    }
    return {};
}

std::string read_sa(sa& s, const std::vector<std::string_view>& words) {
    if (words[0] != "sa") return "a line begins with \"sa\", not with \"" + std::string(words[0]) + "\"";
    if (words.size() < 5) return "an SA is: sa SPI FROM TO KEY [for=PREFIX] [replay=N] [seq=N]";
    const auto spi = number(words[1], 0xffffffff);
    // 0 is for local use and 1 to 255 are reserved (RFC 4303 section 2.1).
    if (!spi || *spi < 256) return "\"" + std::string(words[1]) + "\": an SPI is a number from 256 to 0xffffffff";
    s.spi = static_cast<std::uint32_t>(*spi);
    const auto from = parse_address(words[2]), to = parse_address(words[3]);
    if (!from || !to) return "\"" + std::string(words[from ? 3 : 2]) + "\" is no IPv4 or IPv6 address";
    if (from->version != to->version) return "one end of the tunnel is IPv4, the other IPv6";
    s.from = *from;
    s.to = *to;
    if (auto wrong = read_key(s, words[4]); !wrong.empty()) return wrong;
    for (std::size_t i = 5; i < words.size(); ++i) {
        if (auto wrong = read_option(s, words[i]); !wrong.empty()) return wrong;
    }
    return {};
}

}  // namespace

sa::~sa() { OPENSSL_cleanse(key.data(), key.size()); }

bool prefix::covers(int version, const std::uint8_t* wire) const {
    if (base.version == 0) return true;
    if (base.version != version) return false;
    const int whole = bits / 8, rest = bits % 8;
    if (std::memcmp(base.bytes.data(), wire, static_cast<std::size_t>(whole)) != 0) return false;
    return rest == 0 || ((base.bytes[static_cast<std::size_t>(whole)] ^ wire[whole]) >> (8 - rest)) == 0;
}

std::string to_string(const address& a) {
    char text[INET6_ADDRSTRLEN] = "";
    inet_ntop(a.version == 4 ? AF_INET : AF_INET6, a.bytes.data(), text, sizeof text);
    return text;
}

result<sa_table> sa_table::parse(std::string_view text, const std::string& name) {
    static std::atomic<std::uint64_t> ids{0};
    sa_table table;
    for (int line = 1; !text.empty(); ++line) {
        const auto end = std::min(text.find('\n'), text.size());
        const auto words = words_of(text.substr(0, end));
        text.remove_prefix(std::min(end + 1, text.size()));
        if (words.empty()) continue;
        auto s = std::make_unique<sa>();
        s->id = ++ids;
        const std::string where = name + ":" + std::to_string(line);
        if (auto wrong = read_sa(*s, words); !wrong.empty()) return fail(EINVAL, where, "read an SA", wrong);
        if (table.inbound(s->spi, s->to.version, s->to.bytes.data()) >= 0) {
            return fail(EINVAL, where, "read an SA", "there is one with this SPI and this destination already");
        }
        table.all_.push_back(std::move(s));
    }
    if (table.all_.empty()) return fail(EINVAL, name, "read SAs", "there is none");
    return table;
}

result<sa_table> sa_table::load(const std::string& path) {
    auto text = cohort::sys::read_file(cohort::sys::real(), path, 1 << 24);
    if (!text) return std::unexpected(text.error());
    auto table = parse(*text, path);
    OPENSSL_cleanse(text->data(), text->size());
    return table;
}

int sa_table::outbound(const frame& f, const std::uint8_t* bytes) const {
    const std::uint8_t* destination = bytes + f.ip + (f.version == 4 ? 16 : 24);
    for (std::size_t i = 0; i < all_.size(); ++i) {
        if (all_[i]->selector.covers(f.version, destination)) return static_cast<int>(i);
    }
    return -1;
}

int sa_table::inbound(std::uint32_t spi, int version, const std::uint8_t* destination) const {
    for (std::size_t i = 0; i < all_.size(); ++i) {
        const sa& s = *all_[i];
        if (s.spi == spi && s.to.version == version && s.to.is(destination)) return static_cast<int>(i);
    }
    return -1;
}

}  // namespace esp
