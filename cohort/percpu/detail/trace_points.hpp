// SPDX-License-Identifier: Apache-2.0
/// The room's trace points: each check and step of an allocation's way, and what debuggers attach to.
#pragma once

#include <cohort/base/trace.hpp>

namespace cohort::percpu::trace {

inline trace_point request{"percpu:request", {"size", "align", "atomic", "reserved"}};
inline trace_point charge{"percpu:charge", {"bytes"}};
inline trace_point from_magazine{"percpu:magazine", {"handle", "class"}};
inline trace_point refill{"percpu:refill", {"class", "objects"}};
inline trace_point search{"percpu:search", {"bits", "slot", "slots_in_use"}};
inline trace_point fit{"percpu:fit", {"slot", "bits", "longest", "bit"}};  // bit: all ones where none fits
inline trace_point area{"percpu:area", {"handle", "bit", "bits", "shard"}};
inline trace_point populate{"percpu:populate", {"handle", "bytes", "cpus"}};  // cpus 0: promised, pages come at the first touch
inline trace_point done{"percpu:alloc", {"handle", "bytes", "atomic"}};
inline trace_point fail{"percpu:fail", {"size", "align", "atomic", "why"}};
inline trace_point free{"percpu:free", {"handle", "tag"}};
inline trace_point clear{"percpu:clear", {"handle", "bytes", "cpus"}};
inline trace_point flush{"percpu:flush", {"class", "objects"}};
inline trace_point create_chunk{"percpu:create_chunk", {"address", "shard", "layout"}};
inline trace_point destroy_chunk{"percpu:destroy_chunk", {"address"}};
inline trace_point give_back{"percpu:give_back", {"address", "bytes"}};

}  // namespace cohort::percpu::trace
