// SPDX-License-Identifier: Apache-2.0
/// ipsec_esp encrypt|decrypt --sa FILE IN.pcap OUT.pcap
#include <charconv>
#include <cstdio>
#include <cstring>
#include <string>
#include <string_view>

#include "run.hpp"

namespace {

enum exit_code { all = 0, not_all = 1, usage = 2, unsupported = 3, permission = 4, broken = 5 };

constexpr const char* help =
    R"(usage: ipsec_esp encrypt|decrypt --sa FILE [options] IN.pcap OUT.pcap

Encrypts the IP packets of a capture with ESP (tunnel mode, AES-GCM; RFC 4303, RFC 4106), or decrypts them. The order stays. "-" is standard input or output.

  --sa FILE            security associations, one a line: sa SPI FROM TO KEY [for=PREFIX] [replay=N] [seq=N]
  --cpus LIST          CPUs that encrypt or decrypt (the parallel mask): 0-3,8
  --serial-cpus LIST   CPUs that check for replays and write (the serial mask)
  --shells N           encrypt: spread flows over N ordered streams (1 to 1024; 8)
  --control DIR        the masks of pencrypt or pdecrypt stand as files in DIR, to be changed while it runs
  --iv-high HEX        encrypt: the upper four bytes of every IV (random). For tests alone: never twice with one key
  --say N              name N refused packets one by one (20)
  --json               print the report as JSON on standard output

exit: 0 all packets came through; 1 some were refused; 2 usage; 3 unsupported here; 4 permission; 5 system or input error
)";

int wrong(const std::string& what) {
    std::fprintf(stderr, "ipsec_esp: %s (ipsec_esp --help)\n", what.c_str());
    return usage;
}

int exit_code_of(const cohort::error& e) {
    if (e.code == EPERM || e.code == EACCES) return permission;
    if (e.code == ENOSYS || e.code == EOPNOTSUPP) return unsupported;
    return broken;
}

bool read_number(std::string_view text, std::uint64_t low, std::uint64_t high, std::uint64_t& to, int base = 10) {
    const auto [end, ec] = std::from_chars(text.data(), text.data() + text.size(), to, base);
    return ec == std::errc{} && end == text.data() + text.size() && to >= low && to <= high;
}

/// One option and its value. An empty answer: understood.
std::string read_option(esp::run_options& o, const std::string& name, const std::string& value) {
    std::uint64_t n = 0;
    if (name == "--sa") {
        o.sa_file = value;
    } else if (name == "--cpus" || name == "--serial-cpus") {
        auto mask = cohort::cpumask::parse_list(value);
        if (!mask) return name + " " + value + ": " + mask.error().line();
        (name == "--cpus" ? o.parallel : o.serial) = *mask;
    } else if (name == "--shells") {
        if (!read_number(value, 1, 1024, n)) return "--shells " + value + ": a number from 1 to 1024 is wanted";
        o.shells = static_cast<unsigned>(n);
    } else if (name == "--control") {
        o.control = value;
    } else if (name == "--iv-high") {
        if (!read_number(value, 0, 0xffffffff, n, 16)) return "--iv-high " + value + ": eight hex digits are wanted";
        o.iv_high = static_cast<std::uint32_t>(n);
    } else if (name == "--say") {
        if (!read_number(value, 0, ~std::uint64_t{0}, n)) return "--say " + value + ": a number is wanted";
        o.say = n;
    } else {
        return name + ": there is no such option";
    }
    return {};
}

}  // namespace

int main(int argc, char** argv) {
    if (argc == 2 && !std::strcmp(argv[1], "--help")) {
        std::fputs(help, stdout);
        return all;
    }
    esp::run_options o;
    bool json = false;
    if (argc < 2) return wrong("encrypt or decrypt?");
    const std::string act = argv[1];
    if (act != "encrypt" && act != "decrypt") return wrong("\"" + act + "\" is neither encrypt nor decrypt");
    o.way = act == "encrypt" ? esp::direction::encrypt : esp::direction::decrypt;
    for (int i = 2; i < argc; ++i) {
        const std::string word = argv[i];
        if (word == "--json") json = true;
        else if (word.starts_with("--")) {
            if (++i == argc) return wrong(word + " wants a value");
            if (auto bad = read_option(o, word, argv[i]); !bad.empty()) return wrong(bad);
        } else if (o.input.empty()) o.input = word;
        else if (o.output.empty()) o.output = word;
        else return wrong("\"" + word + "\" is one file too many");
    }
    if (o.sa_file.empty()) return wrong("--sa FILE is missing");
    if (o.input.empty() || o.output.empty()) return wrong("IN.pcap and OUT.pcap are wanted");
    if (json && o.output == "-") return wrong("--json and an output to - exclude each other");

    int signal = 0;
    auto done = esp::run(o, signal);
    if (!done) {
        std::fprintf(stderr, "ipsec_esp: %s\n", done.error().line().c_str());
        return signal ? 128 + signal : exit_code_of(done.error());
    }
    std::fputs(esp::text_of(*done, o).c_str(), stderr);
    if (json) std::fputs(esp::json_of(*done, o).c_str(), stdout);
    if (done->ended_by) {
        std::fprintf(stderr, "ipsec_esp: %s; the %llu packets before it are in %s\n", done->ended_by->line().c_str(), static_cast<unsigned long long>(done->read), o.output.c_str());
        return exit_code_of(*done->ended_by);
    }
    return std::fflush(stdout) != 0 ? broken : done->refused() ? not_all : all;
}
