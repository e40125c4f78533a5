// SPDX-License-Identifier: Apache-2.0
#include "spec_input.hpp"

#include <cstdio>

#include <cohort/group/cpuset_view.hpp>
#include <cohort/group/map.hpp>
#include <cohort/group/spec.hpp>
#include <cohort/group/view.hpp>
#include <cohort/machine/topology.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::cli {

result<std::string> map_of_plan(sys::os& os, const group::plan& p) {
    auto t = machine::load(p.machine.live ? "live" : p.machine.name, os);
    if (!t) return std::unexpected(t.error());
    std::vector<group::map_group> groups;
    for (const group::cohort_plan& c : p.cohorts) groups.push_back({c.name, c.cpus});
    return group::map_svg(group::map_of(*t, p.machine), groups);
}

void tell_faults(const std::vector<group::fault>& faults, bool json) {
    for (const group::fault& f : faults) complain(f.line());
    if (!json) return;
    nlohmann::json out{{"schema_version", 1}, {"kind", "faults"}, {"faults", nlohmann::json::array()}};
    for (const group::fault& f : faults) {
        out["faults"].push_back({{"file", f.file}, {"line", f.at.line}, {"column", f.at.column}, {"object", f.object}, {"text", f.text}});
    }
    print_json(out);
}

outcome machine_fault(const error& e) {
    if (e.code != EINVAL && e.code != ERANGE) return std::unexpected(e);
    return usage(e.line());
}

std::string input_name(const std::string& path) { return path == "-" ? "standard input" : path; }

result<std::string> read_input(sys::os& os, const std::string& path, std::size_t limit) {
    return path == "-" ? sys::read_rest(os, 0, limit) : sys::read_file(os, path, limit);
}

result<void> write_whole(sys::os& os, const std::string& path, const std::string& text) {
    if (path == "-") {
        print(text);
        return {};
    }
    if (auto info = os.stat(path); info && info->kind != sys::file_kind::regular) return sys::write_file(os, path, text);
    auto temp = sys::temp_file::create(os, path);
    if (!temp) return std::unexpected(temp.error());
    if (auto w = sys::write_all(os, temp->fd(), text); !w) return w;
    return temp->commit();
}

void print(const std::string& text) { std::fwrite(text.data(), 1, text.size(), stdout); }

result<planned> plan_of(sys::os& os, const std::string& path, const std::optional<std::string>& machine, bool json, bool bare) {
    auto text = read_input(os, path);
    if (!text) return std::unexpected(text.error());
    return plan_of_spec(os, group::read_spec(input_name(path), *text, [&](std::string_view name) { return os.getenv(std::string(name)); }), machine, json, bare);
}

result<planned> plan_of_spec(sys::os& os, group::spec_reading read, const std::optional<std::string>& machine, bool json, bool bare) {
    const std::string chosen = machine ? *machine : read.value.machine.empty() ? "live" : read.value.machine;
    auto view = group::view_machine(chosen, os);
    if (!view) {
        tell_faults(read.faults, json);
        const outcome code = machine_fault(view.error());
        if (!code) return std::unexpected(code.error());
        return planned{{}, {}, *code};
    }
    if (read.value.wants_cpusets()) {
        auto sets = group::view_cpusets(chosen, read.value.cpusets_under, os);
        if (!sets) return std::unexpected(sets.error());
        view->cpusets = std::move(*sets);
    }
    for (group::fault& f : group::check_cpus(read.value, *view)) read.faults.push_back(std::move(f));
    if (!read.faults.empty()) {
        tell_faults(read.faults, json);
        return planned{{}, {}, exit_code::usage};
    }
    auto here = os.readlink("/proc/self/cwd");
    if (!here) return std::unexpected(here.error());
    return planned{group::make_plan(bare ? group::without_cohorts(read.value) : read.value, *view, *here), read.value.about, exit_code::ok};
}

}  // namespace cohort::cli
