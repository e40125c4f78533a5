// SPDX-License-Identifier: Apache-2.0
/// What this machine offers each room, what is missing, and the exact reason.
///
///     diagnosis d = examine(sys::probe_kernel(), sys::real());
///     print(doctor_text(d));
///     if (!d.offers("cpuset")) print("only affinity");
///
/// Kernel: none; each finding names the call or file that it comes from.
#pragma once

#include <string>
#include <vector>

#include <cohort/sys/os.hpp>
#include <cohort/sys/probe.hpp>

namespace cohort::group {

/// One thing that a room can use.
struct finding {
    enum class form {
        there,    // works in full
        limited,  // works, with what `reason` says
        missing,  // does not work here; `reason` says why
    };
    std::string room;    // work, percpu, cpuset, coresched, sharepool, stream, host
    std::string name;    // "rseq", "core scheduling"
    form state = form::there;
    std::string value;   // "cpu_id 1, 32 bytes"
    std::string reason;  // errno and its meaning here; empty when it is there in full
    std::string instead; // what is done in its place, or how to get it
    std::string source;  // the call or file
    bool needed = false; // without it the room has only its fallback
};

struct diagnosis {
    std::string kernel, c_library, architecture;
    std::vector<finding> findings;

    /// False when something that the room needs in full is missing.
    bool offers(const std::string& room) const;
    std::vector<std::string> rooms() const;
};

/// Asks; changes nothing. `os` gives the files, so that recorded machines can be examined.
diagnosis examine(const sys::kernel_probe& kernel, sys::os& os);

std::string doctor_text(const diagnosis& d);
/// With schema_version 1.
std::string doctor_json(const diagnosis& d);

}  // namespace cohort::group
