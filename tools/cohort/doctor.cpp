// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/doctor.hpp>

#include <algorithm>

#include <cohort/group/spell.hpp>

#include "command.hpp"
#include "spec_input.hpp"

namespace cohort::cli {
namespace {

struct options {
    bool json = false;
    std::vector<std::string> require;
};

outcome doctor(const options& o) {
    const group::diagnosis d = group::examine(sys::probe_kernel(), sys::real());
    const std::vector<std::string> rooms = d.rooms();
    for (const std::string& room : o.require) {
        if (std::find(rooms.begin(), rooms.end(), room) == rooms.end()) return usage("--require: there is no room \"" + room + "\"" + group::did_you_mean(room, rooms));
    }
    print(o.json ? group::doctor_json(d) + "\n" : group::doctor_text(d));
    exit_code code = exit_code::ok;
    for (const group::finding& f : d.findings) {
        if (!f.needed || f.state != group::finding::form::missing || std::find(o.require.begin(), o.require.end(), f.room) == o.require.end()) continue;
        complain(f.room + ": " + f.name + ": " + f.reason);
        code = exit_code::unsupported;
    }
    return code;
}

}  // namespace

void add_doctor(registry& all) {
    auto o = std::make_shared<options>();
    all.add("doctor", "Tell what this machine offers, what is missing, and why")
        .flag("--json", o->json, "print JSON")
        .option("--require", o->require, "ROOM", "exit with 3 unless the room has what it needs; may be given again")
        .notes("Asks the kernel and changes nothing; needs no privilege.")
        .run([o] { return doctor(*o); });
}

}  // namespace cohort::cli
