// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/spec.hpp>

#include <algorithm>

#include <fmt/format.h>

#include <cohort/group/detail/check_spec.hpp>
#include <cohort/group/detail/read_cookie.hpp>
#include <cohort/group/detail/read_cpus.hpp>
#include <cohort/group/detail/read_job.hpp>
#include <cohort/group/detail/table_reader.hpp>
#include <cohort/group/quantity.hpp>

namespace cohort::group {

using detail::fault_list;
using detail::place_of;
using detail::table_reader;

std::string fault::line() const {
    std::string out = file;
    if (at.line > 0) out += fmt::format(":{}:{}", at.line, at.column);
    if (!object.empty()) out += ": " + object;
    return out + ": " + text;
}

std::string command_line::text() const {
    if (shell && words.size() == 3) return words[2];
    std::string out;
    for (const std::string& w : words) {
        const bool plain = !w.empty() && w.find_first_of(" \t\n\"'\\$&|;<>()*?[]{}~#`!") == std::string::npos;
        out += (out.empty() ? "" : " ") + (plain ? w : "'" + w + "'");
    }
    return out;
}

std::string pool_spec::text() const {
    std::string out_text = of.empty() ? human_bytes(static_cast<double>(bytes)) : "that of cohort \"" + of + "\"";
    if (huge != pages::never) out_text += huge == pages::prefer ? ", huge pages if possible" : ", huge pages";
    if (read_only) out_text += ", exec jobs may read only";
    if (limit > 0) out_text += ", limit " + human_bytes(static_cast<double>(limit));
    return out_text;
}

std::string restart_rule::text() const {
    if (kind == form::never) return "never";
    const auto seconds = [](std::uint64_t ns) { return human_seconds(static_cast<double>(ns) / 1e9); };
    std::string out = kind == form::always ? "always" : "on failure";
    if (max > 0) out += fmt::format(", at most {} {}", max, max == 1 ? "time" : "times");
    return out + fmt::format(", after {}{}", seconds(backoff_ns), longest_ns > backoff_ns && max != 1 ? " to " + seconds(longest_ns) : "");
}

spec without_cohorts(spec s) {
    for (cohort_spec& c : s.cohorts) {
        c.cpus = {};
        c.mems.clear(), c.partition.clear();
        c.cookie_wish.clear(), c.cookie_parts.clear(), c.cookie.clear();
        c.cpuset = cpuset_policy::none;
    }
    return s;
}

const cohort_spec* spec::cohort_named(std::string_view name) const {
    const auto it = std::find_if(cohorts.begin(), cohorts.end(), [&](const cohort_spec& c) { return c.name == name; });
    return it == cohorts.end() ? nullptr : &*it;
}

bool spec::wants_cpusets() const {
    return std::any_of(cohorts.begin(), cohorts.end(), [](const cohort_spec& c) { return c.cpuset != cpuset_policy::none; });
}

const job_spec* spec::job_named(std::string_view name) const {
    const auto it = std::find_if(jobs.begin(), jobs.end(), [&](const job_spec& j) { return j.name == name; });
    return it == jobs.end() ? nullptr : &*it;
}

result<std::string> expand(std::string_view text, const environment& env) {
    const std::string object = "text \"" + std::string(text) + "\"";
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '$') {
            out += text[i];
        } else if (i + 1 < text.size() && text[i + 1] == '$') {
            out += '$';
            ++i;
        } else if (i + 1 < text.size() && text[i + 1] == '{') {
            std::size_t end = i + 2;
            for (int depth = 1; end < text.size(); ++end) {
                if (text[end] == '{') ++depth;
                if (text[end] == '}' && --depth == 0) break;
            }
            if (end >= text.size()) return fail(EINVAL, object, "expand", "\"${\" without \"}\"");
            const std::string_view inside = text.substr(i + 2, end - i - 2);
            const auto colon = inside.find(":-");
            const std::string_view name = inside.substr(0, colon);
            const auto value = env(name);
            if (value && !value->empty()) {
                out += *value;
            } else if (colon != std::string_view::npos) {
                auto otherwise = expand(inside.substr(colon + 2), env);
                if (!otherwise) return otherwise;
                out += *otherwise;
            } else {
                return fail(EINVAL, object, "expand",
                            fmt::format("the environment has no {0}; write ${{{0}:-default}} or set it", name));
            }
            i = end;
        } else {
            out += '$';
        }
    }
    return out;
}

namespace {

struct parser {
    spec& out;
    fault_list& faults;
    const environment& env;

    void root(const toml::table& table);
    void cohort(const toml::table& table, std::size_t index);
    void cpuset(table_reader& in, cohort_spec& c);
    void cores(table_reader& in);
    void pool(table_reader& in, cohort_spec& c);
};

void parser::root(const toml::table& table) {
    table_reader in(table, "", faults, env);
    in.learn_as("");
    const auto section = [&](const std::string& name, const std::string& example, const auto& read) {
        const toml::node* n = in.node(name);
        if (!n) return;
        const toml::table* t = n->as_table();
        if (!t) return in.fault_at(place_of(*n), "\"" + name + "\" must be a table: [" + name + "] and then " + example);
        table_reader of(*t, name, faults, env);
        of.learn_as(name);
        read(of);
        of.finish();
    };
    section("machine", "topology = \"live\"", [&](table_reader& of) {
        out.machine = of.path("topology").value_or("");
        cores(of);
    });
    section("cpuset", "under = \"a/b\"", [&](table_reader& of) { out.cpusets_under = of.string("under").value_or(""); });
    section("policy", "cpuset = \"prefer\"", [&](table_reader& of) {
        if (const auto policy = of.word("cpuset", detail::policy_words)) out.cpuset = detail::policy_of<cpuset_policy>(*policy);
        if (const auto policy = of.word("coresched", detail::policy_words)) out.coresched = detail::policy_of<cookie_policy>(*policy);
    });
    out.about = in.string("about").value_or("");
    out.workdir = in.path("workdir").value_or("");
    out.stop_on_failure = in.word("on_failure", {"continue", "stop"}).value_or("continue") == "stop";
    in.tables("cohort", [&](const toml::table& t, std::size_t i) { cohort(t, i); });
    in.tables("job", [&](const toml::table& t, std::size_t i) { detail::read_job(t, i, out, faults, env); });
    in.finish();
    if (!in.has("cohort")) faults.add({1, 1}, "", "no [[cohort]]: a spec has at least one");
    detail::check_spec(out, faults);
}

void parser::cohort(const toml::table& table, std::size_t index) {
    table_reader in(table, fmt::format("cohort #{}", index + 1), faults, env);
    in.learn_as("cohort");
    cohort_spec c;
    c.at = in.at("name");
    in.require("name");
    if (auto name = in.name("name")) {
        c.name = *name;
        in.name_object("cohort \"" + c.name + "\"");
        if (const cohort_spec* other = out.cohort_named(c.name)) {
            in.fault_at(c.at, fmt::format("the name is used twice, first in line {}", other->at.line));
        }
    }
    c.cpus = detail::read_cpus(in, faults, env);
    if (in.has("inside")) c.inside_at = in.at("inside");
    c.inside = in.string("inside").value_or("");
    cpuset(in, c);
    detail::read_cookie(in, c, faults);
    c.memory_at = in.at("memory");
    if (auto memory = in.bytes("memory")) c.memory = *memory;
    pool(in, c);
    in.finish();
    out.cohorts.push_back(std::move(c));
}

void parser::cpuset(table_reader& in, cohort_spec& c) {
    c.mems_at = in.at("mems");
    if (auto text = in.string("mems")) {
        const auto nodes = nodemask::parse_list(*text);
        if (!nodes) in.fault_at(c.mems_at, fmt::format("mems \"{}\": {}", *text, nodes.error().reason));
        else if (nodes->empty()) in.fault_at(c.mems_at, fmt::format("mems \"{}\": the list is empty", *text));
        c.mems = *text;
    }
    c.partition = in.word("partition", {"member", "root", "isolated"}).value_or("");
    if (in.has("cpuset")) c.cpuset_at = in.at("cpuset");
    if (const auto policy = in.word("cpuset", detail::policy_words)) c.cpuset = detail::policy_of<cpuset_policy>(*policy);
}

void parser::pool(table_reader& in, cohort_spec& c) {
    constexpr std::uint64_t least = 2u << 20, most = std::uint64_t{128} << 30;
    const toml::node* n = in.node("pool");
    if (!n) return;
    c.pool.at = in.at("pool");
    if (const toml::table* t = n->as_table()) {
        table_reader inner(*t, in.object(), faults, env);
        inner.learn_as("cohort.pool");
        if (inner.has("of")) {
            for (const char* key : {"size", "huge", "limit"}) {
                if (inner.has(key)) inner.fault_at(inner.at(key), fmt::format("\"{}\" is said where the pool is made, by the cohort whose it is", key));
            }
            c.pool.of_at = inner.at("of");
            c.pool.of = inner.name("of").value_or("");
        } else {
            inner.require("size", "as in pool = { size = \"1G\" }, or pool = { of = \"another cohort\" }");
        }
        c.pool.bytes = inner.bytes("size").value_or(0);
        const std::string huge = inner.word("huge", {"prefer", "require", "never"}).value_or("never");
        c.pool.huge = huge == "never" ? pool_spec::pages::never : huge == "prefer" ? pool_spec::pages::prefer : pool_spec::pages::require;
        c.pool.read_only = inner.word("members", {"rw", "ro"}).value_or("rw") == "ro";
        c.pool.limit = inner.bytes("limit").value_or(0);
        if (c.pool.bytes > 0 && c.pool.limit > c.pool.bytes) inner.fault_at(inner.at("limit"), "the limit is larger than the pool");
        inner.finish();
    } else if (n->is_string() || n->is_integer()) {
        c.pool.bytes = in.bytes("pool").value_or(0);
    } else {
        return in.fault_at(c.pool.at, "key \"pool\" must be a size such as \"1G\", or { size = \"1G\", huge = ..., members = ..., limit = ... }, or { of = \"another cohort\", members = ... }");
    }
    if (c.pool.bytes != 0 && (c.pool.bytes < least || c.pool.bytes > most)) in.fault_at(c.pool.at, "a pool has 2 MiB to 128 GiB");
}

void parser::cores(table_reader& in) {
    out.cores_at = in.at("cores");
    cpumask seen;
    for (const std::string& text : in.strings("cores").value_or(std::vector<std::string>{})) {
        const auto cpus = cpumask::parse_list(text);
        if (!cpus || cpus->empty()) {
            in.fault_at(out.cores_at, fmt::format("cores \"{}\": {}", text, cpus ? "the list is empty" : cpus.error().reason));
            continue;
        }
        if (cpus->intersects(seen)) in.fault_at(out.cores_at, fmt::format("cores \"{}\": CPU {} is in two cores", text, (*cpus & seen).list()));
        seen |= *cpus;
        out.cores.push_back(*cpus);
    }
}

}  // namespace

spec_reading read_spec(std::string file, std::string_view text, const environment& env) {
    spec_reading out;
    out.value.file = file;
    fault_list faults(file);
    detail::read_toml(file, text, faults, [&](const toml::table& table) { parser{out.value, faults, env}.root(table); });
    out.faults = faults.take();
    out.keys = faults.keys();
    return out;
}

}  // namespace cohort::group
