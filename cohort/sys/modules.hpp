// SPDX-License-Identifier: Apache-2.0
/// Which shared object an address belongs to: one that was there when the program started, or one that was loaded later.
///
///     if (!sys::loaded_at_start(&object)) ...                  // in a library that came by dlopen(3), and may go by dlclose(3)
///
/// Kernel: is_module_address() (kernel/module/main.c) answers the like for code of the kernel.
#pragma once

namespace cohort::sys {

/// True, too, for addresses of no object. Cost: walks the loaded objects. Not from signal handlers.
bool loaded_at_start(const void* address);

}  // namespace cohort::sys
