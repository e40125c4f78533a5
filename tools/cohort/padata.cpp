// SPDX-License-Identifier: Apache-2.0
// Running padata instances, of this program and others: which there are, what they do, and their masks.
#include <algorithm>
#include <filesystem>
#include <memory>

#include <fmt/format.h>
#include <nlohmann/json.hpp>

#include <cohort/group/table.hpp>
#include <cohort/padata/control.hpp>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

using nlohmann::json;

struct options {
    std::string name;
    std::optional<std::string> parallel, serial;
    bool hex = false, json = false;
};

/// What an instance says of itself. Errors: those of asking; EPROTO, it is no JSON.
result<json> ask(const std::string& id, const std::vector<std::string>& question) {
    auto text = padata::ask_control(id, question);
    if (!text) return std::unexpected(text.error());
    auto out = json::parse(*text, nullptr, false);
    if (!out.is_object() || out.value("schema_version", 0) != 1) return fail(EPROTO, "padata instance \"" + id + "\"", "ask", "the answer is not understood; is it of another version?");
    return out;
}

struct many {
    std::vector<json> instances;
    std::vector<error> refused;  // of those that did not answer
};

result<many> ask_all() {
    const auto ids = padata::live_controls();
    if (!ids) return std::unexpected(ids.error());
    many out;
    for (const std::string& id : *ids) {
        auto one = ask(id, {"show"});
        if (one) out.instances.push_back(std::move(*one));
        else if (one.error().code != ENOENT && one.error().code != ECONNRESET) out.refused.push_back(one.error());  // those have just ended
    }
    return out;
}

/// The one that is meant: by id, by name or PID where only one has it, or by its directory.
result<std::string> find(const std::string& name) {
    const auto ids = padata::live_controls();
    if (!ids) return std::unexpected(ids.error());
    if (std::find(ids->begin(), ids->end(), name) != ids->end()) return name;
    const std::string object = "padata instance \"" + name + "\"";
    std::vector<std::string> fit;
    if (name.find('/') != std::string::npos) {
        std::error_code ignored;
        auto all = ask_all();
        if (!all) return std::unexpected(all.error());
        for (const json& one : all->instances) {
            if (std::filesystem::equivalent(one.value("directory", ""), name, ignored)) fit.push_back(one["id"]);
        }
    } else {
        for (const std::string& id : *ids) {
            const auto dot = id.find('.');
            const std::string rest = dot == id.npos ? "" : id.substr(dot + 1);
            if (id.substr(0, dot) == name || rest == name || rest.substr(0, rest.find('.')) == name) fit.push_back(id);
        }
    }
    if (fit.size() == 1) return fit.front();
    if (fit.empty()) return fail(ENOENT, object, "find", ids->empty() ? "no process has one (`cohort pipe` and programs that make a padata::control do)" : "no process has one of this name; `cohort padata ls` lists them");
    std::string which;
    for (const std::string& id : fit) which += (which.empty() ? "" : ", ") + id;
    return fail(ENOTUNIQ, object, "find", "there are " + which);
}

std::string masks_text(const json& one, const char* kind) {
    const std::string user = one[kind]["user"]["list"], usable = one[kind]["usable"]["list"];
    return user == usable ? user : (user.empty() ? "none" : user) + " (usable: " + (usable.empty() ? "none" : usable) + ")";
}

std::string show_text(const json& one) {
    std::string out = fmt::format("{}: {}, process {}\n", one.value("id", ""), one.value("state", ""), one.value("pid", 0));
    for (const char* kind : {"parallel", "serial"}) {
        out += fmt::format("  {:<9} user {} ({}), usable {} ({})\n", kind, one[kind]["user"]["list"].get<std::string>(), one[kind]["user"]["mask"].get<std::string>(),
                           one[kind]["usable"]["list"].get<std::string>(), one[kind]["usable"]["mask"].get<std::string>());
    }
    if (one["why_stopped"].is_string()) out += fmt::format("  stopped   {}\n", one["why_stopped"].get<std::string>());
    if (one["follow_error"].is_string()) out += fmt::format("  note      {}\n", one["follow_error"].get<std::string>());
    out += fmt::format("  workers   {}\n  shells    {}, {} jobs in flight\n", one.value("workers", 0), one.value("shells", 0), one.value("in_flight", 0ULL));
    out += fmt::format("  directory {}\n", one.value("directory", ""));
    using enum group::align;
    group::text_table t({"shell", "window", "submitted", "delivered", "inline", "waits", "failed", "ns a job"}, {left, right, right, right, right, right, right, right});
    for (const json& s : one["streams"]) {
        const auto number = [&](const char* key) { return std::to_string(s.value(key, 0ULL)); };
        t.row({s.value("shell", ""), number("window"), number("submitted"), number("delivered"), number("ran_inline"), number("waits"), number("failed"), number("job_ns")});
    }
    if (!one["streams"].empty()) out += t.text("  ");
    for (const json& h : one["heads"]) out += "  head of " + h.value("text", "") + "\n";
    return out;
}

outcome ls(const options& o) {
    const auto all = ask_all();
    if (!all) return std::unexpected(all.error());
    for (const error& e : all->refused) complain(e.line());
    if (o.json) {
        json out{{"schema_version", 1}, {"instances", json::array()}};
        for (json one : all->instances) {
            one.erase("schema_version");
            out["instances"].push_back(std::move(one));
        }
        print_json(out);
        return exit_code::ok;
    }
    if (all->instances.empty()) {
        complain("no padata instance can be reached");
        return exit_code::ok;
    }
    using enum group::align;
    group::text_table t({"instance", "state", "parallel", "serial", "workers", "shells", "directory"}, {left, left, left, left, right, right, left});
    for (const json& one : all->instances) {
        t.row({one.value("id", ""), one.value("state", ""), masks_text(one, "parallel"), masks_text(one, "serial"), std::to_string(one.value("workers", 0)),
               std::to_string(one.value("shells", 0)), one.value("directory", "")});
    }
    print(t.text(""));
    return exit_code::ok;
}

outcome answer(const json& one, const options& o) {
    if (o.json) print_json(one);
    else print(show_text(one));
    return exit_code::ok;
}

/// ENOTUNIQ is the asker's fault.
outcome not_found(const error& e) {
    if (e.code == ENOTUNIQ) return usage(e.line());
    return std::unexpected(e);
}

outcome show(const options& o) {
    const auto id = find(o.name);
    if (!id) return not_found(id.error());
    const auto one = ask(*id, {"show"});
    if (!one) return std::unexpected(one.error());
    return answer(*one, o);
}

/// A text that can be no mask of any machine is a usage error; what the instance refuses is an answer.
outcome mask(const options& o) {
    std::vector<std::string> question{"mask"};
    for (const auto& [kind, text] : {std::pair{"parallel", &o.parallel}, std::pair{"serial", &o.serial}}) {
        if (!*text) continue;
        const auto parsed = o.hex ? cpumask::parse_hex(**text) : cpumask::parse_list(**text);
        if (!parsed) return usage(std::string("padata mask: --") + kind + " \"" + **text + "\": " + parsed.error().reason);
        question.insert(question.end(), {kind, o.hex ? "hex" : "list", **text});
    }
    const auto id = find(o.name);
    if (!id) return not_found(id.error());
    const auto one = ask(*id, question);
    if (!one && (one.error().code == EINVAL || one.error().code == EOVERFLOW || one.error().code == ERANGE || one.error().code == EBUSY)) {
        complain(one.error().line());
        return exit_code::no;
    }
    if (!one) return std::unexpected(one.error());
    if (o.json) return answer(*one, o);
    print(fmt::format("{}: parallel {}, serial {}\n", *id, masks_text(*one, "parallel"), masks_text(*one, "serial")));
    return exit_code::ok;
}

constexpr const char* names_note = "NAME: PID.NAME as `cohort padata ls` lists it; the PID or the name alone, where only one has it; or the control directory, with a slash in it.";

}  // namespace

void add_padata(registry& all) {
    auto l = std::make_shared<options>();
    all.add("padata ls", "List the running padata instances that can be controlled")
        .flag("--json", l->json, "print JSON")
        .notes("Those of the same user (all of them for root) in this network namespace: `cohort pipe`, the pipes of `cohort up`, and programs that make a\npadata::control.")
        .run([l] { return ls(*l); });

    auto s = std::make_shared<options>();
    all.add("padata show", "Show one: masks, state, streams")
        .argument("NAME", s->name, "which")
        .flag("--json", s->json, "print JSON")
        .notes(names_note)
        .run([s] { return show(*s); });

    auto m = std::make_shared<options>();
    all.add("padata mask", "Show or set the CPU masks of a running instance")
        .argument("NAME", m->name, "which")
        .option("--parallel", m->parallel, "LIST", "where jobs run, as 0-3,8")
        .option("--serial", m->serial, "LIST", "where completions run")
        .flag("--hex", m->hex, "LIST is a hex mask, as f or 1,00000000")
        .flag("--json", m->json, "print JSON")
        .notes(std::string(names_note) + "\nBoth masks are set or, when one is refused, none; the answer comes when the instance has taken them. Exit 1: it refused, and says why.\n"
               "Example:\n  cohort padata mask pipe --parallel 0-1 --serial 0")
        .run([m] { return mask(*m); });
}

}  // namespace cohort::cli
