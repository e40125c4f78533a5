# SPDX-License-Identifier: Apache-2.0
# The report of two-tenants.toml is re-checked from outside; then outputs are spoiled, and each time that is found. Its page is looked at in Chromium, where there is one; then it is spoiled, too.
# Usage: sh report.sh COHORT FOLDER
set -eu
cohort=$1 place=$2
scripts=$(dirname "$0")/../scripts
recheck=$scripts/recheck-report
mkdir -p "$place/run"
export COHORT_WORKDIR="$place" COHORT_RUN_DIR="$place/run" COHORT_INPUT=include/c++
"$cohort" up two-tenants.toml --json --html "$place/page.html" -q | tee "$place/report.json" | "$recheck"

# expect CODE WORDS: what the script answers now.
expect() {
    said=$("$recheck" "$place/report.json" 2>&1) && code=0 || code=$?
    [ "$code" -eq "$1" ] || { echo "exit $code, not $1, of: $2"; echo "$said"; exit 1; }
    case $said in *"$2"*) echo "PASS it says: $2" ;; *) echo "it does not say: $2"; echo "$said"; exit 1 ;; esac
}
# spoil FILE PYTHON: b, the file's bytes, is changed in place.
spoil() {
    cp "$place/$1" "$place/kept"
    python3 -B -c "import sys; b = bytearray(open(sys.argv[1], 'rb').read()); $2; open(sys.argv[1], 'wb').write(b)" "$place/$1"
}
mend() { mv "$place/kept" "$place/$1"; }

spoil in.tar.zst 'b[len(b) // 2] ^= 1'
expect 1 "zstd: its output is not what its input gives"
mend in.tar.zst
spoil in.tar.gz 'b.pop()'
expect 1 "gzip: its outputs have"
mend in.tar.gz
spoil names.txt 'lines = b.splitlines(True); lines[10], lines[11] = lines[11], lines[10]; b = b"".join(lines)'
expect 1 "names: its output is not what its input gives: they part at byte"
mend names.txt
spoil report.json 'b = b.replace(b"\"in_order\": 1", b"\"in_order\": 2")'
expect 1 "blocks in order"
mend report.json
mv "$place/in.tar.gz" "$place/kept"
expect 1 "No such file"
mend in.tar.gz
expect 0 "0 failed"
spoil report.json 'b = b[:100]'
expect 5 "no report of cohort up"
mend report.json
"$recheck" --what >/dev/null 2>&1 && code=0 || code=$?
[ "$code" -eq 2 ] || { echo "exit $code, not 2, of a wrong option"; exit 1; }

said=$("$scripts/check-page" "$place/page.html") && code=0 || code=$?
echo "$said"
[ "$code" -ne 3 ] || exit 0
[ "$code" -eq 0 ] || exit 1
# spoil_page NUMBER PYTHON: a page beside it; s is the page's text.
spoil_page() { python3 -B -c "import sys; s = open(sys.argv[1]).read(); open(sys.argv[2], 'w').write($2)" "$place/page.html" "$place/spoiled$1.html"; }
spoil_page 1 "s.replace('<main>', '<main><img src=\"http://127.0.0.1:9/x.png\">')"
spoil_page 2 "s.replace('</main>', '<script>console.log(\"spoiled\")</script></main>')"
spoil_page 3 "s.replace('<main>', '<main><div style=\"width:500px\">.</div>')"
spoil_page 4 "s.replace('text-anchor=\"end\"', 'text-anchor=\"start\" dx=\"-9999\"')"
spoil_page 5 "s.replace('</svg>', '<rect width=\"0\" height=\"0\"/></svg>')"
spoil_page 6 "s.replace('--soft:#5b6673', '--soft:#c0c0c0')"
spoil_page 7 "s.replace('prefers-color-scheme:dark', 'prefers-color-scheme:light')"
said=$("$scripts/check-page" "$place"/spoiled?.html) && code=0 || code=$?
[ "$code" -eq 1 ] || { echo "exit $code, not 1, of pages that are spoiled"; exit 1; }
number=0
for words in 'loads http' 'console: spoiled' 'wide, the window 390' 'is cut off' 'has no size' 'has a contrast of' 'background is not dark'; do
    number=$((number + 1))
    echo "$said" | grep "^FAIL spoiled$number.html.*$words" >/dev/null || { echo "it is not seen: $words"; echo "$said"; exit 1; }
    echo "PASS it is seen: $words"
done
