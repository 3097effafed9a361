#!/bin/sh
# Installs the programs that the tests talk to, where they are missing and it may.
set -eu
missing=""
for pair in mosquitto:mosquitto mosquitto_sub:mosquitto-clients tcpdump:tcpdump ip:iproute2 \
    openssl:openssl strace:strace systemd-analyze:systemd; do
    program=${pair%%:*}
    package=${pair##*:}
    PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null 2>&1 || missing="$missing $package"
done
[ -n "$missing" ] || exit 0
if [ "$(id -u)" = 0 ]; then sudo=""; else sudo="sudo -n"; fi
echo "installing$missing"
if command -v apt-get >/dev/null 2>&1 &&
    $sudo apt-get update -qq >/dev/null &&
    DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq --no-install-recommends $missing >/dev/null; then
    exit 0
fi
echo "make test needs$missing: install them with your system's package manager, then run it again" >&2
exit 1
