"""Which interface is the LAN side, and what a person should know of the one they chose.

Everything is read from /sys and /proc; nothing is asked of the network.
"""

from __future__ import annotations

import ipaddress
import re
from contextlib import suppress
from pathlib import Path

from guardian import interfaces

SYS = Path("/sys/class/net")
VLANS = Path("/proc/net/vlan")

CONTAINERS = re.compile(
    r"docker.*|br-[0-9a-f]{12}|veth.*|podman\d*|cni.*|virbr\d.*|vnet\d.*|lxcbr\d.*|lxdbr\d.*|"
    r"flannel.*|cali.*"
)
"""Interfaces of containers and virtual machines: networks inside this machine, no devices of the
home. A bridge that a person named, such as br-lan, is none."""

TUNNELS = re.compile(r"(wg|tun|tap|ppp|tailscale|zt|sit|gre|ip6tnl)[\w.-]*")

ETHERNET = "1"
"""/sys/class/net/NAME/type of what has MAC addresses (ARPHRD_ETHER)."""


def of_containers(name: str) -> bool:
    """Tell whether an interface belongs to Docker or its like."""
    return CONTAINERS.fullmatch(name) is not None


def guess() -> list[str]:
    """Return the interfaces that look like the LAN side, the surest first; empty for none.

    They have a private address and MACs, and are neither of containers nor a tunnel. On a router
    the one with the default route is the Internet side; where there is only that one, this machine
    is a host at home (or behind a mirror port), and it is meant.
    """
    found = [
        name
        for name in interfaces.names()
        if name != "lo"
        and not of_containers(name)
        and not TUNNELS.fullmatch(name)
        and _read(SYS / name / "type") == ETHERNET
        and not interfaces.looks_like_wan(name)
        and any(_private(text) for text in interfaces.addresses(name))
    ]
    outward = default_routes()
    inside = [name for name in found if name not in outward]
    chosen = inside or found
    twice = {name for name, _ in interfaces.seen_twice(chosen)}
    return [name for name in chosen if name not in twice]


def _private(text: str) -> bool:
    ip = ipaddress.ip_address(text)
    return ip.is_private and not ip.is_link_local


def default_routes() -> set[str]:
    """Return the interfaces over which a default route leads."""
    found = set()
    for line in _read(Path("/proc/net/route")).splitlines()[1:]:
        columns = line.split()
        if len(columns) > 7 and columns[1] == "00000000" and columns[7] == "00000000":
            found.add(columns[0])
    for line in _read(Path("/proc/net/ipv6_route")).splitlines():
        columns = line.split()
        if len(columns) > 9 and columns[0] == "0" * 32 and columns[1] == "00":
            found.add(columns[9])
    return found - {"lo"}


def notes(name: str, *, promiscuous: bool) -> list[str]:
    """Return what a person should know of an interface that is watched; no faults."""
    said = []
    path = SYS / name
    if of_containers(name):
        said.append(
            "it belongs to containers or virtual machines, whose traffic stays in this machine: "
            "leave it out, unless you mean them"
        )
    if (path / "bridge").exists():
        ports = sorted(port.name for port in (path / "brif").glob("*"))
        said.append(
            f"a bridge of {', '.join(ports) or 'no port yet'}: what passes between two devices on "
            "one switch behind a port is not seen"
        )
    vlans = _vlans_of(name)
    if vlans:
        said.append(f"it carries the VLANs {', '.join(vlans)}, which are seen with it")
    if _read(VLANS / name):
        said.append("a VLAN: the others of its interface are not seen")
    if promiscuous:
        said.append("frames for others are read, as a mirror port needs")
    elif not interfaces.addresses(name):
        said.append(
            "it has no address: if a mirror port leads here, set [capture] promiscuous = true"
        )
    if _read(path / "operstate") == "down":
        said.append("it is down")
    return said


def _vlans_of(name: str) -> list[str]:
    over = (link.name for link in SYS.glob("*") if (link / f"lower_{name}").exists())
    return sorted(one for one in over if _read(VLANS / one))


def _read(path: Path) -> str:
    with suppress(OSError, UnicodeDecodeError):
        return path.read_text(encoding="ascii").strip()
    return ""
