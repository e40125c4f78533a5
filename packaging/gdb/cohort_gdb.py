# SPDX-License-Identifier: Apache-2.0
"""What gdb shows of Cohort: per-CPU objects with the copy of each CPU, ordered streams with their jobs in flight, groups of the share pool.

gdb loads it by itself with libcohort.so.0. With the static library: (gdb) source /usr/share/cohort/gdb/cohort_gdb.py

    (gdb) print hits                       a percpu::ptr, handle or variable:   per CPU = {[cpu 0] = 12, [cpu 3] = 30}
    (gdb) print *core                      padata::detail::shell_core: 100 submitted, 40 delivered, 60 in flight (a library built with -g)
    (gdb) print group                      a sharepool::group:                  64 MiB at 0x550000000000
    (gdb) cohort percpu hits.handle_.value_ unsigned long      any handle, also of the C interface, as copies of a type
    (gdb) cohort cpus                      the CPUs on which the process has used per-CPU memory
"""
import re

import gdb

# The arithmetic of cohort/percpu/detail/layout.hpp; packaging/gdb/test.sh holds it against the library's own.
UNIT, MAX_CPUS = 256 << 10, 8192
FLAT_BIT, COLOURED_AT, UNITS_AT = 512 << 10, 256 << 10, 1 << 20


def stride():
    arch = gdb.selected_inferior().architecture().name()
    return UNIT + ((64 << 10) if "aarch64" in arch else (4 << 10))


def copy_address(handle, cpu):
    """Where a CPU's copy of an object lies."""
    flat = bool(handle & FLAT_BIT)
    offset = UNITS_AT - (FLAT_BIT if flat else COLOURED_AT) + cpu * stride() + (0 if flat else cpu % 21 * 192)
    return handle + offset


def present(by=0):
    """The CPUs (by 1: the concurrency ids) that have a copy, in ascending order."""
    symbol = "cohort::percpu::detail::present"
    try:
        start = int(gdb.parse_and_eval(f"(unsigned long)&'{symbol}'"))
    except gdb.error:
        return []
    # struct arrivals: count, number[MAX_CPUS], offset[2][MAX_CPUS], mask[MAX_CPUS / 64]
    start += by * (4 + MAX_CPUS * 2 + MAX_CPUS * 8 + MAX_CPUS // 8 + 4)
    memory = gdb.selected_inferior()
    count = int.from_bytes(memory.read_memory(start, 4).tobytes(), "little")
    numbers = memory.read_memory(start + 4, 2 * count).tobytes()
    return sorted(int.from_bytes(numbers[i:i + 2], "little") for i in range(0, len(numbers), 2))


def copies(handle, kind, by=0):
    for cpu in present(by):
        yield cpu, gdb.Value(copy_address(handle, cpu)).cast(kind.pointer()).dereference()


def handle_type(t):
    """percpu::handle<T, ...> that t is, or has as its base."""
    t = t.strip_typedefs()
    if re.match(r"cohort::percpu::handle<", t.name or ""):
        return t
    for field in t.fields():
        if field.is_base_class and (found := handle_type(field.type)):
            return found
    return None


class Handle:
    """percpu::handle, ptr and variable."""

    def __init__(self, value):
        self.value = value["handle_"] if any(f.name == "handle_" for f in value.type.strip_typedefs().fields()) else value
        kind = handle_type(self.value.type)
        self.handle = int(self.value.cast(kind)["value_"])
        self.kind = kind.template_argument(0)
        self.by = int(kind.template_argument(1))

    def to_string(self):
        if not self.handle:
            return "no per-CPU object"
        what = f"per-CPU {self.kind} {self.handle:#x}"
        if self.kind.strip_typedefs().code in (gdb.TYPE_CODE_INT, gdb.TYPE_CODE_FLT):
            what += f", sum {sum(v for _, v in copies(self.handle, self.kind, self.by))}"
        return what

    def children(self):
        word = "cid" if self.by else "cpu"
        for cpu, value in copies(self.handle, self.kind, self.by) if self.handle else ():
            yield f"[{word} {cpu}]", value


def atomic(value):
    """The number in a std::atomic of libstdc++."""
    return int(value["_M_i"])


class Shell:
    """padata's detail::shell_core: what is in flight."""

    def __init__(self, value):
        ring = value["ring_"]
        self.tail, self.head, self.claim = (atomic(ring[n]) for n in ("tail_", "head_", "claim_"))
        self.window = int(ring["mask_"]) + 1

    def to_string(self):
        flight = self.tail - self.head
        waits = f", waits for job {self.head}" if flight else ""
        return f"ordered stream: {self.tail} submitted, {self.head} delivered, {flight} in flight{waits}, window {self.window}"


class Group:
    """sharepool::group."""

    def __init__(self, value):
        self.value = value

    def to_string(self):
        if int(self.value["data_"]) < 0:
            return "no group"
        v = {n: int(self.value[n + "_"]) for n in ("data", "metadata", "base", "bytes")}
        return f"pool of {v['bytes'] >> 20} MiB at {v['base']:#x} (descriptors {v['data']}, {v['metadata']})"


def lookup(value):
    name = value.type.strip_typedefs().unqualified().name or ""
    if re.match(r"cohort::percpu::(handle|ptr|variable)<.*>$", name):
        return Handle(value)
    if name == "cohort::padata::detail::shell_core":
        return Shell(value)
    if name == "cohort::sharepool::group":
        return Group(value)
    return None


class Cohort(gdb.Command):
    """Commands about Cohort."""

    def __init__(self):
        super().__init__("cohort", gdb.COMMAND_DATA, prefix=True)


class PerCpu(gdb.Command):
    """cohort percpu HANDLE [TYPE]: the copies of a per-CPU object. HANDLE: an expression, a cohort_percpu_t or what value() gives; TYPE: unsigned long."""

    def __init__(self):
        super().__init__("cohort percpu", gdb.COMMAND_DATA, gdb.COMPLETE_EXPRESSION)

    def invoke(self, text, _):
        arguments = gdb.string_to_argv(text)
        if not arguments:
            raise gdb.GdbError("usage: cohort percpu HANDLE [TYPE]")
        handle = int(gdb.parse_and_eval(arguments[0]))
        name = " ".join(arguments[1:]) or "unsigned long"
        for cpu, value in copies(handle, gdb.parse_and_eval(f"({name} *)0").type.target()):
            print(f"cpu {cpu} {copy_address(handle, cpu):#x} {value}")


class Cpus(gdb.Command):
    """cohort cpus: the CPUs on which the process has used per-CPU memory."""

    def __init__(self):
        super().__init__("cohort cpus", gdb.COMMAND_DATA)

    def invoke(self, *_):
        print(" ".join(map(str, present())) or "none")


if lookup not in gdb.pretty_printers:
    gdb.pretty_printers.append(lookup)
    Cohort(), PerCpu(), Cpus()
