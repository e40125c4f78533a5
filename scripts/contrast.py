# SPDX-License-Identifier: Apache-2.0
"""Two runs of examples/noisy-neighbour.toml side by side: contrast.py FOLDER, with bare.json, kept.json (reports of cohort up) and bare-latency.json, kept-latency.json (of the service)."""
import json
import sys


def read(folder, name):
    with open(f"{folder}/{name}.json", encoding="utf-8") as f:
        return json.load(f)


def pack(report):
    return next(j for j in report["jobs"] if j["name"] == "pack")


def main():
    folder = sys.argv[1]
    reports = [read(folder, "bare"), read(folder, "kept")]
    service = [read(folder, "bare-latency"), read(folder, "kept-latency")]
    rows = [("", "bare", "under cohort", ""),
            ("service's CPUs", *(next(j["cpus"] for j in r["jobs"] if j["name"] == "serve") for r in reports), "")]
    for name, key in (("service, p50", "p50_seconds"), ("service, p99", "p99_seconds"), ("service, longest", "max_seconds")):
        bare, kept = (s[key] * 1e3 for s in service)
        rows.append((name, f"{bare:.2f} ms", f"{kept:.2f} ms", f"{bare / kept:.1f} times shorter" if bare >= kept else f"{kept / bare:.1f} times longer"))
    bare, kept = (s["per_second"] for s in service)
    rows.append(("service, answers", f"{bare:.0f} /s", f"{kept:.0f} /s", ""))
    bare, kept = (pack(r)["bytes_per_second"] / 2**20 for r in reports)
    rows.append(("neighbour", f"{bare:.1f} MiB/s", f"{kept:.1f} MiB/s", "its part of the machine"))
    for row in rows:
        print(f"  {row[0]:<18}{row[1]:>14}{row[2]:>16}  {row[3]}".rstrip())


main()
