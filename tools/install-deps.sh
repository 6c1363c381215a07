#!/bin/bash
# Installs the Debian packages that Hob needs and that are missing: install-deps.sh [build|run|test]...
#
# Without a group: all three. Does nothing, quickly, where all are there. Debian 12 ("bookworm"), root.
set -euo pipefail

build=(clang-19 lld-19 libclang-rt-19-dev llvm-19 cmake ninja-build ccache pkg-config python3 python3-botocore
  libboost1.81-dev libssl-dev libnghttp2-dev libsqlite3-dev libarchive-dev libzstd-dev libcurl4-openssl-dev
  libyaml-dev libfmt-dev libgtest-dev liburing-dev libcli11-dev zlib1g-dev libc6-dev)
run=(crun nftables e2fsprogs erofs-utils ca-certificates git mmdebstrap)
test=(awscli python3-boto3 python3-pytest skopeo buildah podman curl openssl nghttp2-client haproxy nginx-light
  python3-autobahn python3-grpcio python3-hypercorn python3-websockets chromium slowhttptest nghttp2-server busybox-static
  e2fsprogs iproute2 procps pebble
  qemu-system-x86 lz4 cpio)

wanted=()
for group in "${@:-all}"; do
  case "$group" in
    build) wanted+=("${build[@]}") ;;
    run) wanted+=("${run[@]}") ;;
    test) wanted+=("${test[@]}") ;;
    all) wanted+=("${build[@]}" "${run[@]}" "${test[@]}") ;;
    *) echo "install-deps.sh: no group '$group'; there are build, run and test" >&2; exit 2 ;;
  esac
done

# One look at dpkg's list for all of them.
installed=$(dpkg-query -W -f='${Package} ${db:Status-Status}\n' "${wanted[@]}" 2>/dev/null |
  awk '$2 == "installed" { print $1 }' || true)
missing=()
for package in "${wanted[@]}"; do
  grep -qx -- "$package" <<<"$installed" || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0

if [ "$(id -u)" -ne 0 ]; then
  echo "These Debian packages are missing; install them as root:" >&2
  echo "  apt-get install --no-install-recommends ${missing[*]}" >&2
  exit 1
fi
echo "Installing ${missing[*]}"
export DEBIAN_FRONTEND=noninteractive
# Daemons that come along (haproxy, nginx) must not start: they are peers in tests, and would take port 80.
policy=/usr/sbin/policy-rc.d
made_policy=no
if [ ! -e "$policy" ]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  made_policy=yes
fi
trap '[ "$made_policy" = yes ] && rm -f "$policy"' EXIT
apt=(apt-get -qq -o Dpkg::Use-Pty=0 -o Acquire::Retries=3)
"${apt[@]}" update
if ! "${apt[@]}" install -y --no-install-recommends "${missing[@]}" >/dev/null; then
  echo "apt-get could not install: ${missing[*]}" >&2
  exit 1
fi
