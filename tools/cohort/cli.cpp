// SPDX-License-Identifier: Apache-2.0
// The only file that includes CLI11.
#include <CLI/CLI.hpp>

#include <csignal>
#include <cstdio>
#include <iostream>
#include <map>

#include <nlohmann/json.hpp>

#include <cohort/base/check.hpp>
#include <cohort/group/quantity.hpp>
#include <cohort/group/spell.hpp>
#include <cohort/sys/os.hpp>

#include "command.hpp"

namespace cohort::cli {

exit_code exit_code_of(const error& e) {
    switch (e.code) {
        case EPERM:
        case EACCES: return exit_code::permission;
        case ENOSYS:
        case EOPNOTSUPP: return exit_code::unsupported;
        default: return exit_code::failed;
    }
}

namespace {
std::string program_name = "cohort";  // [const after the registry was made]
}

void complain(const std::string& text) {
    std::fflush(stdout);
    std::fputs((program_name + ": " + text + "\n").c_str(), stderr);
}

outcome usage(const std::string& text) {
    complain(text);
    return exit_code::usage;
}

/// Help as this program writes it: one usage line with the whole name of the command.
class help_writer : public CLI::Formatter {
public:
    std::map<const CLI::App*, const std::string*> rest;  // what follows `--`, for commands that take it

    std::string make_usage(const CLI::App* app, std::string) const override {
        if (!app->get_parent() && !app->get_subcommands({}).empty()) return "Usage: cohort COMMAND [OPTIONS] [ARGS]      (cohort COMMAND --help explains one)\n";
        std::string line = app->get_name();
        for (const CLI::App* a = app->get_parent(); a; a = a->get_parent()) line = a->get_name() + " " + line;
        line = "Usage: " + line + (app->get_subcommands({}).empty() ? " [OPTIONS]" : " COMMAND [OPTIONS] [ARGS]");
        for (const CLI::Option* o : app->get_options([](const CLI::Option* x) { return x->get_positional(); })) {
            line += o->get_required() ? " " + o->get_name(true) : " [" + o->get_name(true) + "]";
        }
        if (const auto it = rest.find(app); it != rest.end() && !it->second->empty()) line += " [-- " + *it->second + "]";
        return line + "\n";
    }
    std::string make_option_opts(const CLI::Option* o) const override {
        return o->get_type_size() == 0 || o->get_type_name().empty() ? std::string() : " " + o->get_type_name();
    }
};

struct command::state {
    CLI::App* app = nullptr;
    std::string rest_name, rest_help, notes;
    std::function<outcome()> body;
    std::vector<std::string>* rest = nullptr;
    bool* rest_given = nullptr;
};

command::command(std::unique_ptr<state> s) : state_(std::move(s)) {}
command::~command() = default;

command& command::flag(const std::string& name, bool& target, const std::string& help) {
    state_->app->add_flag(name, target, help);
    return *this;
}

command& command::option(const std::string& name, std::string& target, const std::string& value, const std::string& help) {
    state_->app->add_option(name, target, help)->type_name(value);
    return *this;
}

command& command::option(const std::string& name, std::optional<std::string>& target, const std::string& value, const std::string& help) {
    state_->app->add_option_function<std::string>(name, [&target](const std::string& text) { target = text; }, help)->type_name(value);
    return *this;
}

command& command::option(const std::string& name, std::vector<std::string>& target, const std::string& value, const std::string& help) {
    state_->app->add_option(name, target, help)->type_name(value)->expected(1)->take_all();
    return *this;
}

command& command::number(const std::string& name, std::int64_t& target, std::int64_t low, std::int64_t high, const std::string& help) {
    state_->app->add_option(name, target, help)->type_name("N")->check(CLI::Range(low, high).description(""));
    return *this;
}

command& command::bytes(const std::string& name, std::uint64_t& target, const std::string& help) {
    state_->app
        ->add_option_function<std::string>(
            name,
            [&target, name](const std::string& text) {
                auto size = group::parse_bytes(text);
                if (!size) throw CLI::ValidationError(name, size.error().line());
                target = *size;
            },
            help)
        ->type_name("SIZE");
    return *this;
}

command& command::choice(const std::string& name, std::string& target, const std::vector<std::string>& values, const std::string& help) {
    std::string shown;
    for (const std::string& v : values) shown += (shown.empty() ? "" : "|") + v;
    auto check = [values, name](const std::string& text) -> std::string {
        if (std::find(values.begin(), values.end(), text) != values.end()) return {};
        std::string all;
        for (const std::string& v : values) all += (all.empty() ? "" : ", ") + v;
        return "\"" + text + "\" is none of " + all + group::did_you_mean(text, values);
    };
    state_->app->add_option(name, target, help)->type_name(shown)->check(CLI::Validator(check, ""));
    return *this;
}

command& command::argument(const std::string& name, std::string& target, const std::string& help, bool required) {
    state_->app->add_option(name, target, help)->type_name("")->required(required);
    return *this;
}

command& command::rest(const std::string& name, std::vector<std::string>& target, const std::string& help, bool* given) {
    state_->rest = &target;
    state_->rest_given = given;
    state_->rest_name = name;
    state_->rest_help = help;
    return below("-- " + name + "\n        " + help);
}

command& command::notes(const std::string& text) {
    state_->notes += (state_->notes.empty() ? "" : "\n\n") + text;
    return below(text);
}

command& command::below(const std::string& text) {
    const std::string before = state_->app->get_footer();
    state_->app->footer(before.empty() ? text : before + "\n\n" + text);
    return *this;
}

command& command::run(std::function<outcome()> body) {
    state_->body = std::move(body);
    return *this;
}

namespace {

constexpr const char* exit_codes_text =
    "Exit codes: 0 ok; 1 the answer is no; 2 usage; 3 unsupported here; 4 permission; 5 system or input error.\n"
    "Data goes to stdout, talk to stderr; --json gives data for programs.";

/// What is left over after parsing, as one clear sentence.
std::string extras_text(const CLI::App& app) {
    const std::vector<std::string> left = app.remaining(true);
    if (left.empty()) return "arguments were not understood";
    const std::string& word = left.front();
    if (!word.starts_with('-')) return "argument \"" + word + "\" was not expected";
    std::vector<std::string> known;
    for (const CLI::App* a = &app; a;) {
        for (const CLI::Option* o : a->get_options()) {
            for (const std::string& n : o->get_lnames()) known.push_back("--" + n);
        }
        const auto chosen = a->get_subcommands();
        a = chosen.empty() ? nullptr : chosen.front();
    }
    const std::string bare = word.substr(0, word.find('='));
    return "option \"" + bare + "\" is unknown" + group::did_you_mean(bare, known);
}

}  // namespace

namespace {

/// The last word: what was printed must have arrived, and an error is told and becomes an exit code.
/// Why a write failed that was tried some time ago: its reader has gone, or it is not known any more.
int earlier_failure() {
    sys::poll_item out{.fd = 1, .want_write = true};
    const auto ready = sys::real().poll({&out, 1}, 0);
    return ready && out.hung_up ? EPIPE : EIO;
}

int finish(outcome done) {
    std::cout.flush();
    errno = 0;
    if ((std::fflush(stdout) != 0 || std::ferror(stdout) || !std::cout) && done) {
        const int code = errno ? errno : earlier_failure();
        done = fail(code, "standard output", "write", errno_text(code));
    }
    if (done) return static_cast<int>(*done);
    complain(done.error().line());
    return static_cast<int>(exit_code_of(done.error()));
}

}  // namespace

struct registry::state {
    std::shared_ptr<help_writer> help = std::make_shared<help_writer>();
    CLI::App app;
    std::unique_ptr<command> alone;
    std::map<std::string, std::unique_ptr<command>> commands;
    std::map<std::string, CLI::App*> nouns;

    /// The command that the words of argv name; null when they name none, with the sentence that says so in `problem`.
    command* find(const std::vector<std::string>& words, std::string& problem) const {
        if (alone) return alone.get();
        if (words.empty()) return nullptr;
        if (auto it = commands.find(words[0]); it != commands.end()) return it->second.get();
        if (words.size() > 1) {
            if (auto it = commands.find(words[0] + " " + words[1]); it != commands.end()) return it->second.get();
        }
        const bool noun = nouns.contains(words[0]);
        std::vector<std::string> known;
        for (const auto& [name, c] : commands) {
            const auto space = name.find(' ');
            if (!noun) known.push_back(name.substr(0, space));
            else if (name.starts_with(words[0] + " ")) known.push_back(name.substr(space + 1));
        }
        if (noun && words.size() == 1) return nullptr;  // CLI11 asks for the verb
        const std::string& word = noun ? words[1] : words[0];
        problem = "command \"" + word + "\" is unknown" + group::did_you_mean(word, known) + " (cohort --help lists all)";
        return nullptr;
    }
};

registry::registry(const std::string& program, const std::string& summary) : state_(std::make_unique<state>()) {
    CLI::App& app = state_->app;
    program_name = program;
    app.name(program);
    app.description(summary);
    app.require_subcommand(1);
    app.set_help_flag("-h,--help", "print this help");
    app.set_version_flag("--version", program + " " COHORT_VERSION, "print the version");
    app.formatter(state_->help);
    app.get_formatter()->column_width(34);
    app.get_formatter()->label("REQUIRED", "");
    app.footer(exit_codes_text);
}
registry::~registry() = default;

command& registry::program() {
    auto s = std::make_unique<command::state>();
    s->app = &state_->app;
    state_->app.require_subcommand(0);
    state_->alone.reset(new command(std::move(s)));
    return *state_->alone;
}

void registry::noun(const std::string& name, const std::string& summary) {
    state_->nouns[name] = state_->app.add_subcommand(name, summary)->require_subcommand(1)->group("Systems, each with commands of its own");
}

command& registry::add(const std::string& name, const std::string& summary) {
    CLI::App* parent = &state_->app;
    std::string verb = name;
    if (const auto space = name.find(' '); space != std::string::npos) {
        const std::string noun = name.substr(0, space);
        verb = name.substr(space + 1);
        const auto found = state_->nouns.find(noun);
        COHORT_CHECK(found != state_->nouns.end(), "a command of a noun that noun() has not named");
        parent = found->second;
    }
    auto s = std::make_unique<command::state>();
    s->app = parent->add_subcommand(verb, summary)->group("Commands");
    state_->help->rest[s->app] = &s->rest_name;
    s->app->set_help_flag("-h,--help", "print this help");
    auto& slot = state_->commands[name];
    slot.reset(new command(std::move(s)));
    return *slot;
}

namespace {

using nlohmann::ordered_json;

/// The options and positional arguments of a command, as the table has them.
void describe_options(const CLI::App& app, ordered_json& out) {
    out["options"] = out["arguments"] = ordered_json::array();
    for (const CLI::Option* o : app.get_options()) {
        if (o->get_positional()) {
            out["arguments"].push_back({{"name", o->get_name(true)}, {"help", o->get_description()}, {"required", o->get_required()}});
            continue;
        }
        ordered_json names = ordered_json::array();
        for (const std::string& n : o->get_snames()) names.push_back("-" + n);
        for (const std::string& n : o->get_lnames()) names.push_back("--" + n);
        const std::string value = o->get_type_size() == 0 ? "" : o->get_type_name();
        out["options"].push_back({{"names", names}, {"value", value}, {"many", o->get_multi_option_policy() == CLI::MultiOptionPolicy::TakeAll}, {"help", o->get_description()}});
    }
}

}  // namespace

std::string registry::table() const {
    const CLI::App& app = state_->app;
    ordered_json out{{"schema_version", 1}, {"kind", "command-table"}, {"program", app.get_name()}, {"version", COHORT_VERSION}, {"summary", app.get_description()}};
    out["notes"] = state_->alone ? state_->alone->state_->notes : "";
    out["about_exit"] = exit_codes_text;
    describe_options(app, out);
    out["nouns"] = out["commands"] = ordered_json::array();
    auto add = [&](const std::string& name, const CLI::App& a) {
        const command::state& s = *state_->commands.at(name)->state_;
        ordered_json one{{"name", name}, {"summary", a.get_description()}, {"rest", s.rest_name}, {"rest_help", s.rest_help}, {"notes", s.notes}};
        describe_options(a, one);
        out["commands"].push_back(one);
    };
    for (const CLI::App* top : app.get_subcommands([](const CLI::App*) { return true; })) {
        if (!state_->nouns.contains(top->get_name())) {
            add(top->get_name(), *top);
            continue;
        }
        out["nouns"].push_back({{"name", top->get_name()}, {"summary", top->get_description()}});
        for (const CLI::App* verb : top->get_subcommands([](const CLI::App*) { return true; })) add(top->get_name() + " " + verb->get_name(), *verb);
    }
    return out.dump(1) + "\n";
}

int registry::main(int argc, char** argv) {
    // A reader that goes away is reported as an output that cannot be written (EPIPE), not by a silent death.
    std::signal(SIGPIPE, SIG_IGN);
    std::vector<std::string> args(argv + 1, argv + argc);
    if (args.size() == 1 && args[0] == "command-table") {
        std::fputs(table().c_str(), stdout);
        return finish(exit_code::ok);
    }
    std::vector<std::string> words;
    for (const std::string& a : args) {
        if (a.starts_with('-')) break;
        words.push_back(a);
    }
    std::string problem;
    command* chosen = state_->find(words, problem);
    if (!problem.empty()) return static_cast<int>(*usage(problem));

    // The command after `--` is cut off before CLI11 sees it, so that its own options are never read as ours.
    if (chosen && chosen->state_->rest) {
        if (const auto dashes = std::find(args.begin(), args.end(), "--"); dashes != args.end()) {
            chosen->state_->rest->assign(dashes + 1, args.end());
            if (chosen->state_->rest_given) *chosen->state_->rest_given = true;
            args.erase(dashes, args.end());
        }
    }
    try {
        std::vector<std::string> reversed(args.rbegin(), args.rend());
        state_->app.parse(std::move(reversed));
    } catch (const CLI::Success& e) {
        return finish(state_->app.exit(e) == 0 ? exit_code::ok : exit_code::usage);
    } catch (const CLI::ExtrasError&) {
        return static_cast<int>(*usage(extras_text(state_->app)));
    } catch (const CLI::RequiredError& e) {
        if (args.empty()) {
            std::fputs(state_->app.help().c_str(), stderr);
            return static_cast<int>(exit_code::usage);
        }
        return static_cast<int>(*usage(e.what()));
    } catch (const CLI::ParseError& e) {
        return static_cast<int>(*usage(e.what()));
    }
    return finish(chosen ? chosen->state_->body() : outcome(exit_code::usage));
}

}  // namespace cohort::cli
