// SPDX-License-Identifier: Apache-2.0
/// Jobs of padata while CPUs go off- and online for real: a static program for a guest of the lab.
///
///     lab/run -- build/lab/padata_hotplug 12            # rounds; each takes a CPU away, waits until the instance knows, and brings it back
///
/// Holds: each job is delivered once and in order; the usable mask is what the kernel says is online; an instance whose only CPU goes stops, delivers what it
/// had, and starts again by itself. Prints one line of JSON. COHORT_SEED repeats the choice of CPUs. Exit: 0, 1 it does not hold, 5 the guest is none.
#include <atomic>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <random>
#include <string>
#include <thread>

#include <cohort/padata/instance.hpp>
#include <cohort/padata/shell.hpp>

// Debian has no static libudev. hwloc asks it about disks, which nobody here wants to know of.
extern "C" {
void* udev_new() { return nullptr; }
void* udev_unref(void*) { return nullptr; }
void* udev_device_new_from_subsystem_sysname(void*, const char*, const char*) { return nullptr; }
const char* udev_device_get_property_value(void*, const char*) { return nullptr; }
void* udev_device_unref(void*) { return nullptr; }
}

namespace {

using namespace cohort;

[[noreturn]] void end(int code, const std::string& why) {
    std::fprintf(stderr, "padata_hotplug: %s\n", why.c_str());
    std::_Exit(code);
}

void set_online(int cpu, bool on) {
    std::ofstream file("/sys/devices/system/cpu/cpu" + std::to_string(cpu) + "/online");
    if (!(file << (on ? '1' : '0') << std::flush)) end(5, "cpu " + std::to_string(cpu) + " cannot be switched");
}

cpumask online() {
    std::string text;
    std::getline(std::ifstream("/sys/devices/system/cpu/online") >> std::ws, text);
    auto mask = cpumask::parse_list(text);
    if (!mask) end(5, mask.error().line());
    return *mask;
}

/// The guest is emulated: whatever comes may take long.
template <class Holds>
void wait_until(Holds holds, const std::string& what) {
    const auto limit = std::chrono::steady_clock::now() + std::chrono::minutes(2);
    while (!holds()) {
        if (std::chrono::steady_clock::now() > limit) end(1, "waited two minutes in vain " + what);
        std::this_thread::sleep_for(std::chrono::milliseconds(5));
    }
}

void follows(const padata::instance& inst) {
    wait_until([&] { return inst.usable_mask(padata::mask_kind::parallel) == online() && inst.usable_mask(padata::mask_kind::serial) == online(); },
               "for the usable masks to become " + online().list());
}

/// One stream, fed by a thread of its own while CPUs come and go.
class traffic {
public:
    explicit traffic(padata::instance& inst) : shell_(padata::shell::create(inst, {.window = 256, .inline_jobs = false}).value()), feeder_([this] { feed(); }) {}
    std::uint64_t finish() {
        stop_ = true;
        feeder_.join();
        if (auto r = shell_.drain(); !r) end(1, r.error().line());
        if (wrong_ || next_ != submitted_) end(1, std::to_string(next_) + " of " + std::to_string(submitted_) + " jobs came, " + std::to_string(wrong_.load()) + " out of order");
        return next_;
    }
    std::uint64_t delivered() const { return shell_.stats().delivered; }

private:
    void feed() {
        while (!stop_) {
            const auto r = shell_.submit([] { for (int i = 0; i < 2'000; ++i) asm volatile(""); }, [this, n = submitted_] { wrong_ += next_++ != n; });
            if (r) ++submitted_;
            else if (r.error().code == EINVAL) std::this_thread::yield();  // stopped
            else end(1, r.error().line());
        }
    }

    std::atomic<bool> stop_{false};
    std::atomic<int> wrong_{0};
    std::uint64_t submitted_ = 0;  // [owner: the feeder]
    std::uint64_t next_ = 0;       // [owner: the turn]
    padata::shell shell_;
    std::thread feeder_;
};

}  // namespace

int main(int argc, char** argv) {
    const int rounds = argc > 1 ? std::atoi(argv[1]) : 12;
    const char* given = std::getenv("COHORT_SEED");
    const unsigned seed = given ? static_cast<unsigned>(std::strtoul(given, nullptr, 0)) : std::random_device{}();
    std::mt19937 random(seed);
    const cpumask all = online();
    if (all.weight() < 2) end(5, "one CPU only");
    auto made = padata::instance::create({.name = "hotplug"});
    if (!made) end(5, made.error().line());
    padata::instance& inst = **made;
    follows(inst);

    std::uint64_t jobs = 0, stops = 0;
    {
        traffic one(inst), two(inst);
        const auto flows = [&] {
            const std::uint64_t a = one.delivered(), b = two.delivered();
            wait_until([&] { return one.delivered() > a + 256 && two.delivered() > b + 256; }, "for jobs to be delivered");
        };
        for (int i = 0; i < rounds; ++i) {
            const int cpu = all.nth(1 + static_cast<int>(random() % static_cast<unsigned>(all.weight() - 1)));  // the first cannot be taken away everywhere
            set_online(cpu, false);
            follows(inst);
            flows();
            set_online(cpu, true);
            follows(inst);
            flows();
        }
        // The only CPU of the mask goes.
        if (auto r = inst.set_cpumask(padata::mask_kind::parallel, cpumask{all.last()}); !r) end(1, r.error().line());
        set_online(all.last(), false);
        wait_until([&] { return inst.stopped(); }, "for the instance to stop");
        ++stops;
        set_online(all.last(), true);
        wait_until([&] { return !inst.stopped(); }, "for the instance to start again");
        flows();
        jobs = one.finish() + two.finish();
    }
    std::printf("{\"schema_version\": 1, \"seed\": %u, \"rounds\": %d, \"stops\": %llu, \"jobs\": %llu, \"cpus\": \"%s\"}\n", seed, rounds, static_cast<unsigned long long>(stops),
                static_cast<unsigned long long>(jobs), all.list().c_str());
    return 0;
}
