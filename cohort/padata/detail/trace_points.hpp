// SPDX-License-Identifier: Apache-2.0
/// Where a job's way can be watched: `cohort padata demo --trace`, or any trace_session of "padata:*".
#pragma once

#include <cohort/base/trace.hpp>

namespace cohort::padata::detail::trace {

inline trace_point cb_cpu{"padata:cb_cpu", {"asked", "got"}};
inline trace_point full{"padata:full", {"window", "waits"}};              // waits 0: EAGAIN
inline trace_point enter{"padata:enter", {"seq", "bytes", "ahead"}};
inline trace_point inlined{"padata:inline", {"seq", "cpu"}};
inline trace_point claim{"padata:claim", {"seq", "jobs", "cpu"}};
inline trace_point finish{"padata:finish", {"seq", "jobs"}};
inline trace_point serial{"padata:serial", {"seq", "cpu"}};
inline trace_point handover{"padata:handover", {"seq", "jobs", "cpu"}};
inline trace_point pass{"padata:pass", {"seq"}};                          // the turn waits there
inline trace_point home{"padata:home", {"seq"}};                          // nothing is in flight

}  // namespace cohort::padata::detail::trace
