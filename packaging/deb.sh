#!/bin/sh
# Builds dist/guardian-home_VERSION_ARCH.deb out of dist's wheel and of the locked wheels that it
# needs for each Python in PYTHONS: installing it asks no index. Run by `make deb`; PYTHON has pip.
set -eu
cd "$(dirname "$0")/.."
PYTHON=${PYTHON:-python3}
ARCH=${ARCH:-$(dpkg --print-architecture)}
PYTHONS=${PYTHONS:-"3.11 3.13"} # Debian bookworm's and trixie's
case $ARCH in
amd64) machine=x86_64 ;;
arm64) machine=aarch64 ;;
*) echo "no wheels of LiteRT are made for $ARCH: install from source" >&2 && exit 1 ;;
esac
wheel=$(ls dist/guardian_home-*.whl)
version=$(echo "$wheel" | cut -d- -f2)
out=dist/guardian-home_${version}_$ARCH.deb
root=build/deb-$ARCH
rm -rf "$root"
mkdir -p "$root/DEBIAN" "$root/usr/share/guardian/wheels" "$root/usr/lib/systemd/system" \
    "$root/usr/bin" "$root/usr/share/doc/guardian-home"
cp "$wheel" "$root/usr/share/guardian/wheels/"

# The locked wheels, by their sha256: those lines of the lock that hold for another Python and processor.
locked() {
    "$PYTHON" - "$1" "$machine" requirements/gateway.txt <<'EOF'
import re, sys
from pip._vendor.packaging.requirements import Requirement
python, machine, path = sys.argv[1:]
there = {
    "python_version": python, "python_full_version": python + ".0", "platform_machine": machine,
    "sys_platform": "linux", "platform_system": "Linux", "os_name": "posix", "extra": "",
}
for line in open(path).read().replace("\\\n", " ").splitlines():
    if line and not line.lstrip().startswith("#"):
        what, *hashes = re.split(r"\s+--hash=", line.strip())
        found = Requirement(what)
        if found.marker is None or found.marker.evaluate(there):
            print(f"{found.name}{found.specifier}", *(f"--hash={one}" for one in hashes))
EOF
}
for python in $PYTHONS; do
    echo "fetching the locked wheels of Python $python for $machine"
    locked "$python" >"build/deb-$ARCH.txt"
    "$PYTHON" -m pip --disable-pip-version-check download -qq --no-deps --require-hashes \
        --only-binary=:all: --implementation cp --python-version "$python" \
        --platform "manylinux_2_17_$machine" --platform "manylinux2014_$machine" \
        --platform "manylinux_2_27_$machine" --platform "manylinux_2_28_$machine" \
        -d "$root/usr/share/guardian/wheels" -r "build/deb-$ARCH.txt"
done

first=$(echo "$PYTHONS" | tr ' ' '\n' | sort -V | head -1)
last=$(echo "$PYTHONS" | tr ' ' '\n' | sort -V | tail -1)
cat >"$root/DEBIAN/control" <<EOF
Package: guardian-home
Version: $version
Architecture: $ARCH
Maintainer: Guardian's maintainers <root@localhost>
Installed-Size: $(du -sk "$root/usr" | cut -f1)
Depends: python3 (>= $first), python3 (<< ${last%%.*}.$((${last#*.} + 1))), passwd, systemd
Section: net
Priority: optional
Description: The guardian of a home network
 Watches the packets of a home on its gateway, and tells in a sentence when a device behaves as
 botnets do. Nothing leaves the house.
EOF
# Another Python under the same name: the program is made anew for it.
echo "interest-noawait /usr/bin/python3" >"$root/DEBIAN/triggers"
for name in postinst prerm postrm; do
    install -m 0755 "packaging/$name" "$root/DEBIAN/$name"
done
install -m 0644 systemd/guardian* "$root/usr/lib/systemd/system/"
install -m 0644 LICENSE "$root/usr/share/doc/guardian-home/copyright"
ln -s /opt/guardian/bin/guardian "$root/usr/bin/guardian"
# What is in it is compressed already.
dpkg-deb --root-owner-group -Znone --build "$root" "$out" >/dev/null
rm -rf "$root"
echo "made $out ($(du -m "$out" | cut -f1) MB, Python $PYTHONS)"
