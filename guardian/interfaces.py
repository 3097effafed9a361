"""What this machine's own interfaces say: which there are, their networks, LAN side or not."""

from __future__ import annotations

import fcntl
import ipaddress
import socket
import struct
from collections.abc import Iterable
from pathlib import Path

from guardian.addresses import PRIVATE

_SIOCGIFADDR = 0x8915
_SIOCGIFNETMASK = 0x891B
_CARRIER_NAT = ipaddress.ip_network("100.64.0.0/10")


def names() -> list[str]:
    """Return the names of all interfaces, loopback last."""
    found = [name for _, name in socket.if_nameindex()]
    return sorted(found, key=lambda name: (name == "lo", name))


def seen_twice(watched: Iterable[str]) -> list[tuple[str, str]]:
    """Return pairs (interface, other) of which the other sees all that the interface sees.

    A port of a bridge or bond shows what the bridge shows; a VLAN shows what the interface below it
    shows. Where a chain joins two of them (a bridge over a VLAN), neither sees all of the other.
    """
    chosen = list(watched)
    found = []
    for name in chosen:
        path = Path("/sys/class/net") / name
        master = path / "master"
        over = master.resolve().name if master.exists() else ""
        if over in chosen:
            found.append((name, over))
        below = [link.name.removeprefix("lower_") for link in path.glob("lower_*")]
        for one in below:
            port = Path("/sys/class/net") / one / "master"
            if one in chosen and not (port.exists() and port.resolve().name == name):
                found.append((name, one))
    return found


def mac(interface: str) -> str:
    """Return the interface's own MAC, or nothing where it has none."""
    try:
        return Path(f"/sys/class/net/{interface}/address").read_text(encoding="ascii").strip()
    except OSError:
        return ""


def networks(interface: str) -> list[str]:
    """Return the CIDRs of the interface's addresses; empty where it has none."""
    found = []
    address, mask = _ipv4(interface, _SIOCGIFADDR), _ipv4(interface, _SIOCGIFNETMASK)
    if address and mask:
        found.append(str(ipaddress.ip_network(f"{address}/{mask}", strict=False)))
    for ip, bits in _ipv6(interface):
        found.append(str(ipaddress.ip_network(f"{ip}/{bits}", strict=False)))
    return found


def addresses(interface: str) -> list[str]:
    """Return the interface's own addresses."""
    found = [_ipv4(interface, _SIOCGIFADDR), *(ip for ip, _ in _ipv6(interface))]
    return [ip for ip in found if ip]


def lan(interface: str) -> list[str]:
    """Return the networks at home as seen from an interface: private ranges and its own."""
    return [*PRIVATE, *networks(interface)]


def looks_like_wan(interface: str) -> bool:
    """Tell whether an interface faces the Internet: its IPv4 address is public or carrier NAT.

    There NAT has already put the whole home under one address.
    """
    text = _ipv4(interface, _SIOCGIFADDR)
    if not text:
        return False
    ip = ipaddress.IPv4Address(text)
    return ip.is_global or ip in _CARRIER_NAT


def _ipv4(interface: str, request: int) -> str:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        packed = struct.pack("256s", interface.encode()[:15])
        try:
            return socket.inet_ntoa(fcntl.ioctl(sock.fileno(), request, packed)[20:24])
        except OSError:
            return ""


def _ipv6(interface: str) -> list[tuple[str, int]]:
    try:
        lines = Path("/proc/net/if_inet6").read_text(encoding="ascii").splitlines()
    except OSError:
        return []
    rows = [line.split() for line in lines]
    return [
        (str(ipaddress.IPv6Address(bytes.fromhex(row[0]))), int(row[2], 16))
        for row in rows
        if len(row) == 6 and row[5] == interface
    ]
