// SPDX-License-Identifier: Apache-2.0
// One command in a cohort of its own: a spec of one cohort and one job, brought up as any other.
#include <algorithm>
#include <charconv>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>

#include "up.hpp"

namespace cohort::cli {
namespace {

struct options : up_options {
    std::optional<std::string> asked_name;
    std::string cpus, mems, cookie, policy = "prefer";
    std::uint64_t pool = 0;
    std::vector<std::string> command_words;
    bool given = false;
};

/// "x4" -> 4; 0: it is a list.
int count_of(const std::string& cpus) {
    int n = 0;
    const char* end = cpus.data() + cpus.size();
    if (!cpus.starts_with('x') || std::from_chars(cpus.data() + 1, end, n).ptr != end) return 0;
    return std::max(n, 0);
}

/// Words that stand in quotes in the spec; what is no list is told by whoever reads it there.
bool is_plain(const std::string& text) {
    return std::ranges::all_of(text, [](unsigned char c) { return c >= ' ' && c < 127 && c != '"' && c != '\\'; });
}

std::string spec_text(const options& o) {
    std::string out = fmt::format("[[cohort]]\nname = \"{}\"\n", o.name);
    if (const int n = count_of(o.cpus)) out += fmt::format("cpus = {{ count = {} }}\n", n);
    else if (!o.cpus.empty()) out += fmt::format("cpus = \"{}\"\n", o.cpus);
    if (!o.mems.empty()) out += fmt::format("mems = \"{}\"\n", o.mems);
    if (!o.cookie.empty() && o.cookie != "none") out += fmt::format("cookie = \"{}\"\ncoresched = \"{}\"\n", o.cookie == "own" ? o.name : o.cookie, o.policy);
    if (o.pool > 0) out += fmt::format("pool = \"{}\"\n", o.pool);
    return out + fmt::format("[[job]]\nname = \"{}\"\ncohort = \"{}\"\nkind = \"exec\"\ncommand = [\"true\"]\n", o.name, o.name);
}

outcome run(options o) {
    sys::os& os = sys::real();
    if (!o.given || o.command_words.empty()) return usage("run: no command after --");
    o.name = o.asked_name ? *o.asked_name : fmt::format("run-{}", os.getpid());
    if (const auto wrong = wrong_name("run", o.name)) return *wrong;
    for (const auto& [option, text] : {std::pair("--cpus", &o.cpus), std::pair("--mems", &o.mems), std::pair("--cookie", &o.cookie)}) {
        if (!is_plain(*text)) return usage(fmt::format("run: {} \"{}\" is not understood", option, *text));
    }
    auto read = group::read_spec("run", spec_text(o), [](std::string_view) { return std::optional<std::string>(); });
    if (read.faults.empty()) read.value.jobs.at(0).exec.command = {.words = o.command_words};
    // There is no file whose lines could be told.
    for (group::fault& f : read.faults) f.at = {};
    if (const auto busy = in_the_way(os, o, "run")) return *busy;
    auto planned = plan_of_spec(os, std::move(read), std::nullopt, o.json);
    if (!planned) return std::unexpected(planned.error());
    if (!planned->plan) return planned->code;
    o.spec = "-", o.command = true, o.quiet = true;
    return bring_up_plan(*planned, o);
}

}  // namespace

void add_run(registry& all) {
    auto o = std::make_shared<options>();
    all.add("run", "Run one command in a cohort of its own")
        .option("--cpus", o->cpus, "LIST|xN", "its CPUs, 0-3,8, or so many, x4, wherever that is best; without it all")
        .option("--mems", o->mems, "LIST", "its memory nodes")
        .option("--cookie", o->cookie, "own|NAME", "shares cores with nobody, or with those of that cookie")
        .choice("--policy", o->policy, {"require", "prefer", "emulate"}, "of the cookie: the kernel or nothing, the kernel if it can, not the kernel (prefer)")
        .bytes("--pool", o->pool, "a pool of that size: the command finds it in COHORT_SOCKET and COHORT_POOL_JOIN")
        .option("--name", o->asked_name, "NAME", "of the cohort, and what status and down call it (run-PID)")
        .number("--patience", o->patience, 0, 86'400, "seconds that it has between SIGTERM and SIGKILL (3)")
        .option("--report", o->report, "FILE", "write the report as JSON to FILE")
        .rest("COMMAND...", o->command_words, "the command; it has this terminal, and standard input, output and error", &o->given)
        .notes("A spec of one cohort and one job, planned and brought up as by `cohort up`. Exit code: the command's, 128 and the\n"
               "signal's number if one killed it; before it has started those of `cohort up`.\n\n"
               "Examples:\n  cohort run --cpus 2-3 -- make test\n  cohort run --cpus x2 --cookie own --pool 1G -- ./server")
        .run([o] { return run(*o); });
}

}  // namespace cohort::cli
