// SPDX-License-Identifier: Apache-2.0
/// A process's part in a group for reading: it sees everything, takes no place in the table of members, and cannot write.
///
///     auto v = sharepool::view::attach(data_fd, metadata_fd);        // descriptors that are open for reading, as a broker hands them out
///     std::puts(v->describe(p).c_str());                             // "block of 64 bytes of process 4711"
///     const auto* order = static_cast<const struct order*>(p);       // the same address as in every member
///     v->count().owned;                                              // what `cohort pool stat` shows
///
/// With such descriptors no call makes the memory writable: neither mprotect nor a second mapping, and the files cannot be cut, punched or opened anew by who may not open them (mode 0). With descriptors
/// that are open for writing, too, a view guards against accidents alone. Nothing of a group waits for its views, and a view that dies leaves nothing.
/// Kernel's counterpart: a member that was added with PROT_READ (mg_sp_group_add_task).
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/area_list.hpp>
#include <cohort/sharepool/census.hpp>

namespace cohort::sharepool {

/// Synchronization: any thread may call anything at any time; the destructor is for when no thread of this process reads the group any more. What is read while members write is as that: in flux.
class view {
public:
    /// Maps the group at its address. The descriptors are the caller's to close. Errors: as member::join, save ENOSPC: views are not counted.
    static result<view> attach(int data_fd, int metadata_fd);
    view(view&&) noexcept;
    view& operator=(view&&) = delete;
    ~view();

    const std::byte* base() const;
    std::uint64_t bytes() const;
    /// As member's.
    std::string describe(const void* p) const;
    result<std::size_t> usable_size(const void* p) const;
    std::vector<int> processes() const;
    census count() const;
    std::vector<usage> accounts() const;
    area_list areas() const;
    /// An import that the members have, for reading; and the group's own addresses again. As member's.
    result<void> map_import(void* at, std::size_t bytes, int fd, std::uint64_t offset);
    result<void> unmap_import(void* at);
    /// Maps every page that there is, so that no look at it faults. Bytes. Errors: as member's.
    result<std::uint64_t> populate();

private:
    explicit view(std::unique_ptr<detail::heap> h);
    std::unique_ptr<detail::heap> heap_;  // null once it was moved from
};

}  // namespace cohort::sharepool
