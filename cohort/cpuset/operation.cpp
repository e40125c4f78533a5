// SPDX-License-Identifier: Apache-2.0
#include <cohort/cpuset/operation.hpp>

#include <algorithm>
#include <array>
#include <limits>
#include <utility>

namespace cohort::cpuset {
namespace {

using fault = std::unexpected<grammar_fault>;

/// Words of a line, each with its column.
class words {
public:
    explicit words(std::string_view line) : line_(line) {}

    bool more() {
        while (at_ < line_.size() && is_space(line_[at_])) ++at_;
        return at_ < line_.size();
    }
    /// Empty at the end of the line.
    std::string_view next() {
        if (!more()) {
            start_ = line_.size();
            return {};
        }
        start_ = at_;
        while (at_ < line_.size() && !is_space(line_[at_])) ++at_;
        return line_.substr(start_, at_ - start_);
    }
    /// What is left, without the white space around it.
    std::string_view rest() {
        if (!more()) return {};
        std::size_t end = line_.size();
        while (end > at_ && is_space(line_[end - 1])) --end;
        start_ = std::exchange(at_, line_.size());
        return line_.substr(start_, end - start_);
    }
    /// A fault at the word that next() gave last.
    fault here(std::string why) const { return fault(grammar_fault{start_ + 1, std::move(why)}); }

private:
    static bool is_space(char c) { return c == ' ' || (c >= '\t' && c <= '\r'); }
    std::string_view line_;
    std::size_t at_ = 0, start_ = 0;
};

struct mode_word {
    std::string_view text;
    policy_mode mode;
};
constexpr std::array modes{mode_word{"default", policy_mode::none},
                           mode_word{"preferred", policy_mode::preferred},
                           mode_word{"bind", policy_mode::bind},
                           mode_word{"interleave", policy_mode::interleave},
                           mode_word{"local", policy_mode::local},
                           mode_word{"preferred-many", policy_mode::preferred_many},
                           mode_word{"weighted-interleave", policy_mode::weighted_interleave}};

/// What stands after the verb.
enum class part : unsigned char { none, path, file, value, task, child, list, mode, nodes, switched, cpu, online, version, count };

struct form {
    std::string_view name;
    verb what;
    std::array<part, 3> parts;
};
constexpr std::array forms{
    form{"mkdir", verb::mkdir, {part::path}},
    form{"rmdir", verb::rmdir, {part::path}},
    form{"write", verb::write, {part::path, part::file, part::value}},
    form{"read", verb::read, {part::path, part::file}},
    form{"attach", verb::attach, {part::path, part::task}},
    form{"fork", verb::fork, {part::task, part::child}},
    form{"exit", verb::exit, {part::task}},
    form{"affinity", verb::affinity, {part::task, part::list}},
    form{"mempolicy", verb::mempolicy, {part::task, part::mode, part::nodes}},
    form{"mbind", verb::mbind, {part::task, part::mode, part::nodes}},
    form{"controller", verb::controller, {part::path, part::switched}},
    form{"cpu", verb::cpu, {part::cpu, part::online}},
    form{"node", verb::node, {part::cpu, part::online}},
    form{"suspend", verb::suspend, {}},
    form{"resume", verb::resume, {}},
    form{"bind", verb::bind, {part::version}},
    form{"pressure", verb::pressure, {part::task, part::count}},
    form{"advance", verb::advance, {part::count}},
    form{"domains", verb::domains, {}},
    form{"tasks", verb::tasks, {part::path}},
    form{"task", verb::task, {part::task}},
};

std::string quoted(std::string_view text) {
    if (text.empty()) return "the end of the line";
    std::string out = "\"";
    for (char c : text.substr(0, 60)) out += c < ' ' || c > '~' ? '?' : c;
    return out + (text.size() > 60 ? "...\"" : "\"");
}

using step = std::expected<void, grammar_fault>;

step read_path(words& in, std::string& out) {
    const std::string_view word = in.next();
    if (word.empty()) return in.here("a path was expected (\".\" is the root)");
    if (word == ".") {
        out.clear();
        return {};
    }
    for (std::size_t at = 0; at <= word.size();) {
        const std::size_t end = std::min(word.find('/', at), word.size());
        const std::string_view name = word.substr(at, end - at);
        if (name.empty() || name == "." || name == "..") return in.here(quoted(word) + " is no path from the root, such as a/b");
        at = end + 1;
    }
    out = word;
    return {};
}

step read_word(words& in, std::string& out, const char* what) {
    out = in.next();
    if (out.empty()) return in.here(std::string(what) + " was expected");
    return {};
}

step read_number(words& in, std::int64_t& out) {
    const std::string_view word = in.next();
    if (word.empty() || !std::ranges::all_of(word, [](char c) { return c >= '0' && c <= '9'; })) return in.here("a whole number was expected, found " + quoted(word));
    out = 0;
    for (char c : word) {
        if (out > std::numeric_limits<int>::max()) return in.here(quoted(word) + " is too large");
        out = out * 10 + (c - '0');
    }
    return {};
}

step read_either(words& in, bool& out, std::string_view yes, std::string_view no) {
    const std::string_view word = in.next();
    out = word == yes;
    if (word != yes && word != no) return in.here(std::string(yes) + " or " + std::string(no) + " was expected, found " + quoted(word));
    return {};
}

step read_cpu_list(words& in, cpumask& out) {
    const std::string_view word = in.next();
    if (word.empty()) return in.here("a list of CPUs was expected");
    auto mask = cpumask::parse_list(word);
    if (!mask) return in.here(quoted(word) + " is no list of CPUs: " + mask.error().reason);
    out = *mask;
    return {};
}

step read_mode(words& in, memory_policy& out) {
    const std::string_view word = in.next();
    std::string_view left = word;
    const auto take = [&] {
        const std::size_t end = std::min(left.find('+'), left.size());
        const std::string_view piece = left.substr(0, end);
        left.remove_prefix(std::min(left.size(), end + 1));
        return piece;
    };
    const std::string_view name = take();
    const auto it = std::ranges::find(modes, name, &mode_word::text);
    if (it == modes.end()) return in.here(quoted(name) + " is no memory policy: default, preferred, bind, interleave, local, preferred-many, weighted-interleave");
    out.mode = it->mode;
    if (word.ends_with('+')) return in.here("a flag was expected after the last +: static, relative");
    while (!left.empty()) {
        const std::string_view flag = take();
        if (flag == "static") out.static_nodes = true;
        else if (flag == "relative") out.relative_nodes = true;
        else return in.here(quoted(flag) + " is no flag: static, relative");
    }
    return {};
}

step read_nodes(words& in, nodemask& out) {
    const std::string_view word = in.next();
    if (word.empty()) return {};
    auto mask = nodemask::parse_list(word);
    if (!mask) return in.here(quoted(word) + " is no list of nodes: " + mask.error().reason);
    out = *mask;
    return {};
}

step read_part(words& in, part p, operation& op) {
    switch (p) {
        case part::none: return {};
        case part::path: return read_path(in, op.path);
        case part::file: return read_word(in, op.file, "a file");
        case part::value: op.text = in.rest(); return {};
        case part::task: return read_word(in, op.task, "a task");
        case part::child: return read_word(in, op.child, "the name of the child");
        case part::list: return read_cpu_list(in, op.cpus);
        case part::mode: return read_mode(in, op.policy);
        case part::nodes: return read_nodes(in, op.policy.nodes);
        case part::switched: return read_either(in, op.on, "+cpuset", "-cpuset");
        case part::online: return read_either(in, op.on, "online", "offline");
        case part::version: return read_either(in, op.on, "v2", "v1");
        case part::cpu:
        case part::count: return read_number(in, op.number);
    }
    return {};
}

/// "as root", "as delegate P".
step read_user(words& in, operation& op) {
    bool root = false;
    if (auto s = read_either(in, root, "root", "delegate"); !s) return s;
    op.what = root ? verb::as_root : verb::as_delegate;
    return root ? step{} : read_path(in, op.path);
}

std::string policy_words(const memory_policy& p) {
    std::string out(mode_name(p.mode));
    if (p.static_nodes) out += "+static";
    if (p.relative_nodes) out += "+relative";
    if (!p.nodes.empty()) out += " " + p.nodes.list();
    return out;
}

std::string part_text(part p, const operation& op) {
    switch (p) {
        case part::none: return {};
        case part::path: return op.path.empty() ? "." : op.path;
        case part::file: return op.file;
        case part::value: return op.text;
        case part::task: return op.task;
        case part::child: return op.child;
        case part::list: return op.cpus.empty() ? "," : op.cpus.list();
        case part::mode: return policy_words(op.policy);
        case part::nodes: return {};
        case part::switched: return op.on ? "+cpuset" : "-cpuset";
        case part::online: return op.on ? "online" : "offline";
        case part::version: return op.on ? "v2" : "v1";
        case part::cpu:
        case part::count: return std::to_string(op.number);
    }
    return {};
}

}  // namespace

std::expected<operation, grammar_fault> parse_operation(std::string_view line) {
    words in(line);
    const std::string_view name = in.next();
    operation op;
    if (name == "as") {
        if (auto s = read_user(in, op); !s) return fault(s.error());
    } else {
        const auto it = std::ranges::find(forms, name, &form::name);
        if (it == forms.end()) return in.here(name.empty() ? "a command was expected" : quoted(name) + " is no command");
        op.what = it->what;
        for (part p : it->parts) {
            if (auto s = read_part(in, p, op); !s) return fault(s.error());
        }
    }
    if (const std::string_view more = in.next(); !more.empty()) return in.here("the line should end here, found " + quoted(more));
    return op;
}

std::string to_line(const operation& op) {
    if (op.what == verb::as_root) return "as root";
    if (op.what == verb::as_delegate) return "as delegate " + part_text(part::path, op);
    const auto it = std::ranges::find(forms, op.what, &form::what);
    std::string out(it->name);
    for (part p : it->parts) {
        if (const std::string text = part_text(p, op); !text.empty()) out += " " + text;
    }
    return out;
}

}  // namespace cohort::cpuset
