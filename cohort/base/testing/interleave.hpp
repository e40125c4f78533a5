// SPDX-License-Identifier: Apache-2.0
/// Walks all interleavings of a few small threads, up to a number of preemptions; for tests of lock-free protocols.
///
///     auto r = interleave::explore([](interleave::run& x) {
///         auto word = std::make_shared<interleave::atomic<int>>(0);
///         for (int t = 0; t < 2; ++t) x.thread([word] { word->store(word->load() + 1); });     // a lost update
///         x.at_end([word] { return std::string(word->peek() == 2 ? "" : "an update was lost"); });
///     });
///     r.failure == "an update was lost";                  // r.schedule says how
///
/// Each operation of interleave::atomic and interleave::mutex is a point at which another thread may run. Memory is sequentially consistent here:
/// what depends on weaker orders is for ThreadSanitizer. The idea is that of CHESS (Musuvathi and Qadeer, PLDI 2007): most bugs need few preemptions.
#pragma once

#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cstdint>
#include <functional>
#include <memory>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

namespace cohort::interleave {

/// Fibers and sanitizers do not go together (stacks that ASan and TSan do not know of): tests skip themselves there.
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
inline constexpr bool possible_here = false;
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
inline constexpr bool possible_here = false;
#else
inline constexpr bool possible_here = true;
#endif
#else
inline constexpr bool possible_here = true;
#endif

struct options {
    int preemptions = 3;                  ///< switches away from a thread that could go on
    std::uint64_t most_runs = 2'000'000;  ///< then it stops; `complete` is false
};

struct outcome {
    std::string failure;        ///< empty: none found
    std::vector<int> schedule;  ///< thread numbers, step by step, of the failing run; below 0: answers of choose()
    std::uint64_t runs = 0;
    bool complete = false;      ///< every interleaving within the bound was walked
};

/// One execution of a scenario. Its threads are fibers of the calling thread; the scenario is built anew for each execution.
class run {
public:
    void thread(std::function<void()> body) {
        auto f = std::make_unique<fiber>();
        f->body = std::move(body);
        fibers_.push_back(std::move(f));
    }
    /// Returns what is wrong when all threads have ended, or "".
    void at_end(std::function<std::string()> check) { end_ = std::move(check); }
    /// Called before every step of a thread; returns what is wrong, or "". Free of steps itself.
    void at_step(std::function<std::string()> check) { every_ = std::move(check); }

    /// The execution that the calling fiber belongs to; null outside.
    static run*& now() {
        static run* current = nullptr;
        return current;
    }
    /// The number of the thread that runs, in the order of thread(); -1 outside.
    int current() const { return current_; }
    /// Another thread may run here.
    static void point() {
        run* r = now();
        if (!r || r->current_ < 0) return;
        r->back_to_scheduler();
        if (r->every_) r->broken(r->every_());
    }
    /// Goes on only once ready() holds. ready() is free of steps.
    static void wait_until(std::function<bool()> ready) {
        run* r = now();
        r->fibers_[static_cast<std::size_t>(r->current_)]->waits_for = std::move(ready);
        r->back_to_scheduler();
    }
    /// 0 .. n-1: all are walked, at no preemption. The schedule shows it as -1 - answer.
    static int choose(int n) {
        run* r = now();
        std::vector<int> answers(static_cast<std::size_t>(n));
        std::iota(answers.begin(), answers.end(), 0);
        const choice& c = r->next_choice(std::move(answers), true);
        const int answer = c.open[c.taken];
        r->schedule_.push_back(-1 - answer);
        return answer;
    }
    /// The calling thread ends here, as one that is killed does: destructors of its locals do not run.
    [[noreturn]] static void stop() {
        run* r = now();
        r->fibers_[static_cast<std::size_t>(r->current_)]->done = true;
        r->back_to_scheduler();
        __builtin_unreachable();
    }
    /// Reports a broken rule; the first one counts, "" is none.
    void broken(const std::string& what) {
        if (failure_.empty()) failure_ = what;
    }

private:
    friend outcome explore(const std::function<void(run&)>&, options);

    struct fiber {
        ucontext_t context{};   // for the first entry
        jmp_buf place;          // for the later ones: no system call, unlike swapcontext
        bool entered = false;
        std::unique_ptr<char[]> stack;
        std::function<void()> body;
        std::function<bool()> waits_for;
        bool done = false;
    };
    struct choice {
        std::vector<int> open;  // who could run; the one that ran before stands first if it could go on
        std::size_t taken = 0;
        int spent = 0;          // preemptions before this choice
        bool free = false;      // switching costs none: the one that ran before could not go on
    };
    static constexpr std::size_t most_steps = 10'000;
    static constexpr std::size_t stack_bytes = 32 * 1024;

    static void enter() {
        run* r = now();
        fiber& f = *r->fibers_[static_cast<std::size_t>(r->current_)];
        f.body();
        f.done = true;
        r->back_to_scheduler();
    }
    void back_to_scheduler() {
        fiber& f = *fibers_[static_cast<std::size_t>(current_)];
        if (_setjmp(f.place) == 0) _longjmp(scheduler_place_, 1);
    }
    void go_to(fiber& f) {
        if (_setjmp(scheduler_place_) != 0) return;
        if (f.entered) _longjmp(f.place, 1);
        f.entered = true;
        setcontext(&f.context);
    }
    bool can_run(int i) const {
        const fiber& f = *fibers_[static_cast<std::size_t>(i)];
        return !f.done && (!f.waits_for || f.waits_for());
    }

    choice& next_choice(std::vector<int> open, bool free) {
        if (depth_ == path_->size()) path_->push_back({std::move(open), 0, spent_, free});
        return (*path_)[depth_++];
    }

    /// Runs once along `path`, which grows by the first alternative wherever it ends.
    void execute(std::vector<choice>& path) {
        now() = this;
        path_ = &path;
        for (auto& f : fibers_) {
            f->stack = std::make_unique_for_overwrite<char[]>(stack_bytes);
            getcontext(&f->context);
            f->context.uc_stack.ss_sp = f->stack.get();
            f->context.uc_stack.ss_size = stack_bytes;
            f->context.uc_link = nullptr;
            makecontext(&f->context, enter, 0);
        }
        int before = -1;
        while (failure_.empty()) {
            if (depth_ >= most_steps) {
                failure_ = "endless: a thread that spins must use wait_until";
                break;
            }
            std::vector<int> open;
            if (before >= 0 && can_run(before)) open.push_back(before);
            bool free = open.empty();
            for (int i = 0; i < static_cast<int>(fibers_.size()); ++i) {
                if (i != before && can_run(i)) open.push_back(i);
            }
            if (open.empty()) break;
            const choice& c = next_choice(std::move(open), free);
            int next = c.open[c.taken];
            if (!c.free && c.taken > 0) spent_ = c.spent + 1;
            schedule_.push_back(next);
            current_ = before = next;
            fibers_[static_cast<std::size_t>(next)]->waits_for = nullptr;
            go_to(*fibers_[static_cast<std::size_t>(next)]);
            current_ = -1;
        }
        bool all_done = !failure_.empty() || std::all_of(fibers_.begin(), fibers_.end(), [](const auto& f) { return f->done; });
        if (failure_.empty() && !all_done) failure_ = "deadlock";
        if (failure_.empty() && end_) failure_ = end_();
        now() = nullptr;
    }

    std::vector<std::unique_ptr<fiber>> fibers_;
    std::function<std::string()> end_, every_;
    jmp_buf scheduler_place_;
    std::vector<choice>* path_ = nullptr;
    std::size_t depth_ = 0;  // choices made in this execution
    int current_ = -1, spent_ = 0;  // spent: preemptions so far
    std::string failure_;
    std::vector<int> schedule_;
};

/// Depth first over all choices, by running again from the start with the last open choice moved on.
inline outcome explore(const std::function<void(run&)>& scenario, options o = {}) {
    outcome out;
    std::vector<run::choice> path;
    for (;;) {
        run r;
        scenario(r);
        r.execute(path);
        ++out.runs;
        if (!r.failure_.empty()) {
            out.failure = r.failure_;
            out.schedule = r.schedule_;
            return out;
        }
        while (!path.empty()) {
            run::choice& c = path.back();
            bool may_switch = c.free || c.spent < o.preemptions;
            if (c.taken + 1 < c.open.size() && may_switch) {
                ++c.taken;
                break;
            }
            path.pop_back();
        }
        if (path.empty()) {
            out.complete = true;
            return out;
        }
        if (out.runs >= o.most_runs) return out;
    }
}

/// As std::atomic; each operation is one step. The memory orders change nothing here.
template <class T>
class atomic {
public:
    atomic(T v = {}) : value_(v) {}
    template <class... Order>
    T load(Order...) const {
        run::point();
        return value_;
    }
    template <class... Order>
    void store(T v, Order...) {
        run::point();
        value_ = v;
    }
    template <class... Order>
    T exchange(T v, Order...) {
        run::point();
        return std::exchange(value_, v);
    }
    template <class... Order>
    T fetch_add(T v, Order...) {
        run::point();
        return std::exchange(value_, static_cast<T>(value_ + v));
    }
    template <class... Order>
    T fetch_sub(T v, Order...) {
        run::point();
        return std::exchange(value_, static_cast<T>(value_ - v));
    }
    template <class... Order>
    bool compare_exchange_weak(T& expected, T v, Order...) {
        run::point();
        if (value_ == expected) {
            value_ = v;
            return true;
        }
        expected = value_;
        return false;
    }
    /// Not a step: for checks.
    T peek() const { return value_; }

private:
    T value_;
};

/// A lock whose waiters do not run.
class mutex {
public:
    void lock() {
        run::point();
        if (held_) run::wait_until([this] { return !held_; });
        held_ = true;
    }
    void unlock() {
        run::point();
        held_ = false;
    }
    static constexpr bool biased() { return false; }
    static constexpr bool held_by_bias() { return false; }

private:
    bool held_ = false;
};

}  // namespace cohort::interleave
