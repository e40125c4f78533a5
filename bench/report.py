#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Turns the lines of cohort_bench and bench/pipe.py into summary.json, plots and a table.

Usage: bench/report.py RAW.jsonl OUT_DIR

summary.json is a list of {name, unit, ours, peer, peer_name, ratio, ...}: medians; ratio > 1 means we are better, whatever the unit. For each bench the
first row is the one against the peer's best variant; the others are shown beside it. summary.md is the same as the table of docs/performance.md.
"""
import json
import os
import statistics
import sys
from html import escape

UNIT_BETTER_HIGH = {"MB/s"}


def best(variants, high):
    pick = max if high else min
    return pick(variants, key=lambda v: statistics.median(v["wall"]))


def side(v, prefix):
    high = v["unit"] in UNIT_BETTER_HIGH
    out = {prefix: round(statistics.median(v["wall"]), 4),
           f"{prefix}_best": round((max if high else min)(v["wall"]), 4),
           f"{prefix}_worst": round((min if high else max)(v["wall"]), 4),
           f"{prefix}_cpu": round(statistics.median(v["cpu"]), 4),
           f"{prefix}_variant": v["variant"]}
    if "output_bytes" in v:
        out[f"{prefix}_output_bytes"] = v["output_bytes"]
    return out


def row(name, ours, peer, peer_name):
    high = ours["unit"] in UNIT_BETTER_HIGH
    a, b = side(ours, "ours"), side(peer, "peer")
    ratio = a["ours"] / b["peer"] if high else b["peer"] / a["ours"]
    out = {"name": name, "unit": ours["unit"], "ours": a["ours"], "peer": b["peer"], "peer_name": peer_name, "ratio": round(ratio, 4)}
    out["min"] = {"ours": a["ours_worst" if high else "ours_best"], "peer": b["peer_worst" if high else "peer_best"]}
    out["best"] = {"ours": a["ours_best"], "peer": b["peer_best"]}
    out["cpu"] = {"unit": ours.get("cpu_unit", ours["unit"]), "ours": a["ours_cpu"], "peer": b["peer_cpu"]}
    out["variants"] = {"ours": a["ours_variant"], "peer": b["peer_variant"]}
    out["rounds"], out["cpus"] = len(ours["wall"]), ours["cpus"]
    if "also" in ours and "also" in peer:
        out["also"] = {"name": ours["also_name"], "ours": round(statistics.median(ours["also"]), 4), "peer": round(statistics.median(peer["also"]), 4)}
    if "output_bytes" in ours:
        out["output_bytes"] = {"ours": ours["output_bytes"], "peer": peer["output_bytes"], "input": ours["units"]}
    return out


def ideal_of(single):
    """What perfect division of the single thread's time among the CPUs would give."""
    n = single["cpus"]
    return {**single, "wall": [w / n for w in single["wall"]], "cpu": single["cpu"], "variant": f"one thread / {n}"}


def rows_of(name, variants):
    ours = best([v for v in variants if v["side"] == "ours"], variants[0]["unit"] in UNIT_BETTER_HIGH)
    high = ours["unit"] in UNIT_BETTER_HIGH
    rows = []
    for kind in ("peer", "shown", "single"):
        for peer_name in dict.fromkeys(v["peer_name"] for v in variants if v["side"] == kind):
            found = best([v for v in variants if v["side"] == kind and v["peer_name"] == peer_name], high)
            if any(r["peer_name"] == peer_name for r in rows):
                peer_name += ", best of all settings"
            rows.append(row(name, ours, found, peer_name))
            if kind == "peer" and name.endswith("/skew"):
                rows[-1]["note"] = "256 tokens"
            if "note" in found:
                rows[-1]["note"] = found["note"]
            if kind == "single" and name.startswith("padata/ordered") and not name.endswith("/empty"):
                rows.append(row(name, ours, ideal_of(found), f"ideal (one thread / {found['cpus']})"))
    return rows


# Colours: ours, the peer, and what is shown beside them.
FILL = {"ours": "#1f6feb", "peer": "#d1862f", "shown": "#9aa4b2", "single": "#c9d1d9"}


def plot(name, variants, path):
    """Horizontal bars: medians; whiskers from the best to the worst round."""
    unit = variants[0]["unit"]
    high = unit in UNIT_BETTER_HIGH
    order = sorted(variants, key=lambda v: statistics.median(v["wall"]), reverse=high)
    left, width, line, top = 270, 460, 24, 62
    limit = max(max(statistics.median(v["wall"]), min(max(v["wall"]), 1.5 * statistics.median(v["wall"]))) for v in order) * 1.02
    height = top + line * len(order) + 34
    x = lambda value: left + width * min(value, limit) / limit
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 110}" height="{height}" font-family="DejaVu Sans, sans-serif" font-size="12">',
           f'<rect width="100%" height="100%" fill="white"/>',
           f'<text x="16" y="26" font-size="16" font-weight="bold">{escape(name)}</text>',
           f'<text x="16" y="46" fill="#555">{escape(unit)}{"" if high else " per unit of work"}, {"more" if high else "less"} is better; '
           f'median of {len(order[0]["wall"])} rounds, line from best to worst; {order[0]["cpus"]} CPUs</text>']
    for i, v in enumerate(order):
        y, m = top + line * i, statistics.median(v["wall"])
        bold = ' font-weight="bold"' if v["side"] == "ours" else ""
        out.append(f'<text x="{left - 8}" y="{y + 15}" text-anchor="end"{bold}>{escape(v["variant"])}</text>')
        out.append(f'<rect x="{left}" y="{y + 3}" width="{max(x(m) - left, 1):.1f}" height="{line - 7}" fill="{FILL[v["side"]]}"/>')
        out.append(f'<line x1="{x(min(v["wall"])):.1f}" x2="{x(max(v["wall"])):.1f}" y1="{y + 11}" y2="{y + 11}" stroke="#222"/>')
        out.append(f'<text x="{max(x(max(v["wall"])), x(m)) + 6:.1f}" y="{y + 15}"{bold}>{m:,.{0 if m >= 100 else 1 if m >= 10 else 2}f}</text>')
    key = left
    for label, s in (("cohort", "ours"), ("peer compared with", "peer"), ("also shown", "shown"), ("one thread", "single")):
        if any(v["side"] == s for v in order):
            out.append(f'<rect x="{key}" y="{height - 24}" width="11" height="11" fill="{FILL[s]}"/><text x="{key + 16}" y="{height - 14}" fill="#555">{label}</text>')
            key += 30 + 7 * len(label)
    out.append("</svg>")
    with open(path, "w") as f:
        f.write("\n".join(out) + "\n")


def markdown(rows):
    out = ["| bench | peer | ours | peer's | unit | ratio | CPU time, ours / peer's | ours, peer's best round |", "|---|---|---:|---:|---|---:|---:|---:|"]
    for r in rows:
        peer = r["peer_name"] + (f" ({r['note']})" if "note" in r else "")
        sizes = r.get("output_bytes")
        size = f", output {100 * sizes['ours'] / sizes['peer']:.1f} % of the peer's" if sizes and sizes["ours"] != sizes["peer"] else ""
        if "also" in r:
            size += f", {r['also']['name']} {r['also']['ours']:.4g} / {r['also']['peer']:.4g}"
        best_of = r["best"]
        out.append(f"| {r['name']} | {peer} | {r['ours']:.4g} | {r['peer']:.4g} | {r['unit']} | **{r['ratio']:.2f}** | "
                   f"{r['cpu']['ours']:.4g} / {r['cpu']['peer']:.4g} {r['cpu']['unit']}{size} | {best_of['ours']:.4g}, {best_of['peer']:.4g} |")
    return "\n".join(out) + "\n"


def main():
    raw, folder = sys.argv[1:3]
    benches = {}
    with open(raw) as f:
        for text in f:
            v = json.loads(text)
            benches.setdefault(v["bench"], []).append(v)
    rows = []
    for name, variants in benches.items():
        rows += rows_of(name, variants)
        plot(name, variants, os.path.join(folder, name.replace("/", "-") + ".svg"))
    with open(os.path.join(folder, "summary.json.part"), "w") as f:
        json.dump(rows, f, indent=1)
        f.write("\n")
    os.replace(os.path.join(folder, "summary.json.part"), os.path.join(folder, "summary.json"))
    with open(os.path.join(folder, "summary.md"), "w") as f:
        f.write(markdown(rows))
    print(f"{'name':28} {'peer':44} {'ours':>9} {'peer':>9} {'unit':5} {'ratio':>6}  CPU ours/peer")
    last = None
    for r in rows:
        if last and r["name"] != last:
            print()
        peer = r["peer_name"] + (f" ({r['note']})" if "note" in r else "")
        sizes = r.get("output_bytes")
        print(f"{r['name'] if r['name'] != last else '':28} {peer:44} {r['ours']:9.2f} {r['peer']:9.2f} {r['unit']:5} {r['ratio']:6.2f}  "
              f"{r['cpu']['ours']:.2f}/{r['cpu']['peer']:.2f} {r['cpu']['unit']}" + (f"; size {sizes['ours']:,}/{sizes['peer']:,}" if sizes else "")
              + (f"; {r['also']['name']} {r['also']['ours']:.4g}/{r['also']['peer']:.4g}" if "also" in r else ""))
        last = r["name"]


if __name__ == "__main__":
    main()
