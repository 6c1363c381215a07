# In the emulated machine: Hob, from nothing to a service in a microVM that answers, and to nothing again.
run() {
  echo "== hob $*"
  hob "$@" --data /tmp/data
  echo "== $1 ended with $?"
}
mv /bin/mkfs.erofs /bin/put-away
run kernel install --package /tmp/files/linux.deb
run doctor
echo "== refused: $(hob up --detach --isolation microvm --data /tmp/data 2>&1)"
mv /bin/put-away /bin/mkfs.erofs
run doctor
run up --detach
run deploy /tmp/files/hello.oci.tar --name hello --health-path /healthz --sleep-after 5s
echo "== microVMs: $(pgrep -c hob-vmm)"
url=$(hob ps --json --data /tmp/data | sed -n 's/.*"Url": *"\([^"]*\)".*/\1/p')
echo "== $url answers $(curl -sS --max-time 60 -w ' %{http_code}' "$url/healthz")"
curl -sS "$url/wait?ms=30000" >/dev/null &  # so long it does not fall asleep
echo "== exec: $(hob exec hello --data /tmp/data -- /hello --no-such-option 2>&1 </dev/null; echo " $?")"
for _ in $(seq 30); do
  [ "$(hob ps --data /tmp/data | awk '$1 == "hello" { print $4 }')" = 1 ] && break
  sleep 1
done
run ps
echo "== $url answers $(curl -sS --max-time 60 -w ' %{http_code}' "$url/healthz")"
run ps
for log in /tmp/data/log/*.log; do
  echo "== $log"
  grep -v '"level":"debug"' "$log" | tail -n 20
done
run down --purge
echo "== microVMs: $(pgrep -c hob-vmm)"
