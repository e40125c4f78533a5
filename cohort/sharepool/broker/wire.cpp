// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/wire.hpp>

#include <algorithm>

namespace cohort::sharepool::wire {

namespace {

constexpr std::uint32_t magic = 0x6c6f6f70;  // "pool"
constexpr std::uint16_t version = 1;

/// What stands first in a packet; then text, then rows.
struct head {
    std::uint32_t magic_word;
    std::uint16_t version_number, what;
    std::uint64_t number;
    std::int32_t pid, id, code;
    std::uint32_t flags, mode, text_bytes, row_bytes, unused;
    std::uint64_t at, bytes, offset, mark;
};
static_assert(sizeof(head) == 80 && std::has_unique_object_representations_v<head>);

std::unexpected<error> wrong(std::string reason) { return fail(EPROTO, "message", "read it", std::move(reason)); }

}  // namespace

std::vector<std::byte> encode(const packet& p) {
    const std::size_t rows = std::min(p.rows.size(), most_row_bytes), text = std::min(p.text.size(), most_bytes - sizeof(head) - rows);
    const head h{.magic_word = magic, .version_number = version, .what = static_cast<std::uint16_t>(p.what), .number = p.number, .pid = p.pid, .id = p.id, .code = p.code, .flags = p.flags,
                 .mode = p.mode, .text_bytes = static_cast<std::uint32_t>(text), .row_bytes = static_cast<std::uint32_t>(rows), .unused = 0, .at = p.at, .bytes = p.bytes, .offset = p.offset, .mark = p.mark};
    std::vector<std::byte> out(sizeof h + text + rows);
    std::memcpy(out.data(), &h, sizeof h);
    std::copy_n(reinterpret_cast<const std::byte*>(p.text.data()), text, out.data() + sizeof h);
    std::copy_n(reinterpret_cast<const std::byte*>(p.rows.data()), rows, out.data() + sizeof h + text);
    return out;
}

result<packet> decode(std::span<const std::byte> bytes) {
    head h;
    if (bytes.size() < sizeof h) return wrong("it has " + std::to_string(bytes.size()) + " bytes, a message at least " + std::to_string(sizeof h));
    std::memcpy(&h, bytes.data(), sizeof h);
    if (h.magic_word != magic) return wrong("it is no message of a share pool");
    if (h.version_number != version) return wrong("it has version " + std::to_string(h.version_number) + ", this side has " + std::to_string(version));
    if (h.what > static_cast<std::uint16_t>(verb::done)) return wrong("it is of kind " + std::to_string(h.what) + ", which is not known");
    const std::size_t rest = bytes.size() - sizeof h;
    if (bytes.size() > most_bytes || h.text_bytes > rest || h.row_bytes != rest - h.text_bytes) return wrong("its lengths do not add up");
    const char* text = reinterpret_cast<const char*>(bytes.data()) + sizeof h;
    return packet{.what = static_cast<verb>(h.what), .number = h.number, .pid = h.pid, .id = h.id, .code = h.code, .flags = h.flags, .mode = h.mode, .at = h.at, .bytes = h.bytes, .offset = h.offset,
                  .mark = h.mark, .text = std::string(text, h.text_bytes), .rows = std::string(text + h.text_bytes, h.row_bytes)};
}

packet answer(const packet& to, verb what) { return {.what = what, .number = to.number}; }
packet answer(const packet& to, const error& e, verb what) {
    packet p = answer(to, what);
    p.code = e.code != 0 ? e.code : EIO;
    p.text = e.object + '\n' + e.act + '\n' + e.reason;
    return p;
}
error error_of(const packet& p) {
    error e{.code = p.code > 0 ? p.code : EPROTO, .object = {}, .act = {}, .reason = {}};
    const std::size_t first = std::min(p.text.find('\n'), p.text.size()), second = std::min(p.text.find('\n', std::min(first + 1, p.text.size())), p.text.size());
    e.object = p.text.substr(0, first);
    if (first < p.text.size()) e.act = p.text.substr(first + 1, second - first - 1);
    if (second < p.text.size()) e.reason = p.text.substr(second + 1);
    return e;
}

group_row row_of(const spg& g) {
    group_row r{.id = g.id, .owner_uid = g.owner_uid, .owner_gid = g.owner_gid, .mode = g.mode, .flags = g.flags, .members = static_cast<std::uint32_t>(g.members.size()),
                .imports = static_cast<std::uint32_t>(g.imports.size()), .kept = g.kept, .dead = g.dead, .local = g.local, .unused = 0, .base = g.range.base, .bytes = g.range.bytes, .limit = g.limit, .name = {}};
    put_text(r.name, g.name);
    return r;
}

void add_trace(packet& p, const trace& t) {
    for (const check& c : t) {
        check_row r{.code = c.code, .what = {}, .found = {}};
        put_text(r.what, c.what);
        put_text(r.found, c.found);
        if (!add_row(p, r)) return;
    }
}
trace trace_of(const packet& p) {
    trace t;
    for (const check_row& r : rows_of<check_row>(p)) t.push_back({text_of(r.what), text_of(r.found), r.code});
    return t;
}

}  // namespace cohort::sharepool::wire
