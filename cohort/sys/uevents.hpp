// SPDX-License-Identifier: Apache-2.0
/// The kernel's messages about devices, CPUs that go on- and offline among them.
///
///     auto fd = sys::open_uevents();                          // result<int>; non-blocking, readable when something happened
///     if (fd) wait_for(*fd); else ask_from_time_to_time();
///
/// Kernel: netlink(7), NETLINK_KOBJECT_UEVENT. A message is "offline@/devices/system/cpu/cpu3" and NUL-terminated KEY=VALUE texts. The kernel sends them to the
/// network namespaces of the first user namespace only: in others the descriptor stays silent, so that nobody should rely on it alone.
#pragma once

#include <cohort/base/error.hpp>

namespace cohort::sys {

/// Errors: EPERM, EPROTONOSUPPORT, where such sockets are not allowed; EMFILE. Reading and closing is files.hpp's; read answers ENOBUFS once when messages were lost.
result<int> open_uevents();

}  // namespace cohort::sys
