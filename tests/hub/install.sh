#!/bin/sh
# Sets up a real Home Assistant for `make test-hub`, once, in a folder outside the repository:
# GUARDIAN_HUB_CACHE (default: ~/.cache/guardian-hub), about 1.5 GB, some minutes.
#
# This release of Home Assistant asks for Python 3.13.2 to 3.13.x. Where this machine has none, a
# Debian trixie root is made, which has it (and a compiler, for the few parts without a wheel); that needs root and debootstrap.
set -eu
HASS=2026.2.3
CACHE=${GUARDIAN_HUB_CACHE:-$HOME/.cache/guardian-hub}
DONE=$CACHE/done-$HASS
[ -e "$DONE" ] && exit 0
mkdir -p "$CACHE"
CACHE=$(cd "$CACHE" && pwd)

fits() {
    "$1" -c 'import sys; sys.exit(not (3, 13, 2) <= sys.version_info[:3] < (3, 14))' 2>/dev/null
}

if fits python3.13; then
    ROOT="" RUN=""
    python3.13 -m venv "$CACHE/venv"
    PYTHON=$CACHE/venv/bin/python
else
    ROOT=$CACHE/root
    if [ "$(id -u)" != 0 ]; then
        echo "make test-hub needs Python 3.13.2 or newer, or root to make a Debian root" >&2
        exit 1
    fi
    if [ ! -e "$ROOT/.made" ]; then
        command -v debootstrap >/dev/null || {
            apt-get update -qq >/dev/null && apt-get install -y -qq debootstrap >/dev/null
        }
        rm -rf "$ROOT"
        # Debian's own archive; DEBIAN_MIRROR names another.
        debootstrap --variant=minbase \
            --include=python3,python3-venv,python3-dev,gcc,g++,libc6-dev,ca-certificates \
            trixie "$ROOT" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >"$CACHE/debootstrap.log"
        touch "$ROOT/.made"
    fi
    # The same way to the package index as outside.
    cp /etc/resolv.conf "$ROOT/etc/resolv.conf" 2>/dev/null || true
    cp /etc/ssl/certs/ca-certificates.crt "$ROOT/etc/ssl/certs/ca-certificates.crt"
    [ -e /etc/pip.conf ] && cp /etc/pip.conf "$ROOT/etc/pip.conf"
    RUN="chroot $ROOT"
    $RUN python3 -m venv /venv
    PYTHON=/venv/bin/python
fi

pip() { $RUN "$PYTHON" -m pip --disable-pip-version-check --quiet install "$@"; }
pip "homeassistant==$HASS"
CONSTRAINTS=$($RUN "$PYTHON" -c \
    'import homeassistant, pathlib; print(pathlib.Path(homeassistant.__file__).parent / "package_constraints.txt")')
# What its core parts would install by themselves at their first start.
pip -c "$CONSTRAINTS" paho-mqtt home-assistant-frontend hassil home-assistant-intents hass-nabucasa \
    zlib-ng isal pymicro-vad pyspeex-noise mutagen ha-ffmpeg PyTurboJPEG
touch "$DONE"
