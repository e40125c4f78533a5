// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/read_cpus.hpp>

#include <charconv>

#include <fmt/format.h>


namespace cohort::group::detail {
namespace {

constexpr std::string_view forms = "{ part = \"1/2\" }, or { count = 4, ... }";

/// "1/2" -> 1, 2
bool read_part(std::string_view text, int& part, int& of) {
    const auto slash = text.find('/');
    if (slash == std::string_view::npos) return false;
    const auto number = [](std::string_view t, int& into) {
        const auto [end, problem] = std::from_chars(t.data(), t.data() + t.size(), into);
        return !t.empty() && problem == std::errc() && end == t.data() + t.size();
    };
    return number(text.substr(0, slash), part) && number(text.substr(slash + 1), of) && part >= 1 && of >= part && of <= max_cpus;
}

void read_part(table_reader& in, cpu_wish& wish) {
    const auto text = in.string("part");
    if (!text) return;
    wish.kind = cpu_wish::form::part;
    wish.text = *text;
    if (!read_part(*text, wish.part, wish.of)) {
        in.fault_at(in.at("part"), fmt::format("part \"{}\" must be two numbers such as \"1/2\", the first 1 to the second, the second at most {}", *text, max_cpus));
    }
}

void read_wish(table_reader& in, cpu_wish& wish) {
    wish.kind = cpu_wish::form::count;
    wish.count = static_cast<int>(in.integer("count", 1, max_cpus).value_or(1));
    wish.whole_cores = in.boolean("whole_cores").value_or(false);
    wish.same_node = in.boolean("same_node").value_or(false);
    const toml::node* n = in.node("apart_from");
    if (!n) return;
    wish.apart_at = in.at("apart_from");
    if (n->is_string()) wish.apart_from.push_back(in.string("apart_from").value_or(""));
    else wish.apart_from = in.strings("apart_from").value_or(std::vector<std::string>{});
}

}  // namespace

cpu_wish read_cpus(table_reader& in, fault_list& faults, const environment& env) {
    cpu_wish wish;
    const toml::node* n = in.node("cpus");
    wish.at = in.at("cpus");
    if (!n) return wish;
    if (const toml::table* t = n->as_table()) {
        table_reader inner(*t, in.object(), faults, env);
        inner.learn_as("cohort.cpus");
        if (inner.has("count")) {
            read_wish(inner, wish);
            if (inner.has("part")) inner.node("part"), inner.fault_at(inner.at("part"), "\"part\" and \"count\" exclude each other");
        } else {
            inner.require("part", fmt::format("or \"count\", as in cpus = {}", forms));
            read_part(inner, wish);
        }
        inner.finish(inner.has("count") ? std::vector<std::pair<std::string, std::string>>{}
                                        : std::vector<std::pair<std::string, std::string>>{{"whole_cores", "goes with \"count\""}, {"same_node", "goes with \"count\""}, {"apart_from", "goes with \"count\""}});
        return wish;
    }
    if (!n->is_string()) {
        in.fault_at(wish.at, fmt::format("key \"cpus\" must be a list in a string, such as \"0-3,8\", {}", forms));
        return wish;
    }
    wish.kind = cpu_wish::form::list;
    wish.text = in.string("cpus").value_or("");
    const auto mask = cpumask::parse_list(wish.text);
    if (!mask) in.fault_at(wish.at, fmt::format("cpus \"{}\": {}", wish.text, mask.error().reason));
    else if (mask->empty()) in.fault_at(wish.at, fmt::format("cpus \"{}\": the list is empty", wish.text));
    return wish;
}

}  // namespace cohort::group::detail
