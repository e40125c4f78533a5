// SPDX-License-Identifier: Apache-2.0
/// Records of 256 bytes through three processes, a producer, workers and a consumer, in order: a flow, beside the same over UNIX sockets. Each record is changed on its way; what comes out is compared with what should.
/// Ours: a flow cuts its input into blocks at ends of records; "one by one": each block is one record. Peers: a record a message, or records gathered into writes of 64 KiB.
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <atomic>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <thread>
#include <vector>

#include <cohort/sharepool/broker/broker.hpp>
#include <cohort/sharepool/broker/client.hpp>
#include <cohort/sharepool/share_pool.hpp>
#include <cohort/stream/flow.hpp>
#include <cohort/sys/testing/child_process.hpp>

#include "support.hpp"

extern "C" void cohort_bench_upper(char* text, size_t length);

namespace cohort::bench {
namespace {

using sys::testing::child_process;
using sys::testing::forked;

constexpr std::size_t record_bytes = 256;
constexpr int group_id = 7;

[[noreturn]] void failed(const char* what) {
    std::fprintf(stderr, "bench: flow: %s\n", what);
    std::_Exit(5);
}

int memory_file(const char* name) {
    const int fd = ::memfd_create(name, MFD_CLOEXEC);
    if (fd < 0) failed("no memory file");
    return fd;
}

/// n lines of 256 bytes, each with its number.
std::string lines(std::uint32_t n) {
    std::string all(n * record_bytes, 'x');
    for (std::uint32_t i = 0; i < n; ++i) {
        char* at = all.data() + i * record_bytes;
        char number[16];
        std::memcpy(at, number, static_cast<std::size_t>(std::snprintf(number, sizeof number, "%010u ", i)));
        at[record_bytes - 1] = '\n';
    }
    return all;
}

/// The input of all variants, and what has to come out.
class job {
public:
    explicit job(std::uint32_t n) : in_(memory_file("in")), out_(memory_file("out")), expected_(lines(n)) {
        if (::write(in_, expected_.data(), expected_.size()) != static_cast<ssize_t>(expected_.size())) failed("no room for the input");
        cohort_bench_upper(expected_.data(), expected_.size());
    }
    ~job() { ::close(in_), ::close(out_); }
    job(const job&) = delete;
    job& operator=(const job&) = delete;
    int in() const {
        ::lseek(in_, 0, SEEK_SET);
        return in_;
    }
    /// Its pages stay: no variant pays for fresh ones but the first, which is not timed.
    int out() const {
        ::lseek(out_, 0, SEEK_SET);
        return out_;
    }
    void check(const char* who) const {
        const std::size_t size = expected_.size();
        void* p = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, out_, 0);
        if (p == MAP_FAILED || static_cast<std::size_t>(::lseek(out_, 0, SEEK_END)) != size || std::memcmp(p, expected_.data(), size) != 0) failed(who);
        ::munmap(p, size);
        if (::ftruncate(out_, 0) != 0 || ::ftruncate(out_, static_cast<off_t>(size)) != 0) failed("no output file");
    }

private:
    int in_, out_;
    std::string expected_;
};

// ---- peers ----

void write_all(int fd, const char* p, std::size_t n) {
    while (n > 0) {
        const ssize_t done = ::write(fd, p, n);
        if (done <= 0) failed("a write failed");
        p += done, n -= static_cast<std::size_t>(done);
    }
}
/// Up to n bytes, fewer only at the end.
std::size_t read_all(int fd, char* p, std::size_t n) {
    std::size_t got = 0;
    while (got < n) {
        const ssize_t now = ::read(fd, p + got, n - got);
        if (now < 0) failed("a read failed");
        if (now == 0) break;
        got += static_cast<std::size_t>(now);
    }
    return got;
}

/// from -> change -> to, `bytes` at a time, until the end.
void relay(int from, int to, std::size_t bytes, bool change) {
    std::vector<char> buffer(bytes);
    while (const std::size_t n = read_all(from, buffer.data(), bytes)) {
        if (change) cohort_bench_upper(buffer.data(), n);
        write_all(to, buffer.data(), n);
    }
}

/// The files at both ends are read and written in large pieces, whatever goes over the sockets.
void from_file(int in, int to, std::size_t bytes) {
    std::vector<char> piece(1 << 20);
    while (const std::size_t n = read_all(in, piece.data(), piece.size())) {
        for (std::size_t at = 0; at < n; at += bytes) write_all(to, piece.data() + at, std::min(bytes, n - at));
    }
}
void to_file(int from, int out, std::size_t bytes) {
    std::vector<char> piece(1 << 20);
    for (std::size_t held = 0;;) {
        const std::size_t n = read_all(from, piece.data() + held, bytes);
        held += n;
        if (n == 0 || held + bytes > piece.size()) write_all(out, piece.data(), std::exchange(held, 0));
        if (n == 0) return;
    }
}

void over_sockets(const job& j, int type, std::size_t bytes) {
    int first[2], second[2];
    if (::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, first) != 0 || ::socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, second) != 0) failed("no sockets");
    const int in = j.in(), out = j.out();
    child_process producer = forked([&] { ::close(first[1]), ::close(second[0]), ::close(second[1]), from_file(in, first[0], bytes); });
    child_process worker = forked([&] { ::close(first[0]), ::close(second[1]), relay(first[1], second[0], bytes, true); });
    child_process consumer = forked([&] { ::close(first[0]), ::close(first[1]), ::close(second[0]), to_file(second[1], out, bytes); });
    for (const int fd : {first[0], first[1], second[0], second[1]}) ::close(fd);
    if (producer.wait() != 0 || worker.wait() != 0 || consumer.wait() != 0) failed("a process of the sockets failed");
    j.check("what came over the sockets is not what it should be");
}

// ---- ours ----

/// A broker, and a group of it that this process is in.
class pool {
public:
    pool() : socket_("@cohort-bench-flow-" + std::to_string(::getpid())) {
        broker_ = must(sharepool::broker::create({.socket = socket_}));
        thread_ = std::thread([this] {
            while (!stop_.load()) must(broker_->step(std::chrono::milliseconds(20)));
        });
        must(must(sharepool::broker_client::connect(socket_)).create({.id = group_id, .bytes = 512 << 20, .name = "bench"}));
        here_ = must(sharepool::share_pool::attach({.socket = socket_}));
        must(here_->group_add_task(::getpid(), group_id));
    }
    ~pool() {
        here_.reset();
        stop_.store(true);
        thread_.join();
    }
    pool(const pool&) = delete;
    pool& operator=(const pool&) = delete;

    void flow(const job& j, std::uint64_t block_bytes) {
        auto f = must(stream::flow::create(*here_->in(group_id), {.plugin = COHORT_BENCH_UPPER, .records = true, .block_bytes = block_bytes, .name = "bench"}));
        const int in = j.in(), out = j.out();
        std::vector<child_process> stages;
        for (const stream::flow_role r : stream::flow_roles) {
            std::vector<std::string> words = f.words(r, group_id);
            words.insert(words.begin(), {sys::testing::this_program(), "--flow-stage"});
            stages.push_back(sys::testing::start_program(std::move(words), {"COHORT_SOCKET=" + socket_, "COHORT_POOL_JOIN=" + std::to_string(group_id)}, in, out));
        }
        for (child_process& s : stages) {
            if (s.wait() == 0) continue;
            const auto end = f.finish();
            for (const auto& stage : end.stages) {
                if (stage.why) give_up(*stage.why);
            }
            failed("a process of the flow failed");
        }
        (void)f.finish();
        j.check("what came out of the flow is not what it should be");
    }

private:
    std::string socket_;
    std::unique_ptr<sharepool::broker> broker_;
    std::thread thread_;
    std::atomic<bool> stop_{false};
    std::unique_ptr<sharepool::share_pool> here_;
};

}  // namespace

int flow_stage_child(int argc, char** argv) { return stream::flow_stage(std::vector<std::string>(argv, argv + argc), sys::real()); }

void run_flow(const settings& s) {
    const std::string name = "flow/records_256B";
    if (!s.only.empty() && name.find(s.only) == std::string::npos) return;
    constexpr std::uint32_t n = 500'000;
    std::map<std::uint32_t, job> jobs;  // of the timed runs, and of the short ones before them; made in the untimed first round
    const auto of = [&](std::uint32_t records) -> const job& {
        pin_to(s.cpus);  // all processes of a run may use all of them
        return jobs.try_emplace(records, records).first->second;
    };
    (void)of(std::max<std::uint32_t>(64, static_cast<std::uint32_t>(n * s.scale)));
    pool p;
    const auto sockets = [&](int type, std::size_t bytes) { return [&of, type, bytes](std::uint32_t records) { over_sockets(of(records), type, bytes); }; };
    measure(s, name, "ns/record", 1e9, n,
            {{"flow", "ours", "", [&](std::uint32_t records) { p.flow(of(records), 0); }},
             {"flow, one by one", "shown", "", [&](std::uint32_t records) { p.flow(of(records), record_bytes); }},
             {"UNIX stream sockets", "peer", "UNIX sockets, a record a message", sockets(SOCK_STREAM, record_bytes)},
             {"UNIX packet sockets", "peer", "UNIX sockets, a record a message", sockets(SOCK_SEQPACKET, record_bytes)},
             {"UNIX stream sockets, 64 KiB", "shown", "UNIX sockets, 256 records a write", sockets(SOCK_STREAM, 64 << 10)}});
}

}  // namespace cohort::bench
