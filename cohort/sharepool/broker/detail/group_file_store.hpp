// SPDX-License-Identifier: Apache-2.0
/// The files of groups, as long as the broker has them: by what descriptors it hands them out, and how one that comes back is told from any other.
#pragma once

#include <unordered_map>

#include <cohort/base/error.hpp>
#include <cohort/sharepool/broker/detail/connections.hpp>
#include <cohort/sharepool/broker/directory.hpp>

namespace cohort::sharepool::detail {

class group_file_store {
public:
    struct files {
        shared_fd data, metadata;
        group_inodes inodes;
    };
    /// nullptr: the group has none here.
    const files* find(int id) const;
    /// Makes them, at the group's address. Errors: ENOMEM, EMFILE, EFBIG...
    result<const files*> make(const spg& g);
    /// Takes descriptors that somebody shows: they are what the inodes say. They may be for reading only. Errors: EINVAL, they are no such files; EPERM.
    result<const files*> take(int id, const group_inodes& expected, const sys::owned_fd& data, const sys::owned_fd& metadata);
    void drop(int id) { all_.erase(id); }
    /// What a member for reading gets. Errors: EMFILE; EPERM.
    static result<std::vector<shared_fd>> for_reading(const files& f);
    std::size_t size() const { return all_.size(); }

private:
    std::unordered_map<int, files> all_;
};

/// What the two descriptors are. Errors: EBADF.
result<group_inodes> inodes_of(const sys::owned_fd& data, const sys::owned_fd& metadata);

}  // namespace cohort::sharepool::detail
