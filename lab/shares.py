# SPDX-License-Identifier: Apache-2.0
"""Random scenarios of hogs with cookies on one core: as the guest reads them, and as `cohort coresched simulate` does.

    s = shares.scenario(seed=7)         # equal seeds, equal scenarios
    shares.guest_text(s)                # for shares_guest
    shares.toml(s)                      # for the simulator
"""
import random

# name: (qemu's -smp, the simulator's machine, CPUs of the core that is used). SMT2 leaves the first core to whoever measures.
MACHINES = {"smt2": ("4,sockets=1,cores=2,threads=2", "pack:1 core:2 pu:2", [2, 3]), "smt4": ("4,sockets=1,cores=1,threads=4", "pack:1 core:1 pu:4", [0, 1, 2, 3])}
# What the kernel gives a nice value: weights a factor of 1.25 apart, from its table.
WEIGHTS = {-5: 3121, -4: 2501, -3: 1991, -2: 1586, -1: 1277, 0: 1024, 1: 820, 2: 655, 3: 526, 4: 423, 5: 335, 6: 272, 7: 215, 8: 172, 9: 137, 10: 110}
DURATION_MS = 3000


def scenario(seed):
    r = random.Random(seed)
    machine = "smt4" if seed % 3 == 2 else "smt2"
    cpus = MACHINES[machine][2]
    groups = []
    if r.random() < 0.4:
        for i in range(r.randint(1, 3)):
            parent = r.choice([g["name"] for g in groups if "/" not in g["name"]] or [""]) if r.random() < 0.4 else ""
            groups.append({"name": (parent + "/" if parent else "") + f"g{i}", "weight": r.choice([50, 100, 100, 200, 300])})
    parents = {g["name"].rpartition("/")[0] for g in groups}
    places = ["-"] + [g["name"] for g in groups if g["name"] not in parents]
    cookies, nices = r.randint(1, 3), r.random() < 0.6
    tasks = []
    for i in range(r.randint(2, 7)):
        nice = r.choice([0, 0, r.randint(-5, 10)]) if nices else 0
        tasks.append({"name": f"t{i}", "cpu": cpus[i] if i < 2 else r.choice(cpus), "nice": nice, "cookie": r.randint(0, cookies), "group": r.choice(places)})
    tasks[0]["cookie"] = 1
    return {"seed": seed, "machine": machine, "groups": groups, "tasks": tasks}


def guest_text(s, duration_ms=DURATION_MS):
    lines = [f"begin {s['seed']} {duration_ms}"] + [f"group {g['name']} {g['weight']}" for g in s["groups"]]
    lines += [f"task {t['name']} {t['cpu']} {t['nice']} {t['cookie']} {t['group']}" for t in s["tasks"]]
    return "\n".join(lines + ["go", ""])


def klass(nice):
    """"rt50" is a real-time task of that priority."""
    return [f"weight = {WEIGHTS[nice]}"] if isinstance(nice, int) else ['class = "fifo"', f"priority = {nice[2:]}"]


def shares_of(weight):
    """cpu.weight as the weight of a group among tasks: 100 is 1024."""
    return (weight * 1024 + 50) // 100


def toml(s, duration_ms=DURATION_MS, ticks="any", tick_seed=0):
    out = [f'machine = "{MACHINES[s["machine"]][1]}"', f"duration_ms = {duration_ms}", "seed = 0", f'ticks = "{ticks}"', f"tick_seed = {tick_seed}"]
    for g in s["groups"]:
        out += ["[[group]]", f'name = "{g["name"]}"', f"weight = {shares_of(g['weight'])}"]
    for t in s["tasks"]:
        out += ["[[task]]", f'name = "{t["name"]}"', f'cpus = "{t["cpu"]}"', f"cookie = {t['cookie']}", *klass(t["nice"])]
        out += [f'group = "{t["group"]}"'] if t["group"] != "-" else []
    return "\n".join(out) + "\n"


def capacity(s):
    """CPUs that have work: what they ran and were forced to idle adds up to so many times the duration, unless the machine under the guest was busy."""
    return len({t["cpu"] for t in s["tasks"]})


def record(s, answers):
    """What is kept of a kernel's answers, one a run: all that a test needs to repeat it."""
    return {"seed": s["seed"], "machine": MACHINES[s["machine"]][1], "groups": [[g["name"], shares_of(g["weight"])] for g in s["groups"]],
            "tasks": [[t["name"], t["cpu"], WEIGHTS[t["nice"]], t["cookie"], "" if t["group"] == "-" else t["group"]] for t in s["tasks"]],
            "runs": [{"wall_ns": a["wall_ns"], "forced_ns": a["forced_ns"], "ran_ns": [t[0] for t in a["tasks"]]} for a in answers]}


def points(s, answer):
    """A kernel's shares, and the idleness of the CPUs with hogs, each in points of a CPU. Hogs never sleep: what their CPUs did not run, they were forced to idle."""
    shares, cpus = [100 * t[0] / answer["wall_ns"] for t in answer["tasks"]], capacity(s)
    return shares, max(0.0, 100 - sum(shares) / cpus)


def counted(s, answer):
    """The idleness that the kernel's counter tells, likewise. It counts that of all CPUs: more where a kernel thread waits on a CPU without hogs."""
    return 100 * answer["forced_ns"] / answer["wall_ns"] / capacity(s)
