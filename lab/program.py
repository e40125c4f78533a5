# SPDX-License-Identifier: Apache-2.0
"""The static program that performs cpuset commands in a guest, compiled once into the cache."""
import glob
import os
import shutil
import subprocess

import kernel
from debian import unsupported

HERE = os.path.dirname(os.path.abspath(__file__))


def compiled(name, sources, compiler, flags, libraries=(), static=True):
    """CACHE/name from these files of this folder and elsewhere. Made under another name: a file that is there is whole."""
    paths = [s for pattern in sources for s in sorted(glob.glob(os.path.join(HERE, pattern)))]
    there = os.path.join(kernel.CACHE, name)
    if os.path.exists(there) and os.path.getmtime(there) >= max(os.path.getmtime(s) for s in paths):
        return there
    if not shutil.which(compiler):
        raise unsupported(f"no {compiler} to compile {name} with")
    os.makedirs(kernel.CACHE, exist_ok=True)
    new = f"{there}.new{os.getpid()}"
    done = subprocess.run([compiler, *flags, "-O2", "-Wall", "-Wextra", "-Werror", *(["-static"] if static else []), *(s for s in paths if not s.endswith((".h", ".hpp"))), "-o", new, *libraries],
                          stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise unsupported(f"{name} does not compile: {done.stdout.strip().splitlines()[-1]}")
    os.rename(new, there)
    return there


def cpuset_guest():
    return compiled("cpuset_guest", ["cpuset_guest*"], "g++", ["-std=c++23"])


def of_the_library(name, build, libraries=()):
    """NAME.cpp with the library that is built in `build`."""
    library = os.path.join(build, "libcohort.a")
    if not os.path.exists(library):
        raise unsupported(f"{library} is not there: make builds it")
    return compiled(name, [name + ".cpp", os.path.abspath(library)], "g++", ["-std=gnu++23", "-I" + os.path.dirname(HERE)], libraries)


def cpuset_live_guest(build):
    """The backends, in a program that tries them on the kernel it runs on."""
    return of_the_library("cpuset_live_guest", build)


def coresched_guest(build):
    """prctl(PR_SCHED_CORE) rule by rule, and the control of it."""
    return of_the_library("coresched_guest", build)


def up_guest():
    """Runs `cohort up` and looks at what its jobs find."""
    return compiled("up_guest", ["up_guest*"], "g++", ["-std=c++23"])


def up_cost_guest(build):
    """Times what `cohort up` does. It loads its libraries, as the command does: with_libraries()."""
    rooms = [os.path.abspath(os.path.join(build, f"libcohort{room}.a")) for room in ("_group", "_stream", "_sharepool", "")]
    if not all(os.path.exists(r) for r in rooms):
        raise unsupported(f"the library is not in {build}: make builds it")
    # Archives are named in the order in which they need one another; the patterns' files come sorted, each pattern by itself.
    return compiled("up_cost_guest", ["up_cost_guest.cpp", *rooms], "g++", ["-std=gnu++23", "-I" + os.path.dirname(HERE)],
                    [rooms[2], rooms[3], "-lhwloc", "-lzstd", "-ldeflate", "-llz4", "-lz", "-ltomlplusplus", "-lfmt"], static=False)


def with_libraries(path):
    """A program as it is built, and all that it loads, at their places: {path in the guest: path here}."""
    done = subprocess.run(["ldd", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode != 0:
        raise unsupported(f"{path}: {done.stdout.strip()}")
    libraries = [word for line in done.stdout.splitlines() for word in line.split() if word.startswith("/")]
    return {"/bin/" + os.path.basename(path): path, **{there: there for there in libraries}}


def shares_guest():
    """Hogs with cookies: who ran how long."""
    return compiled("shares_guest", ["shares_guest.cpp"], "g++", ["-std=c++23"])


def padata_hotplug(build):
    return of_the_library("padata_hotplug", build, ["-lhwloc"])


def run_init():
    return compiled("run_init", ["run_init.c", "guest.h"], "gcc", ["-std=gnu11"])
