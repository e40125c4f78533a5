#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Sources the completion and asks it. Usage: completion_test.sh COMPLETION COHORT
# Something is up while it asks, so that names can be seen; $COHORT_RUN_DIR is a folder of its own.
completion=$(realpath "$1") cohort=$(realpath "$2") status=0
work=$(mktemp -d) || exit 5
export COHORT_RUN_DIR=$work/run
cd "$work" || exit 5
cleanup() {
    "$cohort" down --all --kill >/dev/null 2>&1
    [ -z "${broker-}" ] || { kill "$broker" && wait "$broker"; } 2>/dev/null
    rm -rf "$work"
}
trap cleanup EXIT
mkdir "$work/run" folder
touch data.tar 'a file.toml'
. "$completion" || { echo "FAIL sourced: the completion cannot be read"; exit 1; }
complete -p cohort cohortd >/dev/null 2>&1 && echo "PASS completion_is_registered_for_both_programs" || { echo "FAIL completion_is_registered_for_both_programs"; status=1; }

# ask WORDS...: what is offered for the last word, one a line, sorted.
ask() {
    COMP_WORDS=("$@") COMP_CWORD=$(($# - 1)) COMPREPLY=()
    _cohort "$1" 2>/dev/null
    printf '%s\n' "${COMPREPLY[@]}" | sort
}
# claim NAME "OFFERED, ONE A LINE" WORDS...
claim() {
    local name=$1 wanted=$2 got
    shift 2
    got=$(ask "$@")
    [ "$got" = "$wanted" ] && echo "PASS $name" || { echo "FAIL $name: [$*] offers [${got//$'\n'/ }], not [${wanted//$'\n'/ }]"; status=1; }
}
# offers NAME WORD WORDS...: WORD is among what is offered.
offers() {
    local name=$1 word=$2
    shift 2
    ask "$@" | grep -qxF -e "$word" && echo "PASS $name" || { echo "FAIL $name: [$*] does not offer \"$word\""; status=1; }
}

claim commands_by_their_beginning $'padata\npercpu\npipe\nplan\npool' cohort p
claim verbs_of_a_noun $'set\nshow\nsimulate\nsnapshot' cohort cpuset s
claim options_of_a_command $'--record-sep\n--records\n--report' cohort pipe --re
claim options_of_a_noun_and_a_verb $'--parallel' cohort padata mask --p
claim choices_of_an_option $'always\nauto' cohort pipe --progress a
claim choices_after_an_equals_sign $'gzip' cohort pipe --codec = g
claim codecs_after_an_option $'gzip\nlz4\nzstd' cohort pipe --codec ''
claim files_as_arguments $'data.tar' cohort pipe d
claim files_with_spaces_stay_one $'a file.toml' cohort up a
claim directories_where_one_is_wanted $'folder' cohort pipe --control f
claim files_after_an_option_with_one $'data.tar' cohort pipe -o d
offers the_dashes_before_a_command -- cohort run ''
offers commands_after_the_dashes tar cohort run -- ta
claim options_are_not_offered_after_the_dashes '' cohort pipe -- grep --rec
claim nothing_for_what_is_no_command '' cohort frobnicate --x
claim options_of_the_daemon $'--metrics\n--metrics-groups' cohortd --met
claim policies_of_a_cookie $'prefer' cohort run --policy p

# Names of what is up, from the program itself.
cat >spec.toml <<'TOML'
[[cohort]]
name = "left"
[[job]]
name = "wait"
cohort = "left"
kind = "exec"
command = "sleep 600"
TOML
if "$cohort" up --detach --name blue spec.toml >up.log 2>&1; then
    claim names_of_what_is_up_and_of_its_cohorts $'blue\nleft' "$cohort" down ''
else
    echo "FAIL names_of_what_is_up: $(tail -n 1 up.log)"
    status=1
fi
# Groups of a broker.
"${cohort}d" --socket "$work/pool.sock" --quiet 2>broker.log &
broker=$!
for ((i = 0; i < 600; i++)); do
    [ -S pool.sock ] && break
    sleep 0.1
done
if "$cohort" pool create --socket "$work/pool.sock" --id 4711 --size 2M >/dev/null 2>create.log; then
    claim groups_of_the_broker 4711 "$cohort" pool drop --socket "$work/pool.sock" --id 4
else
    echo "FAIL groups_of_the_broker: $(tail -n 1 create.log)"
    status=1
fi
exit $status
