// SPDX-License-Identifier: Apache-2.0
#include <cohort/work/duty.hpp>

#include <algorithm>
#include <array>
#include <optional>
#include <system_error>
#include <thread>
#include <vector>

#include <cohort/base/check.hpp>
#include <cohort/base/mutex.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/rseq.hpp>
#include <cohort/sys/thread.hpp>

namespace cohort::work {

/// Synchronization: lock_ guards the list and the duties' own fields; it is not held while a function runs. A duty that runs is `running_`; who takes it off the
/// list waits until it is not.
class duty::caretaker {
public:
    /// The one that lives, or a new one.
    static result<std::shared_ptr<caretaker>> get() {
        static mutex one;
        static std::weak_ptr<caretaker> living;
        const lock_guard hold(one);
        if (auto there = living.lock()) return there;
        auto made = std::make_shared<caretaker>();
        if (auto r = made->begin(); !r) return std::unexpected(r.error());
        living = made;
        return made;
    }

    ~caretaker() {
        if (!thread_.joinable()) return;
        {
            const lock_guard hold(lock_);
            stopping_ = true;
        }
        ring();
        thread_.join();  // by whom the last duty belonged to: one that runs holds us
    }

    void add(duty& d) COHORT_EXCLUDES(lock_) {
        {
            const lock_guard hold(lock_);
            duties_.push_back(&d);
        }
        ring();
    }

    void remove(duty& d) COHORT_EXCLUDES(lock_) {
        const lock_guard hold(lock_);
        duties_.erase(std::find(duties_.begin(), duties_.end(), &d));
        if (thread_.get_id() == std::this_thread::get_id()) {
            COHORT_CHECK(running_ != &d, "a duty is destroyed from its own function");
            return;
        }
        while (running_ == &d) ended_.wait(lock_);
    }

    void hurry(duty& d) COHORT_EXCLUDES(lock_) {
        {
            const lock_guard hold(lock_);
            d.due_ = 0;
        }
        ring();
    }

    void run_now(duty& d) COHORT_EXCLUDES(lock_) {
        COHORT_CHECK(thread_.get_id() != std::this_thread::get_id(), "run_now is called from the function of a duty");
        const lock_guard hold(lock_);
        const std::uint64_t wanted = d.began_ + 1;
        d.due_ = 0;
        ring();
        while (d.ended_ < wanted) ended_.wait(lock_);
    }

private:
    static constexpr std::uint64_t asleep = ~std::uint64_t{0};

    result<void> begin() {
        auto ends = os_.pipe();
        if (!ends) return std::unexpected(ends.error());
        bell_out_ = sys::owned_fd(os_, ends->read);
        bell_in_ = sys::owned_fd(os_, ends->write);
        for (int fd : {ends->read, ends->write}) {
            if (auto r = os_.set_nonblocking(fd, true); !r) return r;
        }
        try {
            const sys::signals_blocked quiet;  // no handler of the program's runs on it
            thread_ = std::thread([this] { main(); });
        } catch (const std::system_error& e) {
            return fail(EAGAIN, "background thread", "start", e.what());
        }
        return {};
    }

    void ring() {
        const std::byte one{1};
        (void)os_.write(bell_in_.get(), std::span(&one, 1));  // EAGAIN: it rings already
    }

    void main() COHORT_EXCLUDES(lock_) {
        sys::name_thread("cohort/duty");
        lock_.lock();
        while (!stopping_) {
            if (duty* next = next_due()) run(*next);
            else wait();
        }
        lock_.unlock();
    }

    /// The one that has waited longest among those that are due.
    duty* next_due() COHORT_REQUIRES(lock_) {
        duty* best = nullptr;
        for (duty* d : duties_) {
            if (!best || d->due_ < best->due_) best = d;
        }
        return best && best->due_ <= os_.now() ? best : nullptr;
    }

    void run(duty& d) COHORT_REQUIRES(lock_) {
        running_ = &d;
        ++d.began_;
        d.due_ = asleep;
        lock_.unlock();
        d.options_.run();
        lock_.lock();
        running_ = nullptr;
        // Gone from the list: its owner waits for running_ alone (or has freed it in another function; then it was not running).
        d.ended_ = d.began_;
        if (d.due_ != 0) d.due_ = os_.now() + std::max<std::uint64_t>(d.options_.every_ns, 1'000);
        ended_.notify_all();
    }

    void wait() COHORT_REQUIRES(lock_) {
        std::vector<sys::poll_item> items{{.fd = bell_out_.get(), .want_read = true}};
        std::vector<duty*> whose{nullptr};
        std::uint64_t until = asleep;
        for (duty* d : duties_) {
            until = std::min(until, d->due_);
            const int fd = d->options_.fd ? d->options_.fd() : -1;
            if (fd < 0) continue;
            items.push_back({.fd = fd, .want_read = true});
            whose.push_back(d);
        }
        lock_.unlock();
        const std::uint64_t now = os_.now();
        std::optional<std::uint64_t> limit;
        if (until != asleep) limit = until > now ? until - now : 0;
        (void)os_.poll(items, limit);
        std::array<std::byte, 64> rung;
        (void)os_.read(bell_out_.get(), rung);  // EAGAIN: nobody rang
        lock_.lock();
        for (std::size_t i = 1; i < items.size(); ++i) {
            if (!items[i].can_read) continue;
            // It may have left meanwhile.
            if (auto it = std::find(duties_.begin(), duties_.end(), whose[i]); it != duties_.end()) (*it)->due_ = 0;
        }
    }

    sys::os& os_ = sys::real();
    sys::owned_fd bell_out_, bell_in_;                     // [const after begin()]
    std::thread thread_;                                   // [const after begin()]
    mutex lock_;
    condition_variable ended_;
    std::vector<duty*> duties_ COHORT_GUARDED_BY(lock_);
    duty* running_ COHORT_GUARDED_BY(lock_) = nullptr;
    bool stopping_ COHORT_GUARDED_BY(lock_) = false;
};

result<std::unique_ptr<duty>> duty::start(duty_options options) {
    COHORT_CHECK(options.run != nullptr, "a duty without a function");
    auto by = caretaker::get();
    if (!by) return std::unexpected(by.error());
    std::unique_ptr<duty> made(new duty(*by, std::move(options)));
    made->by_->add(*made);
    return made;
}

duty::~duty() { by_->remove(*this); }
void duty::hurry() { by_->hurry(*this); }
void duty::run_now() { by_->run_now(*this); }

}  // namespace cohort::work
