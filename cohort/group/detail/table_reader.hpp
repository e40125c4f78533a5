// SPDX-License-Identifier: Apache-2.0
/// Reads one TOML table key by key and notes every fault with its place; what was not asked for is an unknown key.
#pragma once

#include <functional>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <vector>

#include <toml++/toml.h>

#include <cohort/group/spec.hpp>

namespace cohort::group::detail {

place place_of(const toml::node& node);
place place_of(const toml::key& key);

/// 1 to 64 letters, digits, '-', '_' and '.', the first a letter, digit or '_'.
bool is_name(std::string_view text);
/// What a person calls the type of a TOML value: "a string".
std::string_view type_text(const toml::node& node);

/// Collects the faults of one file.
class fault_list {
public:
    explicit fault_list(std::string file) : file_(std::move(file)) {}
    void add(place at, std::string object, std::string text) { list_.push_back({file_, at, std::move(object), std::move(text)}); }
    /// In the order of the file.
    std::vector<fault> take();
    /// Keys that were asked for, by kind of table (table_reader::learn_as).
    std::map<std::string, std::set<std::string>>& keys() { return keys_; }

private:
    std::string file_;
    std::vector<fault> list_;
    std::map<std::string, std::set<std::string>> keys_;
};

/// Hands the table of a TOML text on; a text that is none is a fault. file: for the parser's messages.
void read_toml(const std::string& file, std::string_view text, fault_list& faults, const std::function<void(const toml::table&)>& root);

/// An environment without variables, for files in which no string is a path.
inline const environment no_environment = [](std::string_view) { return std::optional<std::string>(); };

/// By what a room keeps what it is asked for, as it is written.
inline const std::vector<std::string> policy_words = {"require", "prefer", "emulate"};
template <class Policy>
Policy policy_of(std::string_view word) {
    return word == "require" ? Policy::require : word == "prefer" ? Policy::prefer : Policy::emulate;
}

class table_reader {
public:
    /// `env` fills `${NAME}` in strings that are paths.
    table_reader(const toml::table& table, std::string object, fault_list& faults, const environment& env = no_environment)
        : table_(table), object_(std::move(object)), faults_(faults), env_(env) {}

    /// finish() writes down which keys this kind of table has.
    void learn_as(std::string kind) { kind_ = std::move(kind); }
    void name_object(std::string object) { object_ = std::move(object); }
    const std::string& object() const { return object_; }
    void fault_at(place at, std::string text) { faults_.add(at, object_, std::move(text)); }
    place at(std::string_view key) const;
    place at() const { return place_of(table_); }
    bool has(std::string_view key) const { return table_.contains(key); }

    /// Each marks the key as known and answers nullopt when it is missing or faulty (a fault was noted then).
    const toml::node* node(std::string_view key);
    std::optional<std::string> string(std::string_view key);
    std::optional<std::string> path(std::string_view key);
    std::optional<std::string> word(std::string_view key, const std::vector<std::string>& allowed);
    std::optional<std::string> name(std::string_view key);
    std::optional<bool> boolean(std::string_view key);
    std::optional<std::int64_t> integer(std::string_view key, std::int64_t low, std::int64_t high);
    /// A number, whole or not.
    std::optional<double> real(std::string_view key, double low, double high);
    std::optional<std::uint64_t> bytes(std::string_view key);
    /// In nanoseconds.
    std::optional<std::uint64_t> duration(std::string_view key);
    std::optional<std::vector<std::string>> strings(std::string_view key);
    /// Where each entry of a list stands.
    std::vector<place> entries_at(std::string_view key) const;
    std::optional<command_line> command(std::string_view key);
    /// The tables of `[[key]]`, each handed to `each` with its number from 0.
    template <class Each>
    void tables(std::string_view key, Each each);
    /// Notes a fault when the key is missing.
    void require(std::string_view key, std::string_view why = {});

    /// Notes every key that was not asked for. `others`: keys that exist elsewhere, with the sentence that says where.
    void finish(const std::vector<std::pair<std::string, std::string>>& others = {});

private:
    void wrong_type(const toml::node& node, std::string_view key, std::string_view wanted);
    void not_tables(const toml::node& node, std::string_view key);

    const toml::table& table_;
    std::string object_;
    fault_list& faults_;
    const environment& env_;
    std::vector<std::string> known_;
    std::optional<std::string> kind_;
};

template <class Each>
void table_reader::tables(std::string_view key, Each each) {
    const toml::node* n = node(key);
    if (!n) return;
    const toml::array* list = n->as_array();
    if (!list) return not_tables(*n, key);
    std::size_t index = 0;
    for (const toml::node& item : *list) {
        if (const toml::table* t = item.as_table()) each(*t, index);
        else not_tables(item, key);
        ++index;
    }
}

}  // namespace cohort::group::detail
