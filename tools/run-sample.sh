#!/bin/bash
# make run: starts Hob, deploys images/hello through its public API and shows its URL answering.
#
#   run-sample.sh BUILD [hob up's options...]
set -euo pipefail
build=$1
shift
hob=$build/bin/hob

"$hob" up --detach "$@"
data=()
for ((i = 1; i <= $#; i++)); do
  [ "${!i}" = --data ] && { j=$((i + 1)); data=(--data "${!j}"); }
done
echo
"$hob" deploy "${data[@]}" --name hello --port 8080 --health-path /healthz "$build/images/hello.oci.tar"
url=$("$hob" ps "${data[@]}" --json | /usr/bin/python3 -c '
import json, sys
print(next(s["Url"] for s in json.load(sys.stdin)["Services"] if s["Name"] == "hello"))')
echo
# A browser and curl resolve *.localhost to loopback by themselves.
title=$(curl -sS --max-time 10 "$url" | grep -o '<title>[^<]*' | cut -c8-)
echo "$url answers: $title"
echo "next: $hob ps ${data[*]}, $hob logs -f hello ${data[*]}; stop with: $hob down ${data[*]}"
