#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""`cohort pipe` beside zstd, pigz and GNU parallel: whole commands, in turn, on one page-cached input. Prints lines of JSON as cohort_bench does.

Usage: bench/pipe.py [--rounds N] [--input FILE] [--limit BYTES] [--only NAME] BUILD_DIR

The input is a tar archive of /usr/include and /usr/lib/gcc. Every command's output is checked once (decompressed by the format's own tool and
compared), its size is reported, then it runs N times into /dev/null. Times: nanoseconds of wall and CPU time per byte of input are kept as MB/s.
"""
import argparse
import json
import os
import shutil
import subprocess
import sys
import time


def make_input(path, limit):
    if os.path.exists(path):
        return
    part = path + ".part"
    with open(part, "wb") as out:
        tar = subprocess.Popen(["tar", "--sort=name", "-C", "/usr", "-cf", "-", "include", "lib/gcc"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        left = limit
        while left > 0:
            block = tar.stdout.read(min(left, 1 << 20))
            if not block:
                break
            out.write(block)
            left -= len(block)
        tar.stdout.close()
        tar.wait()
    os.replace(part, path)


def benches(cohort, threads):
    t = str(threads)
    return [
        ("pipe/zstd3", ["zstd", "-dc"], [
            ("cohort pipe --codec zstd --level 3", "ours", "", [cohort, "pipe", "--codec", "zstd", "--level", "3"]),
            (f"zstd -3 -T{t}", "peer", f"zstd -3 -T{t}", ["zstd", "-3", f"-T{t}", "-q", "-c"]),
            ("zstd -3 --single-thread", "single", "zstd -3, one thread", ["zstd", "-3", "--single-thread", "-q", "-c"])]),
        ("pipe/gzip6", ["gzip", "-dc"], [
            ("cohort pipe --codec gzip --level 6", "ours", "", [cohort, "pipe", "--codec", "gzip", "--level", "6"]),
            (f"pigz -6 -p{t}", "peer", f"pigz -6 -p{t}", ["pigz", "-6", f"-p{t}", "-c"])]),
        ("pipe/exec", ["cat"], [
            ("cohort pipe --records -- cat", "ours", "", [cohort, "pipe", "--records", "--", "cat"]),
            ("parallel -k --pipe cat", "peer", "parallel -k --pipe", ["parallel", "--will-cite", "-k", "--pipe", f"-j{t}", "cat"]),
            ("parallel -k --pipe --block 10M cat", "peer", "parallel -k --pipe",
             ["parallel", "--will-cite", "-k", "--pipe", "--block", "10M", f"-j{t}", "cat"])]),
    ]


def verify(command, unpack, path, scratch):
    """The output, unpacked by a foreign tool, is the input. Returns its size."""
    with open(path, "rb") as source, open(scratch, "wb") as out:
        done = subprocess.run(command, stdin=source, stdout=out, stderr=subprocess.PIPE)
    if done.returncode:
        sys.exit(f"bench: {' '.join(command)}: exit {done.returncode}: {done.stderr.decode(errors='replace').strip()[-300:]}")
    with open(scratch, "rb") as packed:
        plain = subprocess.Popen(unpack, stdin=packed, stdout=subprocess.PIPE)
        same = subprocess.run(["cmp", "-s", "-", path], stdin=plain.stdout).returncode == 0
        plain.stdout.close()
        if plain.wait() or not same:
            sys.exit(f"bench: {' '.join(command)}: WRONG RESULT: {unpack[0]} does not give the input back")
    size = os.path.getsize(scratch)
    os.remove(scratch)
    return size


def run(command, path):
    """One run into /dev/null: wall and CPU seconds, those of its children included."""
    with open(path, "rb") as source, open(os.devnull, "wb") as sink:
        began = time.monotonic()
        child = subprocess.Popen(command, stdin=source, stdout=sink, stderr=subprocess.DEVNULL)
        _, status, usage = os.wait4(child.pid, 0)
        took = time.monotonic() - began
        child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        sys.exit(f"bench: {' '.join(command)}: exit {child.returncode}")
    return took, usage.ru_utime + usage.ru_stime


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--rounds", type=int, default=9)
    p.add_argument("--input")
    p.add_argument("--limit", type=int, default=256 << 20)
    p.add_argument("--only", default="")
    p.add_argument("build")
    args = p.parse_args()
    folder = os.path.join(args.build, "bench")
    os.makedirs(folder, exist_ok=True)
    os.environ["TMPDIR"] = os.path.abspath(folder)
    path = args.input or os.path.join(folder, f"corpus-{args.limit >> 20}.tar")
    make_input(path, args.limit)
    size = os.path.getsize(path)
    threads = len(os.sched_getaffinity(0))
    for name, unpack, commands in benches(os.path.join(args.build, "cohort"), threads):
        if args.only not in name:
            continue
        missing = [c[3][0] for c in commands if not shutil.which(c[3][0])]
        if missing:
            print(f"skipped: {name}: {', '.join(missing)} is not there", file=sys.stderr)
            continue
        sizes = [verify(c[3], unpack, path, os.path.join(folder, "packed")) for c in commands]  # also brings the input into the page cache
        wall, cpu = [[] for _ in commands], [[] for _ in commands]
        for round_number in range(args.rounds):
            print(f"\r{name:32} round {round_number + 1} of {args.rounds} ", end="", file=sys.stderr, flush=True)
            for k in range(len(commands)):
                i = (k + round_number) % len(commands)
                took, used = run(commands[i][3], path)
                wall[i].append(size / 1e6 / took)
                cpu[i].append(used / size * 1e9)
        print("\r" + " " * 60 + "\r", end="", file=sys.stderr)
        for (variant, side, peer_name, _), packed, w, c in zip(commands, sizes, wall, cpu):
            print(json.dumps({"bench": name, "variant": variant, "side": side, "peer_name": peer_name, "unit": "MB/s", "units": size, "cpus": threads,
                              "wall": w, "cpu": c, "cpu_unit": "ns/byte", "output_bytes": packed}), flush=True)


if __name__ == "__main__":
    main()
