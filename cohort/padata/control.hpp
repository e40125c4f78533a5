// SPDX-License-Identifier: Apache-2.0
/// Masks of a running instance from outside: a directory of files as in sysfs, and questions that are answered at once.
///
///     auto inst = padata::instance::create({.name = "net"}).value();
///     auto outside = padata::control::create(*inst).value();            // $XDG_RUNTIME_DIR/cohort/padata/PID.net, or /tmp/cohort-UID/padata/PID.net
///     std::puts(outside->directory().c_str());
///     // elsewhere: echo 3 > DIR/parallel_cpumask;  echo 0-1 > DIR/serial_cpulist;  cat DIR/usable_parallel_cpumask DIR/last_error
///     auto ids = padata::live_controls().value();
///     for (auto& id : ids) std::puts(padata::ask_control(id, {"show"}).value().c_str());   // JSON
///
/// Kernel: /sys/kernel/pcrypt/{pencrypt,pdecrypt}/{parallel,serial}_cpumask (kernel/padata.c, v6.12). Differences: a plain file cannot refuse a write. One that
/// is no mask, or that the instance refuses, is put back to what holds, and last_error says why; a good write empties last_error. See README.md.
#pragma once

#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/padata/instance.hpp>

namespace cohort::sys {
class os;
}

namespace cohort::padata {

struct control_options {
    /// Empty: one of its own in the default place. Else a directory that is made, or is empty, or was left by a control whose process has died.
    std::string directory = {};
    /// How writes are noticed. A writer that pauses for two looks (100 ms) is taken at its word when files are looked at from time to time.
    enum class watch { notified, polled } how = watch::notified;  ///< notified falls back to polled where the system has no watches left
    sys::os* system = nullptr;  ///< null: the running system
};

/// A resource. Owns one thread, which sleeps while nobody writes or asks. The directory is removed at the end; those of processes that died are
/// removed by the next one that is created. Directory 0700, files 0600: for the same user and root.
/// Synchronization: the instance may be used by anybody meanwhile and must outlive it.
class control {
public:
    /// Errors: EBUSY, another process controls that directory; ENOTEMPTY, it holds other files; EPERM, the default place is another user's; those of making files.
    static result<std::unique_ptr<control>> create(instance& inst, control_options options = {});
    ~control();
    control(const control&) = delete;
    control& operator=(const control&) = delete;

    const std::string& directory() const;
    /// "PID.NAME", by which live_controls() and `cohort padata` know it; a second one of that name in the process is "PID.NAME.2".
    const std::string& id() const;

private:
    class body;
    explicit control(std::unique_ptr<body> b);
    std::unique_ptr<body> body_;
};

/// Ids of all controls of this network namespace, sorted by PID. Errors: the list of sockets cannot be read.
result<std::vector<std::string>> live_controls();

/// Removes the directories of controls whose processes have died, as the next control in the default place would. Returns how many there were.
int remove_dead_controls(sys::os& os);

/// {"show"}: all about the instance as JSON (schema_version 1). {"mask", "parallel", "list", "0-3", "serial", "hex", "f"}: sets one or both masks, or none, and answers as
/// "show". Errors: ENOENT, nobody has that id; EACCES, it is another user's; EPROTO, the answer is cut short; what set_cpumask and the grammars of masks answer.
result<std::string> ask_control(const std::string& id, const std::vector<std::string>& question);

}  // namespace cohort::padata
