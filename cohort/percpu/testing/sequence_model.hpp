// SPDX-License-Identifier: Apache-2.0
/// Restartable sequences and the grace period, for models that interleave.hpp walks: units on two CPUs, sequences of two steps (look at the flag; commit), which a
/// membarrier in between makes begin again. Threads move to the other CPU between sequences, where they can do most harm: always.
#pragma once

#include <array>
#include <vector>

#include <cohort/base/testing/interleave.hpp>

namespace cohort::percpu::testing {

struct model_unit {
    bool fast = false;
    int in = 0, out = 0;
};

class sequence_model {
public:
    std::array<model_unit, 2> units;

    /// What a model's thread knows of itself.
    struct thread {
        int cpu = 0;
        bool in_sequence = false, restart = false;
    };
    void knows(thread& t) { threads_.push_back(&t); }

    /// sequence::add_if_set, then the thread moves.
    bool add_if_set(thread& t, int model_unit::*word, int amount) {
        model_unit& u = units[static_cast<std::size_t>(t.cpu)];
        for (;;) {
            interleave::run::point();
            t.in_sequence = true;
            t.restart = false;
            const bool up = u.fast;
            if (up) interleave::run::point();
            t.in_sequence = false;
            if (!up) return false;
            if (t.restart) continue;
            u.*word += amount;
            t.cpu ^= 1;
            return true;
        }
    }
    /// this_cpu::add, then the thread moves.
    void add(thread& t, int model_unit::*word, int amount) {
        interleave::run::point();
        units[static_cast<std::size_t>(t.cpu)].*word += amount;
        t.cpu ^= 1;
    }
    int sum(int model_unit::*word) {
        int total = 0;
        for (const model_unit& u : units) {
            interleave::run::point();
            total += u.*word;
        }
        return total;
    }
    void set_flags(bool up) {
        for (model_unit& u : units) {
            interleave::run::point();
            u.fast = up;
        }
    }
    void restart_sequences() {
        interleave::run::point();
        for (thread* t : threads_) t->restart = true;
    }

private:
    std::vector<thread*> threads_;
};

}  // namespace cohort::percpu::testing
