// SPDX-License-Identifier: Apache-2.0
#include <gtest/gtest.h>

#include <sys/wait.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <thread>

#include <cohort/account/charged.hpp>
#include <cohort/stream/pipe.hpp>
#include <cohort/stream/testing/samples.hpp>
#include <cohort/sys/failing.hpp>
#include <cohort/sys/fd.hpp>
#include <cohort/sys/testing/scratch_dir.hpp>

namespace cohort::stream {
namespace {

using namespace testing;

class run_pipe_test : public ::testing::Test {
protected:
    void SetUp() override { std::signal(SIGPIPE, SIG_IGN); }
    void put(const std::string& name, byte_view content) {
        std::ofstream(dir_ / name, std::ios::binary).write(reinterpret_cast<const char*>(content.data()), static_cast<std::streamsize>(content.size()));
    }
    bytes get(const std::string& name) {
        std::ifstream f(dir_ / name, std::ios::binary);
        return bytes(std::istreambuf_iterator<char>(f), {});
    }
    bool there(const std::string& name) { return std::filesystem::exists(dir_ / name); }
    std::size_t files() { return static_cast<std::size_t>(std::distance(std::filesystem::directory_iterator(dir_.path()), {})); }

    pipe_options compress(codec c, std::uint64_t block = 10000) {
        return {.input_path = dir_ / "in", .output_path = dir_ / "packed", .kind = c, .block_bytes = block};
    }
    pipe_options decompress(codec c) { return {.input_path = dir_ / "packed", .output_path = dir_ / "out", .kind = c, .decompress = true}; }
    pipe_options command(std::vector<std::string> argv, std::uint64_t block = 10000) {
        return {.input_path = dir_ / "in", .output_path = dir_ / "out", .argv = std::move(argv), .block_bytes = block};
    }

    sys::testing::scratch_dir dir_;
};

TEST_F(run_pipe_test, a_blocks_latency_is_from_the_reader_to_the_output) {
    put("in", bytes(30'000, 'a'));
    auto o = command({"sh", "-c", "sleep 0.1; cat"});
    o.workers = 1;  // so that the second block waits for the first, and the third for both
    const auto r = run_pipe(o, sys::real());
    ASSERT_TRUE(r) << r.error().line();
    EXPECT_EQ(r->blocks, 3u);
    const auto [p50, p99, max] = r->latency;
    EXPECT_GE(p50, 0.2);
    EXPECT_GE(max, 0.3);
    EXPECT_TRUE(p50 <= p99 && p99 <= max) << p50 << ' ' << p99 << ' ' << max;
    EXPECT_LE(max, r->seconds * 33 / 32);
}

TEST_F(run_pipe_test, packs_and_unpacks_and_reports_what_it_did) {
    const bytes in = text(123456);
    put("in", in);
    for (codec c : {codec::zstd, codec::gzip, codec::lz4}) {
        auto o = compress(c);
        o.force = true;
        auto r = run_pipe(o, sys::real());
        ASSERT_TRUE(r) << r.error().line();
        EXPECT_EQ(r->bytes_in, in.size());
        EXPECT_EQ(r->bytes_out, get("packed").size());
        EXPECT_EQ(r->blocks, 13u);
        EXPECT_EQ(r->ordered, 13u);
        EXPECT_GE(r->workers, 1);
        EXPECT_EQ(get("packed"), frames_of(c, in, 10000));
        o = decompress(c);
        o.force = true;
        r = run_pipe(o, sys::real());
        ASSERT_TRUE(r) << r.error().line();
        EXPECT_EQ(r->serial_blocks, 0u);
        EXPECT_EQ(get("out"), in);
    }
}

TEST_F(run_pipe_test, blocks_are_charged_to_the_callers_group_and_end_at_its_limit) {
    put("in", text(2'000'000));
    account::local_table groups(3);
    const account::group payer = groups->create(groups->root(), "web", 8 << 20).value();
    {
        const account::scope paid_by(payer);
        auto o = compress(codec::zstd, 100'000);
        o.memory = 2 << 20;
        ASSERT_TRUE(run_pipe(o, sys::real()));
    }
    EXPECT_GE(payer.stats()->peak, 200'000u);
    EXPECT_LE(payer.stats()->peak, 8u << 20);
    EXPECT_EQ(payer.stats()->usage, 0u) << "all of it has gone back";

    ASSERT_TRUE(payer.set_limit(150'000));
    const account::scope paid_by(payer);
    auto o = compress(codec::zstd, 100'000);
    o.output_path = dir_ / "other";
    const auto r = run_pipe(o, sys::real());
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, ENOMEM);
    EXPECT_NE(r.error().line().find("\"/web\" is at its limit"), std::string::npos) << r.error().line();
    EXPECT_FALSE(there("other"));
    EXPECT_EQ(payer.stats()->usage, 0u);
}

TEST_F(run_pipe_test, large_blocks_start_and_end_in_parts_wherever_the_input_ends) {
    constexpr std::size_t block = 4u << 20, part = 1u << 20;
    for (std::size_t n : {std::size_t{0}, part - 1, part, part + 1, block - 1, block, block + 1, 2 * block, 3 * block - 1, 3 * block, 3 * block + 1, 5 * block + part}) {
        put("in", bytes(n, 'x'));
        auto o = compress(codec::lz4, block);
        o.force = true;
        auto r = run_pipe(o, sys::real());
        ASSERT_TRUE(r) << r.error().line();
        EXPECT_EQ(r->bytes_in, n);
        const decoded d = decode_by_stream(codec::lz4, get("packed"));
        EXPECT_TRUE(d.end);
        EXPECT_EQ(d.out, bytes(n, 'x')) << n;
        if (n == 5 * block + part) { EXPECT_EQ(r->blocks, 4u + 3u + 4u + 1u); }
        if (n == 0) { EXPECT_EQ(r->blocks, 1u); }
    }
}

TEST_F(run_pipe_test, options_that_make_no_sense_are_einval_before_anything_is_opened) {
    sys::failing os(sys::real(), {.nth = 0});
    const auto code = [&](pipe_options o) {
        auto r = run_pipe(o, os);
        return r ? 0 : r.error().code;
    };
    EXPECT_EQ(code({}), EINVAL);
    EXPECT_EQ(code({.kind = codec::zstd, .argv = {"cat"}}), EINVAL);
    EXPECT_EQ(code({.kind = codec::zstd, .level = 99}), EINVAL);
    EXPECT_EQ(code({.kind = codec::zstd, .level = 3, .decompress = true}), EINVAL);
    EXPECT_EQ(code({.decompress = true, .argv = {"cat"}}), EINVAL);
    EXPECT_EQ(code({.argv = {""}}), EINVAL);
    EXPECT_EQ(code({.argv = {"cat"}, .records = true, .separator = ""}), EINVAL);
    EXPECT_EQ(code({.kind = codec::zstd, .records = true}), EINVAL);
    EXPECT_EQ(code({.kind = codec::zstd, .workers = -1}), EINVAL);
    EXPECT_EQ(code({.kind = codec::zstd, .block_bytes = std::uint64_t{1} << 40}), EINVAL);
    EXPECT_EQ(os.calls(), 0);
}

TEST_F(run_pipe_test, cpus_that_are_not_there_are_an_error_and_leave_no_file) {
    put("in", text(100));
    auto o = compress(codec::zstd);
    o.cpus = cpumask{8000};
    auto r = run_pipe(o, sys::real());
    ASSERT_FALSE(r);
    EXPECT_EQ(r.error().code, EINVAL);
    EXPECT_EQ(files(), 1u);
}

TEST_F(run_pipe_test, short_reads_and_writes_change_nothing) {
    const bytes in = text(50000);
    put("in", in);
    for (std::size_t limit : {1u, 7u, 4096u}) {
        sys::failing os(sys::real(), {.nth = 0});
        os.limit_io(limit);
        for (auto o : {compress(codec::lz4), decompress(codec::lz4), command({"cat"})}) {
            o.force = true;
            auto r = run_pipe(o, os);
            ASSERT_TRUE(r) << r.error().line();
        }
        EXPECT_EQ(get("packed"), frames_of(codec::lz4, in, 10000));
        EXPECT_EQ(get("out"), in);
    }
}

/// Fails each call of the system in turn. Whatever fails, the run ends, with an error or with the right output, and never leaves a part of one.
TEST_F(run_pipe_test, every_system_call_may_fail_and_no_partial_file_is_left) {
    const bytes in = text(25000);
    put("in", in);
    ASSERT_TRUE(run_pipe(compress(codec::zstd), sys::real()));
    const bytes packed = get("packed");
    struct {
        const char* what;
        pipe_options options;
        std::string out;
        bytes right;
    } cases[] = {{"compress", compress(codec::zstd), "packed", packed}, {"decompress", decompress(codec::zstd), "out", in}, {"command", command({"cat"}), "out", in}};
    for (auto& c : cases) {
        int errors = 0, nth = 1;
        for (;; ++nth) {
            put("packed", packed);
            if (c.out == "packed") std::filesystem::remove(dir_ / "packed");
            std::filesystem::remove(dir_ / "out");
            const std::size_t before = files();
            sys::failing os(sys::real(), {.nth = nth, .code = EIO});
            auto r = run_pipe(c.options, os);
            if (r) {
                EXPECT_EQ(get(c.out), c.right) << c.what << " call " << nth;
            } else {
                ++errors;
                EXPECT_FALSE(there(c.out)) << c.what << " call " << nth << ": " << r.error().line();
                // Where unlink itself is what failed nothing can be done about the temporary file.
                if (os.calls("unlink") == 0 || r.error().act != "unlink") { EXPECT_LE(files(), before + (os.calls("unlink") ? 1 : 0)) << c.what << " call " << nth; }
            }
            if (os.failures() == 0) break;
            ASSERT_LT(nth, 2000);
        }
        EXPECT_GT(errors, 5) << c.what;
    }
}

TEST_F(run_pipe_test, a_call_that_keeps_failing_ends_the_run) {
    put("in", text(25000));
    ASSERT_TRUE(run_pipe(compress(codec::zstd), sys::real()));
    for (const char* call : {"open", "read", "write", "fstat", "pipe", "spawn", "poll", "set_nonblocking", "rename", "wait", "try_wait"}) {
        for (int nth : {1, 2, 5}) {
            for (auto o : {compress(codec::zstd), decompress(codec::zstd), command({"cat"})}) {
                o.output_path = dir_ / "result";
                sys::failing os(sys::real(), {.call = call, .nth = nth, .code = ENOMEM, .times = -1});
                auto r = run_pipe(o, os);
                if (!r) { EXPECT_FALSE(there("result")) << call << nth; }
                std::filesystem::remove(dir_ / "result");
            }
        }
    }
}

TEST_F(run_pipe_test, damage_anywhere_is_an_error_or_the_right_output) {
    const std::uint64_t seed = std::random_device{}();
    SCOPED_TRACE("seed " + std::to_string(seed));
    std::mt19937_64 random(seed);
    const bytes in = text(9000, seed);
    for (codec c : {codec::zstd, codec::gzip, codec::lz4}) {
        const bytes good = frames_of(c, in, 3000);
        for (int i = 0; i < 60; ++i) {
            bytes bad = good;
            if (i % 2) bad.resize(random() % bad.size());
            else bad[random() % bad.size()] ^= static_cast<std::uint8_t>(1u << random() % 8);
            put("packed", bad);
            auto r = run_pipe(decompress(c), sys::real());
            if (!r) {
                // EFBIG: the flipped bit made a window of over 128 MiB out of a small one.
                EXPECT_TRUE(r.error().code == EBADMSG || r.error().code == EFBIG) << r.error().line();
                EXPECT_FALSE(there("out"));
            } else if (i % 2) {
                EXPECT_EQ(get("out"), bytes(in.begin(), in.begin() + static_cast<std::ptrdiff_t>(r->bytes_out)));
                EXPECT_EQ(r->bytes_out % 3000, 0u) << "cut between frames, or not at all";
            } else {
                EXPECT_EQ(get("out"), in);
            }
            std::filesystem::remove(dir_ / "out");
        }
    }
}

TEST_F(run_pipe_test, what_a_worker_decoded_counts_only_where_the_stream_stands) {
    // Each member holds, as it is, a whole member: decoded by a worker, it is good by itself and no part of the output.
    const bytes trap = foreign_member(text(300, 9));
    bytes in, packed;
    for (int i = 0; i < 40; ++i) {
        bytes part = noise(7000, i);
        std::copy(trap.begin(), trap.end(), part.begin() + 5000);
        const bytes member = foreign_member(part, 0);
        packed.insert(packed.end(), member.begin(), member.end());
        in.insert(in.end(), part.begin(), part.end());
    }
    put("packed", packed);
    auto o = decompress(codec::gzip);
    o.block_bytes = 4096;
    o.memory = 1 << 20;
    auto r = run_pipe(o, sys::real());
    ASSERT_TRUE(r) << r.error().line();
    EXPECT_EQ(get("out"), in);
    EXPECT_GT(r->serial_blocks, 0u) << "the trap was not sprung";
}

TEST_F(run_pipe_test, stop_ends_a_run_whose_input_is_silent) {
    auto ends = sys::real().pipe().value();
    sys::owned_fd in(sys::real(), ends.read), feed(sys::real(), ends.write);
    for (auto o : {compress(codec::zstd), decompress(codec::gzip), command({"cat"})}) {
        std::stop_source stop;
        o.input_path.clear();
        o.input_fd = in.get();
        o.output_path = dir_ / "out";
        o.stop = stop.get_token();
        std::jthread stopper([&] {
            while (files() == 0) std::this_thread::yield();  // the temporary file is there: the run has begun
            stop.request_stop();
        });
        auto r = run_pipe(o, sys::real());
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, ECANCELED);
        stopper.join();
        EXPECT_EQ(files(), 0u);
    }
}

TEST_F(run_pipe_test, stop_ends_a_run_whose_reader_sleeps_and_kills_its_children) {
    while (::waitpid(-1, nullptr, 0) > 0) {
    }  // those of the tests above, whose wait() was made to fail
    put("in", noise(3000000));
    auto ends = sys::real().pipe().value();
    sys::owned_fd out(sys::real(), ends.read), sink(sys::real(), ends.write);
    for (auto o : {compress(codec::lz4), command({"cat"}), command({"sh", "-c", "touch started; exec sleep 1000"})}) {
        std::stop_source stop;
        o.output_path.clear();
        o.output_fd = sink.get();
        o.stop = stop.get_token();
        const bool silent = !o.argv.empty() && o.argv[0] == "sh";
        o.directory = dir_.path();
        std::jthread stopper([&] {
            std::byte one;
            if (!silent) (void)sys::real().read(out.get(), {&one, 1});
            while (silent && !there("started")) std::this_thread::yield();
            stop.request_stop();
        });
        auto r = run_pipe(o, sys::real());
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, ECANCELED) << r.error().line();
    }
    EXPECT_EQ(::waitpid(-1, nullptr, WNOHANG), -1) << "a child was left behind";
    EXPECT_EQ(errno, ECHILD);
}

TEST_F(run_pipe_test, a_reader_that_goes_away_is_epipe) {
    put("in", noise(3000000));
    for (auto o : {compress(codec::lz4), command({"cat"})}) {
        auto ends = sys::real().pipe().value();
        (void)sys::real().close(ends.read);
        o.output_path.clear();
        o.output_fd = ends.write;
        auto r = run_pipe(o, sys::real());
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, EPIPE) << r.error().line();
        (void)sys::real().close(ends.write);
    }
}

TEST_F(run_pipe_test, progress_ends_at_the_whole_and_never_goes_back) {
    put("in", text(500000));
    auto o = compress(codec::gzip, 5000);
    std::uint64_t last = 0, calls = 0;
    o.progress = [&](const pipe_progress& p) {
        EXPECT_GE(p.bytes_in, last);
        EXPECT_EQ(p.bytes_total, 500000u);
        last = p.bytes_in;
        ++calls;
    };
    ASSERT_TRUE(run_pipe(o, sys::real()));
    EXPECT_EQ(last, 500000u);
    EXPECT_GE(calls, 1u);
}

TEST_F(run_pipe_test, commands_get_their_environment_and_directory) {
    put("in", text(10));
    auto o = command({"sh", "-c", "cat >/dev/null; echo $GREETING $PWD"});
    o.environment = {"GREETING=hello"};
    o.directory = "/usr";
    ASSERT_TRUE(run_pipe(o, sys::real()));
    const bytes out = get("out");
    EXPECT_EQ(std::string(out.begin(), out.end()), "hello /usr\n");
}

}  // namespace
}  // namespace cohort::stream
