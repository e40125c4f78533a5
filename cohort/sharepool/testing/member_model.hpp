// SPDX-License-Identifier: Apache-2.0
/// Members that may be killed at any step, and restartable sequences, for models that interleave.hpp walks.
///
/// A thread runs on a CPU; whatever it does there makes the sequences of others on that CPU begin again. A mortal thread dies before a step of its own choice:
/// all choices are walked. Death is known only afterwards, as a pidfd tells it.
#pragma once

#include <deque>
#include <optional>
#include <string>

#include <cohort/base/testing/interleave.hpp>

namespace cohort::sharepool::testing {

/// What tags, states and slots name: slot of the member and its generation. Blocks carry it with flags.
struct owner_of {
    int slot = 0, generation = 0;
    bool operator==(const owner_of&) const = default;
};
inline constexpr owner_of nobody{};

struct member {
    owner_of name;
    bool dead = false;
    int threads_left = 0;
    bool gone() const { return dead && threads_left == 0; }
};

struct thread {
    member* of = nullptr;
    int cpu = 0;
    bool mortal = false, moves = false;
    bool aborted = false;
    owner_of me() const { return of->name; }
};

class machine {
public:
    explicit machine(interleave::run& x) : run_(x) {}

    member& joins(int slot, int generation = 1) {
        members_.push_back({.name = {slot, generation}});
        return members_.back();
    }
    thread& starts(member& m, int cpu) {
        ++m.threads_left;
        threads_.push_back({.of = &m, .cpu = cpu});
        return threads_.back();
    }
    void ends(thread& t) { --t.of->threads_left; }

    /// What follows, up to the next call, is one step of t.
    void step(thread& t) {
        interleave::run::point();
        if (t.mortal && interleave::run::choose(2) == 1) {
            t.of->dead = true;
            ends(t);
            interleave::run::stop();
        }
        for (thread& u : threads_) {
            if (&u != &t && u.cpu == t.cpu) u.aborted = true;
        }
    }
    /// A step of a restartable sequence; false: it has to begin again.
    [[nodiscard]] bool on(thread& t) {
        step(t);
        return !t.aborted;
    }
    /// Runs body until it gives an answer; a body that was aborted gives none.
    template <class F>
    auto sequence(thread& t, F body) {
        for (;;) {
            t.aborted = false;
            if (auto answer = body()) {
                if (t.moves) t.cpu ^= 1;
                return *answer;
            }
        }
    }
    /// Goes on when no thread of m runs any more.
    void wait_for_end(const member& m) {
        interleave::run::wait_until([&m] { return m.threads_left == 0; });
    }
    bool lives(owner_of name) const {
        for (const member& m : members_) {
            if (m.name == name && !m.dead) return true;
        }
        return false;
    }
    void broken(const std::string& what) { run_.broken(what); }

private:
    interleave::run& run_;
    std::deque<member> members_;
    std::deque<thread> threads_;
};

}  // namespace cohort::sharepool::testing
