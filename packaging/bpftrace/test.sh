#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Holds the scripts against the probes of a program and of the library: names, numbers of arguments, and what bpftrace itself says. Usage: test.sh COHORT LIBRARY
here=$(dirname "$(realpath "$0")") status=0
probes() { readelf -n "$1" 2>/dev/null | awk '/Provider: cohort$/ {ours = 1} ours && /Name:/ {name = $2} ours && /Arguments:/ {print name, NF - 1; ours = 0}' | sort -u; }
known=$(probes "$1")
[ -n "$known" ] || { echo "SKIP bpftrace: built without <sys/sdt.h>, there are no probes"; exit 0; }
say() { [ -z "$2" ] && echo "PASS $1" || { echo "FAIL $1: $2"; status=1; }; }
wrong=
for script in "$here"/*.bt; do
    while IFS= read -r line; do
        name=$(sed -E 's/^usdt:[^:]*:cohort:([a-z_]+).*/\1/' <<<"$line")
        have=$(awk -v n="$name" '$1 == n {print $2}' <<<"$known" | sort -n | head -n 1)
        most=$(grep -oE 'arg[0-9]' <<<"$line" | sort | tail -n 1)
        [ -n "$have" ] || { wrong+="$(basename "$script"): there is no probe $name; "; continue; }
        [ -z "$most" ] || [ "${most#arg}" -lt "$have" ] || wrong+="$(basename "$script"): $name has $have arguments, not $most; "
    done < <(grep -E '^usdt:' "$script")
done
say scripts_name_probes_and_arguments_that_are_there "$wrong"
say the_shared_library_has_the_same_probes "$(diff <(awk '{print $1}' <<<"$known" | sort -u) <(probes "$2" | awk '{print $1}' | sort -u) | tr '\n' ' ')"
if command -v bpftrace >/dev/null 2>&1 && [ "$(id -u)" -eq 0 ]; then
    work=$(mktemp -d) || exit 5
    trap 'rm -rf "$work"' EXIT
    for script in "$here"/*.bt; do
        sed "s,/usr/bin/cohort,$(realpath "$1")," "$script" >"$work/s.bt"
        timeout 120 bpftrace -d "$work/s.bt" >"$work/out" 2>&1 && said= || said=$(grep -v '^$' "$work/out" | tail -n 5 | tr '\n' ' ')
        say "bpftrace_understands_$(basename "$script" .bt)" "$said"
    done
else
    echo "SKIP bpftrace_understands_the_scripts: bpftrace is not installed, or this is not root"
fi
exit $status
