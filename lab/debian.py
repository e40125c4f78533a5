# SPDX-License-Identifier: Apache-2.0
"""Debian packages in a state of apt's own: this machine's lists, sources and packages stay as they are. COHORT_DEBIAN_MIRROR names another mirror."""
import os
import shutil
import subprocess


class unsupported(Exception):
    """What this needs cannot be had here."""


def run(command, why, **options):
    """The command's output. Raises unsupported with apt's own words, or the last line."""
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **options)
    except FileNotFoundError:
        raise unsupported(f"{why}: no {command[0]} here") from None
    if done.returncode != 0:
        lines = done.stdout.strip().splitlines() or ["no output"]
        raise unsupported(f"{why}: {next((l for l in lines if l.startswith('E: ')), lines[-1])}")
    return done.stdout


class packages:
    """cache: a folder; its apt/ holds the state. A suite that ends in -security comes from the security archive beside the mirror."""

    def __init__(self, cache, architecture, suites):
        self.cache, self.architecture, self.suites = cache, architecture, suites

    def apt(self, *arguments):
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise unsupported("no apt-get or dpkg-deb: the packages come from Debian")
        state = os.path.join(self.cache, "apt")
        os.makedirs(os.path.join(state, "lists", "partial"), exist_ok=True)
        os.makedirs(os.path.join(state, "cache", "archives", "partial"), exist_ok=True)
        open(os.path.join(state, "status"), "a").close()
        mirror = os.environ.get("COHORT_DEBIAN_MIRROR", "http://deb.debian.org/debian")
        with open(os.path.join(state, "sources.list"), "w") as f:
            for suite in self.suites:
                f.write(f"deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] {mirror}{'-security' if suite.endswith('-security') else ''} {suite} main\n")
        options = {"APT::Architecture": self.architecture, "APT::Architectures::": self.architecture, "APT::Sandbox::User": "root",
                   "Acquire::Languages": "none", "APT::Update::Error-Mode": "any",
                   "Dir::State": state, "Dir::State::lists": state + "/lists", "Dir::State::status": state + "/status", "Dir::Cache": state + "/cache",
                   "Dir::Etc::sourcelist": state + "/sources.list", "Dir::Etc::sourceparts": "-", "Dir::Etc::preferencesparts": "-"}
        command = [arguments[0], *(w for k, v in options.items() for w in ("-o", f"{k}={v}")), *arguments[1:]]
        return run(command, f"{' '.join(arguments[:2])} ({self.architecture})", cwd=self.cache)

    def update(self):
        self.apt("apt-get", "update", "-q")
