// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/cpuset_target.hpp>

#include <fmt/format.h>

#include <cohort/group/detail/table_reader.hpp>

namespace cohort::group {
namespace {

using detail::fault_list;
using detail::place_of;
using detail::table_reader;

template <class Mask>
void list(table_reader& in, std::string_view key, std::optional<Mask>& out) {
    const auto text = in.string(key);
    if (!text) return;
    auto mask = Mask::parse_list(*text);
    if (mask) out = *mask;
    else in.fault_at(in.at(key), fmt::format("key \"{}\": \"{}\" is no list: {}", key, *text, mask.error().reason));
}

void flags(table_reader& in, std::map<std::string, std::string>& out) {
    const toml::node* n = in.node("flags");
    if (!n) return;
    const toml::table* t = n->as_table();
    if (!t) return in.fault_at(place_of(*n), "key \"flags\" must be a table of files and texts");
    for (const auto& [key, value] : *t) {
        if (const auto* s = value.as_string()) out[std::string(key.str())] = s->get();
        else in.fault_at(place_of(value), fmt::format("flag \"{}\" must be a string, as it is written to the file", key.str()));
    }
}

void one_set(const toml::table& table, fault_list& faults, cpuset::target& out) {
    table_reader in(table, "set", faults);
    cpuset::target_set s;
    in.require("path");
    s.path = in.string("path").value_or("");
    in.name_object(fmt::format("set \"{}\"", s.path));
    list(in, "cpus", s.cpus);
    list(in, "mems", s.mems);
    list(in, "exclusive", s.exclusive);
    s.partition = in.word("partition", {"member", "root", "isolated"});
    s.tasks = in.strings("tasks").value_or(std::vector<std::string>{});
    flags(in, s.flags);
    in.finish();
    out.sets.push_back(std::move(s));
}

void root(const toml::table& table, fault_list& faults, cpuset::target& out) {
    table_reader in(table, "", faults);
    out.prune = in.boolean("prune").value_or(false);
    in.tables("set", [&](const toml::table& t, std::size_t) { one_set(t, faults, out); });
    if (!in.has("set")) faults.add({1, 1}, "", "no [[set]]: a target names at least one");
    in.finish();
}

}  // namespace

cpuset_target read_cpuset_target(const std::string& file, std::string_view text) {
    cpuset_target out;
    fault_list faults(file);
    detail::read_toml(file, text, faults, [&](const toml::table& table) { root(table, faults, out.value); });
    out.faults = faults.take();
    return out;
}

}  // namespace cohort::group
