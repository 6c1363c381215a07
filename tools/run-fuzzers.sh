#!/bin/bash
# Runs every fuzz target of a build for a while: run-fuzzers.sh BUILD SECONDS-EACH
set -euo pipefail
build=$1
seconds=$2
root=$(cd "$(dirname "$0")/.." && pwd)
mkdir -p "$build/crashes"
failed=0
for target in "$build"/fuzz/*_fuzz; do
  name=$(basename "$target")
  seeds=$(find "$root/src" -type d -path "*/testdata/$name" | head -1)
  mkdir -p "$build/corpus/$name"
  echo "$name, $seconds s"
  if ! "$target" -max_total_time="$seconds" -timeout=10 -rss_limit_mb=2048 -print_final_stats=0 -verbosity=0 \
    -artifact_prefix="$build/crashes/$name-" "$build/corpus/$name" ${seeds:+"$seeds"}; then
    failed=1
  fi
done
[ $failed -eq 0 ] || { echo "crashes are in $build/crashes; add each to the target's testdata with its fix" >&2; exit 1; }
