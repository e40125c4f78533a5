// SPDX-License-Identifier: Apache-2.0
/// What is said over the socket of a control: one line asks, fields apart by tabs; the answer is "ok" and JSON, or "no" and the error's fields.
#pragma once

#include <string>
#include <vector>

#include <cohort/padata/instance.hpp>
#include <cohort/sys/local_socket.hpp>

namespace cohort::padata::detail {

inline constexpr char field_end = '\t';
inline const std::string socket_prefix = "cohort-padata-";

/// Who is described.
struct control_subject {
    instance& inst;
    std::string id, directory;
};

/// JSON with schema_version 1.
std::string describe(const control_subject& s);
/// A string as JSON has it.
std::string json_quote(std::string_view text);

/// Sets the masks that "mask" names: both or, when one is refused, none.
result<void> set_masks(instance& inst, const std::vector<std::string>& question);

/// Reads a question, answers it, closes.
void serve(const control_subject& s, const sys::local_peer& who);

}  // namespace cohort::padata::detail
