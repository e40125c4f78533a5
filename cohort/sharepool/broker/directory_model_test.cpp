// SPDX-License-Identifier: Apache-2.0
/// Random operations on a directory, on its reference, and on a directory that hears only the records: they agree after each. COHORT_SEED repeats a run, COHORT_MODEL_STEPS sets its length.
#include <gtest/gtest.h>

#include <cstdlib>
#include <iostream>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include <cohort/sharepool/broker/testing/directory_model.hpp>
#include <cohort/sharepool/broker/testing/fake_processes.hpp>

namespace cohort::sharepool {
namespace {

using namespace testing;

std::uint64_t from_env(const char* name, std::uint64_t otherwise) {
    const char* given = std::getenv(name);
    return given ? std::strtoull(given, nullptr, 10) : otherwise;
}

class machine {
public:
    machine(directory_settings s, std::uint64_t seed) : settings_(s), random_(seed), m_{settings_, all_.known, static_cast<int>(s.window.bytes / (2 * mib)), {}, {}, {}, 0, {}} {
        for (int pid = 10; pid < 16; ++pid) all_.start(pid, pid < 13 ? 1000 : 2000);
    }

    /// One operation; what is wrong after it, or "".
    std::string step() {
        m_.deaths.clear();
        died_.clear();
        const auto [real, expected] = perform();
        if (real != expected) return what_ + ": answers " + std::to_string(real) + ", expected " + std::to_string(expected);
        if (died_ != m_.deaths && names_deaths_) return what_ + ": other groups died";
        if (const std::string why = d_.fault(); !why.empty()) return what_ + ": " + why;
        if (const std::string why = m_.same(d_); !why.empty()) return what_ + ": " + why;
        for (const record& r : std::exchange(told_, {})) {
            if (const auto heard = mirror_.apply(r); !heard) return what_ + ": " + heard.error().line();
        }
        if (mirror_.snapshot() != d_.snapshot()) return what_ + ": the records tell another story";
        if (const std::string why = mirror_.fault(); !why.empty()) return what_ + ": by the records: " + why;
        return "";
    }
    /// A snapshot makes the same directory anew.
    std::string again() {
        directory third(settings_, all_.look());
        for (const record& r : d_.snapshot()) {
            if (const auto heard = third.apply(r); !heard) return "snapshot: " + heard.error().line();
        }
        return third.snapshot() == d_.snapshot() ? third.fault() : "a snapshot makes another directory";
    }

private:
    int pick(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
    int a_pid() { return 9 + pick(8); }
    int an_id() {
        static constexpr int ids[] = {1, 2, 3, 4, 1, 2, 3, 100'000, 100'001, 100'002, 200'000, 200'000, 800'000, 900'000, 200'001, 200'002, 0, -1, 300'000};
        return ids[pick(std::size(ids))];
    }
    caller somebody() {
        static constexpr unsigned uids[] = {0, 1000, 2000};
        return {a_pid(), uids[pick(3)], uids[pick(3)]};
    }
    std::pair<int, int> perform();

    directory_settings settings_;
    std::mt19937_64 random_;
    fake_processes all_;
    std::vector<record> told_;
    directory d_{settings_, all_.look(), [this](const record& r) { told_.push_back(r); }};
    directory mirror_{settings_, all_.look()};
    reference m_;
    std::vector<directory::ticket> given_;
    std::vector<int> found_, died_;
    std::string what_;
    bool names_deaths_ = false;
};

std::pair<int, int> machine::perform() {
    const caller who = somebody();
    const int id = an_id(), pid = a_pid();
    names_deaths_ = false;
    what_ = "process " + std::to_string(pid) + ", group " + std::to_string(id) + " by uid " + std::to_string(who.uid) + ": ";
    const auto begun = [&](const result<directory::ticket>& t, int expected) {
        if (t) given_.push_back(*t);
        return std::pair{code(t), expected};
    };
    const int op = pick(40);
    if (op < 3) {
        static constexpr unsigned modes[] = {0660, 0640, 0600, 0666, 0604, 01000};
        const group_request r{.id = id, .bytes = 2 * mib, .mode = modes[pick(std::size(modes))]};
        what_ += "create";
        return {code(d_.create(who, r)), m_.create(who, r)};
    }
    if (op < 4) {
        const bool force = pick(2);
        what_ += "destroy";
        return {code(d_.destroy(who, id, force)), m_.destroy(who, id, force)};
    }
    if (op < 6) {
        what_ += "find";
        const auto g = d_.find(id);
        if (g) found_.push_back(id);
        return {code(g), m_.find(id)};
    }
    if (op < 8) {
        what_ += "drop";
        if (found_.empty()) return {0, 0};
        std::swap(found_[random_() % found_.size()], found_.back());
        d_.drop(found_.back());
        m_.drop(found_.back());
        found_.pop_back();
        return {0, 0};
    }
    if (op < 17) {
        const add_request r{.pid = pid, .id = id, .prot = pick(2) ? access::read : access::read_write, .single = pick(4) == 0};
        what_ += "begin_add";
        return begun(d_.begin_add(who, r, nullptr), m_.begin_add(who, r));
    }
    if (op < 25) {
        if (given_.empty()) return {0, 0};
        const directory::ticket t = given_[random_() % given_.size()];
        const bool commits = op < 22;
        what_ += (commits ? "commit_add " : "abort_add ") + std::to_string(t.number);
        if (pick(8) != 0) std::erase_if(given_, [&](const auto& g) { return g.number == t.number; });  // else it is used once more
        if (commits) return {code(d_.commit_add(t)), m_.commit(static_cast<int>(t.number))};
        d_.abort_add(t);
        m_.abort(static_cast<int>(t.number));
        return {0, 0};
    }
    if (op < 28) {
        const bool in_use = pick(6) == 0;
        what_ += "remove";
        names_deaths_ = true;
        const auto r = d_.remove(who, pid, id, in_use);
        if (r && *r) died_ = {id};
        return {code(r), m_.remove(who, pid, id, in_use)};
    }
    if (op < 33) {
        if (!all_.known.contains(pid)) return {0, 0};
        what_ += "attach";
        return {code(d_.attach(all_.who(pid))), m_.attach(all_.who(pid))};
    }
    if (op < 34) {
        if (!all_.known.contains(pid)) return {0, 0};
        what_ += "exit";
        names_deaths_ = true;
        const sys::process_identity gone = all_.who(pid);
        died_ = d_.exit(gone);
        m_.exit(gone);
        if (pick(2)) all_.start(pid, all_.known.at(pid).uid);  // another one under its number
        return {0, 0};
    }
    if (op < 35) {
        what_ += "begin_local";
        return begun(d_.begin_local(who, pid), m_.begin_local(who, pid));
    }
    if (op < 37) {
        const auto g = d_.look_at(id);
        const address_range range = g ? g->range : address_range{};
        const import_facts f{.at = range.base + static_cast<std::uint64_t>(pick(9) - 1) * 262'144 + (pick(9) == 0), .bytes = static_cast<std::uint64_t>(pick(4)) * 262'144, .to_process = pick(2) == 0};
        what_ += "import";
        return {code(d_.import(who, id, f)), m_.import(who, id, f, range)};
    }
    if (op < 38) {
        const auto g = d_.look_at(id);
        const std::uint64_t at = (g ? g->range.base : 0) + static_cast<std::uint64_t>(pick(32)) * 65'536, bytes = static_cast<std::uint64_t>(pick(4)) * 262'144;
        what_ += "unshare";
        return {code(d_.unshare(who, id, at, bytes)), m_.unshare(who, id, at, bytes)};
    }
    if (op < 39) {
        what_ += "set_files";
        return {code(d_.set_files(id, {1, random_(), 3})), m_.living(id) ? 0 : ENODEV};
    }
    // A process is other than it was, mostly for the better.
    process_facts& f = all_.known.at(10 + pick(6));
    what_ += "process " + std::to_string(f.leader.pid) + " changes";
    bool* const facts[] = {&f.exiting, &f.dumping, &f.kernel_thread, &f.shares_memory};
    for (bool* b : facts) *b = pick(12) == 0;
    f.exists = pick(12) != 0;
    f.attached = pick(12) != 0;
    return {0, 0};
}

void walk(directory_settings s, std::uint64_t steps) {
    const std::uint64_t seed = from_env("COHORT_SEED", std::random_device{}());
    std::cout << "COHORT_SEED=" << seed << '\n';
    s.group_bytes = s.local_bytes = 2 * mib;
    machine m(s, seed);
    for (std::uint64_t i = 0; i < from_env("COHORT_MODEL_STEPS", steps); ++i) {
        ASSERT_EQ(m.step(), "") << "COHORT_SEED=" << seed << ", step " << i;
        if (i % 64 == 0) {
            ASSERT_EQ(m.again(), "") << "COHORT_SEED=" << seed << ", step " << i;
        }
    }
}

constexpr directory_settings tight{.window = {window_base, 20 * mib}, .most_groups = 6, .most_groups_of_process = 3, .most_members = 3};

TEST(directory_model, agrees_with_its_reference_and_its_records) { walk(tight, 200'000); }
TEST(directory_model, agrees_where_addresses_end_first) {
    directory_settings s = tight;
    s.window.bytes = 8 * mib;
    walk(s, 50'000);
}
TEST(directory_model, agrees_where_only_owners_add) {
    directory_settings s = tight;
    s.only_owner_adds = true;
    walk(s, 50'000);
}
TEST(directory_model, agrees_with_a_default_group) {
    directory_settings s = tight;
    s.default_group = 3;
    walk(s, 50'000);
}

}  // namespace
}  // namespace cohort::sharepool
