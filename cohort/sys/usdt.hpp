// SPDX-License-Identifier: Apache-2.0
/// Static probes: places that bpftrace, perf and gdb can stop at while the program runs. Each is one nop in the code and a note in the file.
///
///     COHORT_USDT(percpu_free_percpu, value);                 // 1 to 6 numbers or pointers; provider "cohort"
///     # bpftrace -e 'usdt:build/cohort:cohort:percpu_free_percpu { @[ustack] = count(); }'
///
/// Where <sys/sdt.h> is missing (package systemtap-sdt-dev) there are none, and the arguments are not evaluated.
#pragma once

#if __has_include(<sys/sdt.h>) && !defined(COHORT_NO_USDT)
#include <sys/sdt.h>
#define COHORT_USDT(name, ...) COHORT_USDT_PICK(__VA_ARGS__, STAP_PROBE6, STAP_PROBE5, STAP_PROBE4, STAP_PROBE3, STAP_PROBE2, STAP_PROBE1, )(cohort, name, __VA_ARGS__)
#define COHORT_USDT_PICK(a1, a2, a3, a4, a5, a6, which, ...) which
#define COHORT_HAS_USDT 1
#else
#define COHORT_USDT(name, ...) ((void)0)
#define COHORT_HAS_USDT 0
#endif
