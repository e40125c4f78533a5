#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Stops a program in gdb and holds what the printers show against what the program itself says. Usage: test.sh PROGRAM C_PROGRAM LIBRARY
here=$(dirname "$(realpath "$0")")
command -v gdb >/dev/null 2>&1 || { echo "SKIP gdb: there is no gdb here"; exit 0; }
gdb -q -batch -ex 'python pass' 2>&1 | grep -q . && { echo "SKIP gdb: this gdb has no Python"; exit 0; }
work=$(mktemp -d) || exit 5
trap 'rm -rf "$work"' EXIT
gdb -q -nx -batch -ex 'set debuginfod enabled off' -ex "source $here/cohort_gdb.py" -ex 'break stop_here' -ex run -ex 'print hits' -ex 'print both' -ex 'print empty' -ex 'print core' \
    -ex 'print everywhere' -ex 'cohort cpus' -ex 'cohort percpu hits.handle_.value_' -ex 'cohort percpu' -ex continue "$1" >"$work/out" 2>&1
if ! grep -q '^copy 0 ' "$work/out"; then
    grep -qE 'ptrace|not permitted' "$work/out" && { echo "SKIP gdb: this process may not be traced"; exit 0; }
fi
status=0
claim() {
    if grep -qE -- "$2" "$work/out"; then
        echo "PASS $1"
    else
        echo "FAIL $1: nothing like \"$2\" in: $(tail -n 15 "$work/out" | tr '\n' '~' | cut -c1-1500)"
        status=1
    fi
}
claim a_per_cpu_number_is_shown_with_its_sum '[=:] per-CPU (std::uint64_t|unsigned long).* sum 42 = \{\[cpu [0-9]+\] = '
claim a_per_cpu_structure_is_shown_for_each_cpu 'per-CPU pair_of_counts .*\[cpu [0-9]+\] = \{packets = 0, bytes = 1500\}'
claim a_static_per_cpu_variable_is_shown 'per-CPU long .* sum 5 = '
claim an_empty_pointer_says_so ': no per-CPU object'
claim a_stream_says_what_is_in_flight 'ordered stream: 3 submitted, 0 delivered, 3 in flight, waits for job 0'
claim the_command_explains_itself 'usage: cohort percpu HANDLE'
# The printers' arithmetic is the library's: where gdb sees a copy, the program does.
seen=0
while read -r _ cpu at _; do
    seen=$((seen + 1))
    grep -qx "copy $cpu $at" "$work/out" || { echo "FAIL copies_are_where_the_program_has_them: gdb sees that of CPU $cpu at $at"; status=1; }
done < <(grep -E '^cpu [0-9]+ 0x' "$work/out")
[ "$seen" -gt 0 ] && echo "PASS copies_are_where_the_program_has_them" || { echo "FAIL copies_are_where_the_program_has_them: none is shown"; status=1; }

# With the shared library gdb finds the printers by itself, and the CPUs in it though it is stripped.
library=$(realpath "$3")
mkdir -p "$work/lib" "$work/auto-load$work/lib"
cp "$library" "$work/lib/libcohort.so.0"
strip "$work/lib/libcohort.so.0"
cp "$here/cohort_gdb.py" "$work/auto-load$work/lib/libcohort.so.0-gdb.py"
gdb -q -nx -batch -iex 'set debuginfod enabled off' -iex "set auto-load safe-path $work" -iex "set auto-load scripts-directory $work/auto-load" -ex "set environment LD_LIBRARY_PATH $work/lib" \
    -ex 'break exit' -ex run -ex 'cohort cpus' -ex kill --args "$2" --gtest_filter='*percpu_objects_are_counted*' >"$work/out" 2>&1
claim gdb_finds_the_printers_with_a_stripped_library '^[0-9]+( [0-9]+)*$'
exit $status
