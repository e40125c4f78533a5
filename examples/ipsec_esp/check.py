#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What ipsec_esp promises, held against tshark and against itself. Usage: examples/ipsec_esp/check.py build/examples/ipsec_esp/ipsec_esp

Prints PASS, FAIL or SKIP for each claim. COHORT_SEED repeats a run.
"""
import json
import os
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import generate as g  # noqa: E402

PROGRAM = os.path.abspath(sys.argv[1]) if len(sys.argv) > 1 else "build/examples/ipsec_esp/ipsec_esp"
SEED = int(os.environ.get("COHORT_SEED") or random.SystemRandom().randrange(1 << 32))
KEY128, KEY256 = "000102030405060708090a0b0c0d0e0f" "cafebabe", "00112233445566778899aabbccddeeff0123456789abcdeffedcba9876543210" "deadbeef"
SAS = [("0x1001", "192.0.2.1", "192.0.2.2", KEY128, "for=10.2.0.0/16"), ("0x2002", "2001:db8::1", "2001:db8::2", KEY256, "for=fd02::/16")]
TSHARK_CIPHER = "AES-GCM with 16 octet ICV [RFC4106]"


class failed(Exception):
    pass


def want(fact, text):
    if not fact:
        raise failed(text)


def run(*words, **options):
    return subprocess.run([PROGRAM, *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=120, **options)


def sa_file(sas=SAS, name="sa"):
    with open(name, "w") as f:
        f.write("# SPI FROM TO KEY options\n" + "".join("sa " + " ".join(s) + "\n" for s in sas))
    return name


def ipsec(act, source, target, *more, status=0, sas="sa"):
    """Runs it; answers the report and what was said."""
    done = run(act, "--sa", sas, "--json", *more, source, target)
    want(done.returncode == status, f"{act} {source}: exit code {done.returncode}, not {status}: {done.stderr.strip()}")
    return json.loads(done.stdout) if done.stdout else {}, done.stderr


def content(name):
    with open(name, "rb") as f:
        return f.read()


def same(a, b, text):
    want(content(a) == content(b), f"{text}: {a} and {b} differ")


def tshark(path, *fields):
    """One list of fields for each frame; ESP is decrypted and checked."""
    uat = [f'uat:esp_sa:"{"IPv6" if ":" in s else "IPv4"}","{s}","{d}","{spi}","{TSHARK_CIPHER}","0x{key}","NULL",""' for spi, s, d, key, _ in SAS]
    words = ["tshark", "-n", "-r", path, "-o", "esp.enable_encryption_decode:TRUE", "-o", "esp.enable_authentication_check:TRUE"]
    # What is in the inner packets is random: nobody is to make sense of it. It is compared as it is.
    words += [w for p in ("tcp", "udp", "icmp", "icmpv6") for w in ("--disable-protocol", p)]
    words += [w for u in uat for w in ("-o", u)] + ["-T", "fields", "-E", "separator=|", "-E", "occurrence=a"]
    words += [w for f in fields for w in ("-e", f)]
    done = subprocess.run(words, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, timeout=300)
    want(done.returncode == 0, f"tshark: {done.stderr.strip()}")
    return [line.split("|") for line in done.stdout.splitlines()]


def made(name, packets, raw=False, nano=False):
    g.write(name, packets, g.RAW if raw else g.ETHERNET, nano)
    return name


# ---- the claims

def tshark_decrypts_every_packet_and_the_order_is_the_input_s():
    packets = g.generate(SEED, 3000)
    plain = made("in.pcap", packets)
    report, _ = ipsec("encrypt", plain, "out.pcap")
    ip = sum(p.ip for p in packets)
    want(report["packets"]["sealed"] == ip and report["packets"]["passed"] == 3000 - ip, f"counts: {report['packets']}")
    fields = ["frame.time_epoch", "ip.id", "ipv6.flow", "ip.len", "ipv6.plen", "ip.proto", "esp.icv_good", "esp.icv_bad", "esp.sequence", "esp.spi", "data.data"]
    before, after = tshark(plain, *fields), tshark("out.pcap", *fields)
    want(len(before) == len(after) == 3000, f"{len(after)} frames came out of {len(before)}")
    expected = {}
    for n, (old, new) in enumerate(zip(before, after), 1):
        want(old[0] == new[0], f"frame {n}: its time stamp is another packet's")
        if not packets[n - 1].ip:
            want(new[9] == "", f"frame {n}: is no IP, and became ESP")
            continue
        want(new[6] == "1" or new[6] == "True", f"frame {n}: tshark finds the check value wrong: {new}")
        spi = int(new[9], 16)
        expected[spi] = expected.get(spi, 0) + 1
        want(int(new[8]) == expected[spi], f"frame {n}: sequence number {new[8]} where {expected[spi]} was due")
        inner = old[1].split(",")[-1] if old[1] else old[2].split(",")[-1]
        column = 1 if old[1] else 2
        want(new[column].split(",")[-1] == inner, f"frame {n}: inside is {new[column]}, not {inner}")
        length = 3 if old[3] else 4
        want(new[length].split(",")[-1] == old[length].split(",")[-1], f"frame {n}: inside is of another length")
        want(new[10] == old[10], f"frame {n}: inside is other data")
    want(sorted(expected) == [0x1001, 0x2002], f"SPIs {expected}")


def comes_back_byte_for_byte():
    for name, raw, nano, seed in (("a", False, False, 1), ("b", True, False, 2), ("c", False, True, 3), ("d", True, True, 4)):
        plain = made(f"{name}.pcap", g.generate(SEED + seed, 1500, raw), raw, nano)
        ipsec("encrypt", plain, f"{name}.esp")
        ipsec("decrypt", f"{name}.esp", f"{name}.back")
        same(plain, f"{name}.back", "there and back")
        want(content(f"{name}.esp") != content(plain), "nothing was encrypted")


def the_output_is_the_same_whatever_cpus_and_shells():
    plain = made("m.pcap", g.generate(SEED, 1500))
    ipsec("encrypt", plain, "m.0", "--iv-high", "1", "--cpus", "0", "--shells", "1")
    for i, more in enumerate((["--shells", "16"], ["--shells", "1024"], ["--cpus", str(max(os.sched_getaffinity(0)))], ["--serial-cpus", "0"]), 1):
        ipsec("encrypt", plain, f"m.{i}", "--iv-high", "1", *more)
        same("m.0", f"m.{i}", " ".join(more))
    ipsec("encrypt", plain, "m.x")
    want(content("m.x") != content("m.0"), "without --iv-high, IVs of two runs are the same")


def big_packets_and_empty_captures_pass():
    rng = random.Random(SEED)
    f = g.flow(rng, 1)
    plain = made("big.pcap", [g.packet(f.make(rng, i, n)) for i, n in enumerate([65478, 40, 65000, 1500] + [60] * 200 + [65478])], raw=True)
    ipsec("encrypt", plain, "big.esp", sas=sa_file([SAS[0][:4] + ("for=0.0.0.0/0",)], "sa-all"))
    ipsec("decrypt", "big.esp", "big.back", sas="sa-all")
    same(plain, "big.back", "big packets")
    made("none.pcap", [])
    ipsec("encrypt", "none.pcap", "none.esp")
    want(len(content("none.esp")) == 24, "a capture without packets")


def odd_packets_are_refused_by_name_and_the_rest_is_kept():
    for raw in (False, True):
        packets = g.generate(SEED, 1500, raw, odd=True)
        made("odd.pcap", packets, raw)
        good = [p for p in packets if p.good]
        made("good.pcap", good, raw)
        want(len(good) < len(packets), "the generator made no odd packets")
        report, said = ipsec("encrypt", "odd.pcap", "odd.esp", "--say", "1000", status=1)
        counts = report["packets"]
        want(counts["refused"] == counts["cut"] + counts["malformed"] == len(packets) - len(good), f"counts: {counts}")
        want(counts["cut"] and counts["malformed"], f"one kind of odd packet is missing: {counts}")
        for n, p in enumerate(packets, 1):
            want((f": packet {n}: refused: " in said) == (not p.good), f"packet {n}, {'odd' if not p.good else 'good'}: said otherwise")
        ipsec("decrypt", "odd.esp", "odd.back")
        same("good.pcap", "odd.back", "the packets that are whole")
    _, said = ipsec("encrypt", "odd.pcap", "odd.esp", "--say", "2", status=1)
    want(said.count(": refused: ") == 2 and f"{counts['refused'] - 2} refused packets were not named" in said, said)


def a_packet_without_an_sa_is_not_let_out_in_the_clear():
    packets = g.generate(SEED, 300)
    plain = made("p.pcap", packets)
    sa_file(SAS[:1], "sa-4")
    report, said = ipsec("encrypt", plain, "p.esp", sas="sa-4", status=1)
    want(report["packets"]["no_sa"] > 0 and "there is no SA for it" in said, f"{report['packets']}")
    want(report["packets"]["written"] == 300 - report["packets"]["no_sa"], f"{report['packets']}")
    report, said = ipsec("decrypt", plain, "p.back", status=1)
    want(report["packets"]["clear"] == sum(p.ip for p in packets) and "in the clear is not let in" in said, f"{report['packets']}")


def esp_frames(name, count=400, seed=0):
    """An encrypted capture as records, and the clear one."""
    packets = g.generate(SEED + seed, count)
    made(f"{name}.pcap", packets)
    ipsec("encrypt", f"{name}.pcap", f"{name}.esp")
    return packets, g.read(f"{name}.esp")[2]


def a_wrong_key_is_found_for_every_packet():
    packets, _ = esp_frames("key")
    for spoil in (0, 33, 39):  # a bit of the key, one of the salt
        key = list(KEY128)
        key[spoil] = "0" if key[spoil] != "0" else "1"
        sa_file([SAS[0][:3] + ("".join(key), SAS[0][4]), SAS[1]], "sa-wrong")
        report, said = ipsec("decrypt", "key.esp", "key.back", sas="sa-wrong", status=1)
        four = [i for i, p in enumerate(packets) if p.ip and inner_version(p) == 4]
        want(report["packets"]["forged"] == len(four) > 0, f"{report['packets']}")
        want("the check value is wrong" in said and "SPI 0x1001" in said, said)
        made("key.rest", [p for i, p in enumerate(packets) if i not in set(four)])
        same("key.rest", "key.back", "the packets of the other SA")


def inner_version(p):
    at = 12
    while p.data[at:at + 2] in (b"\x81\x00", b"\x88\xa8"):
        at += 4
    return 4 if p.data[at:at + 2] == b"\x08\x00" else 6


def a_flipped_bit_costs_its_packet_alone():
    packets, frames = esp_frames("flip")
    rng = random.Random(SEED)
    n = rng.choice([i for i, p in enumerate(packets) if p.ip])
    data = bytearray(frames[n].data)
    data[75] ^= 1 << rng.randrange(8)  # in the IV or the cipher text, whatever tags and outer header there are
    frames[n].data = bytes(data)
    made("flip.bad", frames)
    report, said = ipsec("decrypt", "flip.bad", "flip.back", status=1)
    want(report["packets"]["forged"] == 1 and f": packet {n + 1}: refused: the check value is wrong" in said, f"packet {n + 1}: {said}")
    made("flip.rest", packets[:n] + packets[n + 1:])
    same("flip.rest", "flip.back", "the other packets")


def replayed_and_late_packets_are_refused_and_reordered_ones_are_not():
    packets, frames = esp_frames("re", 1200)
    four = [i for i, p in enumerate(packets) if p.ip and inner_version(p) == 4]
    again, old, early = four[100], four[0], four[50]
    order = list(range(len(frames)))
    order.insert(order.index(again) + 1, again)          # at once again
    order.insert(order.index(four[63]) + 1, old)         # again, 63 behind: still in the window
    order.insert(order.index(four[80]) + 1, old)         # again, beyond the window
    order.remove(early)
    order.insert(order.index(four[113]) + 1, early)      # 63 late: the oldest that the window holds
    late = four[200]
    order.remove(late)
    order.insert(order.index(four[264]) + 1, late)       # 64 late: too late
    made("re.bad", [frames[i] for i in order])
    report, said = ipsec("decrypt", "re.bad", "re.back", status=1)
    want(report["packets"]["replayed"] == 2 and report["packets"]["late"] == 2, f"{report['packets']}: {said}")
    seen, expected = set(), []
    for i in order:
        if i != late and i not in seen:
            expected.append(packets[i])
        seen.add(i)
    made("re.rest", expected)
    same("re.rest", "re.back", "the packets that came once and in time")


def a_truncated_file_is_worked_on_as_far_as_it_goes():
    packets = g.generate(SEED, 500)
    made("t.pcap", packets)
    whole = content("t.pcap")
    starts = [24]
    for p in packets:
        starts.append(starts[-1] + 16 + len(p.data))
    for n, more in ((499, 16 + 3), (100, 7), (0, 16 + 1)):
        with open("t.cut", "wb") as f:
            f.write(whole[:starts[n] + more])
        report, said = ipsec("encrypt", "t.cut", "t.esp", status=5)
        want(f"t.cut: read packet {n + 1}: EIO: " in said and f"the {n} packets before it are in t.esp" in said, said)
        want(report["packets"]["read"] == n and report["ended_by"], f"{report}")
        ipsec("decrypt", "t.esp", "t.back")
        made("t.begin", packets[:n])
        same("t.begin", "t.back", "what stands before the cut")


def an_sa_that_is_used_up_sends_no_more():
    packets = [p for p in g.generate(SEED, 300) if p.ip and inner_version(p) == 4]
    made("u.pcap", packets)
    sa_file([SAS[0] + ("seq=0xfffffff0",)], "sa-end")
    report, said = ipsec("encrypt", "u.pcap", "u.esp", sas="sa-end", status=1)
    want(report["packets"]["sealed"] == 16 and report["packets"]["used_up"] == len(packets) - 16, f"{report['packets']}")
    want("sequence numbers are used up" in said, said)
    ipsec("decrypt", "u.esp", "u.back", sas="sa-end")
    made("u.begin", packets[:16])
    same("u.begin", "u.back", "the last 16 sequence numbers")


def what_is_wrong_on_the_command_line_is_said():
    made("c.pcap", g.generate(SEED, 10))
    with open("noise", "wb") as f:
        f.write(b"this is no capture, whatever its name says")
    with open("short", "wb") as f:
        f.write(b"\xd4\xc3")
    with open("wifi.pcap", "wb") as f:
        f.write(struct.pack("<IHHiIII", g.MICRO, 2, 4, 0, 0, 65535, 105))
    with open("sa-bad", "w") as f:
        f.write("sa 0x1001 192.0.2.1 192.0.2.2 00112233\n")
    os.makedirs("folder", exist_ok=True)
    cases = [
        (["frob"], 2, '"frob" is neither encrypt nor decrypt'), ([], 2, "encrypt or decrypt?"), (["encrypt", "c.pcap", "o"], 2, "--sa FILE is missing"),
        (["encrypt", "--sa", "sa", "c.pcap"], 2, "IN.pcap and OUT.pcap are wanted"), (["encrypt", "--sa", "sa", "a", "b", "c"], 2, '"c" is one file too many'),
        (["encrypt", "--sa"], 2, "--sa wants a value"), (["encrypt", "--frob", "1", "a", "b"], 2, "--frob: there is no such option"),
        (["encrypt", "--sa", "sa", "--shells", "0", "a", "b"], 2, "--shells 0: a number from 1 to 1024"), (["encrypt", "--sa", "sa", "--cpus", "x", "a", "b"], 2, "--cpus x: "),
        (["encrypt", "--sa", "sa", "--iv-high", "xyz", "a", "b"], 2, "eight hex digits"), (["encrypt", "--sa", "sa", "--say", "-1", "a", "b"], 2, "--say -1: a number"),
        (["encrypt", "--sa", "sa", "--json", "c.pcap", "-"], 2, "exclude each other"),
        (["encrypt", "--sa", "sa-missing", "c.pcap", "o"], 5, "sa-missing: open: ENOENT"), (["encrypt", "--sa", "sa-bad", "c.pcap", "o"], 5, "sa-bad:1: read an SA: EINVAL: key and salt"),
        (["encrypt", "--sa", "sa", "missing", "o"], 5, "missing: open: ENOENT"), (["encrypt", "--sa", "sa", "noise", "o"], 5, "noise: read as a capture: EINVAL: "),
        (["encrypt", "--sa", "sa", "short", "o"], 5, "short: read as a capture: EINVAL: it has fewer than four bytes"),
        (["encrypt", "--sa", "sa", "wifi.pcap", "o"], 5, "its link type is IEEE802_11; EN10MB (Ethernet) and RAW (IP) are read"),
        (["encrypt", "--sa", "sa", "c.pcap", "folder"], 5, "EISDIR"), (["encrypt", "--sa", "sa", "c.pcap", "nowhere/o"], 5, "ENOENT"),
        (["encrypt", "--sa", "sa", "c.pcap", "/dev/full"], 5, "/dev/full: write: ENOSPC"), (["encrypt", "--sa", "sa", "--cpus", "8000", "c.pcap", "o"], 5, "beyond the machine"),
    ]
    for words, status, text in cases:
        done = run(*words)
        want(done.returncode == status and text in done.stderr and done.stderr.startswith("ipsec_esp: "), f"{words}: exit {done.returncode}, said {done.stderr.strip()!r}, wanted {text!r}")
        want(done.stderr.count("\n") == 1, f"{words}: more than one line: {done.stderr}")
        want(not os.path.exists("o"), f"{words}: left an output")
    want(not [n for n in os.listdir(".") if n.startswith("o.")], "a temporary file was left")
    want(run("--help").returncode == 0 and "exit: 0" in run("--help").stdout, "--help")


def await_(fact, text, seconds=20):
    end = time.monotonic() + seconds
    while not fact():
        want(time.monotonic() < end, f"{text}: not within {seconds} s")
        time.sleep(0.005)


def affinity(pid, cpus):
    """taskset -a: every thread."""
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), cpus)


def masks_change_while_it_runs_and_the_output_does_not():
    cpus = sorted(os.sched_getaffinity(0))
    whole = content(made("x.pcap", g.generate(SEED, 6000)))
    for act, source, reference in (("encrypt", "x.pcap", "x.esp"), ("decrypt", "x.esp", "x.pcap")):
        if act == "encrypt":
            ipsec(act, source, reference, "--iv-high", "5")
        data = content(source)
        os.mkfifo(f"{act}.fifo")
        folder = f"{act}.control"
        child = subprocess.Popen([PROGRAM, act, "--sa", "sa", "--iv-high", "5", "--control", folder, f"{act}.fifo", f"{act}.out"], stderr=subprocess.PIPE, text=True)
        try:
            with open(f"{act}.fifo", "wb", buffering=0) as pipe:
                at, part = 0, len(data) // 8

                def feed():
                    nonlocal at
                    pipe.write(data[at:at + part])
                    at += part
                feed()
                await_(lambda: os.path.exists(f"{folder}/parallel_cpumask"), "the control directory")

                def put(name, text):
                    with open(f"{folder}/{name}", "w") as f:
                        f.write(text + "\n")
                read = lambda name: content(f"{folder}/{name}").decode().strip()
                for kind, cpu in (("parallel", cpus[0]), ("serial", cpus[-1]), ("parallel", cpus[-1]), ("serial", cpus[0])):
                    put(f"{kind}_cpulist", str(cpu))
                    await_(lambda: read(f"usable_{kind}_cpulist") == str(cpu), f"{kind} mask {cpu}")
                    feed()
                put("parallel_cpumask", "zz")
                await_(lambda: read("last_error"), "a reason why zz is no mask")
                want(read("usable_parallel_cpulist") == str(cpus[-1]), "a bad mask changed the good one")
                if len(cpus) > 1:  # no usable CPU left: it waits, and goes on when there is one again
                    affinity(child.pid, {cpus[0]})
                    await_(lambda: read("state").startswith("stopped"), "the instance stops without a usable CPU")
                    pipe.write(data[at:at + 4096])  # no more than the pipe holds: nobody reads now
                    at += 4096
                    affinity(child.pid, set(cpus))
                    await_(lambda: read("state") == "running", "the instance starts again")
                pipe.write(data[at:])
            said = child.communicate(timeout=60)[1]
            want(child.returncode == 0, said)
        finally:
            if child.poll() is None:
                child.kill()
                child.wait()
        same(reference, f"{act}.out", "with masks that changed")
        want(not os.path.exists(folder), "the control directory was left")
        want(("pencrypt" if act == "encrypt" else "pdecrypt") in said, said)
    want(content("x.pcap") == whole, "the input changed")


def works_between_pipes():
    plain = made("w.pcap", g.generate(SEED, 700))
    line = f"cat {plain} | {PROGRAM} encrypt --sa sa - - 2>err1 | {PROGRAM} decrypt --sa sa - - 2>err2 | cat >w.back"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", line], stdin=subprocess.DEVNULL, timeout=120)
    want(done.returncode == 0, content("err1").decode() + content("err2").decode())
    same(plain, "w.back", "through pipes")


def main():
    if not os.access(PROGRAM, os.X_OK):
        print(f"FAIL ipsec_esp: there is no {PROGRAM}")
        return 1
    print(f"COHORT_SEED={SEED}")
    bad = False
    with tempfile.TemporaryDirectory(prefix="ipsec_esp.") as folder:
        os.chdir(folder)
        sa_file()
        for claim in CLAIMS:
            name = claim.__name__
            title = name.replace("_", " ").replace("input s", "input's")
            if "tshark" in name and not shutil.which("tshark"):
                print(f"SKIP {title}: tshark is not installed (scripts/packages.txt)")
                continue
            try:
                claim()
                print(f"PASS {title}", flush=True)
            except (failed, subprocess.TimeoutExpired, OSError, ValueError, KeyError) as e:
                bad = True
                print(f"FAIL {title}: {e} (COHORT_SEED={SEED})", flush=True)
        os.chdir("/")
    return 1 if bad else 0


CLAIMS = [tshark_decrypts_every_packet_and_the_order_is_the_input_s, comes_back_byte_for_byte, the_output_is_the_same_whatever_cpus_and_shells,
          big_packets_and_empty_captures_pass, odd_packets_are_refused_by_name_and_the_rest_is_kept, a_packet_without_an_sa_is_not_let_out_in_the_clear,
          a_wrong_key_is_found_for_every_packet, a_flipped_bit_costs_its_packet_alone, replayed_and_late_packets_are_refused_and_reordered_ones_are_not,
          a_truncated_file_is_worked_on_as_far_as_it_goes, an_sa_that_is_used_up_sends_no_more, masks_change_while_it_runs_and_the_output_does_not, what_is_wrong_on_the_command_line_is_said, works_between_pipes]

if __name__ == "__main__":
    sys.exit(main())
