// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/table_reader.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>
#include <cohort/group/spell.hpp>

namespace cohort::group::detail {
namespace {

std::string join(const std::vector<std::string>& words) {
    std::string out;
    for (const std::string& w : words) out += (out.empty() ? "" : ", ") + w;
    return out;
}

}  // namespace

std::string_view type_text(const toml::node& node) {
    switch (node.type()) {
        case toml::node_type::string: return "a string";
        case toml::node_type::integer: return "a number";
        case toml::node_type::floating_point: return "a fraction";
        case toml::node_type::boolean: return "true or false";
        case toml::node_type::array: return "a list";
        case toml::node_type::table: return "a table";
        default: return "a date or time";
    }
}

bool is_name(std::string_view text) {
    const auto letter = [](char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; };
    if (text.empty() || text.size() > 64 || !letter(text[0])) return false;
    return std::all_of(text.begin(), text.end(), [&](char c) { return letter(c) || c == '-' || c == '.'; });
}

place place_of(const toml::node& node) {
    return {static_cast<int>(node.source().begin.line), static_cast<int>(node.source().begin.column)};
}
place place_of(const toml::key& key) {
    return {static_cast<int>(key.source().begin.line), static_cast<int>(key.source().begin.column)};
}

std::vector<fault> fault_list::take() {
    std::stable_sort(list_.begin(), list_.end(), [](const fault& a, const fault& b) {
        return std::pair(a.at.line, a.at.column) < std::pair(b.at.line, b.at.column);
    });
    return std::move(list_);
}

void read_toml(const std::string& file, std::string_view text, fault_list& faults, const std::function<void(const toml::table&)>& root) {
    try {
        root(toml::parse(text, file));
    } catch (const toml::parse_error& e) {
        faults.add({static_cast<int>(e.source().begin.line), static_cast<int>(e.source().begin.column)}, "", "not TOML: " + std::string(e.description()));
    }
}

place table_reader::at(std::string_view key) const {
    const toml::node* n = table_.get(key);
    return n ? place_of(*n) : place_of(table_);
}

void table_reader::wrong_type(const toml::node& node, std::string_view key, std::string_view wanted) {
    fault_at(place_of(node), fmt::format("key \"{}\" must be {}, not {}", key, wanted, type_text(node)));
}

void table_reader::not_tables(const toml::node& node, std::string_view key) {
    fault_at(place_of(node), fmt::format("\"{0}\" must be written [[{0}]], once for each {0}", key));
}

const toml::node* table_reader::node(std::string_view key) {
    known_.emplace_back(key);
    return table_.get(key);
}

std::optional<std::string> table_reader::string(std::string_view key) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    if (const auto* s = n->as_string()) {
        if (s->get().find('\0') == std::string::npos) return s->get();
        fault_at(place_of(*n), fmt::format("key \"{}\" contains a zero byte", key));
    } else {
        wrong_type(*n, key, "a string");
    }
    return std::nullopt;
}

std::optional<std::string> table_reader::path(std::string_view key) {
    auto text = string(key);
    if (!text) return std::nullopt;
    auto full = expand(*text, env_);
    if (!full) {
        fault_at(at(key), fmt::format("key \"{}\": {}", key, full.error().reason));
        return std::nullopt;
    }
    if (full->empty()) {
        fault_at(at(key), fmt::format("key \"{}\" is an empty path", key));
        return std::nullopt;
    }
    return *full;
}

std::optional<std::string> table_reader::word(std::string_view key, const std::vector<std::string>& allowed) {
    auto text = string(key);
    if (!text || std::find(allowed.begin(), allowed.end(), *text) != allowed.end()) return text;
    fault_at(at(key), fmt::format("{} \"{}\" is none of {}{}", key, *text, join(allowed), did_you_mean(*text, allowed)));
    return std::nullopt;
}

std::optional<std::string> table_reader::name(std::string_view key) {
    auto text = string(key);
    if (!text || is_name(*text)) return text;
    fault_at(at(key), fmt::format("{} \"{}\" is not a name: 1 to 64 letters, digits, '-', '_' and '.', the first a letter, digit or '_'", key,
                                  *text));
    return std::nullopt;
}

std::optional<bool> table_reader::boolean(std::string_view key) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    if (const auto* b = n->as_boolean()) return b->get();
    wrong_type(*n, key, "true or false");
    return std::nullopt;
}

std::optional<std::int64_t> table_reader::integer(std::string_view key, std::int64_t low, std::int64_t high) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    const auto* i = n->as_integer();
    if (!i) {
        wrong_type(*n, key, "a whole number");
        return std::nullopt;
    }
    if (i->get() >= low && i->get() <= high) return i->get();
    fault_at(place_of(*n), fmt::format("key \"{}\" is {}, it must be {} to {}", key, i->get(), low, high));
    return std::nullopt;
}

std::optional<double> table_reader::real(std::string_view key, double low, double high) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    const std::optional<double> v = n->is_boolean() ? std::nullopt : n->value<double>();
    if (!v) {
        wrong_type(*n, key, "a number");
        return std::nullopt;
    }
    if (*v >= low && *v <= high) return v;
    fault_at(place_of(*n), fmt::format("key \"{}\" is {}, it must be {} to {}", key, *v, low, high));
    return std::nullopt;
}

std::optional<std::uint64_t> table_reader::bytes(std::string_view key) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    if (const auto* i = n->as_integer()) {
        if (i->get() > 0) return static_cast<std::uint64_t>(i->get());
        fault_at(place_of(*n), fmt::format("key \"{}\" is {}, it must be at least 1 byte", key, i->get()));
    } else if (const auto* s = n->as_string()) {
        auto size = parse_bytes(s->get());
        if (size) return *size;
        fault_at(place_of(*n), fmt::format("key \"{}\": \"{}\": {}", key, s->get(), size.error().reason));
    } else {
        wrong_type(*n, key, "a number of bytes or a size such as \"64K\"");
    }
    return std::nullopt;
}

std::optional<std::uint64_t> table_reader::duration(std::string_view key) {
    const auto text = string(key);
    if (!text) return std::nullopt;
    auto time = parse_duration(*text);
    if (time) return *time;
    fault_at(at(key), fmt::format("key \"{}\": \"{}\": {}", key, *text, time.error().reason));
    return std::nullopt;
}

std::optional<std::vector<std::string>> table_reader::strings(std::string_view key) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    const toml::array* list = n->as_array();
    if (!list) {
        wrong_type(*n, key, "a list of strings");
        return std::nullopt;
    }
    std::vector<std::string> out;
    for (const toml::node& item : *list) {
        const auto* s = item.as_string();
        if (s && s->get().find('\0') == std::string::npos) out.push_back(s->get());
        else if (s) fault_at(place_of(item), fmt::format("key \"{}\": an entry contains a zero byte", key));
        else fault_at(place_of(item), fmt::format("key \"{}\": every entry must be a string, this one is {}", key, type_text(item)));
    }
    if (out.size() != list->size()) return std::nullopt;
    return out;
}

std::vector<place> table_reader::entries_at(std::string_view key) const {
    std::vector<place> out;
    const toml::node* n = table_.get(key);
    if (const toml::array* list = n ? n->as_array() : nullptr) {
        for (const toml::node& item : *list) out.push_back(place_of(item));
    }
    return out;
}

std::optional<command_line> table_reader::command(std::string_view key) {
    const toml::node* n = node(key);
    if (!n) return std::nullopt;
    command_line out;
    if (n->is_string()) {
        auto line = string(key);
        if (!line) return std::nullopt;
        out.shell = true;
        if (line->find_first_not_of(" \t\n") != std::string::npos) out.words = {"/bin/sh", "-c", *line};
    } else if (n->is_array()) {
        auto words = strings(key);
        if (!words) return std::nullopt;
        if (!words->empty() && !words->front().empty()) out.words = *words;
    } else {
        wrong_type(*n, key, "a list of words or one line for the shell");
        return std::nullopt;
    }
    if (!out.empty()) return out;
    fault_at(place_of(*n), fmt::format("key \"{}\" is an empty command", key));
    return std::nullopt;
}

void table_reader::require(std::string_view key, std::string_view why) {
    if (!has(key)) fault_at(at(), fmt::format("key \"{}\" is missing{}{}", key, why.empty() ? "" : ": ", why));
}

void table_reader::finish(const std::vector<std::pair<std::string, std::string>>& others) {
    if (kind_) faults_.keys()[*kind_].insert(known_.begin(), known_.end());
    for (const auto& [key, value] : table_) {
        if (std::find(known_.begin(), known_.end(), key.str()) != known_.end()) continue;
        const auto elsewhere = std::find_if(others.begin(), others.end(), [&](const auto& o) { return o.first == key.str(); });
        if (elsewhere != others.end()) fault_at(place_of(key), fmt::format("key \"{}\" {}", key.str(), elsewhere->second));
        else fault_at(place_of(key), fmt::format("key \"{}\" is unknown{}", key.str(), did_you_mean(key.str(), known_)));
    }
}

}  // namespace cohort::group::detail
