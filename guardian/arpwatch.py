"""What ARP gives away: a sweep of the home's addresses, and a machine that takes another's.

ARP makes no connection, so no model sees it. Two plain rules, both per machine (MAC):

* a sweep: SWEEP_ASKS questions within SWEEP_S for addresses that no device of the home has, about
  SWEEP_ADDRESSES different ones at least. Some voice assistants ask for every address of a home
  once a day, which stays below;
* a taken address: an address is claimed by two machines in turn. The one that had it first and
  still speaks keeps it; the other one took it. A lease that moves is claimed by the new machine
  alone, a standby router keeps its MAC.

Moments are those of the packets, so how the input was cut changes nothing.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

import numpy as np

from guardian import addresses
from guardian.const import MAX_ARP_CLAIMS, MAX_ARP_MACHINES, MAX_ARPS_PER_STEP, NS
from guardian.evidence import LIMIT, Ruler
from guardian.facts import ARP, Row
from guardian.routers import Address
from guardian.tables import Arps

ASKS = 1
"""ARP's operation of a question."""

SWEEP_ASKS, SWEEP_ADDRESSES, SWEEP_S = 300, 100, 3_600
CLAIMS = 4
"""Claims of the second machine, each after the first one spoke for the address again."""
CLAIM_S = 1_800
"""Within so many seconds; an owner silent for longer has given its address up."""
AGAIN_S = 60
"""What goes on is told so often."""

_MOST_ADDRESSES = 1_024
MOST_ROWS = 64
"""Addresses of a finding that an incident names."""


@dataclass(frozen=True)
class Finding:
    """What ARP gave away."""

    told: int
    """Moment, ns."""
    mac: int
    cause: str
    sentence: str
    """What it did, to stand behind the device's name."""
    targets: tuple[Address, ...]
    """Addresses asked for in vain, or the one that was taken."""


@dataclass
class _Asker:
    begun: int
    asks: int = 0
    asked: set[Address] = field(default_factory=set)
    spoken: int = 0


@dataclass
class _Owner:
    mac: int
    seen: int
    rival: int = 0
    turns: int = 0
    """How often the rival claimed it after the owner had spoken."""
    owner_spoke: bool = False
    first: int = 0
    spoken: int = 0


class ArpWatch:
    """The ARP of the home; bounded in machines and addresses."""

    def __init__(self) -> None:
        self._askers: OrderedDict[int, _Asker] = OrderedDict()
        self._owners: OrderedDict[Address, _Owner] = OrderedDict()
        self.unseen = 0
        """ARP packets beyond MAX_ARPS_PER_STEP of a batch: a flood of them, not looked at."""

    def step(self, arps: Arps) -> list[Finding]:
        """Take a batch's ARP packets in their order; return what they complete."""
        n = min(len(arps), MAX_ARPS_PER_STEP)
        self.unseen += len(arps) - n
        found = []
        rows = zip(arps.ts[:n].tolist(), arps.op[:n].tolist(), arps.src_mac[:n].tolist(),
                   arps.src[:n].tolist(), arps.dst[:n].tolist(), strict=True)  # fmt: skip
        for ts, op, mac, src, dst in rows:
            source, target = (src[0], src[1]), (dst[0], dst[1])
            if not source[1] & 0xFFFFFFFF:
                continue  # a machine that looks whether its new address is free
            found += self._claim(ts, mac, source)
            if op == ASKS and source != target and target not in self._owners:
                found += self._ask(ts, mac, target)
        return found

    def _ask(self, ts: int, mac: int, target: Address) -> list[Finding]:
        one = self._askers.get(mac)
        if one is None or ts - one.begun > SWEEP_S * NS:
            spoken = one.spoken if one is not None else 0
            one = self._askers[mac] = _Asker(ts, spoken=spoken)
        self._askers.move_to_end(mac)
        if len(self._askers) > MAX_ARP_MACHINES:
            self._askers.popitem(last=False)
        one.asks += 1
        if len(one.asked) < _MOST_ADDRESSES:
            one.asked.add(target)
        if one.asks < SWEEP_ASKS or len(one.asked) < SWEEP_ADDRESSES:
            return []
        if one.spoken and ts - one.spoken < AGAIN_S * NS:
            return []
        one.spoken = ts
        text = (
            f"asked {one.asks:,} times by ARP for {len(one.asked):,} addresses of the home that "
            f"no device has, within {max(1, (ts - one.begun) // NS):,} s; normal are fewer than "
            f"{SWEEP_ASKS} in an hour."
        )
        return [Finding(ts, mac, "scan", text, tuple(sorted(one.asked)))]

    def _claim(self, ts: int, mac: int, address: Address) -> list[Finding]:
        one = self._owners.get(address)
        if one is None or (mac != one.mac and ts - one.seen > CLAIM_S * NS):
            self._owners[address] = _Owner(mac, ts)
            if len(self._owners) > MAX_ARP_CLAIMS:
                self._owners.popitem(last=False)
            return []
        self._owners.move_to_end(address)
        if mac == one.mac:
            one.seen = ts
            one.owner_spoke = True
            return []
        if mac != one.rival or ts - one.first > CLAIM_S * NS:
            one.rival, one.turns, one.first = mac, 0, ts
        if not one.owner_spoke:
            return []
        one.owner_spoke = False
        one.turns += 1
        if one.turns < CLAIMS or (one.spoken and ts - one.spoken < AGAIN_S * NS):
            return []
        one.spoken = ts
        text = (
            f"claims the address {addresses.text(*address)} by ARP, which another machine has and "
            f"still uses: {one.turns} times within {max(1, (ts - one.first) // NS):,} s. Traffic "
            "for that machine may pass through this one."
        )
        return [Finding(ts, mac, "other", text, (address,))]


def arp_rows(finding: Finding, ip: str, ruler: Ruler) -> list[Row]:
    """Return a finding as the rows of an incident, one for each of its first addresses."""
    own = addresses.pack(ip) if ip else finding.targets[0]
    none = np.zeros(len(ruler.features), dtype=np.float32)
    return [
        Row(
            told=finding.told, ts=finding.told, uid="", orig=own, orig_p=0, resp=target, resp_p=0,
            proto=ARP, service="", host="", conn_state=0, orig_bytes=0, resp_bytes=0, orig_pkts=1,
            resp_pkts=0, duration=0.0, piece=0, final=True, age=0.0, outbound=True,
            label=finding.cause, score=1.0, level=LIMIT, new_peer=False, x=none, error=none,
        )
        for target in finding.targets[:MOST_ROWS]
    ]  # fmt: skip
