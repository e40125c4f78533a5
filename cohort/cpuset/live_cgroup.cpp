// SPDX-License-Identifier: Apache-2.0
// The backends of cgroup version 2 and 1: the same files, under two sets of names.
#include <algorithm>
#include <charconv>

#include <cohort/cpuset/backend.hpp>
#include <cohort/cpuset/detail/refusal.hpp>
#include <cohort/cpuset/detail/words.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/paths.hpp>
#include <cohort/sys/tasks.hpp>

namespace cohort::cpuset {
namespace {

using detail::stage;

struct put_fault {
    int code;
    stage at;
};

class cgroup_tree final : public backend {
public:
    cgroup_tree(sys::os& os, live_mount place) : os_(os), place_(std::move(place)) {}

    std::string name() const override { return place_.about; }
    bool v1() const override { return place_.v1(); }

    result<void> create(const std::string& path) override {
        if (auto r = os_.mkdir(place_.directory(path), 0755); !r) return refuse(r.error().code, path, "create", detail::why_not_created(os_, place_, path, r.error().code));
        return {};
    }
    result<void> remove(const std::string& path) override {
        if (path.empty()) return refuse(EBUSY, path, "remove", "it is the topmost set");
        if (auto r = os_.rmdir(place_.directory(path)); !r) return refuse(r.error().code, path, "remove", detail::why_not_removed(os_, place_, path, r.error().code));
        return {};
    }
    result<void> write(const std::string& path, const std::string& file, const std::string& text) override {
        const auto fault = put(place_.file(path, file), text);
        if (!fault) return {};
        return refuse(fault->code, path, "write " + file + " \"" + text + "\"", detail::why_not_written(os_, place_, path, file, text, fault->code, fault->at));
    }
    result<std::string> read(const std::string& path, const std::string& file) override {
        auto text = sys::read_line(os_, place_.file(path, file));
        if (!text) return refuse(text.error().code, path, "read " + file, detail::why_not_written(os_, place_, path, file, "", text.error().code, stage::open));
        return *text;
    }
    result<void> attach(const std::string& path, int pid, whom who) override {
        const char* file = who == whom::process ? "cgroup.procs" : v1() ? "tasks" : "cgroup.threads";
        const auto fault = put(place_.directory(path) + "/" + file, std::to_string(pid));
        if (!fault) return {};
        return refuse(fault->code, path, std::string("attach ") + (who == whom::process ? "process " : "thread ") + std::to_string(pid),
                      detail::why_not_attached(os_, place_, path, pid, fault->code, fault->at));
    }
    result<void> controller(const std::string& path, bool on) override {
        const std::string text = on ? "+cpuset" : "-cpuset";
        const auto fault = put(place_.directory(path) + "/cgroup.subtree_control", text);
        if (!fault) return {};
        return refuse(v1() ? EOPNOTSUPP : fault->code, path, "write cgroup.subtree_control \"" + text + "\"", detail::why_not_handed_on(os_, place_, path, on, fault->code, fault->at));
    }
    result<bool> hands_on(const std::string& path) override {
        if (v1()) return true;
        auto text = sys::read_line(os_, place_.directory(path) + "/cgroup.subtree_control");
        if (!text) return refuse(text.error().code, path, "read cgroup.subtree_control", detail::why_not_written(os_, place_, path, "cgroup.subtree_control", "", text.error().code, stage::open));
        return detail::has_word(*text, "cpuset");
    }
    result<std::vector<int>> tasks(const std::string& path) override { return numbers(path, "cgroup.procs"); }
    result<std::vector<int>> threads(const std::string& path) override { return numbers(path, v1() ? "tasks" : "cgroup.threads"); }
    result<std::string> home(int pid) override { return home_of(os_, place_, pid); }
    result<std::vector<int>> threads_of(int pid) override { return sys::threads_of_process(os_, pid); }
    result<std::vector<std::string>> children(const std::string& path) override {
        auto names = os_.list_dir(place_.directory(path));
        if (!names) return refuse(names.error().code, path, "list", detail::why_not_removed(os_, place_, path, names.error().code));
        std::erase_if(*names, [&](const std::string& n) {
            const auto info = os_.stat(place_.directory(path) + "/" + n);
            return !info || info->kind != sys::file_kind::directory;
        });
        return *names;
    }
    result<pressure> memory_pressure(const std::string& path) override {
        if (v1()) {
            if (sys::read_line(os_, place_.file("", "cpuset.memory_pressure_enabled")).value_or("1") == "0") {
                return refuse(ENODATA, path, "read cpuset.memory_pressure", "the meter is off: write 1 to cpuset.memory_pressure_enabled of the root");
            }
            auto text = read(path, "cpuset.memory_pressure");
            if (!text) return std::unexpected(text.error());
            return pressure{std::atoll(text->c_str()), {}};
        }
        // The hierarchy's root has no memory.pressure; what it would say is the machine's.
        const std::string file = path.empty() && place_.whole ? sys::paths::memory_pressure : place_.directory(path) + "/memory.pressure";
        auto text = sys::read_line(os_, file);
        if (!text) return refuse(EOPNOTSUPP, path, "measure memory pressure", "version 2 has no meter, and there is no " + file + " to stand in for it (CONFIG_PSI, psi=1)");
        const auto share = stalled_percent(*text);
        if (!share) return refuse(EOPNOTSUPP, path, "measure memory pressure", file + " reads \"" + *text + "\"");
        // A millisecond in which some task waits for memory counts as an event.
        return pressure{static_cast<std::int64_t>(*share * 10'000), "stalls of " + file + " over 10 seconds; 1000 is a millisecond a second"};
    }
    bool may_write(const std::string& path, const std::string& file) override { return sys::open_file(os_, place_.file(path, file), sys::open_write).has_value(); }

private:
    /// "some avg10=1.50 avg60=..." -> 1.5
    static std::optional<double> stalled_percent(const std::string& line) {
        const std::size_t at = line.find("avg10=");
        double percent = 0;
        if (!line.starts_with("some ") || at == line.npos || std::from_chars(line.data() + at + 6, line.data() + line.size(), percent).ec != std::errc()) return std::nullopt;
        return percent;
    }
    static std::unexpected<error> refuse(int code, const std::string& path, std::string act, std::string why) { return fail(code, set_name(path), std::move(act), std::move(why)); }

    /// One write call, as the kernel's handlers want it. A newline ends it: an empty text would not reach them. Nothing: it was taken.
    std::optional<put_fault> put(const std::string& file, const std::string& text) {
        auto fd = sys::open_file(os_, file, sys::open_write);
        if (!fd) return put_fault{fd.error().code, stage::open};
        const std::string line = text + "\n";
        const auto n = os_.write(fd->get(), std::as_bytes(std::span(line)));
        if (!n) return put_fault{n.error().code, stage::write};
        return std::nullopt;
    }
    result<std::vector<int>> numbers(const std::string& path, const std::string& file) {
        auto text = sys::read_file(os_, place_.directory(path) + "/" + file);
        if (!text) return refuse(text.error().code, path, "read " + file, detail::why_not_attached(os_, place_, path, 0, text.error().code, stage::open));
        const std::set<int> ids = sys::ids_in(*text);
        return std::vector<int>(ids.begin(), ids.end());
    }

    sys::os& os_;             // [const after init]
    const live_mount place_;  // [const after init]
};

}  // namespace

result<std::unique_ptr<backend>> open_cgroup(sys::os& os, const live_mount& place) {
    if (!place.mounted()) return fail(EOPNOTSUPP, "cpuset", "open the hierarchy", place.about);
    return std::make_unique<cgroup_tree>(os, place);
}

}  // namespace cohort::cpuset
