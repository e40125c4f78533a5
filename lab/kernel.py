#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Builds the lab's kernels, once each, from Debian's linux-source packages. Prints the path of the bzImage.

Usage: lab/kernel.py [6.12 | 6.1 | 7.x]

Everything is kept in ${XDG_CACHE_HOME:-~/.cache}/cohort/lab: kernel-VERSION/{bzImage,config,release,stamp} and the source package, so that a changed
lab/kernel.config builds anew without the network. About 6 minutes on 2 idle processors and 2 GB of disk while it builds.
"""
import fcntl
import glob
import hashlib
import os
import re
import shutil
import subprocess
import sys
import time

import debian
from debian import run, unsupported

HERE = os.path.dirname(os.path.abspath(__file__))
CACHE = os.path.join(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache"), "cohort", "lab")
# Version: (suites that have it, about how many objects its build compiles; only the progress line uses the number).
KERNELS = {"6.12": (["bookworm-security", "bookworm-backports"], 1450), "6.1": (["bookworm-security", "bookworm"], 1300), "7.x": (["trixie-backports"], 1500)}
TOOLS = ["gcc", "make", "flex", "bison", "bc", "xz", "tar", "perl"]


def number(version):
    return [int(n) if n.isdigit() else 0 for n in version.split(".")]


def wanted(version):
    """The fragment for this version: a line `#ge V OPTION` holds from V on."""
    lines = []
    with open(os.path.join(HERE, "kernel.config")) as f:
        for line in f.read().splitlines():
            m = re.match(r"#ge (\S+) (CONFIG_.*)", line)
            if m and number(version) >= number(m.group(1)):
                lines.append(m.group(2))
            elif line.startswith("CONFIG_"):
                lines.append(line)
    return lines


def source_package(version):
    """The .deb with the source of this version: the one in the cache, else Debian's newest."""
    there = sorted(glob.glob(os.path.join(CACHE, f"linux-source-{version.replace('.x', '.*')}_*.deb")))
    if there:
        return there[-1]
    suites = KERNELS[version][0]
    state = debian.packages(os.path.join(CACHE, "source-" + version), "amd64", suites)
    os.makedirs(state.cache, exist_ok=True)
    print(f"lab: fetching the source of kernel {version} from Debian (150 MB) into {CACHE}", file=sys.stderr, flush=True)
    state.update()
    name = f"linux-source-{version}"
    if version.endswith(".x"):
        names = re.findall(rf"^(linux-source-{version[:-1]}\d+)$", state.apt("apt-cache", "pkgnames", f"linux-source-{version[:-1]}"), re.M)
        if not names:
            raise unsupported(f"kernel {version}: {', '.join(suites)} has no linux-source-{version[:-1]}*")
        name = max(names, key=lambda n: number(n.rsplit("-", 1)[1]))
    state.apt("apt-get", "download", "-q", name)
    new = glob.glob(os.path.join(state.cache, name + "_*.deb"))[0]
    os.rename(new, os.path.join(CACHE, os.path.basename(new)))
    shutil.rmtree(state.cache)
    return os.path.join(CACHE, os.path.basename(new))


def unpack(package, into):
    """The source tree, in `into`."""
    name = "linux-source-" + re.search(r"linux-source-([\d.]+)_", package).group(1)
    steps = f"dpkg-deb --fsys-tarfile '{package}' | tar -xO ./usr/src/{name}.tar.xz | tar -xJ -C '{into}' --strip-components=1"
    run(["bash", "-o", "pipefail", "-c", steps], f"unpacking {package}")


class progress:
    """One line, rewritten on a terminal; elsewhere a line for each quarter."""

    def __init__(self, what, total):
        self.what, self.total, self.done, self.began, self.said = what, total, 0, time.monotonic(), -1

    def step(self):
        self.done += 1
        percent = min(99, 100 * self.done // self.total)
        if sys.stderr.isatty() and percent != self.said:
            self.say(percent, "\r")
        elif percent // 25 > self.said // 25:
            self.say(percent, "\n")

    def say(self, percent, end):
        self.said = percent
        print(f"lab: {self.what}: {percent:3d} %, {time.monotonic() - self.began:.0f} s", end=end, file=sys.stderr, flush=True)


def configure(tree, version):
    options = wanted(version)
    run(["make", "-s", "tinyconfig"], "make tinyconfig", cwd=tree)
    with open(os.path.join(tree, "cohort.config"), "w") as f:
        f.write("\n".join(options) + "\n")
    run(["scripts/kconfig/merge_config.sh", "-m", ".config", "cohort.config"], "merge_config.sh", cwd=tree)
    run(["make", "-s", "olddefconfig"], "make olddefconfig", cwd=tree)
    with open(os.path.join(tree, ".config")) as f:
        got = set(f.read().splitlines())
    lost = [o for o in options if o not in got]
    if lost:
        raise unsupported(f"kernel {version}: its configuration does not take {' '.join(lost)}")


def compile_kernel(tree, version):
    jobs = str(len(os.sched_getaffinity(0)))
    bar = progress(f"building kernel {version}", KERNELS[version][1])
    log = os.path.join(CACHE, f"build-{version}.log")
    environment = dict(os.environ, KBUILD_BUILD_USER="cohort", KBUILD_BUILD_HOST="lab", KBUILD_BUILD_TIMESTAMP="Thu Jan 1 00:00:00 UTC 1970")
    with open(log, "w") as f, subprocess.Popen(["nice", "-n", "19", "make", "-j" + jobs, "bzImage"], cwd=tree, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                               stderr=subprocess.STDOUT, text=True, env=environment) as make:
        for line in make.stdout:
            f.write(line)
            if line.startswith(("  CC  ", "  AS  ")):
                bar.step()
    if make.returncode != 0:
        raise unsupported(f"kernel {version}: its build failed; the log: {log}")
    bar.say(100, "\n")


def stamp(version):
    return hashlib.sha256("\n".join(wanted(version)).encode()).hexdigest()


def image(version):
    """Path of the bzImage; builds it where it is missing or its options have changed. A version with a slash is such a path. Raises unsupported."""
    if "/" in version:
        return version
    there = os.path.join(CACHE, "kernel-" + version)
    os.makedirs(CACHE, exist_ok=True)
    with open(os.path.join(CACHE, f"lock-{version}"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # two runs build it once
        try:
            with open(os.path.join(there, "stamp")) as f:
                if f.read() == stamp(version):
                    return os.path.join(there, "bzImage")
        except FileNotFoundError:
            pass
        missing = [t for t in TOOLS if not shutil.which(t)]
        if missing:
            raise unsupported(f"kernel {version} is not built yet and {', '.join(missing)} to build it is not here: scripts/install-packages scripts/packages-lab.txt")
        build(version, there)
    return os.path.join(there, "bzImage")


def build(version, there):
    package = source_package(version)
    tree, new = os.path.join(CACHE, "tree-" + version), there + ".new"
    for old in (tree, new, there):
        shutil.rmtree(old, ignore_errors=True)
    os.makedirs(tree)
    try:
        print(f"lab: unpacking {os.path.basename(package)}", file=sys.stderr, flush=True)
        unpack(package, tree)
        configure(tree, version)
        compile_kernel(tree, version)
        os.makedirs(new)
        shutil.copy(os.path.join(tree, "arch/x86/boot/bzImage"), new)
        shutil.copy(os.path.join(tree, ".config"), os.path.join(new, "config"))
        shutil.copy(os.path.join(tree, "include/config/kernel.release"), os.path.join(new, "release"))
        with open(os.path.join(new, "stamp"), "w") as f:
            f.write(stamp(version))
        os.rename(new, there)
    finally:
        shutil.rmtree(tree, ignore_errors=True)


if __name__ == "__main__":
    try:
        print(image(sys.argv[1] if len(sys.argv) > 1 else "6.12"))
    except (unsupported, KeyError) as e:
        print(f"lab: {e if isinstance(e, unsupported) else 'no kernel ' + str(e) + '; there are ' + ' '.join(KERNELS)}", file=sys.stderr)
        sys.exit(3 if isinstance(e, unsupported) else 2)
