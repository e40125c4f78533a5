// SPDX-License-Identifier: Apache-2.0
#include "team.hpp"

#include <atomic>
#include <thread>

namespace cohort::bench {

struct team::state {
    std::atomic<int> order{0};       // odd: there is work; even: it is done
    std::atomic<int> here{0};        // both at the start
    std::atomic<bool> over{false};
    const std::function<void(int)>* work = nullptr;
    bool meet = false;
    std::thread second;

    void start_together() {
        here.fetch_add(1);
        while (here.load() < 2) {}
    }
    void begin(const std::function<void(int)>& w, bool together) {
        work = &w;
        meet = together;
        here.store(0);
        order.fetch_add(1);
        order.notify_one();
    }
    void finish() {
        for (int seen = order.load(); seen % 2 == 1; seen = order.load()) order.wait(seen);
    }
    void serve(int cpu) {
        pin_to(cpu);
        for (int done = 0;; done += 2) {
            order.wait(done);
            if (over.load()) return;
            if (meet) start_together();
            (*work)(1);
            order.fetch_add(1);
            order.notify_one();
        }
    }
};

team::team(const settings& s) : state_(std::make_unique<state>()) {
    const int cpu = s.cpus[s.cpus.size() > 1 ? 1 : 0];
    state_->second = std::thread([st = state_.get(), cpu] { st->serve(cpu); });
}

team::~team() {
    state_->over.store(true);
    state_->order.fetch_add(1);
    state_->order.notify_one();
    state_->second.join();
}

void team::run(const std::function<void(int)>& work) {
    state_->begin(work, true);
    state_->start_together();
    work(0);
    state_->finish();
}

void team::run_there(const std::function<void()>& work) {
    const std::function<void(int)> there = [&](int) { work(); };
    state_->begin(there, false);
    state_->finish();
}

}  // namespace cohort::bench
