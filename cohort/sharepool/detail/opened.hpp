// SPDX-License-Identifier: Apache-2.0
/// A group's two files, checked and mapped in this process: what member and view have in common.
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/access.hpp>
#include <cohort/sharepool/detail/heap.hpp>

namespace cohort::sharepool::detail {

/// Checks and maps a group; its heap has no tag yet. The descriptors stay the caller's. access::read: both mappings are for reading. Errors: as member::join, but ENOSPC.
result<std::unique_ptr<heap>> open_group(int data_fd, int metadata_fd, access a);
/// The addresses are reserved again, the descriptors closed. In a child of fork(), where nothing is mapped (meta is null), the descriptors alone.
void close_group(heap& h) noexcept;

/// "group at 0x550000000000".
std::string name_of(const heap& h);
/// What stands at p, and whose it is.
std::string description(const heap& h, const void* p);
/// Bytes that can be used at p. Errors: EINVAL.
result<std::size_t> size_at(const heap& h, const void* p);
/// Why a charge of so many bytes was refused: whose limit it is, and how much of it is used.
std::string who_refused(const heap& h, std::uint64_t bytes);
/// Members that are there, by process.
std::vector<int> present_in(const heap& h);

}  // namespace cohort::sharepool::detail
