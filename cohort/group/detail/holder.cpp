// SPDX-License-Identifier: Apache-2.0
#include <cohort/group/detail/holder.hpp>

namespace cohort::group::detail {
namespace {

/// A look may take a twentieth of the time.
constexpr std::uint64_t share = 20;

bool is_gone(const error& e) { return e.code == ESRCH || e.code == ENOENT; }

}  // namespace

result<void> holder::take(int pid, const cohort_plan& cohort, const cpuset_view& seen) {
    const lock_guard guard(mutex_);
    auto tree = cpuset::affinity_backend::create(os_, seen.machine, {.pid = pid});
    if (!tree) return is_gone(tree.error()) ? result<void>{} : std::unexpected(tree.error());
    const std::string& set = cohort.name;
    result<void> done = (*tree)->create(set);
    if (done) done = (*tree)->write(set, "cpuset.cpus", cohort.cpus.list());
    if (done && !cohort.keep.mems.empty()) done = (*tree)->write(set, "cpuset.mems", cohort.keep.mems.list());
    if (done) done = (*tree)->attach(set, pid);
    if (!done && !is_gone(done.error())) return done;
    trees_[pid] = std::move(*tree);
    return {};
}

void holder::drop(int pid) {
    const lock_guard guard(mutex_);
    trees_.erase(pid);
}

void holder::look() {
    const lock_guard guard(mutex_);
    const std::uint64_t from = os_.now();
    if (trees_.empty() || from < next_) return;
    // A thread that cannot be set is looked at again the next time; the report's advisory lines say that this is a look from outside.
    for (auto& [pid, tree] : trees_) (void)tree->enforce();
    next_ = os_.now() + (os_.now() - from) * share;
}

}  // namespace cohort::group::detail
