// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/cpumask.hpp>

#include <limits>
#include <optional>

#include <cohort/base/check.hpp>

namespace cohort {
namespace {

template <class Tag>
constexpr const char* member_word = "bit";
template <>
constexpr const char* member_word<cpu_tag> = "cpu";
template <>
constexpr const char* member_word<node_tag> = "node";

constexpr bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
constexpr bool is_digit(char c) { return c >= '0' && c <= '9'; }
constexpr char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }
constexpr int hex_value(char c) {
    if (is_digit(c)) return c - '0';
    return lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
}

/// What went wrong and at which character; the caller adds the text.
struct fault {
    int code;
    std::size_t at;
    std::string why;
};

/// A place in the text. Masks are short and mostly well formed, so faults are built only when they happen.
struct cursor {
    std::string_view text;
    std::size_t at = 0;

    bool done() const { return at == text.size(); }
    char peek() const { return done() ? '\0' : text[at]; }
    bool separator() const { return is_space(peek()) || peek() == ','; }
    bool region_ends() const { return done() || separator(); }
    bool take(char c) {
        if (done() || lower(text[at]) != c) return false;
        ++at;
        return true;
    }
    std::string seen() const {
        if (done()) return "end of text";
        const char c = text[at];
        if (c < ' ' || c > '~') return "byte " + std::to_string(static_cast<unsigned char>(c));
        return std::string("'") + c + "'";
    }
};

std::optional<fault> read_number(cursor& in, unsigned last, unsigned& out) {
    if (in.take('n')) {
        out = last;
        return {};
    }
    if (!is_digit(in.peek())) return fault{EINVAL, in.at, "a number was expected, found " + in.seen()};
    const std::size_t start = in.at;
    std::uint64_t value = 0;
    for (; is_digit(in.peek()); ++in.at) {
        value = value * 10 + static_cast<unsigned>(in.peek() - '0');
        if (value > std::numeric_limits<unsigned>::max()) return fault{EOVERFLOW, start, "the number does not fit 32 bits"};
    }
    out = static_cast<unsigned>(value);
    return {};
}

/// first .. last, of which the first `used` of every `group` are members.
struct region {
    unsigned first = 0, last = 0, used = 1, group = 1;
};

std::optional<fault> read_pattern(cursor& in, unsigned max, region& out) {
    if (!in.take(':')) return fault{EINVAL, in.at, "',' or ':' was expected, found " + in.seen()};
    if (auto bad = read_number(in, max, out.used)) return bad;
    if (!in.take('/')) return fault{EINVAL, in.at, "'/' was expected, found " + in.seen()};
    if (auto bad = read_number(in, max, out.group)) return bad;
    if (!in.region_ends()) return fault{EINVAL, in.at, "',' was expected, found " + in.seen()};
    return {};
}

std::optional<fault> read_region(cursor& in, unsigned max, region& out) {
    if (lower(in.peek()) == 'a') {
        if (!in.take('a') || !in.take('l') || !in.take('l')) return fault{EINVAL, in.at, "\"all\" was expected"};
        out.last = max;
        return in.region_ends() ? std::nullopt : read_pattern(in, max, out);
    }
    if (auto bad = read_number(in, max, out.first)) return bad;
    out.last = out.first;
    if (in.region_ends()) return {};
    if (!in.take('-')) return fault{EINVAL, in.at, "',' or '-' was expected, found " + in.seen()};
    if (auto bad = read_number(in, max, out.last)) return bad;
    return in.region_ends() ? std::nullopt : read_pattern(in, max, out);
}

std::optional<fault> check_region(const region& r, std::size_t at, int nr_bits) {
    const auto text = [](unsigned n) { return std::to_string(n); };
    if (r.first > r.last) return fault{EINVAL, at, text(r.first) + " is greater than " + text(r.last)};
    if (r.group == 0) return fault{EINVAL, at, "the group is of size 0"};
    if (r.used > r.group) return fault{EINVAL, at, text(r.used) + " of a group of " + text(r.group)};
    if (r.last >= static_cast<unsigned>(nr_bits)) {
        return fault{ERANGE, at, text(r.last) + " is beyond the last, " + std::to_string(nr_bits - 1)};
    }
    return {};
}

std::unexpected<error> report(const char* word, const char* form, std::string_view text, const fault& f) {
    constexpr std::size_t shown = 60;
    std::string quoted(text.substr(0, shown));
    for (char& c : quoted) {
        if (c < ' ' || c > '~') c = '?';
    }
    if (text.size() > shown) quoted += "...";
    return fail(f.code, std::string(word) + " " + form + " \"" + quoted + "\"", "parse",
                "at character " + std::to_string(f.at + 1) + ": " + f.why);
}

}  // namespace

template <class Tag, int Bits>
std::string bitmask<Tag, Bits>::list() const {
    std::string out;
    for (int first_of = first(); first_of >= 0;) {
        int last_of = first_of;
        while (test(last_of + 1)) ++last_of;
        if (!out.empty()) out += ',';
        out += std::to_string(first_of);
        if (last_of > first_of) out += '-' + std::to_string(last_of);
        first_of = next(last_of + 1);
    }
    return out;
}

template <class Tag, int Bits>
std::string bitmask<Tag, Bits>::hex() const {
    static constexpr char digits[] = "0123456789abcdef";
    const int highest = last();
    if (highest < 0) return "0";
    std::string out;
    for (int nibble = highest / 4; nibble >= 0; --nibble) {
        out += digits[(word_[nibble / 16] >> (nibble % 16 * 4)) & 15];
        if (nibble % 8 == 0 && nibble > 0) out += ',';
    }
    return out;
}

template <class Tag, int Bits>
result<bitmask<Tag, Bits>> bitmask<Tag, Bits>::parse_list(std::string_view text, int nr_bits) {
    COHORT_CHECK(nr_bits >= 1 && nr_bits <= Bits, "nr_bits outside 1 .. capacity");
    bitmask out;
    cursor in{text};
    for (;;) {
        while (in.separator()) ++in.at;
        if (in.done()) return out;
        const std::size_t start = in.at;
        region r;
        auto bad = read_region(in, static_cast<unsigned>(nr_bits - 1), r);
        if (!bad) bad = check_region(r, start, nr_bits);
        if (bad) return report(member_word<Tag>, "list", text, *bad);
        for (std::uint64_t at = r.first; at <= r.last; at += r.group) {
            for (std::uint64_t m = at; m < at + r.used && m <= r.last; ++m) out.set(static_cast<int>(m));
        }
    }
}

template <class Tag, int Bits>
result<bitmask<Tag, Bits>> bitmask<Tag, Bits>::parse_hex(std::string_view text, int nr_bits) {
    COHORT_CHECK(nr_bits >= 1 && nr_bits <= Bits, "nr_bits outside 1 .. capacity");
    const auto bad = [&](int code, std::size_t at, std::string why) {
        return report(member_word<Tag>, "mask", text, fault{code, at, std::move(why)});
    };
    bitmask out;
    // From the right: the last group holds bits 0 .. 31, whatever stands in front of it.
    std::size_t end = text.size();
    std::size_t begin = 0;
    while (begin < end && is_space(text[begin])) ++begin;
    if (end - begin >= 2 && text[begin] == '0' && lower(text[begin + 1]) == 'x') {
        begin += 2;
        if (begin == end || hex_value(text[begin]) < 0) return bad(EINVAL, begin, "a hex digit was expected after 0x");
    }
    for (std::size_t i = begin; i < end; ++i) {
        if (hex_value(text[i]) < 0 && !is_space(text[i]) && text[i] != ',') return bad(EINVAL, i, "a hex digit was expected, found " + cursor{text, i}.seen());
    }
    for (int base = 0; end > begin;) {
        if (is_space(text[end - 1]) || text[end - 1] == ',') {
            --end;
            continue;
        }
        int digits = 0;
        for (; end > begin && !is_space(text[end - 1]) && text[end - 1] != ','; --end, ++digits) {
            const int value = hex_value(text[end - 1]);
            if (digits == 8) return bad(EOVERFLOW, end - 1, "a group has more than 8 digits");
            for (int b = 0; b < 4; ++b) {
                if (!(value >> b & 1)) continue;
                const int m = base + digits * 4 + b;
                if (m >= nr_bits) {
                    return bad(EOVERFLOW, end - 1, std::to_string(m) + " is beyond the last, " + std::to_string(nr_bits - 1));
                }
                out.set(m);
            }
        }
        base += base < Bits ? 32 : 0;  // groups beyond the capacity may only be zero; base must not overflow
    }
    return out;
}

template class bitmask<cpu_tag, max_cpus>;
template class bitmask<node_tag, max_nodes>;

}  // namespace cohort
