// SPDX-License-Identifier: Apache-2.0
// One allocation's way through the per-CPU allocator, told step by step as it happens.
#include <cohort/account/charged.hpp>
#include <cohort/base/trace.hpp>
#include <cohort/percpu/stats.hpp>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <map>
#include <memory>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    bool trace = false;
};

std::string number(std::uint64_t n) { return std::to_string(n); }
std::string address(std::uint64_t n) {
    char text[32];
    std::snprintf(text, sizeof text, "0x%llx", static_cast<unsigned long long>(n));
    return text;
}
std::string bytes_of_bits(std::uint64_t bits) { return number(bits * 4) + " bytes"; }

std::string slots_text(std::uint64_t set) {
    std::string out;
    for (; set != 0; set &= set - 1) out += (out.empty() ? "" : ", ") + number(static_cast<unsigned>(std::countr_zero(set)));
    return out.empty() ? "none is in use" : "in use: " + out;
}

using values = std::array<std::uint64_t, 4>;

/// What each trace point of the room says, in words. A point that is not here is told by its fields.
const std::map<std::string_view, std::string (*)(const values&)> words = {
    {"percpu:request", [](const values& v) { return "size check: " + number(v[0]) + " bytes aligned to " + number(v[1]) + " (legal: 1 to 32768, powers of two to 4096)"; }},
    {"percpu:charge", [](const values& v) { return "charge: " + number(v[0]) + " bytes, for every possible CPU's copy and the record of it"; }},
    {"percpu:magazine", [](const values& v) { return "magazine: this CPU's stack of class " + number(v[1]) + " had one"; }},
    {"percpu:refill", [](const values& v) { return "refill: " + number(v[1]) + " areas taken for class " + number(v[0]) + "; all but one wait in this CPU's magazine"; }},
    {"percpu:search", [](const values& v) { return "slot search: a run of " + bytes_of_bits(v[0]) + ", from slot " + number(v[1]) + " on (" + slots_text(v[2]) + ")"; }},
    {"percpu:fit",
     [](const values& v) {
         const std::string chunk = "a chunk in slot " + number(v[0]) + " with a longest run of " + bytes_of_bits(v[2]);
         return "block fit: " + chunk + (v[3] > UINT32_MAX ? ": none that fits" : ": fits at byte " + number(v[3] * 4) + " of the unit");
     }},
    {"percpu:area", [](const values& v) { return "area: bits " + number(v[1]) + " to " + number(v[1] + v[2] - 1) + " of the map, shard " + number(v[3]) + "; handle " + address(v[0]); }},
    {"percpu:populate",
     [](const values& v) {
         return v[2] ? "populate: the pages of " + number(v[1]) + " bytes brought in on " + number(v[2]) + " possible CPUs" : "populate: its blocks are in use now; pages come at the first touch, on the CPUs that touch";
     }},
    {"percpu:alloc", [](const values& v) { return "done: " + number(v[1]) + " bytes at handle " + address(v[0]); }},
    {"percpu:fail", [](const values& v) { return std::string("refused: ") + percpu::text_of(static_cast<percpu::refusal>(v[3])); }},
    {"percpu:free", [](const values& v) { return "free: handle " + address(v[0]) + " is a live object"; }},
    {"percpu:clear", [](const values& v) { return "clear: " + number(v[1]) + " bytes on each CPU that was ever used (" + number(v[2]) + "): free memory is always zero"; }},
    {"percpu:flush", [](const values& v) { return "flush: " + number(v[1]) + " objects of class " + number(v[0]) + " back to the maps"; }},
    {"percpu:create_chunk", [](const values& v) { return "new chunk at " + address(v[0]) + ", shard " + number(v[1]) + ", " + (v[2] ? "flat" : "coloured") + " units"; }},
    {"percpu:destroy_chunk", [](const values& v) { return "chunk at " + address(v[0]) + " destroyed"; }},
    {"percpu:give_back", [](const values& v) { return "give back: " + number(v[1]) + " bytes at " + address(v[0]) + " to the system"; }},
};

/// A refill takes area after area; after the first of a request they are only counted.
class narrator : public trace_sink {
public:
    void record(const trace_record& r) override {
        const std::string_view point = r.point->name();
        const bool of_area = point == "percpu:search" || point == "percpu:fit" || point == "percpu:area" || (point == "percpu:populate" && areas_ > 1);
        if (areas_ > 0 && of_area) {
            areas_ += point == "percpu:area";
            return;
        }
        if (areas_ > 1) print("    ...                    and " + number(areas_ - 1) + " areas more in the same way\n");
        areas_ = point == "percpu:area" ? 1 : point == "percpu:populate" ? areas_ : 0;
        tell(r);
    }

private:
    static void tell(const trace_record& r) {
        const auto found = words.find(r.point->name());
        char name[32];
        std::snprintf(name, sizeof name, "    %-22s ", std::string(r.point->name()).c_str());
        std::string line = name;
        if (found != words.end()) line += found->second(r.values);
        else for (std::size_t i = 0; i < r.point->fields().size(); ++i) line += std::string(i ? ", " : "") + r.point->fields()[i] + " " + number(r.values[i]);
        print(line + "\n");
    }
    unsigned areas_ = 0;  // of this request
};

/// Says what it answered.
std::uintptr_t tell(const result<std::uintptr_t>& r) {
    print("  -> " + (r ? "handle " + address(*r) : r.error().line()) + "\n");
    return r.value_or(0);
}

outcome demo(const options& o) {
    narrator sink;
    std::optional<trace_session> session;
    if (o.trace) {
        auto s = trace_session::start("percpu:*", sink);
        if (!s) return std::unexpected(s.error());
        session.emplace(std::move(*s));
    }
    auto made = percpu::allocator::create({.name = "demo"});
    if (!made) return std::unexpected(made.error());
    percpu::allocator& a = **made;
    using percpu::alloc_flags;
    // Objects that nobody pays for and that fit a magazine would come by a path without trace points; nowarn is a reason to take the long one.
    constexpr alloc_flags watched = alloc_flags::nowarn;

    print(number(percpu::possible_cpus()) + " possible CPUs\n\n1. 96 bytes, charged to a group: through the maps; the first object of all, so a chunk is made\n");
    account::local_table groups(4);
    auto group = groups->create(groups->root(), "demo", 600 + 96 * std::uint64_t{percpu::possible_cpus()});
    if (!group) return std::unexpected(group.error());
    std::optional<account::scope> payer(*group);
    const std::uintptr_t paid = tell(a.alloc(96, 8, watched | alloc_flags::account));

    print("\n2. the same again: the group is at its limit, and nothing changes\n");
    tell(a.alloc(4096, 8, watched | alloc_flags::account));
    payer.reset();

    print("\n3. 40000 bytes: more than an object may have\n");
    tell(a.alloc(40'000, 8, watched));

    print("\n4. 64 bytes: the magazine of this CPU is empty and is filled\n");
    const std::uintptr_t first = tell(a.alloc(64, 8, watched));

    print("\n5. 64 bytes again: from the magazine\n");
    const std::uintptr_t second = tell(a.alloc(64, 8, watched));

    print("\n6. 8192 bytes, backed by memory on every possible CPU from the start\n");
    const std::uintptr_t backed = tell(a.alloc(8192, 64, watched | alloc_flags::populate_now));

    print("\n7. the object of 1. is used and freed\n");
    this_cpu::add(percpu::handle<std::uint64_t>(paid), 1);
    print(a.free(paid) == 0 ? "  -> freed\n" : "  -> not freed\n");
    print("\n8. and freed once more: caught\n");
    const int again = a.free(paid);
    print(again == EINVAL ? "  -> EINVAL: no live object has this handle\n" : "  -> freed twice\n");

    print("\n9. the rest is freed and everything given back\n");
    for (const std::uintptr_t v : {first, second, backed}) a.free(v);
    a.trim();
    made->reset();
    return paid && first && second && backed && again == EINVAL ? exit_code::ok : exit_code::no;
}

}  // namespace

void add_percpu_demo(registry& all) {
    auto o = std::make_shared<options>();
    all.add("percpu demo", "Walk allocations through the per-CPU allocator")
        .flag("--trace", o->trace, "tell each step as it happens: size check, charge, slot search, block fit, area, populate, clear")
        .notes("Objects of up to 1 KiB that nobody pays for usually come from a magazine by code that is inlined in the program and passes no trace point;\n"
               "the static probes (usdt:...:cohort:percpu_*) see those, too.")
        .run([o] { return demo(*o); });
}

}  // namespace cohort::cli
