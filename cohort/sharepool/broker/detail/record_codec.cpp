// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/broker/detail/record_codec.hpp>

#include <array>
#include <set>
#include <type_traits>

namespace cohort::sharepool::detail {

namespace {

constexpr std::string_view magic = "COHORTPJ";
constexpr std::uint32_t version = 1;
constexpr std::size_t most_record_bytes = 4096;

constexpr std::array<std::uint32_t, 256> crc_table = [] {
    std::array<std::uint32_t, 256> t{};
    for (std::uint32_t i = 0; i < 256; ++i) {
        std::uint32_t c = i;
        for (int bit = 0; bit < 8; ++bit) c = c & 1 ? c >> 1 ^ 0x82f63b78u : c >> 1;  // CRC-32C
        t[i] = c;
    }
    return t;
}();

std::uint32_t crc(std::string_view bytes) {
    std::uint32_t c = ~0u;
    for (const char b : bytes) c = c >> 8 ^ crc_table[(c ^ static_cast<unsigned char>(b)) & 0xff];
    return ~c;
}

template <class T>
void put(std::string& to, T value) {
    for (std::size_t i = 0; i < sizeof(T); ++i) to += static_cast<char>(static_cast<std::uint64_t>(value) >> 8 * i & 0xff);
}

template <class T>
T number(std::string_view from) {
    std::uint64_t v = 0;
    for (std::size_t i = 0; i < sizeof(T); ++i) v |= std::uint64_t{static_cast<unsigned char>(from[i])} << 8 * i;
    return static_cast<T>(v);
}

/// Both ways at once: a record's fields are named in one place. out: they are appended to `bytes`; else they are taken from its front.
struct fields {
    bool out;
    std::string* to;
    std::string_view from;
    bool good = true;

    template <class T>
    void operator()(T& field) {
        if constexpr (std::is_same_v<T, bool>) {
            auto as = static_cast<std::uint8_t>(field);
            (*this)(as);
            good = good && as <= 1;
            field = as != 0;
        } else if constexpr (std::is_enum_v<T>) {
            auto as = static_cast<std::underlying_type_t<T>>(field);
            (*this)(as);
            field = static_cast<T>(as);
        } else if (out) {
            put(*to, field);
        } else if (good && from.size() >= sizeof(T)) {
            field = number<T>(from);
            from.remove_prefix(sizeof(T));
        } else {
            good = false;
        }
    }
    void operator()(std::string& text) {
        auto n = static_cast<std::uint8_t>(text.size());
        (*this)(n);
        if (out) to->append(text);
        else if (good && from.size() >= n) text = from.substr(0, n), from.remove_prefix(n);
        else good = false;
    }
};

void each_field(fields& f, sys::process_identity& p) { f(p.pid), f(p.mark); }
void each_field(fields& f, member_facts& m) { each_field(f, m.process), f(m.prot), f(m.populate); }
void each_field(fields& f, group_inodes& g) { f(g.device), f(g.data), f(g.metadata), f(g.metadata_device); }
void each_field(fields& f, import_facts& i) { f(i.at), f(i.bytes), f(i.offset), f(i.device), f(i.inode), f(i.pid), f(i.to_process); }
void each_field(fields& f, spg& g) {
    f(g.name), f(g.range.base), f(g.range.bytes), f(g.owner_uid), f(g.owner_gid), f(g.mode), f(g.limit), f(g.flags), f(g.kept), f(g.local);
    each_field(f, g.files);
}
void each_field(fields& f, record& r) {
    using kind = record::kind;
    f(r.what);
    f(r.group.id);
    switch (r.what) {
        case kind::created: each_field(f, r.group), each_field(f, r.member); break;
        case kind::destroyed: break;
        case kind::joined: each_field(f, r.member); break;
        case kind::left:
        case kind::attached:
        case kind::detached: each_field(f, r.member.process); break;
        case kind::imported: each_field(f, r.import); break;
        case kind::unshared: f(r.import.at); break;
        case kind::limited: f(r.group.limit); break;
        case kind::filed: each_field(f, r.group.files); break;
    }
    f.good = f.good && r.what <= kind::filed && (r.member.prot == access::read || r.member.prot == access::read_write);
}

/// What an earlier boot left: groups that create() made, without files. Everything else it tells of is gone.
std::vector<record> without_processes(const std::vector<record>& all) {
    std::vector<record> left;
    std::set<int> kept;
    for (const record& r : all) {
        record now = r;
        now.group.files = {};
        switch (r.what) {
            case record::kind::created:
                if (!r.group.kept) continue;
                kept.insert(r.group.id);
                break;
            case record::kind::destroyed:
                if (kept.erase(r.group.id) == 0) continue;
                break;
            case record::kind::limited:
                if (!kept.contains(r.group.id)) continue;
                break;
            default: continue;
        }
        left.push_back(now);
    }
    return left;
}

}  // namespace

std::string journal_header(std::string_view boot) {
    std::string h(magic);
    put(h, version);
    h.append(boot.substr(0, 36)).append(36 - std::min<std::size_t>(36, boot.size()), ' ');
    put(h, crc(h));
    return h;
}

std::string frame_of(const record& r, std::uint64_t sequence) {
    std::string payload;
    record copy = r;
    fields f{.out = true, .to = &payload, .from = {}};
    each_field(f, copy);
    std::string frame;
    put(frame, static_cast<std::uint32_t>(payload.size()));
    put(frame, sequence);
    put(frame, crc(payload));
    put(frame, crc(frame));
    return frame + payload;
}

result<journal_content> read_journal(std::string_view bytes, const std::string& path, std::string_view boot) {
    const auto wrong = [&](std::string reason) { return fail(EINVAL, path, "read the journal", std::move(reason)); };
    journal_content c;
    const std::string_view start = bytes.substr(0, magic.size());
    if (start != magic.substr(0, start.size())) return wrong("it is no journal of a share pool's broker, and is left as it is");
    if (bytes.size() < journal_header_bytes) {
        c.cut = bytes.size();
        return c;
    }
    const auto found = number<std::uint32_t>(bytes.substr(8));
    if (found != version) return wrong("it is of version " + std::to_string(found) + ", this broker knows " + std::to_string(version));
    const std::string_view header = bytes.substr(0, journal_header_bytes);
    if (number<std::uint32_t>(header.substr(journal_header_bytes - 4)) != crc(header.substr(0, journal_header_bytes - 4))) return wrong("it is damaged at byte 0, in its first line");
    c.earlier_boot = header.substr(12, 36) != journal_header(boot).substr(12, 36);

    std::size_t at = journal_header_bytes;
    std::string why;
    for (std::uint64_t sequence = 1; why.empty() && at < bytes.size(); ++sequence) {
        const std::string_view rest = bytes.substr(at);
        if (rest.size() < frame_header_bytes) break;
        const auto length = number<std::uint32_t>(rest);
        const auto number_found = number<std::uint64_t>(rest.substr(4));
        if (number<std::uint32_t>(rest.substr(16)) != crc(rest.substr(0, 16)) || length > most_record_bytes) why = "its length or number";
        else if (number_found != sequence) why = "it has number " + std::to_string(number_found);
        else if (rest.size() - frame_header_bytes < length) break;
        if (!why.empty()) {
            why = "record " + std::to_string(sequence) + " at byte " + std::to_string(at) + " is damaged: " + why;
            break;
        }
        const std::string_view payload = rest.substr(frame_header_bytes, length);
        record r;
        fields f{.out = false, .to = nullptr, .from = payload};
        if (crc(payload) == number<std::uint32_t>(rest.substr(12))) each_field(f, r);
        else f.good = false;
        if (!f.good || !f.from.empty()) why = "record " + std::to_string(sequence) + " at byte " + std::to_string(at) + " is damaged: what it says";
        else c.records.push_back(std::move(r)), at += frame_header_bytes + length;
    }
    if (!why.empty() && !c.earlier_boot) return wrong(why);
    c.cut = bytes.size() - at;
    if (c.earlier_boot) c.records = without_processes(c.records);
    return c;
}

}  // namespace cohort::sharepool::detail
