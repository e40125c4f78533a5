// SPDX-License-Identifier: Apache-2.0
/// Trace points: places in the code that tell what happens, to whoever listens; one relaxed load each while nobody does.
///
///     inline trace_point submitted{"padata:submit", {"seq", "cpu"}};      // at namespace scope
///     submitted(job.seq(), cpu);                                          // up to four numbers
///     auto session = trace_session::start("padata:*", my_sink);           // result<trace_session>; ends with its scope
///
/// Kernel: tracepoints (include/linux/tracepoint.h) and the set_event file of tracefs.
#pragma once

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>
#include <string_view>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/base/static_flag.hpp>

namespace cohort {

class trace_point;

struct trace_record {
    const trace_point* point = nullptr;
    std::array<std::uint64_t, 4> values{};  ///< the first point->fields().size() count
};

/// Implemented by who listens. record() is called by the thread that passed the point, perhaps by many at once; it must not throw and must not start or
/// end a session. Time, thread and CPU are for it to add.
class trace_sink {
public:
    virtual ~trace_sink() = default;
    virtual void record(const trace_record& r) = 0;
};

/// Lives at namespace scope, for the whole program. Its name is "room:what".
/// Synchronization: any thread may pass it.
class trace_point {
public:
    trace_point(const char* name, std::initializer_list<const char*> fields);
    trace_point(const trace_point&) = delete;
    trace_point& operator=(const trace_point&) = delete;

    template <class... Value>
    void operator()(Value... values) {
        static_assert(sizeof...(Value) <= 4);
        if (on_.enabled()) [[unlikely]] emit({this, {static_cast<std::uint64_t>(values)...}});
    }
    bool enabled() const { return on_.enabled(); }
    std::string_view name() const { return name_; }
    const std::vector<const char*>& fields() const { return fields_; }
    /// The names of all points of the program, sorted.
    static std::vector<std::string> all();

private:
    friend class trace_session;
    [[gnu::cold]] static void emit(const trace_record& r);

    static_flag on_;
    const char* name_;                 // [const after init]
    std::vector<const char*> fields_;  // [const after init]
    trace_point* next_;                // [const after init] list of all
};

/// A resource: points are on while it lives. One at a time in a program. Move-only.
class trace_session {
public:
    /// pattern: names separated by commas; '*' stands for any text. The sink must outlive the session.
    /// Errors: EBUSY, there is a session; ENOENT, no point has such a name.
    static result<trace_session> start(std::string_view pattern, trace_sink& sink);
    trace_session(trace_session&& other) noexcept : points_(std::move(other.points_)) { other.points_.clear(); }
    trace_session& operator=(trace_session&&) = delete;
    /// After it returns the sink is not called any more; waits for calls under way.
    ~trace_session();

    std::size_t points() const { return points_.size(); }

private:
    explicit trace_session(std::vector<trace_point*> points) : points_(std::move(points)) {}
    std::vector<trace_point*> points_;  // empty: moved from
};

}  // namespace cohort
