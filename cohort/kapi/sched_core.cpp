// SPDX-License-Identifier: Apache-2.0
#include <cohort/kapi/sched_core.h>

#include <atomic>
#include <cerrno>

#include <cohort/coresched/control.hpp>

namespace {

using namespace cohort::coresched;

std::atomic<verbs*> chosen{nullptr};  // [atomic: sched_core_use() writes; publishes the carrier]

verbs& carrier() {
    static control kernel(cohort::sys::real());
    verbs* v = chosen.load();
    return v ? *v : kernel;
}

template <class T>
int code_of(const cohort::result<T>& r) {
    return r ? 0 : -r.error().code;
}

}  // namespace

void sched_core_use(verbs* v) { chosen.store(v); }

int sched_core_share_pid(unsigned int cmd, int pid, int type, unsigned long uaddr) {
    verbs& v = carrier();
    const auto mine = v.get(0);  // whether there is such a facility comes before the arguments
    if (!mine && (mine.error().code == EINVAL || mine.error().code == ENODEV)) return -mine.error().code;
    if (type < PR_SCHED_CORE_SCOPE_THREAD || type > PR_SCHED_CORE_SCOPE_PROCESS_GROUP || cmd >= PR_SCHED_CORE_MAX || pid < 0 || (cmd != PR_SCHED_CORE_GET && uaddr != 0)) return -EINVAL;
    const scope whom = static_cast<scope>(type);
    if (cmd == PR_SCHED_CORE_CREATE) return code_of(v.create(pid, whom));
    if (cmd == PR_SCHED_CORE_SHARE_TO) return code_of(v.share_to(pid, whom));
    // What is left is of one thread only, which is looked at first: ESRCH and EPERM come before EINVAL.
    const auto value = v.get(pid);
    if (!value) return code_of(value);
    if (whom != scope::thread || (cmd == PR_SCHED_CORE_GET && uaddr % 8 != 0)) return -EINVAL;
    if (cmd == PR_SCHED_CORE_SHARE_FROM) return code_of(v.share_from(pid));
    if (uaddr == 0) return -EFAULT;
    *reinterpret_cast<unsigned long long*>(uaddr) = *value;
    return 0;
}
