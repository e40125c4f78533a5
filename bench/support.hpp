// SPDX-License-Identifier: Apache-2.0
/// What every side-by-side run shares: the work, the check of order, pinning, and interleaved rounds.
///
/// Rules: all variants of a bench run in one process, one after the other, round by round, each round starting at another variant; each run is
/// preceded by a short untimed one of the same variant, and by a wait until the threads of the previous variant have gone to sleep. Every run
/// checks that each item came once and in order; a wrong order ends the program.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include <cohort/base/error.hpp>

namespace cohort::bench {

/// `steps` dependent multiplications: time that no compiler and no second core can shorten.
inline std::uint32_t chain(std::uint32_t seed, unsigned steps) {
    std::uint64_t x = seed | 1u;
    for (unsigned i = 0; i < steps; ++i) {
        x *= 6364136223846793005u;
        asm volatile("" : "+r"(x));
    }
    return static_cast<std::uint32_t>(x >> 32);
}

/// The cost of each item: `steps` of the chain; every 64th item `rare_steps` (0: the same as the others).
struct load {
    unsigned steps = 0, rare_steps = 0;
    unsigned of(std::uint32_t seq) const { return rare_steps && seq % 64 == 63 ? rare_steps : steps; }
    std::uint32_t result(std::uint32_t seq) const { return chain(seq, of(seq)); }
};

/// The serial end of a stream: one thread at a time; checks the order and sums the results.
class sink {
public:
    void take(std::uint32_t seq, std::uint32_t value) {
        if (seq != next_) fail(seq);
        ++next_;
        sum_ = sum_ * 31 + value;
    }
    std::uint32_t taken() const { return next_; }
    std::uint64_t sum() const { return sum_; }

private:
    [[noreturn]] void fail(std::uint32_t seq) const;
    std::uint32_t next_ = 0;
    std::uint64_t sum_ = 0;
};

/// Somebody else might use it: the compiler has to make it.
inline void escape(void* p) { asm volatile("" : : "r"(p) : "memory"); }

/// The value; an error ends the program.
[[noreturn]] void give_up(const error& e);
template <class T>
T must(result<T> r) {
    if (!r) give_up(r.error());
    if constexpr (!std::is_void_v<T>) return std::move(*r);
}

/// One way to run n units. `side`: "ours", "peer" (its best variant is what we are compared with), "shown".
struct variant {
    std::string name, side, peer_name;
    std::function<void(std::uint32_t n)> run;
    std::string note = {};                                  ///< a few words that stand beside the peer's name
    std::string also_name = {};                             ///< a second figure of each timed run, and where it comes from
    std::function<double()> also = {};
};

struct settings {
    int rounds = 11;
    double scale = 1;                ///< of the number of items
    std::string only;                ///< part of a bench's name
    std::vector<int> cpus;           ///< [0]: the submitting thread; one worker for each
    unsigned steps_per_us = 0;
};

/// Seconds on the wall, and of this process on its CPUs.
double seconds_now();
double cpu_seconds_now();

/// CPUs this process may use.
std::vector<int> allowed_cpus();
void pin_to(const std::vector<int>& cpus);
inline void pin_to(int cpu) { pin_to(std::vector<int>{cpu}); }
/// Multiplications in a microsecond, the most of several tries.
unsigned calibrate();

/// Runs a bench and prints one line of JSON per variant: {"bench", "variant", "side", "peer_name", "unit", "units", "wall": [...], "cpu": [...]} with
/// times per unit. `scale_to`: what turns seconds per unit into `unit`.
void measure(const settings& s, const std::string& bench, const std::string& unit, double scale_to, std::uint32_t n, std::vector<variant> variants);

/// As measure(), for operations that take nanoseconds: each variant's n is found so that a round takes `seconds` (of scale 1).
void measure_loops(const settings& s, const std::string& bench, const std::string& unit, double scale_to, double seconds, std::vector<variant> variants);

/// Prints the line of a variant whose figures were not timed here, or not by measure().
struct figures {
    std::string bench, unit;
    std::uint32_t units = 0;
    std::vector<double> values, cpu;                        ///< one for each round; cpu: seconds
};
void print_line(const settings& s, const variant& v, const figures& f, const std::vector<double>& also = {});

/// The benches. Each adds its variants; expected() is the sum that a single thread gets.
std::uint64_t expected(const load& l, std::uint32_t n);
void check(const sink& s, const load& l, std::uint32_t n, const std::string& who);
std::vector<variant> tbb_variants(const settings& s, load l, bool only_256_tokens);
std::vector<variant> openmp_variants(const settings& s, load l);
std::vector<variant> own_variants(const settings& s, load l);
void run_ordered(const settings& s);
void run_shells_and_masks(const settings& s);
void run_multithreaded(const settings& s);
void run_esp(const settings& s);
void run_percpu_add(const settings& s);
void run_percpu_alloc(const settings& s);
void run_percpu_rwsem(const settings& s);
void run_percpu_memory(const settings& s);
void run_cpuset_plan(const settings& s);
void run_cpuset(const settings& s);
void run_sharepool(const settings& s);
void run_sharepool_broker(const settings& s);
void run_flow(const settings& s);
void run_coresched_executor(const settings& s);
void run_coresched(const settings& s);
/// What the program does when percpu/possible_cpus starts it again with another number of CPUs.
int possible_cpus_child(double scale);
/// One process of a flow, which run_flow() starts; the words are those of stream::flow::words().
int flow_stage_child(int argc, char** argv);

}  // namespace cohort::bench
