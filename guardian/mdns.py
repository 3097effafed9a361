"""The names that a device announces by mDNS, with the addresses that it gives them."""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass

from guardian.addresses import V4_PREFIX
from guardian.names import safe_name
from guardian.routers import Address

MAX_RECORDS = 40
"""Records read of one message; an announcement has under 20."""

MAX_LABELS = 32
"""Labels of one name, pointers included: a loop of pointers must end."""

_A, _PTR, _AAAA, _SRV = 1, 12, 28, 33
_RANDOM = re.compile(r"[0-9a-fA-F]{8}(-?[0-9a-fA-F]{4}){3}-?[0-9a-fA-F]{12}")
"""A name made up for one network or one day: it names nobody."""


@dataclass(frozen=True)
class Said:
    """What one answer says."""

    hosts: dict[str, list[Address]]
    """Safe host names without `.local`, with the addresses that they have."""
    instances: list[str]
    """Safe names of services, such as `Living Room`."""


def answer(payload: bytes) -> Said | None:
    """Return what an mDNS answer says; None for all else. Nothing here raises on any bytes."""
    if len(payload) < 12 or not payload[2] & 0x80:
        return None
    questions, *counts = struct.unpack_from(">4H", payload, 4)
    at = 12
    for _ in range(min(questions, MAX_RECORDS)):
        at = _skip(payload, at) + 4
    hosts: dict[str, list[Address]] = {}
    instances: list[str] = []
    for _ in range(min(sum(counts), MAX_RECORDS)):
        labels, at = _name(payload, at)
        if at + 10 > len(payload):
            break
        kind, _, _, length = struct.unpack_from(">HHIH", payload, at)
        at += 10
        data = payload[at : at + length]
        if len(data) < length:
            break
        _take(payload, at, kind, labels, data, hosts, instances)
        at += length
    return Said(hosts, instances)


def _take(
    payload: bytes,
    at: int,
    kind: int,
    labels: list[bytes],
    data: bytes,
    hosts: dict[str, list[Address]],
    instances: list[str],
) -> None:
    """Take one record, whose data begins at `at`."""
    if kind == _A and len(data) == 4:
        _host(hosts, labels, (0, V4_PREFIX | int.from_bytes(data, "big")))
    elif kind == _AAAA and len(data) == 16:
        address = int.from_bytes(data[:8], "big"), int.from_bytes(data[8:], "big")
        _host(hosts, labels, address)
    elif kind in {_PTR, _SRV}:
        whole = labels if kind == _SRV else _name(payload, at)[0]
        # `Living Room._airplay._tcp.local`: what a person called the service.
        if len(whole) >= 4 and whole[1][:1] == b"_" and whole[2] in (b"_tcp", b"_udp"):
            name = _named(whole[0])
            if name and name not in instances:
                instances.append(name)


def _host(hosts: dict[str, list[Address]], labels: list[bytes], address: Address) -> None:
    if len(labels) == 2 and labels[1].lower() == b"local" and (name := _named(labels[0])):
        hosts.setdefault(name, []).append(address)


def _named(label: bytes) -> str:
    name = safe_name(label)
    return "" if _RANDOM.fullmatch(name) else name


def _skip(payload: bytes, at: int) -> int:
    return _name(payload, at)[1]


def _name(payload: bytes, at: int) -> tuple[list[bytes], int]:
    """Return the labels of the name at a place, and the place after it."""
    labels: list[bytes] = []
    after = 0
    for _ in range(MAX_LABELS):
        if at >= len(payload):
            break
        length = payload[at]
        if length >= 0xC0:
            after = after or at + 2
            if at + 1 >= len(payload):
                break
            at = (length & 0x3F) << 8 | payload[at + 1]
        elif length:
            labels.append(payload[at + 1 : at + 1 + (length & 0x3F)])
            at += 1 + (length & 0x3F)
        else:
            at += 1
            break
    return labels, after or at
