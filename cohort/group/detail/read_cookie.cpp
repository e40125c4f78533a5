// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/read_cookie.hpp>

#include <map>
#include <set>

#include <fmt/format.h>

#include <cohort/group/detail/cycles.hpp>
#include <cohort/group/spell.hpp>

namespace cohort::group::detail {
namespace {

constexpr std::string_view forms = "a name, \"own\", \"none\", { same_as = \"COHORT\" }, or a list of these";

/// One part: a string or a table. alone: it is no entry of a list.
void read_one(const toml::node& n, table_reader& in, cohort_spec& c, fault_list& faults, bool alone) {
    const place at = place_of(n);
    if (const toml::table* t = n.as_table()) {
        table_reader inner(*t, in.object(), faults);
        inner.learn_as("cohort.cookie");
        inner.require("same_as", "as in cookie = { same_as = \"web\" }");
        if (auto other = inner.string("same_as")) c.cookie_wish.push_back({cookie_part::form::same_as, *other, inner.at("same_as")});
        return inner.finish();
    }
    const auto* text = n.as_string();
    if (!text) return in.fault_at(at, fmt::format("key \"cookie\" must be {}; this is {}", forms, type_text(n)));
    const std::string& word = text->get();
    if (word == "own") c.cookie_wish.push_back({cookie_part::form::own, c.name, at});
    else if (word == "none" && !alone) in.fault_at(at, "\"none\" is no part of a cookie");
    else if (word == "none") return;
    else if (is_name(word)) c.cookie_wish.push_back({cookie_part::form::label, word, at});
    else in.fault_at(at, fmt::format("cookie \"{}\" is not a name: 1 to 64 letters, digits, '-', '_' and '.', the first a letter, digit or '_'", word));
}

class resolver {
public:
    resolver(spec& s, fault_list& faults) : s_(s), faults_(faults), resolved_(s.cohorts.size()) {
        for (std::size_t i = 0; i < s.cohorts.size(); ++i) {
            if (s.cohorts[i].name.empty()) continue;
            by_name_.emplace(s.cohorts[i].name, i);
            names_.push_back(s.cohorts[i].name);
        }
    }

    void run() {
        for (const cohort_spec& c : s_.cohorts) check_names(c);
        const auto found = [this](const std::vector<std::size_t>& cycle) {
            std::string text;
            for (const std::size_t i : cycle) text += fmt::format("\"{}\" has that of ", s_.cohorts[i].name);
            const cohort_spec& last = s_.cohorts[cycle.back()];
            faults_.add(last.cookie_at.line > 0 ? last.cookie_at : last.at, object(last), fmt::format("a cycle in cookie: {}\"{}\"", text, s_.cohorts[cycle.front()].name));
        };
        find_cycles(s_.cohorts.size(), [this](std::size_t i) { return sources_of(i); }, found);
        for (std::size_t i = 0; i < s_.cohorts.size(); ++i) resolve(i);
        for (const cohort_spec& c : s_.cohorts) check_result(c);
        for (cohort_spec& c : s_.cohorts) {
            if (c.cookie_at.line == 0 && !c.cookie.empty()) c.cookie_at = c.at;
        }
    }

private:
    static std::string object(const cohort_spec& c) { return "cohort \"" + c.name + "\""; }

    void check_names(const cohort_spec& c) {
        for (const cookie_part& p : c.cookie_wish) {
            if (p.kind != cookie_part::form::same_as) continue;
            if (p.name == c.name) faults_.add(p.at, object(c), "its cookie cannot be the same as its own; \"own\" is one of its own");
            else if (!by_name_.contains(p.name)) faults_.add(p.at, object(c), fmt::format("cohort \"{}\" does not exist{}", p.name, did_you_mean(p.name, names_)));
        }
    }

    void check_result(const cohort_spec& c) {
        for (const cookie_part& p : c.cookie_wish) {
            const auto other = p.kind == cookie_part::form::same_as ? by_name_.find(p.name) : by_name_.end();
            if (other == by_name_.end()) continue;
            const cohort_spec& o = s_.cohorts[other->second];
            if (o.cookie.empty() && o.cookie_wish.empty()) faults_.add(p.at, object(c), fmt::format("cohort \"{}\" has no cookie", p.name));
        }
        const bool said = c.cookie_at.line > 0;
        if (said && c.cookie_wish.empty() && !c.cookie.empty()) faults_.add(c.cookie_at, object(c), fmt::format("it is inside of cohort \"{}\" and has the cookie of that one: it cannot have none", c.inside));
        if (c.coresched_at.line > 0 && !said && c.cookie.empty()) faults_.add(c.coresched_at, object(c), "\"coresched\" says by what a cookie is kept: this cohort has no \"cookie\"");
    }

    /// Cohorts whose parts it has.
    std::vector<std::size_t> sources_of(std::size_t i) const {
        std::vector<std::size_t> out;
        const cohort_spec& c = s_.cohorts[i];
        if (const auto above = by_name_.find(c.inside); above != by_name_.end()) out.push_back(above->second);
        for (const cookie_part& p : c.cookie_wish) {
            const auto other = p.kind == cookie_part::form::same_as ? by_name_.find(p.name) : by_name_.end();
            if (other != by_name_.end()) out.push_back(other->second);
        }
        return out;
    }

    /// In a cycle, which is a fault, somebody's parts are missing.
    void resolve(std::size_t i) {
        if (resolved_[i]) return;
        resolved_[i] = true;
        cohort_spec& c = s_.cohorts[i];
        std::set<std::string> parts;
        for (const std::size_t from : sources_of(i)) {
            resolve(from);
            parts.insert(s_.cohorts[from].cookie_parts.begin(), s_.cohorts[from].cookie_parts.end());
        }
        for (const cookie_part& p : c.cookie_wish) {
            if (p.kind == cookie_part::form::label) parts.insert(p.name);
            if (p.kind == cookie_part::form::own) parts.insert("own(" + c.name + ")");
        }
        c.cookie_parts.assign(parts.begin(), parts.end());
        for (const std::string& p : c.cookie_parts) c.cookie += (c.cookie.empty() ? "" : "+") + p;
        const auto above = by_name_.find(c.inside);
        if (c.coresched_at.line == 0) c.coresched = above != by_name_.end() ? s_.cohorts[above->second].coresched : s_.coresched.value_or(cookie_policy::prefer);
    }

    spec& s_;
    fault_list& faults_;
    std::vector<bool> resolved_;
    std::map<std::string_view, std::size_t> by_name_;  // of two of one name the first
    std::vector<std::string> names_;
};

}  // namespace

void read_cookie(table_reader& in, cohort_spec& c, fault_list& faults) {
    if (const toml::node* n = in.node("cookie")) {
        c.cookie_at = in.at("cookie");
        if (const toml::array* list = n->as_array()) {
            if (list->empty()) in.fault_at(c.cookie_at, "key \"cookie\" is an empty list; \"none\" is no cookie");
            for (const toml::node& item : *list) read_one(item, in, c, faults, false);
        } else {
            read_one(*n, in, c, faults, true);
        }
    }
    if (in.has("coresched")) c.coresched_at = in.at("coresched");
    if (const auto policy = in.word("coresched", policy_words)) c.coresched = policy_of<cookie_policy>(*policy);
}

void resolve_cookies(spec& s, fault_list& faults) { resolver(s, faults).run(); }

}  // namespace cohort::group::detail
