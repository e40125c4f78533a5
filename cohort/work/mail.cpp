// SPDX-License-Identifier: Apache-2.0
/// Mail: what is for the worker of one CPU, how it gets there, and how a worker that waits inside a job still gets it.
#include <limits>
#include <utility>

#include <cohort/sys/futex.hpp>
#include <cohort/work/detail/worker.hpp>
#include <cohort/work/worker_set.hpp>

namespace cohort::work {

void worker_set::post(mail& m, int cpu) {
    worker* woken = nullptr;
    {
        sys::spin_guard hold(lock_);
        worker* w = find(cpu);
        if (!w && !workers_.empty()) w = workers_.front().get();
        if (!w) {
            m.next_mail_ = nullptr;
            mail** end = &strays_;
            while (*end) end = &(*end)->next_mail_;
            *end = &m;
            stray_mail_.store(true, std::memory_order_release);
            return;
        }
        sys::spin_guard box(w->mail_lock);
        m.next_mail_ = nullptr;
        (w->mail_head ? w->mail_tail->next_mail_ : w->mail_head) = &m;
        w->mail_tail = &m;
        w->has_mail.store(true, std::memory_order_seq_cst);
        if (w->waits_on) {
            w->waits_on->fetch_add(1, std::memory_order_seq_cst);
            sys::futex_wake(*w->waits_on, std::numeric_limits<int>::max());
        }
        woken = unpark_locked(*w);
    }
    ring(woken);
}

/// One at a time: a mail that waits inside its deliver() must find the others in the mailbox (deliver_own_mail).
bool worker_set::deliver_mail(context& ctx, worker& w) {
    mail* m = nullptr;
    {
        sys::spin_guard box(w.mail_lock);
        m = w.mail_head;
        if (!m) return false;
        w.mail_head = m->next_mail_;
        if (!w.mail_head) w.has_mail.store(false, std::memory_order_relaxed);
    }
    if (std::exchange(w.searching, false)) {
        state_.fetch_sub(one_searching, std::memory_order_seq_cst);
        if (listed_count_.load(std::memory_order_seq_cst) > 0) wake_if_idle();
    }
    m->deliver(ctx);
    return true;
}

bool worker_set::deliver_own_mail() {
    worker* own = own_worker();
    if (!own || !own->has_mail.load(std::memory_order_relaxed)) return false;
    context ctx{this, own, own->cpu};
    return deliver_mail(ctx, *own);
}

void worker_set::wait_on(std::atomic<std::uint32_t>& word, std::uint32_t seen) {
    worker* own = own_worker();
    const waits here(options_.around, own ? own->cpu : -1);
    if (!own) return sys::futex_wait(word, seen);
    {
        sys::spin_guard box(own->mail_lock);
        if (own->mail_head) return;
        own->waits_on = &word;
    }
    sys::futex_wait(word, seen);
    sys::spin_guard box(own->mail_lock);
    own->waits_on = nullptr;
}

bool worker_set::deliver_stray(context& ctx) {
    if (!stray_mail_.load(std::memory_order_acquire)) return false;
    mail* m = nullptr;
    {
        sys::spin_guard hold(lock_);
        m = strays_;
        if (m) strays_ = m->next_mail_;
        stray_mail_.store(strays_ != nullptr, std::memory_order_relaxed);
    }
    if (m) m->deliver(ctx);
    return m != nullptr;
}

}  // namespace cohort::work
