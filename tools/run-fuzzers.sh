#!/bin/bash
# Runs every fuzz target of a build for a while, one on each core, and says of each how many inputs it ran and how many
# edges of the code they reached: run-fuzzers.sh BUILD SECONDS-EACH
#
# What a target says is in BUILD/crashes/TARGET.log, an input that crashes it beside that; then the status is not 0.
set -euo pipefail
export build=$1
export seconds=$2
root=$(cd "$(dirname "$0")/.." && pwd)
export root

run() {
  local name log seeds status=0
  name=$(basename "$1")
  log=$build/crashes/$name.log
  seeds=$(find "$root/src" -type d -path "*/testdata/$name" | head -1)
  mkdir -p "$build/corpus/$name"
  "$1" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -artifact_prefix="$build/crashes/$name-" \
    "$build/corpus/$name" ${seeds:+"$seeds"} >"$log" 2>&1 || status=$?
  # Edges grow from what the seeds reach; where they do not, the target does not reach what it is for.
  awk -v name="$name" '
    function edges(   i) { for (i = 1; i < NF; ++i) if ($i == "cov:") return $(i + 1) }
    $2 == "INITED" { before = edges() }
    $2 == "DONE" { after = edges() }
    $1 == "Done" { printf "%s: %d runs in %d s, %d edges at first, %d at last\n", name, $2, $5, before, after }' "$log"
  [ $status -eq 0 ] || { tail -n 60 "$log"; echo "FAILED $name"; return 1; }
}
export -f run

mkdir -p "$build/crashes"
# xargs fails if one of them does.
printf '%s\0' "$build"/fuzz/*_fuzz | xargs -0 -n 1 -P "$(nproc)" bash -c 'run "$1"' run ||
  { echo "crashes are in $build/crashes; add each to the target's testdata with its fix" >&2; exit 1; }
