// SPDX-License-Identifier: Apache-2.0
// The asking side of control.hpp.
#include <algorithm>
#include <charconv>

#include <cohort/padata/control.hpp>
#include <cohort/padata/detail/control_server.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::padata {

namespace {

/// 0: it begins with no number.
int pid_of(const std::string& id) {
    int pid = 0;
    (void)std::from_chars(id.data(), id.data() + id.size(), pid);
    return pid;
}

std::vector<std::string> fields_of(std::string_view line) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at <= line.size();) {
        const std::size_t end = std::min(line.find(detail::field_end, at), line.size());
        out.emplace_back(line.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

}  // namespace

result<std::vector<std::string>> live_controls() {
    auto names = sys::local_names(detail::socket_prefix);
    if (!names) return names;
    for (std::string& n : *names) n.erase(0, detail::socket_prefix.size());
    std::stable_sort(names->begin(), names->end(), [](const std::string& a, const std::string& b) { return pid_of(a) < pid_of(b); });
    return names;
}

result<std::string> ask_control(const std::string& id, const std::vector<std::string>& question) {
    const std::string object = "padata instance \"" + id + "\"";
    const auto server = sys::connect_local(detail::socket_prefix + id);
    if (!server && server.error().code == ECONNREFUSED) return fail(ENOENT, object, "ask", "no process has one of this name");
    if (!server) return std::unexpected(server.error());
    const sys::owned_fd fd(sys::real(), server->fd);
    // Names are anybody's to take.
    if (server->pid != pid_of(id)) return fail(EPROTO, object, "ask", "process " + std::to_string(server->pid) + " answers in its place");
    std::string line;
    for (const std::string& part : question) {
        if (!line.empty()) line += detail::field_end;
        for (const char c : part) line += c == detail::field_end || c == '\n' ? ' ' : c;
    }
    if (auto sent = sys::send_local(fd.get(), line + "\n"); !sent) return std::unexpected(sent.error());
    const auto answer = sys::read_rest(sys::real(), fd.get());
    if (!answer) return std::unexpected(answer.error());
    if (answer->ends_with('\n') && answer->starts_with("ok\n") && answer->size() > 4) return answer->substr(3, answer->size() - 4);
    if (answer->ends_with('\n') && answer->starts_with("no")) {
        const auto parts = fields_of(std::string_view(*answer).substr(0, answer->size() - 1));
        int code = EPROTO;
        if (parts.size() == 5 && std::from_chars(parts[1].data(), parts[1].data() + parts[1].size(), code).ec == std::errc()) return fail(code, parts[2], parts[3], parts[4]);
    }
    return fail(EPROTO, object, "ask", "the answer is cut short");
}

}  // namespace cohort::padata
