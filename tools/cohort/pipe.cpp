// SPDX-License-Identifier: Apache-2.0
// `cohort pipe`: options to stream::pipe_options, and the report back to people or programs.
#include <algorithm>
#include <charconv>
#include <cstdio>

#include <nlohmann/json.hpp>

#include <cohort/group/quantity.hpp>
#include <cohort/stream/pipe.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/signals.hpp>

#include "command.hpp"
#include "progress_bar.hpp"

namespace cohort::cli {

namespace {

struct pipe_arguments {
    std::optional<std::string> codec, level, threads, cpus, serial_cpus, block, memory, output, separator, report, control;
    std::string input = "-", progress = "auto";
    bool decompress = false, records = false, force = false, sync = false, json = false, quiet = false, verbose = false, no_control = false;
    std::vector<std::string> argv;
    bool argv_given = false;
};

result<std::uint64_t> whole_number(const std::string& name, const std::string& text, std::uint64_t low, std::uint64_t high) {
    std::uint64_t v = 0;
    const auto [end, fault] = std::from_chars(text.data(), text.data() + text.size(), v);
    if (fault == std::errc::result_out_of_range) return fail(ERANGE, name, "\"" + text + "\"", "it is too large");
    if (fault != std::errc{} || end != text.data() + text.size()) return fail(EINVAL, name, "\"" + text + "\"", "it is not a whole number");
    if (v < low || v > high) {
        return fail(ERANGE, name, "\"" + text + "\"", "it is not in " + std::to_string(low) + " to " + std::to_string(high));
    }
    return v;
}

/// "\n", "\t", "\0", "\\", "\xHH" as C writes them; everything else stands for itself.
result<std::string> unescape(const std::string& text) {
    std::string out;
    for (std::size_t i = 0; i < text.size(); ++i) {
        if (text[i] != '\\') {
            out += text[i];
            continue;
        }
        const char c = ++i < text.size() ? text[i] : '?';
        if (c == 'n') out += '\n';
        else if (c == 'r') out += '\r';
        else if (c == 't') out += '\t';
        else if (c == '0') out += '\0';
        else if (c == '\\') out += '\\';
        else if (c == 'x' && i + 2 < text.size() + 0 && std::isxdigit(static_cast<unsigned char>(text[i + 1])) && std::isxdigit(static_cast<unsigned char>(text[i + 2]))) {
            out += static_cast<char>(std::stoi(text.substr(i + 1, 2), nullptr, 16));
            i += 2;
        } else {
            return fail(EINVAL, "--record-sep", "\"" + text + "\"", "only \\n \\r \\t \\0 \\\\ and \\xHH are known behind a backslash");
        }
    }
    if (out.empty()) return fail(EINVAL, "--record-sep", "\"\"", "it is empty");
    return out;
}

result<cpumask> cpus_of(const std::string& name, const std::string& text) {
    auto mask = cpumask::parse_list(text);
    if (!mask) return fail(mask.error().code, name, "\"" + text + "\"", mask.error().reason);
    if (mask->empty()) return fail(EINVAL, name, "\"" + text + "\"", "it names no CPU");
    return *mask;
}

/// Everything that can be wrong with the words of the command line; what it says is a usage error.
result<stream::pipe_options> options_of(const pipe_arguments& a) {
    stream::pipe_options o;
    const auto set = [](auto& target, auto value) -> result<void> {
        if (!value) return std::unexpected(value.error());
        target = *value;
        return {};
    };
    result<void> r;
    if (a.codec && a.argv_given) return fail(EINVAL, "--codec and -- CMD", {}, "only one of them can be given");
    if (!a.codec && !a.argv_given) return fail(EINVAL, "--codec NAME or -- CMD", {}, "one of them is needed");
    if (a.argv_given && a.argv.empty()) return fail(EINVAL, "--", {}, "no command stands behind it");
    if (a.codec) r = set(o.kind, stream::parse_codec(*a.codec));
    if (!r) return std::unexpected(r.error());
    if (a.decompress && !a.codec) return fail(EINVAL, "-d", {}, "it needs --codec");
    if (a.level && (!a.codec || a.decompress)) return fail(EINVAL, "--level", {}, "only compression has levels");
    if ((a.records || a.separator) && !a.argv_given) return fail(EINVAL, a.records ? "--records" : "--record-sep", {}, "only blocks for a command are split");
    if (a.level) {
        const auto range = stream::levels(*o.kind);
        auto v = whole_number("--level", *a.level, static_cast<std::uint64_t>(range.low), static_cast<std::uint64_t>(range.high));
        if (!v) return std::unexpected(v.error());
        o.level = static_cast<int>(*v);
    }
    if (a.threads) {
        auto v = whole_number("--threads", *a.threads, 1, max_cpus);
        if (!v) return std::unexpected(v.error());
        o.workers = static_cast<int>(*v);
    }
    if (a.cpus) r = set(o.cpus, cpus_of("--cpus", *a.cpus));
    if (!r) return std::unexpected(r.error());
    if (a.serial_cpus) r = set(o.serial_cpus, cpus_of("--serial-cpus", *a.serial_cpus));
    if (!r) return std::unexpected(r.error());
    const auto size = [](const char* name, const std::string& text, std::uint64_t high) -> result<std::uint64_t> {
        auto v = group::parse_bytes(text);
        if (!v) return fail(v.error().code, name, "\"" + text + "\"", v.error().reason);
        if (*v > high) return fail(ERANGE, name, "\"" + text + "\"", "it is over " + group::human_bytes(static_cast<double>(high)));
        return *v;
    };
    if (a.block) r = set(o.block_bytes, size("--block", *a.block, std::uint64_t{1} << 30));
    if (!r) return std::unexpected(r.error());
    if (a.memory) r = set(o.memory, size("--memory", *a.memory, std::uint64_t{1} << 46));
    if (!r) return std::unexpected(r.error());
    o.records = a.records || a.separator;
    if (a.separator) r = set(o.separator, unescape(*a.separator));
    if (!r) return std::unexpected(r.error());
    if (a.input != "-") o.input_path = a.input;
    if (a.output && *a.output != "-") o.output_path = *a.output;
    if (a.output && a.output->empty()) return fail(EINVAL, "-o", {}, "the name is empty");
    o.decompress = a.decompress;
    o.argv = a.argv;
    if (a.control && a.no_control) return fail(EINVAL, "--control and --no-control", {}, "only one of them can be given");
    if (a.control && a.control->empty()) return fail(EINVAL, "--control", {}, "the name is empty");
    if (!a.no_control) o.control = a.control.value_or("");
    o.force = a.force;
    o.sync = a.sync;
    return o;
}

std::string json_of(const stream::pipe_report& r, const pipe_arguments& a) {
    nlohmann::ordered_json j;
    j["schema_version"] = 1;
    j["command"] = "pipe";
    if (a.codec) j["codec"] = *a.codec;
    else j["argv"] = a.argv;
    j["decompress"] = a.decompress;
    j["input"] = r.input;
    j["output"] = r.output;
    j["bytes_in"] = r.bytes_in;
    j["bytes_out"] = r.bytes_out;
    j["blocks"] = r.blocks;
    j["blocks_in_order"] = r.ordered;
    j["serial_blocks"] = r.serial_blocks;
    j["unread_blocks"] = r.unread_blocks;
    j["block_bytes"] = r.block_bytes;
    j["memory_bytes"] = r.memory;
    j["workers"] = r.workers;
    j["seconds"] = r.seconds;
    j["latency"] = {{"p50_seconds", r.latency.p50}, {"p99_seconds", r.latency.p99}, {"max_seconds", r.latency.max}};
    j["cpu_seconds"] = r.cpu_seconds;
    j["child_cpu_seconds"] = r.child_cpu_seconds;
    return j.dump(2) + "\n";
}

std::string text_of(const stream::pipe_report& r) {
    const auto bytes = [](std::uint64_t n) { return group::human_bytes(static_cast<double>(n)); };
    std::string s = r.input + ": " + bytes(r.bytes_in) + " -> " + bytes(r.bytes_out);
    if (r.bytes_in) {
        char percent[32];
        std::snprintf(percent, sizeof percent, " (%.1f %%)", 100.0 * static_cast<double>(r.bytes_out) / static_cast<double>(r.bytes_in));
        s += percent;
    }
    s += " in " + group::human_seconds(r.seconds);
    if (r.seconds > 0) s += ", " + bytes(static_cast<std::uint64_t>(static_cast<double>(r.bytes_in) / r.seconds)) + "/s";
    s += ", " + std::to_string(r.blocks) + (r.blocks == 1 ? " block" : " blocks") + " on " + std::to_string(r.workers) + (r.workers == 1 ? " worker" : " workers");
    return s;
}

/// The report goes to --report FILE; else --json prints it to stdout, or to stderr where stdout carries the data.
result<void> tell(const stream::pipe_report& r, const pipe_arguments& a, sys::os& os, bool data_on_stdout) {
    const std::string json = json_of(r, a);
    if (a.report) {
        if (auto w = sys::write_file(os, *a.report, json); !w) return w;
    }
    if (a.json && !a.report) std::fputs(json.c_str(), data_on_stdout ? stderr : stdout);
    else if (!a.quiet && !a.json && (!data_on_stdout || os.isatty(2))) std::fputs(("cohort pipe: " + text_of(r) + "\n").c_str(), stderr);
    return {};
}

/// A standard descriptor that is closed would be given to the next file that is opened, and that file be taken for it. One that is needed is an
/// error; others are filled.
result<void> hold_standard_descriptors(sys::os& os, bool need_in, bool need_out) {
    static const char* const names[] = {"standard input", "standard output", "standard error"};
    const bool needed[] = {need_in, need_out, false};
    for (int fd = 0; fd < 3; ++fd) {
        if (os.fstat(fd)) continue;
        if (needed[fd]) return fail(EBADF, names[fd], fd == 0 ? "read" : "write", "it is closed");
        if (auto filler = os.open("/dev/null", fd == 0 ? sys::open_read : sys::open_write); !filler) return std::unexpected(filler.error());
    }
    return {};
}

outcome pipe(const pipe_arguments& a) {
    sys::os& os = sys::real();
    auto options = options_of(a);
    if (!options) return usage("pipe: " + options.error().line());
    const bool data_on_stdout = options->output_path.empty();
    if (auto held = hold_standard_descriptors(os, options->input_path.empty(), data_on_stdout); !held) return std::unexpected(held.error());
    if (options->kind && !options->decompress && data_on_stdout && os.isatty(1) && !a.force) {
        return usage("pipe: compressed data is not written to a terminal; -o FILE, or --force");
    }
    auto caught = sys::signal_catcher::create();
    if (!caught) return std::unexpected(caught.error());
    options->stop = caught->token();

    const bool bar_wanted = a.progress == "always" || (a.progress == "auto" && !a.quiet && os.isatty(2));
    progress_bar bar(os, "pipe");
    if (bar_wanted) {
        options->progress = [&](const stream::pipe_progress& p) { bar.show(p.bytes_in, p.bytes_total); };
    }
    options->note = [&](const std::string& text) {
        bar.clear();
        if (!a.quiet) complain("pipe: " + text);
    };
    if (a.verbose) options->on_control = [&](const std::string& directory) { complain("pipe: control directory " + directory); };
    auto report = stream::run_pipe(*options, os);
    bar.clear();
    if (caught->signal()) return static_cast<exit_code>(caught->exit_code());
    if (!report) {
        // A reader that has had enough (head) is no news: 141, as if SIGPIPE had ended us.
        if (report.error().code == EPIPE && data_on_stdout) return static_cast<exit_code>(128 + 13);
        return std::unexpected(report.error());
    }
    if (auto told = tell(*report, a, os, data_on_stdout); !told) return std::unexpected(told.error());
    return exit_code::ok;
}

}  // namespace

void add_pipe(registry& all) {
    auto a = std::make_shared<pipe_arguments>();
    command& c = all.add("pipe", "Pass a stream through a codec or a command, in parallel and in order");
    c.option("--codec", a->codec, "zstd|gzip|lz4", "compress (or -d decompress) in the format of this tool");
    c.flag("-d,--decompress", a->decompress, "decompress; in parallel where the input has several frames or members");
    c.option("--level", a->level, "N", "of compression: zstd 1-19 (3), gzip 1-12 (6), lz4 1-12 (1)");
    c.flag("--records", a->records, "blocks for CMD end where a record ends");
    c.option("--record-sep", a->separator, "TEXT", "what ends a record (\\n); implies --records");
    c.option("-o,--output", a->output, "FILE", "write here instead of stdout; the file appears when it is whole");
    c.flag("-f,--force", a->force, "replace FILE when it exists");
    c.flag("--sync", a->sync, "FILE reaches the disk before it gets its name");
    c.option("--threads", a->threads, "N", "workers at most (one for each CPU)");
    c.option("--cpus", a->cpus, "LIST", "CPUs for the workers, as 0-3,8");
    c.option("--serial-cpus", a->serial_cpus, "LIST", "CPUs for writing in order");
    c.option("--control", a->control, "DIR", "make the control directory here; default: cohort/padata/PID.pipe in $XDG_RUNTIME_DIR, or in /tmp/cohort-UID");
    c.flag("--no-control", a->no_control, "make none");
    c.option("--block", a->block, "SIZE", "input bytes per block: zstd 8M, gzip 1M, lz4 4M, CMD 2M");
    c.option("--memory", a->memory, "SIZE", "bytes of blocks in flight (64M, more with many CPUs); over 128M also the limit of a zstd window");
    c.choice("--progress", a->progress, {"auto", "always", "never"}, "a bar on stderr; auto: when it is a terminal");
    c.flag("--json", a->json, "the report as JSON: to stdout with -o FILE, else to stderr");
    c.option("--report", a->report, "FILE", "the report as JSON into a file");
    c.flag("-v,--verbose", a->verbose, "say where the control directory is");
    c.flag("-q,--quiet", a->quiet, "no report, notes or bar for people");
    c.argument("IN", a->input, "the input (stdin)", false);
    c.rest("CMD ARGS", a->argv, "feed each block to a copy of CMD and join the outputs in order", &a->argv_given);
    c.notes("Sizes: 4096, 64K, 8M, 1G. Output bytes depend on codec, level, block size and input, never on threads.\n"
            "Bad input (damaged, cut off, foreign) and a CMD that fails: exit 5, with the byte or the block. A signal: 128 + its number; a reader of\n"
            "stdout that goes away: 141, in silence. In all these cases no FILE appears under its name.\n"
            "While it runs, DIR/parallel_cpumask (a hex mask) or DIR/parallel_cpulist (0-3,8) say where blocks are worked on, and serial_* where they are\n"
            "written; write to them to change it. What is refused is put back, and DIR/last_error says why. `cohort padata mask` does the same and answers.\n"
            "Examples:\n"
            "  cohort pipe --codec zstd -o in.tar.zst in.tar\n"
            "  cohort pipe --codec gzip -d < access.log.gz | cohort pipe --records -- grep -c error");
    c.run([a]() -> outcome { return pipe(*a); });
}

}  // namespace cohort::cli
