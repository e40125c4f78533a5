# SPDX-License-Identifier: Apache-2.0
"""Random cpuset command sequences in the grammar of `cohort cpuset simulate`. The same seed gives the same sequences."""
import random

CPUS = 8   # of the lab's machine: two packages (each a node) of two cores of two threads
NODES = 2
V2_FILES = ["cpuset.cpus", "cpuset.cpus.effective", "cpuset.cpus.exclusive", "cpuset.cpus.exclusive.effective", "cpuset.cpus.isolated", "cpuset.cpus.partition",
            "cpuset.mems", "cpuset.mems.effective"]
V1_FLAGS = ["cpuset.cpu_exclusive", "cpuset.mem_exclusive", "cpuset.mem_hardwall", "cpuset.sched_load_balance", "cpuset.memory_migrate", "cpuset.memory_spread_page",
            "cpuset.memory_spread_slab"]
V1_FILES = ["cpuset.cpus", "cpuset.mems", "cpuset.effective_cpus", "cpuset.effective_mems", *V1_FLAGS, "cpuset.sched_relax_domain_level", "cpuset.memory_pressure_enabled"]
MODES = ["default", "preferred", "bind", "interleave", "local", "preferred-many", "weighted-interleave"]


class maker:
    """Keeps a belief of which cgroups and tasks there are, so that most commands hit something; about one in ten does not."""

    def __init__(self, seed, v1=False):
        self.random, self.v1 = random.Random(seed), v1
        self.paths, self.tasks, self.fresh = [], [], 0

    def path(self, root=True):
        r = self.random
        if r.random() < 0.03:
            return "nowhere"
        if not self.paths or (root and r.random() < 0.08):
            return "."
        return r.choice(self.paths)

    def list_of(self, size):
        r = self.random
        x = r.random()
        if x < 0.06:
            return ""
        if x < 0.10:
            return r.choice(["0-", "3-1", "x", "0-1,", "0--2", "99", "1,1,2", "0-2:1/2", "all", f"0-{size - 1}", "-1"])
        if x < 0.55:
            first = r.randrange(size)
            last = min(size - 1, first + r.randrange(4))
            return str(first) if first == last else f"{first}-{last}"
        return ",".join(str(n) for n in sorted(r.sample(range(size), r.randrange(1, min(size, 5) + 1))))

    def make(self):
        r = self.random
        parent = r.choice([".", *[p for p in self.paths if p.count("/") < 3]])
        name = r.choice("abc")
        path = name if parent == "." else f"{parent}/{name}"
        if path not in self.paths:
            self.paths.append(path)
        lines = [f"mkdir {path}"]
        if not self.v1 and r.random() < 0.75:
            lines.append(f"controller {path} +cpuset")
        if self.v1 and r.random() < 0.7:
            lines += [f"write {path} cpuset.cpus {self.list_of(CPUS)}", f"write {path} cpuset.mems {r.choice(['0', '1', '0-1'])}"]
        return lines

    def remove(self):
        path = self.path(root=False)
        if not any(p.startswith(path + "/") for p in self.paths) and path in self.paths and self.random.random() < 0.7:
            self.paths.remove(path)
        return [f"rmdir {path}"]

    def write(self):
        r = self.random
        path, x = self.path(), r.random()
        cpus, nodes = lambda: self.list_of(CPUS), lambda: self.list_of(NODES)

        def one_of(*texts):
            return lambda: r.choice(texts)

        # Up to which x, what file, what text.
        kinds = [
            (0.45, lambda: "cpuset.cpus", cpus),
            (0.6, lambda: "cpuset.mems", nodes),
            (0.66, lambda: "cpuset.sched_relax_domain_level", one_of("-2", "-1", "0", "1", "2", "3", "5", "6", "9", "x")),
            (0.7, one_of("cpuset.effective_cpus", "cpuset.memory_pressure_enabled", "cgroup.clone_children"), one_of("0", "1")),
            (1, one_of(*V1_FLAGS), one_of("0", "1", "1", "2", "x", "-1")),
        ] if self.v1 else [
            (0.35, lambda: "cpuset.cpus", cpus),
            (0.62, lambda: "cpuset.cpus.partition", one_of("root", "root", "isolated", "member", "member", "banana", "")),
            (0.82, lambda: "cpuset.cpus.exclusive", cpus),
            (0.97, lambda: "cpuset.mems", nodes),
            (1, one_of("cpuset.cpus.effective", "cpuset.nothing", "cpuset.cpus.isolated"), lambda: "0"),
        ]
        file, text = next((file, text) for below, file, text in kinds if x < below)
        return [f"write {path} {file()} {text()}"]

    def attach(self):
        if not self.tasks or self.random.random() < 0.35:
            self.fresh += 1
            self.tasks.append(f"t{self.fresh}")
            return [f"attach {self.path()} {self.tasks[-1]}"]
        return [f"attach {self.path()} {self.random.choice(self.tasks)}"]

    def task(self):
        r = self.random
        if not self.tasks:
            return self.attach()
        name, x = r.choice(self.tasks), r.random()
        if x < 0.4:
            cpus = ",".join(str(n) for n in sorted(r.sample(range(CPUS), r.randrange(1, 5))))
            return [f"affinity {name} {cpus}"]
        if x < 0.6 and len(self.tasks) < 8:
            self.fresh += 1
            self.tasks.append(f"t{self.fresh}")
            return [f"fork {name} {self.tasks[-1]}"]
        if x < 0.8:
            mode = r.choice(MODES) + r.choice(["", "", "", "+static", "+relative"])
            return [f"{r.choice(['mempolicy', 'mbind'])} {name} {mode} {r.choice(['', '0', '1', '0-1'])}".rstrip()]
        self.tasks.remove(name)
        return [f"exit {name}"]

    def machine(self):
        return [f"cpu {self.random.randrange(1, CPUS)} {self.random.choice(['offline', 'offline', 'online'])}"]

    def controller(self):
        return [] if self.v1 else [f"controller {self.path()} {self.random.choice(['+cpuset', '+cpuset', '-cpuset'])}"]

    def sequence(self, length):
        """About `length` lines, for a machine as at its start."""
        self.paths, self.tasks, self.fresh = [], [], 0
        steps = [(18, self.make), (4, self.remove), (48, self.write), (9, self.attach), (8, self.task), (9, self.machine), (4, self.controller)]
        lines = [*self.make(), *self.make()]
        while len(lines) < length:
            lines += self.random.choices([s for _, s in steps], [w for w, _ in steps])[0]()
        return lines[:length]
