// SPDX-License-Identifier: Apache-2.0
// `cohort pipe` as users run it: beside the formats' own tools, with bad input, bad outputs and signals. Each case is a bash script with
// $cohort and a directory of its own; foreign tools that are missing are said, not passed over in silence.
#include <fcntl.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <string>
#include <vector>

#include "testing/command_line.hpp"

namespace cohort::cli {
namespace {

using testing::ran;

class pipe_cli : public testing::command_line {};

/// The same claims for each format.
class pipe_codec : public pipe_cli, public ::testing::WithParamInterface<const char*> {
protected:
    std::string before_scripts() const override { return std::string("c=") + GetParam(); }
    void SetUp() override {
        if (bash("command -v $c").code != 0) FAIL() << GetParam() << " is not installed; scripts/packages.txt names it";
    }
};
INSTANTIATE_TEST_SUITE_P(formats, pipe_codec, ::testing::Values("zstd", "gzip", "lz4"), [](const auto& p) { return std::string(p.param); });

TEST_P(pipe_codec, round_trips_with_the_foreign_tool_in_both_directions) {
    expect(0, R"(set -e -o pipefail
        : >empty; printf x >one; head -c 65535 /dev/urandom >short; head -c 65536 /dev/urandom >exact; head -c 65537 /dev/urandom >over
        head -c 3000000 /dev/zero >zeros; seq 1 400000 >text; cat text short zeros over >mixed
        for f in empty one short exact over zeros text mixed; do
            $cohort pipe --codec $c --block 64K <$f >ours; $c -dc <ours | cmp - $f
            $cohort pipe --codec $c -d <ours | cmp - $f
            $c -c <$f >theirs; $cohort pipe --codec $c -d <theirs | cmp - $f
            $cohort pipe --codec $c <$f | $c -dc | cmp - $f
        done)");
}

TEST_P(pipe_codec, bytes_do_not_depend_on_threads_or_on_how_the_input_arrives) {
    expect(0, R"(set -e -o pipefail
        seq 1 300000 >text; head -c 500000 /dev/urandom >>text
        $cohort pipe --codec $c --block 100K --threads 1 <text >first
        for t in 2 4 7; do $cohort pipe --codec $c --block 100K --threads $t <text | cmp - first; done
        cat text | $cohort pipe --codec $c --block 100K | cmp - first
        dd if=text bs=777 status=none | $cohort pipe --codec $c --block 100K --memory 300K | cmp - first
        cpu=$(sed -n 's/^Cpus_allowed_list:[^0-9]*\([0-9]*\).*/\1/p' /proc/self/status)
        $cohort pipe --codec $c --block 100K --cpus $cpu --serial-cpus $cpu text | cmp - first)");
}

TEST_P(pipe_codec, decodes_multi_frame_files_of_the_foreign_tool) {
    expect(0, R"(set -e -o pipefail
        for i in $(seq 1 40); do seq $i $((i * 1500)) >part; cat part >>plain; $c -c <part >>packed; done
        : | $c -c >>packed; head -c 3000000 /dev/urandom >part; cat part >>plain; $c -c <part >>packed
        seq 5 >part; cat part >>plain; $cohort pipe --codec $c <part >>packed
        $cohort pipe --codec $c -d <packed | cmp - plain
        $cohort pipe --codec $c -d --block 8K --memory 400K <packed | cmp - plain
        cat packed | $cohort pipe --codec $c -d --threads 1 | cmp - plain)");
}

TEST_P(pipe_codec, large_output_has_several_frames_and_is_decoded_in_parallel) {
    const ran r = bash(R"(set -e -o pipefail
        seq 1 3000000 >text; $cohort pipe --codec $c --block 1M <text >packed
        $cohort pipe --codec $c -d --json -o out packed; cmp out text >&2)");
    EXPECT_EQ(r.code, 0) << r.err;
    EXPECT_NE(r.out.find("\"serial_blocks\": 0"), std::string::npos) << r.out;
    EXPECT_EQ(r.out.find("\"blocks\": 1,"), std::string::npos) << r.out;
}

TEST_P(pipe_codec, damaged_cut_off_and_foreign_input_is_exit_5_with_the_byte_and_leaves_no_file) {
    expect(5, "seq 90000 | $c -c >p; head -c 5000 p | $cohort pipe --codec $c -d -o out", "at byte 5000");
    expect(5, "$cohort pipe --codec $c -d -o out </etc/passwd", "at byte 0");
    expect(5, "(cat p; echo junk) | $cohort pipe --codec $c -d -o out", "at byte " );
    expect(5, "(cat p; echo junk) | $cohort pipe --codec $c -d -o out 2>&1 | grep -q \"at byte $(stat -c %s p)\" && exit 5");
    expect(5, "head -c 3000 p >bad; head -c 100 /dev/zero >>bad; tail -c +3101 p >>bad; $cohort pipe --codec $c -d -o out bad", "bad: decode");
    expect(0, "test ! -e out && test $(ls | wc -l) = 2");
}

TEST_P(pipe_codec, truncation_of_a_small_file_is_an_error_wherever_it_is) {
    expect(0, R"(set -e
        (seq 1 100 | $c -c; seq 1 50 | $cohort pipe --codec $c) >p; n=$(stat -c %s p); b=$(seq 1 100 | $c -c | wc -c)
        for i in $(seq 1 7 $((n - 1))); do
            [ $i = $b ] && continue
            if head -c $i p | $cohort pipe --codec $c -d >out 2>/dev/null; then echo "cut at $i was taken for good" >&2; exit 1; else test $? = 5; fi
        done)");
}

TEST_F(pipe_cli, empty_input_is_treated_as_the_foreign_tools_treat_it) {
    expect(5, "$cohort pipe --codec zstd -d </dev/null", "the input is empty");
    expect(5, "$cohort pipe --codec gzip -d </dev/null", "the input is empty");
    expect(0, "$cohort pipe --codec lz4 -d </dev/null");
}

TEST_F(pipe_cli, other_forms_of_the_formats_are_decoded) {
    expect(0, R"(set -e -o pipefail
        seq 1 100000 >text
        zstd -q -c --no-check text | $cohort pipe --codec zstd -d | cmp - text
        cat text | zstd -q -c | $cohort pipe --codec zstd -d | cmp - text
        zstd -q -12 -T2 -B1M -c text | $cohort pipe --codec zstd -d | cmp - text
        printf '\x50\x2a\x4d\x18\x03\x00\x00\x00abc' >skip; zstd -q -c text >z; cat skip z skip z | $cohort pipe --codec zstd -d | cmp - <(cat text text)
        lz4 -l -q -c text | $cohort pipe --codec lz4 -d | cmp - text
        lz4 -BD -9 -q -c text | $cohort pipe --codec lz4 -d | cmp - text
        lz4 -B4 -BX --no-frame-crc --content-size -q -c text | $cohort pipe --codec lz4 -d | cmp - text
        gzip -1 -c text | $cohort pipe --codec gzip -d | cmp - text
        (gzip -c text; head -c 1000 /dev/zero) | $cohort pipe --codec gzip -d | cmp - text
        (gzip -nc text; gzip -9c text) | $cohort pipe --codec gzip -d | cmp - <(cat text text)
        if command -v pigz >/dev/null; then pigz -c text | $cohort pipe --codec gzip -d | cmp - text; fi)");
}

TEST_F(pipe_cli, window_over_the_limit_is_refused_and_memory_allows_it) {
    expect(0, "head -c 1000000 /dev/zero | zstd -q --long=28 -c >p 2>/dev/null");
    expect(5, "cat p | $cohort pipe --codec zstd -d", "--long or --memory");
    expect(0, "set -o pipefail; cat p | $cohort pipe --codec zstd -d --memory 256M | cmp - <(head -c 1000000 /dev/zero)");
}

TEST_F(pipe_cli, records_go_whole_through_a_command_and_come_back_in_order) {
    expect(0, R"(set -e -o pipefail
        seq 1 300000 >in
        $cohort pipe --records -- tr 0-9 a-j <in | cmp - <(tr 0-9 a-j <in)
        for b in 1 7 1000 64K 1M; do [ $b = 1 ] && n=100 || [ $b = 7 ] && n=500 || n=300000
            head -n $n in | $cohort pipe --records --block $b --threads 3 -- sed 's/^/x/;s/$/y/' | cmp - <(head -n $n in | sed 's/^/x/;s/$/y/'); done
        printf 'a\nb' | $cohort pipe --records -- cat | cmp - <(printf 'a\nb')
        : | $cohort pipe --records -- cat | cmp - /dev/null
        printf 'a--bb--c' | $cohort pipe --record-sep=-- --block 1 -- wc -c | cmp - <(printf '3\n4\n1\n')
        printf 'a\0b\0' | $cohort pipe --record-sep '\0' --block 1 -- wc -c | cmp - <(printf '2\n2\n')
        printf 'a\tb\t' | $cohort pipe --record-sep '\x09' --block 1 -- wc -c | cmp - <(printf '2\n2\n')
        dd if=in bs=333 status=none | $cohort pipe --records --block 10K -- md5sum | cmp - <($cohort pipe --records --block 10K --threads 1 -- md5sum <in))");
}

TEST_F(pipe_cli, a_record_longer_than_a_block_grows_it_up_to_the_window) {
    expect(0, "(head -c 100000 /dev/zero | tr '\\0' x; echo; echo y) | $cohort pipe --records --block 4K -- wc -l | cmp - <(echo 2)");
    expect(5, "head -c 1000000 /dev/zero | $cohort pipe --records --block 4K --memory 100K -- cat | wc -c; exit ${PIPESTATUS[1]}", "the record at byte 0");
}

TEST_F(pipe_cli, a_command_that_fails_is_exit_5_with_its_status_and_its_block) {
    expect(5, "seq 100000 | $cohort pipe --block 10K -o out -- false", "block 1 (bytes 0-10239 of standard input): EIO: exit 1");
    expect(5, "seq 100000 | $cohort pipe --block 10K --records -o out -- sh -c 'if grep -qx 5000; then kill -9 $$; fi'", "killed by signal 9");
    expect(5, "seq 100000 | $cohort pipe --block 10K --records -o out -- sh -c 'if grep -qx 5000; then exit 7; fi'", "block 3 (bytes 2");
    expect(5, "seq 9 | $cohort pipe -o out -- no-such-command-here", "no-such-command-here");
    expect(4, "seq 9 | $cohort pipe -o out -- /etc/passwd", "EACCES");
    expect(0, "test ! -e out");
}

TEST_F(pipe_cli, blocks_before_the_failed_one_are_written_and_none_after_it) {
    expect(0, R"(seq 100000 >in
        $cohort pipe --block 10K -- sh -c 'dd bs=10240 count=1 iflag=fullblock status=none | tee part.$$ | grep -q 50000 && exit 1; cat part.$$' <in >out 2>/dev/null
        test $? = 5 && cmp -n $(stat -c %s out) out in && test $(($(stat -c %s out) % 10240)) = 0 && test $(stat -c %s out) -lt 300000)");
}

TEST_F(pipe_cli, a_command_that_does_not_read_its_input_is_noted_and_counted) {
    for (const char* how : {"true", "head -n 1", "sh -c 'exec <&-; echo done'"}) {
        const ran r = bash("head -c 1000000 /dev/zero | tr '\\0' '\\n' >in; $cohort pipe --block 250K --json -o out -f in -- " + std::string(how));
        EXPECT_EQ(r.code, 0) << how << r.err;
        EXPECT_NE(r.err.find("without reading all of its input"), std::string::npos) << how << r.err;
        EXPECT_NE(r.out.find("\"unread_blocks\": 4"), std::string::npos) << how << r.out;
    }
    const ran r = bash("$cohort pipe --json -o out -f in -- sh -c 'exec cat >/dev/null'");
    EXPECT_NE(r.out.find("\"unread_blocks\": 0"), std::string::npos) << r.out;
}

TEST_F(pipe_cli, a_command_that_writes_much_before_reading_or_closes_its_output_early_is_no_deadlock) {
    expect(0, "set -o pipefail; seq 300000 >in; $cohort pipe --block 1M --memory 4M -- sh -c 'head -c 5000000 /dev/zero; cat' <in | tr -d '\\0' | cmp - in");
    expect(0, "set -o pipefail; seq 300000 >in; $cohort pipe --block 1M -- sh -c 'exec >&-; cat >/dev/null; sleep 0.1' <in | cmp - /dev/null");
    expect(0, "set -o pipefail; head -c 3000000 /dev/zero | $cohort pipe --block 1M --memory 3M --threads 2 -- sh -c 'cat; head -c 20000000 /dev/zero' | cmp - <(head -c 63000000 /dev/zero)");
}

TEST_F(pipe_cli, commands_get_the_default_sigpipe_and_no_descriptors_of_ours) {
    expect(0, "seq 9 | $cohort pipe -- bash -c 'yes | head -n 1 >/dev/null; echo ${PIPESTATUS[0]}' | grep -qx 141");
    expect(0, "count='ls /proc/self/fd | wc -l'; n=$(true | sh -c \"$count\" | cat); seq 300000 | $cohort pipe -q --block 64K --threads 4 -- sh -c \"$count\" | sort -u | cmp - <(echo $n)");
}

TEST_F(pipe_cli, an_output_that_cannot_be_written_is_exit_5_and_no_file) {
    for (const char* what : {"--codec zstd", "--codec gzip", "--codec lz4"}) {
        expect(5, "seq 2000000 | $cohort pipe " + std::string(what) + " >/dev/full", "ENOSPC");
        expect(5, "seq 2000000 | $cohort pipe " + std::string(what) + " -o /dev/full", "ENOSPC");
        expect(5, "seq 9 | $cohort pipe " + std::string(what) + " -o nodir/out", "nodir/out");
        expect(5, "seq 9 | $cohort pipe " + std::string(what) + " -o .", "directory");
    }
    expect(5, "seq 2000000 | $cohort pipe -- cat >/dev/full", "ENOSPC");
    expect(5, "seq 9 | $cohort pipe --codec zstd >&-", "EBADF");
    expect(5, "$cohort pipe --codec zstd <&-", "EBADF");
}

TEST_F(pipe_cli, a_directory_that_vanishes_in_mid_stream_is_exit_5) {
    expect(5, R"(mkdir d; mkfifo f; $cohort pipe --codec zstd -o d/out <f & p=$!; exec 9>f; seq 1000 >&9
        while ! ls d/* >/dev/null 2>&1; do :; done; rm -r d; exec 9>&-; wait $p)", "d/out");
}

TEST_F(pipe_cli, a_reader_that_goes_away_ends_it_quietly_with_141) {
    for (const char* what : {"--codec zstd", "--codec lz4", "--records -- cat"}) {
        const ran r = bash("seq 3000000 >in; $cohort pipe " + std::string(what) + " <in | head -c 10 >/dev/null; exit ${PIPESTATUS[0]}");
        EXPECT_EQ(r.code, 141) << what;
        EXPECT_EQ(r.err, "") << what;
    }
    // An endless input, too: the pipe does not wait for its end.
    expect(141, "yes | $cohort pipe --codec zstd --block 64K | head -c 10 >/dev/null; exit ${PIPESTATUS[1]}");
}

TEST_F(pipe_cli, an_existing_output_is_kept_without_force_and_replaced_whole_with_it) {
    expect(5, "echo old >out; seq 9 | $cohort pipe --codec zstd -o out", "--force");
    expect(5, "head -c 100 /dev/urandom | $cohort pipe --codec zstd -d --force -o out");
    expect(0, "echo old | cmp - out");
    expect(0, "seq 9 | $cohort pipe --codec zstd --force --sync -o out && zstd -dc out | cmp - <(seq 9)");
    expect(0, "seq 99 >same; $cohort pipe -f -o same same -- tac && cmp same <(seq 99 -1 1) && test $(ls | wc -l) = 2");
}

TEST_F(pipe_cli, an_input_that_cannot_be_read_is_exit_5) {
    expect(5, "$cohort pipe --codec zstd .", "directory");
    expect(5, "$cohort pipe --codec zstd <.", "directory");
    expect(5, "$cohort pipe --codec zstd not-there", "not-there: open: ENOENT");
    expect(0, "test $(ls | wc -l) = 0");
}

/// SIGNAL while the pipe is busy, blocked on its input, or blocked on its output.
class pipe_signal : public pipe_cli, public ::testing::WithParamInterface<const char*> {
protected:
    /// A time to sleep for, and the pattern of its process: of no other test's.
    std::string before_scripts() const override { return "long=777.$$ asleep=\"^sleep 777[.]$$\\$\""; }
    /// `setup`, then the pipe in the background, then a signal once `until` succeeds.
    void expect_stopped(const std::string& setup, const std::string& pipe, const std::string& until) {
        const std::string number = std::string(GetParam()) == "INT" ? "130" : "143";
        expect(0, "set -m  # job control, so that a background job does not ignore SIGINT\n" + setup + "\n" + pipe + " & p=$!\nuntil " + until + "; do :; done\nkill -" + GetParam() + " $p; wait $p; test $? = " + number +
                      " || { echo \"not " + number + "\" >&2; exit 1; }\nls out* 2>/dev/null && exit 2\nuntil_so '! pgrep -f \"$asleep\" >&2'");
    }
};
INSTANTIATE_TEST_SUITE_P(signals, pipe_signal, ::testing::Values("INT", "TERM"), [](const auto& p) { return std::string(p.param); });

TEST_P(pipe_signal, ends_it_in_mid_stream_without_a_file) {
    expect_stopped("", "$cohort pipe --codec gzip --level 12 -o out </dev/zero", "ls out.* >/dev/null 2>&1");
}
TEST_P(pipe_signal, ends_it_while_the_input_is_silent) {
    expect_stopped("mkfifo f; exec 9<>f; echo x >&9", "$cohort pipe --codec zstd -o out <f", "ls out.* >/dev/null 2>&1");
    expect_stopped("exec 9<>f", "$cohort pipe --codec zstd -d -o out <f", "ls out.* >/dev/null 2>&1");
    expect_stopped("exec 9<>f", "$cohort pipe -o out -- cat <f", "ls out.* >/dev/null 2>&1");
}
TEST_P(pipe_signal, ends_it_while_the_output_is_stuck) {
    expect_stopped("mkfifo g; exec 8<>g", "$cohort pipe --codec lz4 --block 64K </dev/urandom >g", "sleep 0.2");
    expect_stopped("mkfifo h; exec 8<>h", "$cohort pipe -- cat </dev/zero >h", "sleep 0.2");
}
TEST_P(pipe_signal, ends_it_with_its_children) {
    expect_stopped("", "$cohort pipe -o out -- sh -c 'touch started; sleep $1' sh $long </dev/zero", "test -e started");
    expect_stopped("rm started", "$cohort pipe -o out -- sh -c 'trap \"\" INT TERM; touch started; sleep $1' sh $long </dev/zero", "test -e started");
}

TEST_F(pipe_cli, wrong_words_are_exit_2_and_say_which) {
    for (const char* bad : {"--threads 0", "--threads -3", "--threads 1x", "--threads 99999999999999999999", "--block 0", "--block -1", "--block 2G", "--block 99999999999999999999",
                            "--block 5Q", "--memory 0", "--memory x", "--level 99", "--level 0", "--level x", "--cpus 5-3", "--cpus 9999", "--cpus x", "--serial-cpus ,",
                            "--progress maybe", "--records", "--record-sep x", "--no-such-option", "-d --level 3", "a b"}) {
        const ran r = bash("$cohort pipe --codec zstd " + std::string(bad) + " </dev/null");
        EXPECT_EQ(r.code, 2) << bad << ": " << r.err;
        EXPECT_EQ(std::count(r.err.begin(), r.err.end(), '\n'), 1) << bad << ": " << r.err;
    }
    expect(2, "$cohort pipe </dev/null", "--codec");
    expect(2, "$cohort pipe --codec zip </dev/null", "zip");
    expect(2, "$cohort pipe --codec zstd -- cat </dev/null");
    expect(2, "$cohort pipe -- </dev/null");
    expect(2, "$cohort pipe -d -- cat </dev/null");
    expect(2, "$cohort pipe --record-sep '' -- cat </dev/null");
    expect(2, "$cohort pipe --record-sep '\\q' -- cat </dev/null");
    expect(5, "$cohort pipe --codec zstd --cpus 8000 </dev/null", "8000");
}

TEST_F(pipe_cli, report_is_json_where_the_data_is_not) {
    const ran out = bash("seq 100000 >in; $cohort pipe --codec zstd --block 64K --json -o out in");
    EXPECT_EQ(out.code, 0);
    EXPECT_NE(out.out.find("\"schema_version\": 1"), std::string::npos) << out.out;
    EXPECT_NE(out.out.find("\"bytes_in\": 588895"), std::string::npos) << out.out;
    EXPECT_NE(out.out.find("\"blocks_in_order\": 9"), std::string::npos) << out.out;
    EXPECT_EQ(out.err, "");
    expect(0, "$cohort pipe --codec zstd --json in | zstd -dc | cmp - in", "\"schema_version\": 1");
    expect(0, "$cohort pipe --codec zstd --report r.json -q in | zstd -dc | cmp - in && grep -q schema_version r.json");
    EXPECT_EQ(bash("$cohort pipe --codec zstd -q -f -o out in").err, "");
}

TEST_F(pipe_cli, progress_is_shown_when_asked_for) {
    expect(0, "head -c 3000000 /dev/zero >in; $cohort pipe --codec gzip --block 64K --progress always -o out in", "100 %");
    EXPECT_EQ(bash("$cohort pipe --codec gzip --progress auto -q -f -o out in").err, "");
}

/// Peak resident bytes of `cohort pipe ARGS` whose reader takes one byte, sleeps, and then takes the rest; -1 when it fails.
long peak_with_slow_reader(const std::string& directory, std::vector<std::string> args, std::uint64_t& bytes) {
    int ends[2];
    if (::pipe2(ends, O_CLOEXEC) != 0) return -1;
    const pid_t pid = ::fork();
    if (pid == 0) {
        ::dup2(ends[1], 1);
        if (::chdir(directory.c_str()) != 0) ::_exit(126);
        args.insert(args.begin(), {COHORT_PROGRAM, "pipe"});
        std::vector<char*> argv;
        for (std::string& a : args) argv.push_back(a.data());
        argv.push_back(nullptr);
        ::execv(argv[0], argv.data());
        ::_exit(127);
    }
    ::close(ends[1]);
    std::vector<char> room(1 << 20);
    bytes = 0;
    for (std::size_t want = 1; const ssize_t n = ::read(ends[0], room.data(), want); want = room.size()) {
        if (n < 0) break;
        if (bytes == 0) ::usleep(300000);  // the slow reader: everything that can pile up does
        bytes += static_cast<std::uint64_t>(n);
    }
    ::close(ends[0]);
    int status = 0;
    struct rusage usage {};
    ::wait4(pid, &status, 0, &usage);
    return status == 0 ? usage.ru_maxrss * 1024 : -1;
}

TEST_F(pipe_cli, memory_stays_bounded_while_the_reader_sleeps) {
    constexpr std::uint64_t size = 600'000'000;
    expect(0, "set -e -o pipefail; truncate -s 600000000 zeros; for c in zstd gzip lz4; do $cohort pipe --codec $c -q -o ours.$c zeros; done; zstd -q -1 -o foreign.zst zeros");
    const std::vector<std::vector<std::string>> runs = {{"--codec", "zstd", "-d", "ours.zstd"}, {"--codec", "zstd", "-d", "foreign.zst"}, {"--codec", "gzip", "-d", "ours.gzip"},
                                                        {"--codec", "lz4", "-d", "ours.lz4"}, {"zeros", "--", "cat"}, {"zeros", "--block", "8M", "--", "cat"}};
    for (const auto& args : runs) {
        std::uint64_t bytes = 0;
        const long peak = peak_with_slow_reader(dir_.path(), args, bytes);
        EXPECT_EQ(bytes, size) << ::testing::PrintToString(args);
        EXPECT_GT(peak, 1'000'000) << ::testing::PrintToString(args);
        EXPECT_LT(peak, 200'000'000) << ::testing::PrintToString(args);
    }
}

}  // namespace
}  // namespace cohort::cli
