#!/bin/sh
# Checks what the machine must be, and installs the Debian packages that are missing. Says nothing when all is there.
# Usage: tools/needs.sh [run|build]   (build: what compiling needs; run: also what drydock needs at run time)
set -eu
case ${1:-run} in
    run) run=yes ;;
    build) run= ;;
    *) echo "usage: tools/needs.sh [run|build]" >&2 && exit 2 ;;
esac

stop() {
    echo "trysail: $*" >&2
    exit 1
}

[ "$(uname -s)" = Linux ] || stop "drydock runs containers, which needs Linux; this is $(uname -s)"
[ "$(uname -m)" = x86_64 ] || stop "the pinned Envoy is built for x86_64; this is $(uname -m)"
command -v cargo >/dev/null || stop "cargo not found: install Rust 1.95 or newer (https://rustup.rs)"

# command:package pairs; a command that exists is not installed again.
need="cc:build-essential make:make python3:python3 pip3:python3-pip"
[ -z "$run" ] || need="$need runc:runc ip:iproute2 nft:nftables iptables:iptables busybox:busybox-static curl:curl"

missing=
for pair in $need; do
    command -v "${pair%%:*}" >/dev/null || [ -x "/usr/sbin/${pair%%:*}" ] || missing="$missing ${pair#*:}"
done
[ -e /etc/ssl/certs/ca-certificates.crt ] || missing="$missing ca-certificates"
[ -n "$missing$run" ] || exit 0

if [ "$(id -u)" = 0 ]; then
    sudo=
elif command -v sudo >/dev/null && sudo -n true 2>/dev/null; then
    sudo="sudo -n"
else
    stop "root, or sudo without a password, is needed to install packages and to run containers"
fi
[ -n "$missing" ] || exit 0

command -v apt-get >/dev/null || stop "please install:$missing (there is no apt-get here to do it)"
echo "==> installing:$missing"
export DEBIAN_FRONTEND=noninteractive
# shellcheck disable=SC2086  # $sudo and $missing are lists of words
$sudo apt-get update -qq && $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null
