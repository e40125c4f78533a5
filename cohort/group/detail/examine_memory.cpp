// SPDX-License-Identifier: Apache-2.0
// The doctor's questions about memory and the host: sharepool, host.
#include <cohort/group/detail/examine.hpp>

#include <charconv>

#include <fmt/format.h>

#include <cohort/group/quantity.hpp>
#include <cohort/sys/fd.hpp>

namespace cohort::group::detail {
namespace {

using enum finding::form;

std::string why(const sys::answer& a) { return a.ok() ? "" : errno_name(a.code) + ": " + errno_text(a.code); }

std::string limit_text(std::uint64_t v, bool bytes) { return v == ~std::uint64_t{0} ? "unlimited" : bytes ? human_bytes(static_cast<double>(v)) : std::to_string(v); }

std::uint64_t number(const std::string& text) {
    std::uint64_t out = 0;
    std::from_chars(text.data(), text.data() + text.size(), out);
    return out;
}

void huge_pages(const sys::kernel_probe& k, sys::os& os, findings& out) {
    const std::string dir = "/sys/kernel/mm/hugepages";
    std::string sizes;
    for (const std::string& name : os.list_dir(dir).value_or(std::vector<std::string>{})) {
        if (!name.starts_with("hugepages-")) continue;
        const auto total = sys::read_line(os, dir + "/" + name + "/nr_hugepages"), free = sys::read_line(os, dir + "/" + name + "/free_hugepages");
        sizes += fmt::format("{}{}: {} of {} free", sizes.empty() ? "" : ", ", human_bytes(static_cast<double>(number(name.substr(10)) << 10)), free.value_or("?"), total.value_or("?"));
    }
    finding f{"sharepool", "huge pages", k.memfd_huge.ok() ? there : missing, sizes, "", "", "memfd_create(MFD_HUGETLB)", false};
    if (!k.memfd_huge.ok()) {
        f.reason = k.memfd_huge.code == ENOMEM ? "ENOMEM: no free 2 MiB page in the pool" : why(k.memfd_huge);
        f.instead = k.memfd_huge.code == ENOMEM ? "small pages are used; echo N > /proc/sys/vm/nr_hugepages makes some" : "small pages are used";
    }
    out.push_back(std::move(f));
}

void choice(sys::os& os, findings& out, const std::string& name, const std::string& path, const std::string& bad, const std::string& meaning) {
    const auto text = sys::read_line(os, path);
    if (!text) {
        out.push_back({"sharepool", name, missing, "", text.error().line(), "", path, false});
        return;
    }
    const std::string now = chosen(*text);
    out.push_back({"sharepool", name, now == bad ? limited : there, now, now == bad ? meaning : "", "", path, false});
}

}  // namespace

void examine_sharepool(const sys::kernel_probe& k, sys::os& os, findings& out) {
    out.push_back({"sharepool", "memfd", k.memfd.ok() ? there : missing, k.memfd.ok() ? "memory files" : "", why(k.memfd), "", "memfd_create", true});
    out.push_back({"sharepool", "sealing", k.memfd_seal.ok() ? there : missing, k.memfd_seal.ok() ? "a member cannot shrink the pool" : "", why(k.memfd_seal),
                   k.memfd_seal.ok() ? "" : "members must be trusted", "fcntl(F_ADD_SEALS)", false});
    out.push_back({"sharepool", "addresses", k.address_bits >= 47 ? there : limited, fmt::format("{} bits", k.address_bits),
                   k.address_bits >= 47 ? "" : "the window is smaller than 47 bits allow", "", "mmap", false});
    out.push_back({"sharepool", "window", k.reserve.ok() ? there : missing, k.reserve.ok() ? "1 TiB of addresses can be reserved without memory" : "", why(k.reserve),
                   k.reserve.ok() ? "" : "RLIMIT_AS or vm.overcommit_memory = 2 forbids it; a smaller window is needed", "mmap(PROT_NONE, MAP_NORESERVE)", true});
    huge_pages(k, os, out);
    choice(os, out, "THP", "/sys/kernel/mm/transparent_hugepage/enabled", "never", "the kernel never gives huge pages on its own");
    choice(os, out, "THP of memfds", "/sys/kernel/mm/transparent_hugepage/shmem_enabled", "never", "shared memory gets no huge pages on its own");

    const auto overcommit = sys::read_line(os, "/proc/sys/vm/overcommit_memory");
    const std::string mode = overcommit.value_or("?");
    out.push_back({"sharepool", "overcommit", mode == "2" ? limited : there, mode == "0" ? "0 (by estimate)" : mode == "1" ? "1 (always)" : mode == "2" ? "2 (strict)" : mode,
                   mode == "2" ? "every reserved page counts against the commit limit" : "", "", "/proc/sys/vm/overcommit_memory", false});
    const auto maps = sys::read_line(os, "/proc/sys/vm/max_map_count");
    if (maps) out.push_back({"sharepool", "mappings", there, *maps + " a process", "", "", "/proc/sys/vm/max_map_count", false});
    for (const auto& l : k.limits) {
        const bool bytes = l.name == "RLIMIT_AS" || l.name == "RLIMIT_MEMLOCK";
        if (l.name == "RLIMIT_RTPRIO" || l.name == "RLIMIT_NPROC") continue;
        const bool tight = l.name == "RLIMIT_AS" ? l.soft != ~std::uint64_t{0} : l.name == "RLIMIT_NOFILE" && l.soft < 1024;
        out.push_back({"sharepool", l.name, tight ? limited : there, fmt::format("{} (hard {})", limit_text(l.soft, bytes), limit_text(l.hard, bytes)), tight ? "it may be too small" : "",
                       tight ? "raise it with ulimit or systemd's Limit settings" : "", "getrlimit", false});
    }
}

void examine_host(const sys::kernel_probe& k, sys::os& os, findings& out) {
    out.push_back({"host", "kernel", there, k.release, "", "", "uname", false});
    out.push_back({"host", "page size", there, human_bytes(static_cast<double>(k.page_bytes)), "", "", "sysconf", false});
    out.push_back({"host", "user", there, k.euid == 0 ? "root" : fmt::format("uid {}, no privilege", k.euid), "", "", "geteuid", false});
    const auto status = sys::read_file(os, "/proc/self/status");
    const auto field = [&](std::string_view name) -> std::string {
        if (!status) return {};
        const auto at = status->find(std::string("\n") + std::string(name) + ":");
        if (at == std::string::npos) return {};
        const auto from = status->find_first_not_of(" \t", at + name.size() + 2);
        return status->substr(from, status->find('\n', from) - from);
    };
    const std::string seccomp = field("Seccomp");
    out.push_back({"host", "seccomp", seccomp == "2" ? limited : there, seccomp == "2" ? "a filter is on" : seccomp == "0" ? "off" : seccomp, seccomp == "2" ? "some calls may answer EPERM or ENOSYS for that reason" : "",
                   "", "/proc/self/status", false});
    if (const std::string caps = field("CapEff"); !caps.empty()) out.push_back({"host", "capabilities", there, caps, "", "", "/proc/self/status", false});
    const auto lsm = sys::read_line(os, "/sys/kernel/security/lsm");
    out.push_back({"host", "security modules", there, lsm ? *lsm : "not shown", "", "", "/sys/kernel/security/lsm", false});
}

}  // namespace cohort::group::detail
