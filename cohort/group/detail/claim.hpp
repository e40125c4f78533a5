// SPDX-License-Identifier: Apache-2.0
/// A claim: a file that says whose a name is, which only one process can create.
#pragma once

#include <string>

#include <cohort/group/detail/owner.hpp>

namespace cohort::group::detail {

/// For `me`, this process. Takes over one whose owner has died. Errors: EBUSY, a living process has it; those of writing.
result<void> take_claim(sys::os& os, const std::string& path, const owner& me);

/// Removes it if it is this owner's, who must be dead. Nothing to do if it is another's or not there.
result<void> remove_claim(sys::os& os, const std::string& path, const owner& whose);

}  // namespace cohort::group::detail
