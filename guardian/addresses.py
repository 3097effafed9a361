"""Addresses between text, integers and the uint64[n, 2] columns of the tables."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from contextlib import suppress

import numpy as np

from guardian.errors import ConfigError
from guardian.tables import U64, Bool

V4_PREFIX = 0xFFFF00000000
"""Low half of ::ffff:0.0.0.0, under which IPv4 addresses live."""
_LOW = (1 << 64) - 1

PRIVATE = (
    "10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "169.254.0.0/16", "100.64.0.0/10",
    "127.0.0.0/8", "fc00::/7", "fe80::/10", "::1/128",
)  # fmt: skip
"""Ranges that are never routed on the Internet: the LAN unless the user says otherwise."""

MULTICAST = ("224.0.0.0/4", "255.255.255.255/32", "ff00::/8")
"""Multicast and limited broadcast."""


def pack(text: str) -> tuple[int, int]:
    """Return (high, low) of an address in text.

    Raises ValueError where the text is no address.
    """
    ip = ipaddress.ip_address(text)
    value = int(ip)
    if ip.version == 4:
        return 0, V4_PREFIX | value
    return value >> 64, value & _LOW


def pack_all(texts: Iterable[str]) -> U64:
    """Return uint64[n, 2] of addresses in text, parsing each distinct text once."""
    seen: dict[str, tuple[int, int]] = {}
    rows = []
    for text in texts:
        pair = seen.get(text)
        if pair is None:
            pair = seen[text] = pack(text)
        rows.append(pair)
    return np.array(rows, dtype=np.uint64).reshape(-1, 2)


def text(high: int, low: int) -> str:
    """Return the usual text of an address."""
    if high == 0 and low >> 32 == 0xFFFF:
        return str(ipaddress.IPv4Address(low & 0xFFFFFFFF))
    return str(ipaddress.IPv6Address(high << 64 | low))


def texts(addresses: U64) -> list[str]:
    """Return the texts of uint64[n, 2], formatting each distinct address once."""
    seen: dict[tuple[int, int], str] = {}
    out = []
    for high, low in addresses.tolist():
        name = seen.get((high, low))
        if name is None:
            name = seen[high, low] = text(high, low)
        out.append(name)
    return out


def mac_text(mac: int) -> str:
    """Return aa:bb:cc:dd:ee:ff of a 48-bit integer."""
    return ":".join(f"{mac >> shift & 0xFF:02x}" for shift in range(40, -8, -8))


def mac_pack(text: str) -> int:
    """Return the 48-bit integer of aa:bb:cc:dd:ee:ff.

    Raises ValueError where the text is no MAC.
    """
    parts = text.replace("-", ":").split(":")
    if len(parts) != 6 or not all(1 <= len(p) <= 2 for p in parts):
        raise ValueError(f"{text!r} is no MAC address")
    return int("".join(p.zfill(2) for p in parts), 16)


def usual(name: str) -> str:
    """Return a MAC or address in its usual form, however it was written; else the name, small."""
    plain = name.strip().lower()
    with suppress(ValueError):
        return text(*pack(plain))
    with suppress(ValueError):
        return mac_text(mac_pack(plain))
    return plain


class Prefixes:
    """A set of networks that answers for whole columns of addresses at once."""

    def __init__(self, cidrs: Sequence[str]) -> None:
        rows = []
        for cidr in cidrs:
            try:
                net = ipaddress.ip_network(cidr, strict=False)
            except ValueError as error:
                raise ConfigError(
                    f"{cidr!r} is no network: write it like 192.168.1.0/24 or fd00::/8"
                ) from error
            bits = net.prefixlen + (96 if net.version == 4 else 0)
            high, low = pack(str(net.network_address))
            mask = ((1 << 128) - 1) ^ ((1 << (128 - bits)) - 1)
            rows.append((high, low, mask >> 64, mask & _LOW))
        self.cidrs = tuple(cidrs)
        self._rows = np.array(rows, dtype=np.uint64).reshape(-1, 4)

    def contains(self, addresses: U64) -> Bool:
        """Return bool[n] for uint64[n, 2]."""
        hit = np.zeros(len(addresses), dtype=np.bool_)
        for high, low, mask_high, mask_low in self._rows:
            hit |= ((addresses[:, 0] & mask_high) == high) & ((addresses[:, 1] & mask_low) == low)
        return hit


class Lan:
    """Which addresses are at home: given prefixes, or the private and link-local ranges."""

    def __init__(self, cidrs: Sequence[str] = ()) -> None:
        self.set_networks(cidrs)
        self._multicast = Prefixes(MULTICAST)

    def set_networks(self, cidrs: Sequence[str]) -> None:
        """Let these networks be at home from now on, for all who ask this object."""
        # A user who names the LAN means it, but loopback and link-local are at home anywhere.
        own = (*cidrs, "127.0.0.0/8", "::1/128", "169.254.0.0/16", "fe80::/10")
        self.prefixes = Prefixes(own if cidrs else PRIVATE)

    def local(self, addresses: U64) -> Bool:
        """Return bool[n]: the address is at home (Zeek's local_orig, local_resp)."""
        return self.prefixes.contains(addresses)

    def multicast(self, addresses: U64) -> Bool:
        """Return bool[n]: multicast or limited broadcast."""
        return self._multicast.contains(addresses)

    def subnet_broadcast(self, addresses: U64) -> Bool:
        """Return bool[n]: a local IPv4 address whose last byte is 255 (a /24's broadcast)."""
        v4 = (addresses[:, 0] == 0) & (addresses[:, 1] >> np.uint64(32) == 0xFFFF)
        last = addresses[:, 1] & np.uint64(0xFF)
        found: Bool = self.local(addresses) & v4 & (last == 0xFF)
        return found

    def unicast(self, addresses: U64) -> Bool:
        """Return bool[n]: neither multicast, broadcast nor unspecified."""
        unspecified = (addresses[:, 0] == 0) & (addresses[:, 1] & np.uint64(0xFFFFFFFF) == 0)
        found: Bool = ~(self.multicast(addresses) | self.subnet_broadcast(addresses) | unspecified)
        return found
