#!/bin/sh
# Where Guardian was tried: `make matrix`, or `sh tests/matrix.sh [python...|bookworm|trixie]`.
# A Python's part runs the quick tests of a gateway on it; with FULL=1 all of `make test`, in a fresh
# clone of what is committed (a quarter of an hour each). A Debian's part makes a fresh root with
# debootstrap, boots it under systemd-nspawn with a LAN of its own and no other network, follows
# docs/first-evening.md to the letter, looks at the daemon under its unit, removes it; then the same
# from the wheel, and the quick tests on that Debian's own Python (PARTS="evening by_wheel" leaves some
# out). Roots are kept in build/matrix and used again.
# Needs root, and: apt-get install debootstrap systemd-container
set -eu
cd "$(dirname "$0")/.."
here=$(pwd)
work=$here/build/matrix
mkdir -p "$work"
needs='numpy click paho-mqtt scapy sqlite-utils ai-edge-litert pytest pytest-timeout hypothesis matplotlib pandas scikit-learn pyyaml'
quick='-q -p no:cacheprovider -m "not slow and not train and not net"'
failed=""

say() { printf '%-19s %-7s %s\n' "$1" "$2" "$3" | tee -a "$work/table.txt"; }

judge() { # NAME WHAT COMMAND...: runs it, tells how it ended; its last words where it failed
    name=$1 what=$2
    shift 2
    if "$@" >"$work/$name.log" 2>&1; then
        say "$name" ok "$what$(grep -oE '[0-9]+ passed[^=]*' "$work/$name.log" | tail -1 | sed 's/^/: /')"
    else
        say "$name" FAILED "$what: $work/$name.log"
        failed="$failed $name"
        tail -5 "$work/$name.log" >&2
    fi
}

all_of() { # VERSION: `make test` of what is committed, in a clone that keeps its environments alone
    [ -d "$work/tree-$1" ] || git clone -q "$here" "$work/tree-$1"
    git -C "$work/tree-$1" fetch -q origin HEAD
    git -C "$work/tree-$1" checkout -qf --detach FETCH_HEAD
    git -C "$work/tree-$1" clean -fdxq -e '.venv*'
    judge "$1" "make test at $(git rev-parse --short HEAD), Python $("$python" -V | cut -d' ' -f2)" \
        env GUARDIAN_DATA="${GUARDIAN_DATA:-$here/../shared/data}" PYTEST_ADDOPTS="--basetemp=$work/pt-$1 -rs" \
        make -C "$work/tree-$1" test PYTHON="$python"
}

a_python() { # VERSION: the tests on this machine's Python of that version
    for python in "$HOME"/.pyenv/versions/"$1".*/bin/python "/usr/bin/python$1" ""; do
        [ ! -x "$python" ] || break
    done
    [ -n "$python" ] || { say "$1" - "no such Python here" && return 0; }
    [ -z "${FULL:-}" ] || { all_of "$1" && return 0; }
    [ -e "$work/py$1/.done" ] || {
        rm -rf "$work/py$1"
        "$python" -m venv "$work/py$1"
        # shellcheck disable=SC2086
        "$work/py$1/bin/python" -m pip --disable-pip-version-check -qq install $needs tomli
        touch "$work/py$1/.done"
    }
    judge "$1" "quick tests on Python $("$work/py$1/bin/python" -V | cut -d' ' -f2)" \
        sh -c "$work/py$1/bin/python -m pytest $quick --basetemp=$work/pt-$1"
}

a_root() { # SUITE: a fresh root with what a gateway has, and Python
    [ -e "$work/$1/.done" ] && return 0
    rm -rf "$work/$1"
    debootstrap --variant=minbase --include=systemd,systemd-sysv,dbus,ca-certificates,iproute2,python3,python3-venv,sudo \
        "$1" "$work/$1" >"$work/$1.log" 2>&1
    touch "$work/$1/.done"
}

within() { nsenter -t "$leader" -a env -i PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LANG=C.UTF-8 "$@"; }

online() { # ROOT: names and authorities as this machine has them, so that pip works in it
    cp /etc/resolv.conf "$1/etc/resolv.conf"
    cp /etc/ssl/certs/ca-certificates.crt "$1/etc/ssl/certs/"
}

boot() { # ROOT: boots it; leader is its first process, lan0 its LAN
    echo "127.0.0.1 localhost $(hostname)" >"$1/etc/hosts"
    SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1 systemd-nspawn -q -D "$1" --register=no --keep-unit \
        --private-network --system-call-filter=bpf --capability=CAP_BPF,CAP_NET_ADMIN -b </dev/null >"$1.boot.log" 2>&1 &
    nspawn=$!
    trap halt EXIT
    for _ in $(seq 120); do
        sleep 0.5
        leader=$(cat "/proc/$nspawn/task/$nspawn/children" 2>/dev/null | cut -d' ' -f1) || true
        [ -n "$leader" ] || continue
        case $(within systemctl is-system-running 2>/dev/null) in running | degraded) break ;; esac
    done
    within systemctl is-system-running >/dev/null || { echo "it does not boot: $1.boot.log" >&2 && return 1; }
    ip link add "gm$$" type veth peer name lan0 netns "$leader"
    ip link set "gm$$" up
    within ip addr add 192.168.77.1/24 dev lan0
    within ip link set lan0 up
    within ip route add default via 192.168.77.2 # so that what would leave is stopped by the unit
}

halt() {
    trap - EXIT
    within journalctl -u guardian -u guardian-handover -n 30 --no-pager || true
    within systemctl poweroff || true
    wait "$nspawn" || true
}

sends() { # ADDRESS: whether a datagram gets out under the unit's own rules for addresses
    within sh -s "$1" <<'EOF'
set -e
cat >/run/probe.py <<EOP
import socket
socket.socket(2, 2).sendto(b"x", ("$1", 9))
EOP
{
    echo '[Service]'
    systemctl cat guardian | grep ^IPAddress
    echo 'Type=oneshot'
    echo 'ExecStart=/usr/bin/python3 /run/probe.py'
} >/run/systemd/system/probe.service
systemctl daemon-reload
systemctl start probe
EOF
}

lay_ready() { # the shipped bundle under another version: as good, and another
    within python3 - <<'EOF'
import json, pathlib, shutil
(source,) = pathlib.Path("/opt/guardian/lib").glob("*/site-packages/guardian/models/default")
target = pathlib.Path("/var/lib/guardian/bundles/ready")
for file in source.iterdir():
    shutil.copyfile(file, target / file.name)
manifest = json.loads((target / "manifest.json").read_text())
(target / "manifest.json").write_text(json.dumps(manifest | {"version": "matrix"}))
EOF
}

lives() { # what must hold of a daemon under its unit
    within systemctl is-active guardian
    within guardian check
    within guardian status
    within sh -c 'grep -q "NoNewPrivs:.1" /proc/$(systemctl show -p MainPID --value guardian)/status'
    [ -z "$(within ss -Hlntu)" ] || { echo "something listens" && return 1; }
    exposure=$(within systemd-analyze security guardian --no-pager | tail -1)
    echo "$exposure" | grep -qE 'guardian.service: [01]\.|guardian.service: 2\.0' || { echo "$exposure" && return 1; }
    sends 192.168.77.2
    if sends 203.0.113.9; then echo "the kernel let it speak to the Internet" && return 1; fi
    within systemctl reset-failed
    lay_ready
    within systemctl start guardian-backup.service guardian-handover.service
    within guardian bundle status
    within guardian bundle status | grep -q '^used *default matrix'
    [ -z "$(within systemctl --failed --no-legend)" ]
    within guardian demo
}

gone() { # after a purge
    within sh -c '! ls -d /opt/guardian /etc/guardian /var/lib/guardian 2>/dev/null'
    within sh -c '! getent passwd guardian && ! systemctl cat guardian 2>/dev/null'
}

evening() { # docs/first-evening.md, to the letter: its blocks of sh, in order
    boot "$1"
    cp "$here"/dist/guardian-home_*_"$(dpkg --print-architecture)".deb "$1/srv/"
    blocks() { awk '/^```sh/ {f = 1; next} /^```/ {f = 0} f' "$here/docs/first-evening.md"; }
    { echo "set -eux; cd /srv"; blocks | sed '/apt-get remove/,$d'; } >"$1/srv/evening.sh"
    within sh /srv/evening.sh
    lives
    within sh -c 'apt-get install -y --reinstall /srv/guardian-home_*.deb'
    lives
    { echo "set -eux"; blocks | sed -n '/apt-get remove/,$p'; } >"$1/srv/off.sh"
    within sh /srv/off.sh
    gone
    halt
}

by_wheel() {
    cp "$here"/dist/guardian_home-*.whl "$1/srv/"
    online "$1"
    chroot "$1" sh -c "python3 -m venv /srv/g && /srv/g/bin/pip -qq install /srv/guardian_home-*.whl"
    boot "$1"
    within /srv/g/bin/guardian install --dry-run
    within /srv/g/bin/guardian install
    within guardian drill --wait # a rehearsal needs connections
    lives
    within /srv/g/bin/guardian install
    lives
    within guardian uninstall
    within test -e /etc/guardian/guardian.toml
    within /srv/g/bin/guardian uninstall --purge
    gone
    halt
}

tests_in() { # ROOT: the quick tests on its Python, as an ordinary user
    rm -rf "$1/srv/main" && mkdir -p "$1/srv/main"
    tar -C "$here" --exclude=./build --exclude=./dist --exclude=./runs --exclude='./.venv*' \
        --exclude=./.git -cf - . | tar -C "$1/srv/main" -xf -
    online "$1"
    chroot "$1" sh -c "python3 -m venv /srv/t && /srv/t/bin/pip -qq install $needs"
    mount --bind /proc "$1/proc"
    # No lscpu there: a library that counts cores would warn.
    chroot "$1" sh -c "cd /srv/main && LOKY_MAX_CPU_COUNT=1 /srv/t/bin/python -m pytest $quick" || status=$?
    umount "$1/proc"
    return "${status:-0}"
}

a_debian() { # SUITE
    a_root "$1"
    for part in ${PARTS:-evening by_wheel tests_in}; do
        rm -rf "$work/$1.now"
        cp -a "$work/$1" "$work/$1.now"
        # In a shell of its own: `set -e` holds within it.
        judge "$1.$part" "$(chroot "$work/$1" python3 -V)" sh tests/matrix.sh --part "$part" "$work/$1.now"
    done
    rm -rf "$work/$1.now"
}

if [ "${1:-}" = --part ]; then
    shift
    "$@"
    exit
fi
echo "$(date +%F), $(git describe --always --dirty), $(uname -m)" | tee "$work/table.txt"
for one in ${*:-3.10 3.11 3.12 3.13 bookworm trixie}; do
    case $one in 3.*) a_python "$one" ;; *) a_debian "$one" ;; esac
done
[ -z "$failed" ] || { echo "failed:$failed" >&2 && exit 1; }
