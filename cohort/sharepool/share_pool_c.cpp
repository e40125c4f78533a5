// SPDX-License-Identifier: Apache-2.0
#include <cohort/sharepool/share_pool.h>

#include <algorithm>
#include <cerrno>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include <cohort/base/mutex.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/sharepool/window.hpp>
#include <cohort/sys/os.hpp>
#include <cohort/sys/shared_memory.hpp>

namespace {

using namespace cohort;
using sharepool::foreign;
using sharepool::share_pool;

static_assert(SP_HUGEPAGE == sharepool::sp_hugepage && SP_HUGEPAGE_ONLY == sharepool::sp_hugepage_only && SP_DVPP == sharepool::sp_dvpp && SP_SPEC_NODE_ID == sharepool::sp_spec_node_id &&
              SP_PROT_RO == sharepool::sp_prot_ro && SP_PROT_FOCUS == sharepool::sp_prot_focus && DEVICE_ID_SHIFT == sharepool::device_id_shift && NODE_ID_SHIFT == sharepool::node_id_shift);
static_assert(SPG_ID_AUTO == sharepool::spg_id_auto && SPG_ID_DVPP_PASS_THROUGH == sharepool::spg_id_dvpp && SPG_ID_DEFAULT == sharepool::spg_id_default);

constexpr unsigned long may_read = 1, may_write = 2;  // PROT_READ, PROT_WRITE
constexpr unsigned long page_size = 4096;
/// Where the kernel has its own addresses: no program has anything there.
constexpr unsigned long first_token = 0xffff800000000000;

std::string& last_error() {
    static thread_local std::string line;
    return line;
}
int refused(const error& e) {
    last_error() = e.line();
    return -e.code;
}
int refused(int code, const char* object, const char* reason) { return refused(error{code, object, "", reason}); }

/// All that this interface keeps. Never destroyed: threads of the program may call to its very end.
struct state {
    mutex lock;
    int attached_in = 0;                                              // [guarded: lock] pid: a child of fork() attaches anew
    share_pool* pool = nullptr;                                       // [guarded: lock]
    std::map<unsigned long, foreign> tokens;                          // [guarded: lock] by their first address
    unsigned long next_token = first_token;                           // [guarded: lock]
    std::map<notifier_block*, int> notifiers;                         // [guarded: lock]
};
state& all() {
    static auto* s = new state;
    return *s;
}

result<share_pool*> pool() {
    if (share_pool* p = share_pool::current()) return p;
    state& s = all();
    lock_guard hold(s.lock);
    const int self = sys::real().getpid();
    if (s.pool && s.attached_in == self) return s.pool;
    auto p = share_pool::attach({});
    if (!p) {
        error e = p.error();
        if (e.code == ENOENT || e.code == ECONNREFUSED) e.code = EOPNOTSUPP;  // no broker: the share pool is off
        return std::unexpected(e);
    }
    s.pool = p->release();
    s.attached_in = self;
    s.notifiers.clear();
    return s.pool;
}

/// f(pool) as the kernel answers: a value, or a negative errno.
template <class F>
auto answered(F&& f) -> int {
    const auto p = pool();
    if (!p) return refused(p.error());
    const auto r = f(**p);
    if (!r) return refused(r.error());
    if constexpr (std::is_void_v<typename std::decay_t<decltype(r)>::value_type>) return 0;
    else return *r;
}
template <class F>
void* pointer(F&& f) {
    const auto p = pool();
    if (!p) return ERR_PTR(refused(p.error()));
    const auto r = f(**p);
    return r ? *r : ERR_PTR(refused(r.error()));
}

/// The piece that a token is of, from this address on.
result<foreign> piece_at(unsigned long kva) {
    state& s = all();
    lock_guard hold(s.lock);
    auto it = s.tokens.upper_bound(kva);
    if (it != s.tokens.begin()) --it;
    if (it == s.tokens.end() || kva - it->first >= it->second.bytes) return fail(EINVAL, "kernel address", "look it up", "it is no token: sp_kva_of_file() makes one");
    const unsigned long in = kva - it->first;
    return foreign{.fd = it->second.fd, .offset = it->second.offset + in, .bytes = it->second.bytes - in};
}
/// The descriptor is the token's from now on.
unsigned long token_of(const foreign& f) {
    state& s = all();
    lock_guard hold(s.lock);
    // Its distance in a page is the file's; a page between two.
    const unsigned long token = s.next_token + f.offset % page_size;
    s.next_token += (f.offset % page_size + f.bytes + 2 * page_size - 1) / page_size * page_size + page_size;
    s.tokens.emplace(token, f);
    return token;
}

}  // namespace

extern "C" {

// ---- groups ----

int sp_group_add_task(int pid, int spg_id) {
    return answered([&](share_pool& p) { return p.group_add_task(pid, spg_id, {.single = true}); });
}
int mg_sp_group_add_task(int pid, unsigned long prot, int spg_id) {
    if (prot != may_read && prot != (may_read | may_write)) return refused(EINVAL, "protection", "it is PROT_READ, or PROT_READ | PROT_WRITE");
    return answered([&](share_pool& p) { return p.group_add_task(pid, spg_id, {.prot = prot == may_read ? sharepool::access::read : sharepool::access::read_write}); });
}
int sp_group_del_task(int pid, int spg_id) {
    return answered([&](share_pool& p) { return p.group_del_task(pid, spg_id); });
}
int mg_sp_group_del_task(int pid, int spg_id) { return sp_group_del_task(pid, spg_id); }

int sp_group_id_by_pid(int pid) {
    return answered([&](share_pool& p) -> result<int> {
        const auto ids = p.group_id_by_pid(pid);
        if (!ids) return std::unexpected(ids.error());
        return ids->front();
    });
}
int mg_sp_group_id_by_pid(int pid, int* spg_ids, int* num) {
    if (!spg_ids || !num || *num <= 0) return refused(EINVAL, "groups of a process", "there is no place for their ids");
    return answered([&](share_pool& p) -> result<void> {
        const auto ids = p.group_id_by_pid(pid);
        if (!ids) return std::unexpected(ids.error());
        const int place = *num;
        *num = static_cast<int>(ids->size());
        if (*num > place) return fail(E2BIG, "groups of process " + std::to_string(pid), "list them", "there are " + std::to_string(*num));
        std::copy(ids->begin(), ids->end(), spg_ids);
        return {};
    });
}
int sp_group_walk(int spg_id, void* data, int (*func)(struct mm_struct*, void*)) {
    if (!func) return refused(EINVAL, "walk over a group", "there is no function");
    return answered([&](share_pool& p) -> result<int> {
        const auto members = p.group_walk(spg_id);
        if (!members) return std::unexpected(members.error());
        for (const auto& m : *members) {
            mm_struct mm{.owner_pid = m.process.pid, .prot = m.prot == sharepool::access::read ? may_read : may_read | may_write};
            if (const int r = func(&mm, data); r != 0) return r;
        }
        return 0;
    });
}
int mg_sp_id_of_current(void) {
    return answered([](share_pool& p) { return p.id_of_current(); });
}

// ---- memory ----

void* mg_sp_alloc(unsigned long size, unsigned long sp_flags, int spg_id) {
    return pointer([&](share_pool& p) { return p.alloc(size, sp_flags, spg_id); });
}
void* sp_alloc(unsigned long size, unsigned long sp_flags, int spg_id) { return mg_sp_alloc(size, sp_flags, spg_id); }
void* mg_sp_alloc_nodemask(unsigned long size, unsigned long sp_flags, int spg_id, nodemask_t nodemask) {
    cohort::nodemask nodes;
    for (int n = 0; n < cohort::nodemask::capacity; ++n) {
        if (nodemask.bits[n / 64] >> (n % 64) & 1) nodes.set(n);
    }
    return pointer([&](share_pool& p) { return p.alloc_nodemask(size, sp_flags, spg_id, nodes); });
}
int mg_sp_free(unsigned long addr, int id) {
    return answered([&](share_pool& p) { return p.free(reinterpret_cast<void*>(addr), id); });
}
int sp_free(unsigned long addr) { return mg_sp_free(addr, SPG_ID_DEFAULT); }

// ---- imports and exports ----

unsigned long sp_kva_of_file(int fd, unsigned long offset, unsigned long size) {
    const auto bad = [](const error& e) { return static_cast<unsigned long>(refused(e)); };
    if (size == 0 || offset + size < offset) return bad({EINVAL, "descriptor " + std::to_string(fd), "make a kernel address of it", "it has no size"});
    const auto copy = sys::copy_descriptor(fd);
    if (!copy) return bad(copy.error());
    return token_of({.fd = *copy, .offset = offset, .bytes = size});
}
int sp_file_of_kva(unsigned long kva, unsigned long* offset) {
    const auto f = piece_at(kva);
    if (!f) return refused(f.error());
    if (offset) *offset = f->offset;
    return f->fd;
}
void* mg_sp_make_share_k2u(unsigned long kva, unsigned long size, unsigned long sp_flags, int pid, int spg_id) {
    return pointer([&](share_pool& p) -> result<void*> {
        auto f = piece_at(kva);
        if (!f) return std::unexpected(f.error());
        if (size > f->bytes) return fail(EINVAL, "kernel address", "share " + std::to_string(size) + " bytes of it", "it has " + std::to_string(f->bytes));
        f->bytes = size;
        return p.make_share_k2u(*f, sp_flags, pid, spg_id);
    });
}
void* sp_make_share_k2u(unsigned long kva, unsigned long size, unsigned long sp_flags, int pid, int spg_id) { return mg_sp_make_share_k2u(kva, size, sp_flags, pid, spg_id); }
void* mg_sp_make_share_u2k(unsigned long uva, unsigned long size, int pid) {
    return pointer([&](share_pool& p) -> result<void*> {
        if (pid != 0 && pid != sys::real().getpid()) return fail(ESRCH, "process " + std::to_string(pid), "share its memory", "a process shares its own");
        const auto f = p.make_share_u2k(reinterpret_cast<void*>(uva), size);
        if (!f) return std::unexpected(f.error());
        return reinterpret_cast<void*>(token_of(*f));
    });
}
void* sp_make_share_u2k(unsigned long uva, unsigned long size, int pid) { return mg_sp_make_share_u2k(uva, size, pid); }

int mg_sp_unshare(unsigned long va, unsigned long size, int id) {
    if (va >= first_token) {
        state& s = all();
        lock_guard hold(s.lock);
        const auto it = s.tokens.find(va);
        if (it == s.tokens.end()) return refused(EINVAL, "kernel address", "no token begins there");
        sys::close_shared_memory(it->second.fd);
        s.tokens.erase(it);
        return 0;
    }
    return answered([&](share_pool& p) { return p.unshare(reinterpret_cast<void*>(va), size, id); });
}
int sp_unshare(unsigned long va, unsigned long size, int, int spg_id) { return mg_sp_unshare(va, size, spg_id); }

int sp_walk_page_range(unsigned long uva, unsigned long size, struct task_struct* tsk, struct sp_walk_data* data) {
    if (!data) return refused(EINVAL, "walk over pages", "there is no place for what is found");
    *data = {};
    if (tsk) return refused(ESRCH, "walk over pages", "a process walks over its own: the task is NULL");
    if (size == 0 || uva + size < uva) return refused(EINVAL, "walk over pages", "it has no size");
    return answered([&](share_pool& p) -> result<void> {
        const unsigned long from = uva / page_size * page_size, n = (uva + size - from + page_size - 1) / page_size;
        const auto f = p.make_share_u2k(reinterpret_cast<void*>(from), n * page_size);
        if (!f) return std::unexpected(f.error());
        auto pages = std::make_unique<page*[]>(n);
        auto each = std::make_unique<page[]>(n);
        for (unsigned long i = 0; i < n; ++i) {
            each[i] = {.fd = f->fd, .offset = f->offset + i * page_size};
            pages[i] = &each[i];
        }
        (void)each.release();  // the first of pages is its first
        *data = {.pages = pages.release(), .page_count = static_cast<unsigned>(n), .uva_aligned = from, .page_size = page_size, .is_hugepage = false};
        return {};
    });
}
void sp_walk_page_free(struct sp_walk_data* data) {
    if (!data || !data->pages) return;
    sys::close_shared_memory(data->pages[0]->fd);
    delete[] data->pages[0];
    delete[] data->pages;
    *data = {};
}

// ---- the rest ----

bool sp_config_dvpp_range(size_t start, size_t size, int device_id, int pid) {
    return answered([&](share_pool& p) -> result<void> {
        if (pid != 0 && pid != sys::real().getpid()) return fail(EPERM, "process " + std::to_string(pid), "say where its device's areas are", "a process says it for its own groups");
        const auto ids = p.group_id_by_pid(sys::real().getpid());
        if (!ids) return std::unexpected(ids.error());
        error last{EINVAL, "addresses", "put areas of a device there", "they are of no group of this process"};
        for (const int id : *ids) {
            const auto done = p.config_dvpp_range(start, size, device_id, id);
            if (done) return {};
            last = done.error();
        }
        return std::unexpected(last);
    }) == 0;
}
bool is_sharepool_addr(unsigned long addr) {
    return addr - sharepool::window_base < sharepool::window_bytes;
}

int sp_register_notifier(struct notifier_block* nb) {
    if (!nb || !nb->notifier_call) return refused(EINVAL, "notifier", "it has no function");
    return answered([&](share_pool& p) -> result<void> {
        state& s = all();
        {
            lock_guard hold(s.lock);
            if (!s.notifiers.emplace(nb, 0).second) return fail(EEXIST, "notifier", "register it", "it is registered already");
        }
        const int number = p.register_notifier([nb](int id) {
            sp_group dead{.id = id};
            (void)nb->notifier_call(nb, 0, &dead);
        });
        lock_guard hold(s.lock);
        s.notifiers[nb] = number;
        return {};
    });
}
int sp_unregister_notifier(struct notifier_block* nb) {
    return answered([&](share_pool& p) -> result<void> {
        state& s = all();
        int number = 0;
        {
            lock_guard hold(s.lock);
            const auto it = s.notifiers.find(nb);
            if (it == s.notifiers.end()) return fail(ENOENT, "notifier", "unregister it", "it is not registered");
            number = it->second;
            s.notifiers.erase(it);
        }
        return p.unregister_notifier(number);
    });
}

const char* sp_last_error(void) { return last_error().c_str(); }

}  // extern "C"
