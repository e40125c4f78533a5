// SPDX-License-Identifier: Apache-2.0
#include <cohort/padata/detail/control_server.hpp>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <span>
#include <utility>

#include <cohort/padata/detail/control_files.hpp>
#include <cohort/padata/detail/instance_impl.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::padata::detail {

namespace {

constexpr std::size_t longest_question = 128 << 10;
constexpr std::size_t most_shells = 64;  // that are described one by one

std::string json_mask(const cpumask& mask) { return "{\"list\": \"" + mask.list() + "\", \"mask\": \"" + mask.hex() + "\"}"; }

std::string json_masks(const instance& inst, mask_kind kind) {
    return "{\"user\": " + json_mask(inst.user_mask(kind)) + ", \"usable\": " + json_mask(inst.usable_mask(kind)) + "}";
}

std::string json_or_null(const std::string& text) { return text.empty() ? "null" : json_quote(text); }

std::string json_shell(const shell_state& s) {
    const auto number = [](const char* name, std::uint64_t n) { return std::string(", \"") + name + "\": " + std::to_string(n); };
    return "{\"shell\": " + json_quote(s.name) + number("window", s.window) + number("submitted", s.stats.submitted) + number("delivered", s.stats.delivered) +
           number("ran_inline", s.stats.ran_inline) + number("handovers", s.stats.handovers) + number("waits", s.stats.waits) + number("failed", s.stats.failed) +
           number("batches", s.stats.batches) + number("job_ns", static_cast<std::uint64_t>(s.stats.job_ns)) + "}";
}

std::string json_head(const head_state& h) {
    return "{\"shell\": " + json_quote(h.shell) + ", \"job\": " + std::to_string(h.seq) + ", \"behind\": " + std::to_string(h.behind) +
           ", \"seconds\": " + std::to_string(std::chrono::duration<double>(h.since).count()) + ", \"text\": " + json_quote(h.line()) + "}";
}

result<std::vector<std::string>> read_question(int fd) {
    std::string line;
    while (line.size() < longest_question) {
        char piece[4096];
        const auto n = sys::real().read(fd, std::as_writable_bytes(std::span(piece)));
        if (!n) return std::unexpected(n.error());
        line.append(piece, *n);
        const auto end = line.find('\n');
        if (end == line.npos && *n) continue;
        std::vector<std::string> out;
        for (std::size_t at = 0; at <= std::min(end, line.size());) {
            const std::size_t stop = std::min({line.find(field_end, at), end, line.size()});
            out.push_back(line.substr(at, stop - at));
            at = stop + 1;
        }
        return out;
    }
    return fail(EMSGSIZE, "question", "read", "it is too long");
}

std::string refusal(const error& e) {
    std::string out = "no" + std::string(1, field_end) + std::to_string(e.code);
    for (const std::string* part : {&e.object, &e.act, &e.reason}) {
        out += field_end;
        for (const char c : *part) out += c == field_end || c == '\n' ? ' ' : c;
    }
    return out + "\n";
}

}  // namespace

std::string json_quote(std::string_view text) {
    std::string out = "\"";
    for (const char c : text) {
        char code[8];
        if (c == '"' || c == '\\') (out += '\\') += c;
        else if (static_cast<unsigned char>(c) < ' ') out.append(code, static_cast<std::size_t>(std::snprintf(code, sizeof code, "\\u%04x", c)));
        else out += c;
    }
    return out + "\"";
}

std::string describe(const control_subject& s) {
    instance& inst = s.inst;
    std::string out = "{\"schema_version\": 1, \"id\": " + json_quote(s.id) + ", \"name\": " + json_quote(inst.name()) + ", \"pid\": " + std::to_string(sys::real().getpid());
    out += ", \"directory\": " + json_quote(s.directory) + ", \"state\": \"" + (inst.stopped() ? "stopped" : "running") + "\"";
    out += ", \"why_stopped\": " + json_or_null(inst.why_stopped()) + ", \"follow_error\": " + json_or_null(inst.follow_error());
    out += ", \"parallel\": " + json_masks(inst, mask_kind::parallel) + ", \"serial\": " + json_masks(inst, mask_kind::serial);
    out += ", \"workers\": " + std::to_string(inst.workers().general_workers());
    const auto states = inst.internals().shells->states(most_shells);
    out += ", \"shells\": " + std::to_string(states.shells) + ", \"in_flight\": " + std::to_string(states.in_flight);
    out += ", \"streams\": [";
    const char* between = "";
    for (const shell_state& one : states.some) out += std::exchange(between, ", ") + json_shell(one);
    out += "], \"heads\": [";
    between = "";
    const auto heads = inst.heads();
    for (std::size_t i = 0; i < std::min(heads.size(), most_shells); ++i) out += std::exchange(between, ", ") + json_head(heads[i]);
    return out + "]}";
}

result<void> set_masks(instance& inst, const std::vector<std::string>& question) {
    std::vector<std::pair<mask_kind, cpumask>> masks;
    const auto misunderstood = [&] { return fail(EPROTO, "padata \"" + inst.name() + "\"", "answer", "the question is not understood; is it of another version?"); };
    if (question.size() % 3 != 1) return misunderstood();
    for (std::size_t i = 1; i < question.size(); i += 3) {
        const bool parallel = question[i] == "parallel", hex = question[i + 1] == "hex";
        if ((!parallel && question[i] != "serial") || (!hex && question[i + 1] != "list")) return misunderstood();
        const mask_kind kind = parallel ? mask_kind::parallel : mask_kind::serial;
        auto mask = parse_mask(inst, kind, hex, question[i + 2]);
        if (!mask) return std::unexpected(mask.error());
        masks.emplace_back(kind, *mask);
    }
    std::vector<std::pair<mask_kind, cpumask>> before;
    for (const auto& [kind, mask] : masks) {
        before.emplace_back(kind, inst.user_mask(kind));
        if (auto done = inst.set_cpumask(kind, mask); !done) {
            before.pop_back();
            for (auto b = before.rbegin(); b != before.rend(); ++b) (void)inst.set_cpumask(b->first, b->second);
            return done;
        }
    }
    return {};
}

void serve(const control_subject& s, const sys::local_peer& who) {
    const sys::owned_fd fd(sys::real(), who.fd);
    result<void> done;
    const auto question = read_question(fd.get());
    if (!question) return;  // it has gone
    if (who.uid != sys::effective_uid() && who.uid != 0) done = fail(EACCES, "padata \"" + s.inst.name() + "\"", "answer", "it is another user's");
    else if (question->front() == "mask") done = set_masks(s.inst, *question);
    else if (question->front() != "show") done = fail(EPROTO, "padata \"" + s.inst.name() + "\"", "answer", "the question is not understood; is it of another version?");
    (void)sys::send_local(fd.get(), done ? "ok\n" + describe(s) + "\n" : refusal(done.error()));
}

}  // namespace cohort::padata::detail
