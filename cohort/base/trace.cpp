// SPDX-License-Identifier: Apache-2.0
#include <cohort/base/trace.hpp>

#include <algorithm>
#include <atomic>
#include <thread>

namespace cohort {
namespace {

// Points are made before main, in any order of files: these must be ready before any constructor runs.
constinit std::atomic<trace_point*> first_point{nullptr};
constinit std::atomic<trace_sink*> current_sink{nullptr};  // [atomic: a session sets and clears it; seq_cst]
constinit std::atomic<int> emitting{0};                    // [atomic: calls of the sink under way; seq_cst]

/// '*' stands for any text.
bool matches(std::string_view pattern, std::string_view name) {
    const std::size_t star = pattern.find('*');
    if (star == std::string_view::npos) return pattern == name;
    if (!name.starts_with(pattern.substr(0, star))) return false;
    pattern.remove_prefix(star + 1);
    name.remove_prefix(star);
    for (std::size_t skip = 0; skip <= name.size(); ++skip) {
        if (matches(pattern, name.substr(skip))) return true;
    }
    return false;
}

}  // namespace

trace_point::trace_point(const char* name, std::initializer_list<const char*> fields) : name_(name), fields_(fields), next_(first_point.load()) {
    while (!first_point.compare_exchange_weak(next_, this)) {
    }
}

std::vector<std::string> trace_point::all() {
    std::vector<std::string> out;
    for (const trace_point* p = first_point.load(); p; p = p->next_) out.emplace_back(p->name_);
    std::ranges::sort(out);
    return out;
}

void trace_point::emit(const trace_record& r) {
    // seq_cst on both sides: either the session's end sees us emitting, or we see its null. Pairs with ~trace_session.
    emitting.fetch_add(1);
    if (trace_sink* sink = current_sink.load()) sink->record(r);
    emitting.fetch_sub(1);
}

result<trace_session> trace_session::start(std::string_view pattern, trace_sink& sink) {
    std::vector<trace_point*> found;
    for (trace_point* p = first_point.load(); p; p = p->next_) {
        for (std::string_view rest = pattern; !rest.empty();) {
            const std::size_t comma = std::min(rest.find(','), rest.size());
            if (matches(rest.substr(0, comma), p->name_)) {
                found.push_back(p);
                break;
            }
            rest.remove_prefix(std::min(comma + 1, rest.size()));
        }
    }
    const std::string object = "trace \"" + std::string(pattern) + "\"";
    if (found.empty()) return fail(ENOENT, object, "start", "no trace point has such a name");
    trace_sink* none = nullptr;
    if (!current_sink.compare_exchange_strong(none, &sink)) return fail(EBUSY, object, "start", "another session is under way");
    for (trace_point* p : found) p->on_.enable();
    return trace_session(std::move(found));
}

trace_session::~trace_session() {
    if (points_.empty()) return;
    for (trace_point* p : points_) p->on_.disable();
    current_sink.store(nullptr);
    while (emitting.load() != 0) std::this_thread::yield();
}

}  // namespace cohort
