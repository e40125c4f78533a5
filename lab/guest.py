# SPDX-License-Identifier: Apache-2.0
"""A guest: one of the lab's kernels under qemu's software emulation, which runs one static program and ends.

    end = guest.boot("6.12", ["/tests/program", "argument"], files={"/tests/program": "build/program"}, stdout=sys.stdout.buffer, stderr=sys.stderr.buffer)
    end == ("exit", 0)         # or ("signal", 11), ("timeout", 120), ("lost", "why")
"""
import os
import re
import shutil
import subprocess
import tempfile
import threading
import time

import initramfs
import kernel
import program
from debian import unsupported

SMP = "8,sockets=2,cores=2,threads=2"


def sockets_of(smp):
    m = re.search(r"sockets=(\d+)", smp)
    return int(m.group(1)) if m else 1


def processors(smp):
    m = re.match(r"(?:cpus=)?(\d+)", smp)
    return int(m.group(1)) if m else 1


def qemu_command(image, initrd, ports, log, smp, memory, icount, append, vendor):
    """Each socket is a NUMA node. ports: {name: path}."""
    nodes = sockets_of(smp) if processors(smp) % sockets_of(smp) == 0 else 1
    each, share = processors(smp) // nodes, memory // nodes
    numa = [w for n in range(nodes) for w in ("-object", f"memory-backend-ram,id=m{n},size={share}M",
                                              "-numa", f"node,nodeid={n},cpus={n * each}-{n * each + each - 1},memdev=m{n}")]
    accel = ["-accel", "tcg,thread=single", "-icount", "shift=2,sleep=off"] if icount else ["-accel", "tcg,thread=multi"]
    # cx16 off: qemu 7.2 emulates cmpxchg16b so that the flags after it are now and then garbage; a kernel that allocates memory with it dies at boot.
    # no_timer_check: on a busy host the kernel waits for a timer tick that emulation brings too late, and gives up.
    serial = [w for name, path in ports.items() for w in ("-chardev", f"file,id={name},path={path},append=on", "-device", f"virtserialport,chardev={name},name={name}")]
    return ["qemu-system-x86_64", *accel, "-cpu", "max,-cx16" + (f",vendor={vendor}" if vendor else ""), "-m", str(share * nodes), "-smp", smp, *numa, "-kernel", image, "-initrd", initrd,
            "-append", f"console=ttyS0 quiet panic=-1 no_timer_check {append}".strip(), "-display", "none", "-monitor", "none", "-serial", f"file:{log}",
            "-device", "virtio-serial-pci", *serial, "-nic", "none", "-no-reboot"]


def pump(fd, to):
    """Copies until the other end closes."""
    with os.fdopen(fd, "rb", buffering=0) as pipe:
        while block := pipe.read(1 << 16):
            if to is not None:
                to.write(block)
                to.flush()


def boot(version, args, files=None, stdin=b"", stdout=None, stderr=None, environment=None, smp=SMP, memory=1024, icount=False, timeout=600, append="", log=None, vendor=""):
    """Runs args in a guest. stdout, stderr: binary files that take what it prints, as it prints it; None drops it. Raises unsupported."""
    if not shutil.which("qemu-system-x86_64"):
        raise unsupported("no qemu-system-x86_64: scripts/install-packages scripts/packages-lab.txt")
    image = kernel.image(version)
    words = {"PATH": "/bin:/usr/bin", "HOME": "/tmp", **(environment or {})}
    texts = {"/run.args": "".join(a + "\0" for a in args), "/run.env": "".join(f"{k}={v}\0" for k, v in words.items()), "/run.stdin": stdin}
    with tempfile.TemporaryDirectory(prefix="cohort-lab-") as work:
        initrd, console = os.path.join(work, "initrd.gz"), log or os.path.join(work, "console")
        with open(initrd, "wb") as f:
            f.write(initramfs.archive({**(files or {}), "/init": program.run_init()}, texts))
        taken, ports, threads, writers = {"end": []}, {}, [], []

        class keep:
            def write(self, block):
                taken["end"].append(block)

            def flush(self):
                pass

        for name, to in (("out", stdout), ("err", stderr), ("end", keep())):
            r, w = os.pipe()
            writers.append(w)
            ports[name] = f"/dev/fd/{w}"
            threads.append(threading.Thread(target=pump, args=(r, to), daemon=True))
        command = qemu_command(image, initrd, ports, console, smp, memory, icount, append, vendor)
        late = False
        with subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, pass_fds=writers) as qemu:
            for w in writers:
                os.close(w)
            for t in threads:
                t.start()
            try:
                said = qemu.communicate(timeout=timeout)[0]
            except BaseException as e:
                qemu.kill()
                said = qemu.communicate()[0]
                if not isinstance(e, subprocess.TimeoutExpired):
                    raise
                late = True
        for t in threads:
            t.join()
        how = b"".join(taken["end"]).decode().strip()
        m = re.match(r"(exit|signal) (\d+)$", how)
        if m:
            return m.group(1), int(m.group(2))
        if late:
            return "timeout", timeout
        if qemu.returncode != 0:
            return "lost", f"qemu ended with {qemu.returncode}: {said.decode(errors='replace').strip()}"
        with open(console, errors="replace") as f:
            tail = [l for l in f.read().replace("\r", "").splitlines() if l.strip()][-4:]
        return "lost", how or "the guest ended early; its console: " + " / ".join(tail or ["nothing"])
