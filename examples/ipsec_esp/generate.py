#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes a capture of made-up packets: several flows, 40 to 1500 bytes, IPv4 and IPv6, VLAN tags, fragments, padded frames, frames that are no IP.

Usage: examples/ipsec_esp/generate.py [--seed N] [--packets N] [--raw] [--nano] [--odd] [--size N] OUT.pcap    (the seed is printed on stderr)

Each packet carries its number: IPv4 in the identification, IPv6 in the flow label (the lower 16 bits), both in the payload.
--odd adds what cannot be encrypted: packets of which the capture has a part, headers that contradict themselves.
"""
import argparse
import random
import struct
import sys

MICRO, NANO = 0xA1B2C3D4, 0xA1B23C4D
ETHERNET, RAW = 1, 101
SNAPSHOT = 262144
TCP, UDP, ICMP, ICMP6, FRAGMENT = 6, 17, 1, 58, 44


class packet:
    """One record: frame bytes as captured, and how long it was on the wire. good: an IP packet that can be encrypted; ip: an IP packet at all."""

    def __init__(self, data, length=None, good=True, ip=True):
        self.data, self.length, self.good, self.ip = data, length or len(data), good, ip


def write(path, packets, link, nano=False, began=1_700_000_000, step=1000):
    with open(path, "wb") as f:
        f.write(struct.pack("<IHHiIII", NANO if nano else MICRO, 2, 4, 0, 0, SNAPSHOT, link))
        for i, p in enumerate(packets):
            stamp = getattr(p, "stamp", None)
            if stamp is None:
                unit = 1_000_000_000 if nano else 1_000_000
                stamp = p.stamp = divmod(began * unit + i * step + (7 if nano else 0), unit)
            f.write(struct.pack("<IIII", stamp[0], stamp[1], len(p.data), p.length) + p.data)


def read(path):
    """All records of a little-endian pcap: (link, nano, packets)."""
    with open(path, "rb") as f:
        data = f.read()
    magic, _, _, _, _, _, link = struct.unpack_from("<IHHiIII", data)
    out, at = [], 24
    while at < len(data):
        seconds, fraction, captured, length = struct.unpack_from("<IIII", data, at)
        p = packet(data[at + 16:at + 16 + captured], length)
        p.stamp = (seconds, fraction)
        out.append(p)
        at += 16 + captured
    return link, magic == NANO, out


def checksum(data):
    if len(data) % 2:
        data += b"\0"
    total = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF


def ip4(rng, number, source, destination, protocol, body, fragment=0, tos=0, options=b""):
    head = struct.pack(">BBHHHBBH4s4s", 0x45 + len(options) // 4, tos, 20 + len(options) + len(body), number & 0xFFFF, fragment, 64, protocol, 0, source, destination) + options
    return head[:10] + struct.pack(">H", checksum(head)) + head[12:] + body


def ip6(rng, number, source, destination, protocol, body, traffic_class=0):
    return struct.pack(">IHBB16s16s", 6 << 28 | traffic_class << 20 | number & 0xFFFF, len(body), protocol, 64, source, destination) + body


def upper(rng, number, protocol, ports, size):
    """A transport header and a payload, `size` bytes in all."""
    mark = struct.pack(">I", number)
    if protocol == UDP:
        body = struct.pack(">HHHH", *ports, size, 0)
    elif protocol == TCP:
        body = struct.pack(">HHIIBBHHH", *ports, number, 0, 0x50, 0x10, 1024, 0, 0)
    else:
        body = struct.pack(">BBHHH", 8 if protocol == ICMP else 128, 0, 0, ports[0], number & 0xFFFF)
    return body + (mark + rng.randbytes(max(size, 24) - len(body)))[:max(size - len(body), 0)]


class flow:
    def __init__(self, rng, i):
        self.version = 4 if i % 3 else 6
        self.protocol = rng.choice([TCP, UDP, UDP, TCP, ICMP if self.version == 4 else ICMP6])
        self.ports = (20000 + i, 30000 + rng.randrange(1000))
        if self.version == 4:
            self.ends = (bytes([10, 1, 0, i + 1]), bytes([10, 2, i % 4, 1 + rng.randrange(200)]))
        else:
            self.ends = (bytes.fromhex("fd01") + bytes(12) + bytes([0, i + 1]), bytes.fromhex("fd02") + bytes(12) + bytes([i % 4, 1 + rng.randrange(200)]))
        self.tos = rng.choice([0, 0, 0xB8, 0x02, 0x01])

    def make(self, rng, number, size):
        if self.version == 4:
            return ip4(rng, number, *self.ends, self.protocol, upper(rng, number, self.protocol, self.ports, max(size - 20, 0)), tos=self.tos)
        return ip6(rng, number, *self.ends, self.protocol, upper(rng, number, self.protocol, self.ports, max(size - 40, 0)), traffic_class=self.tos)


def framed(rng, ip, version, tags=0):
    """An Ethernet frame; short ones are padded to 60 bytes, as they are on the wire."""
    head = bytes.fromhex("020000000002") + bytes.fromhex("020000000001")
    for i in range(tags):
        head += struct.pack(">HH", 0x88A8 if i + 1 < tags else 0x8100, rng.randrange(1, 4095))
    frame = head + struct.pack(">H", 0x0800 if version == 4 else 0x86DD) + ip
    return frame + bytes(max(60 - len(frame), 0))


def fragments(rng, number, f):
    """One packet in two fragments."""
    if f.version == 4:
        return [ip4(rng, number, *f.ends, UDP, rng.randbytes(512), fragment=0x2000), ip4(rng, number, *f.ends, UDP, rng.randbytes(100), fragment=512 // 8)]
    part = lambda more, offset, n: ip6(rng, number, *f.ends, FRAGMENT, struct.pack(">BBHI", UDP, 0, offset | more, number) + rng.randbytes(n))
    return [part(1, 0, 512), part(0, 512, 100)]


def no_ip(rng):
    arp = bytes.fromhex("ffffffffffff020000000001080600010800060400010200000000010a010001") + bytes(6) + bytes([10, 1, 0, 9]) + bytes(18)
    lldp = bytes.fromhex("0180c200000e02000000000188cc") + rng.randbytes(46)
    length_framed = bytes.fromhex("0180c20000000200000000010026424203") + rng.randbytes(43)
    return rng.choice([arp, lldp, length_framed, arp[:14], rng.randbytes(9)])


def odd_ones(rng, f, number, raw):
    whole = f.make(rng, number, 600)
    frame = whole if raw else framed(rng, whole, f.version)
    cut = packet(frame[:96], len(frame), good=False)
    at = 0 if raw else 14
    if f.version == 4:
        wrong = frame[:at] + bytes([0x43]) + frame[at + 1:]                              # a header of 12 bytes
        short = frame[:at + 2] + struct.pack(">H", 12) + frame[at + 4:]                  # shorter than its header
        tiny = frame[:at + 7]
    else:
        wrong = frame[:at] + bytes([0x90]) + frame[at + 1:]                              # version 9
        short = frame[:at + 4] + struct.pack(">HB", 0, 0) + frame[at + 7:]               # a jumbogram
        tiny = frame[:at + 20]
    return [cut, packet(wrong, good=False), packet(short, good=False), packet(tiny, len(frame), good=False)]


def generate(seed, count, raw=False, odd=False, size=None, flows=12):
    rng = random.Random(seed)
    streams = [flow(rng, i) for i in range(flows)]
    out = []
    while len(out) < count:
        number = len(out)
        f = streams[min(int(rng.expovariate(0.35)), flows - 1)]  # some flows are much busier than others
        put = lambda ip, v, tags=0: out.append(packet(ip if raw else framed(rng, ip, v, tags)))
        dice = rng.randrange(100)
        if size:
            put(f.make(rng, number, size), f.version)
        elif dice < 3:
            for ip in fragments(rng, number, f):
                put(ip, f.version)
        elif dice < 6 and not raw:
            out.append(packet(no_ip(rng), ip=False))
        elif dice < 8 and odd:
            out.append(rng.choice(odd_ones(rng, f, number, raw)))
        elif dice < 10 and f.version == 4:
            put(ip4(rng, number, *f.ends, UDP, upper(rng, number, UDP, f.ports, 77), options=bytes([7, 7, 4, 0, 0, 0, 0, 0])), 4)
        else:
            put(f.make(rng, number, rng.choice([40, 41, 42, 43, 64, 576, 1400, 1500, rng.randrange(40, 1501)])), f.version, rng.choice([0, 0, 0, 1, 2]))
    return out[:count]


def main():
    p = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    p.add_argument("--seed", type=int, default=None)
    p.add_argument("--packets", type=int, default=1000)
    p.add_argument("--size", type=int, help="every IP packet has so many bytes (40 and more), and nothing else is written")
    p.add_argument("--raw", action="store_true", help="raw IP in the place of Ethernet")
    p.add_argument("--nano", action="store_true", help="time stamps in nanoseconds")
    p.add_argument("--odd", action="store_true")
    p.add_argument("out")
    a = p.parse_args()
    seed = random.SystemRandom().randrange(1 << 32) if a.seed is None else a.seed
    print(f"generate: seed {seed}", file=sys.stderr)
    write(a.out, generate(seed, a.packets, a.raw, a.odd, a.size), RAW if a.raw else ETHERNET, a.nano)


if __name__ == "__main__":
    main()
