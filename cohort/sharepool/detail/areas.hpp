// SPDX-License-Identifier: Apache-2.0
/// Areas: made; and, in members and views alike, imports in their places and pages mapped before they are touched.
#pragma once

#include <cstddef>
#include <expected>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/area_options.hpp>
#include <cohort/sharepool/detail/heap.hpp>

namespace cohort::sharepool::detail {

/// alignment: in units. Errors: as member::alloc_area.
std::expected<void*, int> make_area(heap& h, std::size_t bytes, const area_options& o, std::uint64_t alignment) noexcept;

/// EINVAL: they are not all online.
result<void> check_nodes(const nodemask& nodes, const std::string& object, const std::string& act);
/// a: how this process has mapped the group. As member's.
result<void> map_import(heap& h, void* at, std::size_t bytes, int fd, std::uint64_t offset, access a);
result<void> unmap_import(heap& h, void* at, access own);
result<std::uint64_t> populate(const heap& h, access own);

}  // namespace cohort::sharepool::detail
