// SPDX-License-Identifier: Apache-2.0
/// The pools of a plan's cohorts: made before the jobs, gone after them. They are groups of a broker: of the one that $COHORT_SOCKET names, or of one that runs here, on a socket in a folder of its own, as long as they do.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

#include <cohort/base/error.hpp>
#include <cohort/group/plan.hpp>
#include <cohort/group/run.hpp>
#include <cohort/sharepool/member.hpp>

namespace cohort::group::detail {

class pool_host;

/// One cohort's. Synchronization: look() by any thread; the rest is constant after create().
class pool {
public:
    pool(const cohort_plan& c, int id, std::string socket, sharepool::member& m) : plan_(c), id_(id), socket_(std::move(socket)), member_(m) {}

    int id() const { return id_; }
    sharepool::member& member() { return member_; }
    /// What makes a program a member of it: COHORT_SOCKET and COHORT_POOL_JOIN.
    std::vector<std::string> environment(bool read_only) const;
    /// Bytes of memory that it has now; remembers the most.
    std::uint64_t look();
    /// At the end: what dead members left is put in order first.
    pool_report report();

private:
    const cohort_plan& plan_;
    const int id_;
    const std::string socket_;
    sharepool::member& member_;
    std::mutex lock_;
    std::uint64_t peak_ = 0;  // [guarded: lock_]
};

/// Where the broker of an `up` of this process has its socket, which is called pool.sock.
std::string pool_folder(sys::os& os);

/// A resource: its destructor ends every group that it made.
class pools {
public:
    pools();
    pools(pools&&) noexcept;
    pools& operator=(pools&&) noexcept;
    ~pools();
    /// `broker`: who has the groups of all pools of this process; begun where there is none, gone with the last of them.
    /// Errors: those of the broker's create() and of a join; ENOTSUP, huge pages were required.
    static result<pools> create(const plan& p, sys::os& os, std::weak_ptr<pool_host>& broker);
    /// Its own, or the other cohort's that it is in; null: it is in none.
    pool* of(const cohort_plan& c) const;
    std::vector<pool_report> report();
    /// Adds the bytes of memory that each has now, by cohort.
    void sample(std::map<std::string, std::uint64_t>& to) const;
    std::vector<pool_place> places() const;

private:
    std::shared_ptr<pool_host> host_;  // null: no cohort has a pool
    std::vector<std::pair<std::string, std::unique_ptr<pool>>> all_;
};

}  // namespace cohort::group::detail
