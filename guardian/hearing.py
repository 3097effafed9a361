"""What devices say of themselves in a batch of packets, by DHCP and by mDNS."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from guardian import dhcp, mdns
from guardian.const import MAX_DHCP_PER_STEP, MAX_MDNS_PER_DEVICE, MAX_MDNS_PER_STEP
from guardian.routers import Address
from guardian.tables import U8, Packets


@dataclass(frozen=True)
class Heard:
    """What one message says of its sender."""

    mac: int
    name: str = ""
    """From DHCP: what the device calls itself."""
    fingerprint: str = ""
    hosts: dict[str, list[Address]] | None = None
    """From mDNS: host names with their addresses. It may speak for another that sleeps."""
    instances: tuple[str, ...] = ()


def listen(p: Packets, data: U8) -> Iterator[Heard]:
    """Yield what the clients of DHCP and the answers of mDNS say, each kind in order."""
    udp = (p.proto == 17) & (p.src_mac != 0)
    for k in np.flatnonzero(udp & (p.sport == 68) & (p.dport == 67))[:MAX_DHCP_PER_STEP].tolist():
        said = dhcp.hello(_payload(p, data, k))
        if said is not None:
            yield Heard(int(p.src_mac[k]), said.name, said.fingerprint)
    heard: dict[int, int] = {}
    for k in np.flatnonzero(udp & (p.sport == 5353))[:MAX_MDNS_PER_STEP].tolist():
        mac = int(p.src_mac[k])
        heard[mac] = heard.get(mac, 0) + 1
        if heard[mac] > MAX_MDNS_PER_DEVICE:
            continue
        found = mdns.answer(_payload(p, data, k))
        if found is not None and (found.hosts or found.instances):
            yield Heard(mac, hosts=found.hosts, instances=tuple(found.instances))


def _payload(p: Packets, data: U8, k: int) -> bytes:
    start = int(p.payload_start[k])
    raw: bytes = data[start : start + int(p.payload_cap[k])].tobytes()
    return raw
