"""What may be kept and told: four levels, applied where results leave the pipeline.

0 all; 1 no host names; 2 no addresses outside the home either; 3 counters only. What the models
need stays in memory alone. What the user wrote (names of devices, allowances) is the user's and
stays.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable
from dataclasses import dataclass, field, replace

import numpy as np

from guardian import addresses
from guardian.addresses import V4_PREFIX, Lan
from guardian.explain import safe_host
from guardian.incidents import Example, Incident, IncidentEvent, Peer
from guardian.tables import Array, Bool, Conns

ALL, NO_HOSTS, NO_REMOTE, COUNTERS = range(4)
"""The levels; each takes away what the one before does, and more."""

OUTSIDE = "outside"
"""Stands for an address outside the home in what a person reads."""
INSIDE = "inside"
"""Stands for another address of the home, where only counters are kept."""

_ADDRESS = re.compile(r"(?<![\w.:])(?:[0-9]{1,3}(?:\.[0-9]{1,3}){3}|[0-9A-Fa-f:]*:[0-9A-Fa-f:.]+)")
"""What may be an address in a text; whether it is one, ipaddress says."""


@dataclass(frozen=True)
class Privacy:
    """One level for one home."""

    level: int = ALL
    lan: Lan = field(default_factory=Lan)

    @property
    def names(self) -> bool:
        """Host names may be kept."""
        return self.level < NO_HOSTS

    @property
    def rows(self) -> bool:
        """Single connections may be kept."""
        return self.level < COUNTERS

    def unnamed(self, conns: Conns) -> Conns:
        """Return slices or records without host names, where those are not wanted."""
        if self.names or not len(conns):
            return conns
        return replace(conns, host=np.zeros_like(conns.host))

    def records(self, conns: Conns) -> Conns:
        """Return records as they may be kept."""
        conns = self.unnamed(conns)
        if self.level < NO_REMOTE or not len(conns):
            return conns
        return replace(
            conns,
            orig=_blanked(conns.orig, conns.local_orig),
            resp=_blanked(conns.resp, conns.local_resp),
        )

    def events(self, events: Iterable[IncidentEvent]) -> list[IncidentEvent]:
        """Return events as they may be kept and told."""
        if self.level == ALL:
            return list(events)
        return [replace(event, incident=self.incident(event.incident)) for event in events]

    def incident(self, incident: Incident) -> Incident:
        """Return an incident as it may be kept and told; doing it twice changes nothing more."""
        if self.level == ALL:
            return incident
        hosts = {peer.host for peer in incident.peers if peer.host}
        own = incident.device.ip
        return replace(
            incident,
            explanation=self.text(incident.explanation, hosts, own),
            advice=self.text(incident.advice, hosts, own),
            features=tuple(
                replace(f, text=self.text(f.text, hosts, own)) for f in incident.features
            ),
            peers=self._peers(incident.peers) if self.rows else (),
            connections=tuple(map(self._example, incident.connections)) if self.rows else (),
        )

    def text(self, text: str, hosts: Iterable[str] = (), own: str = "") -> str:
        """Return a sentence without the host names given, and without addresses not to be told.

        own is the address of the device that it is about, which stays.
        """
        if self.level >= NO_HOSTS:
            for host in sorted(hosts, key=len, reverse=True):
                name = re.escape(safe_host(host) or host)
                text = re.sub(rf"{name} \(({_ADDRESS.pattern})\)", r"\1", text)
                text = re.sub(rf"(?<![\w.-]){name}(?![\w-])", "a host", text)
        if self.level >= NO_REMOTE:
            text = _ADDRESS.sub(lambda found: self._word(found[0], own), text)
        return text

    def _word(self, found: str, own: str) -> str:
        """Return what a text says in place of an address; anything else stays as it is."""
        tail = found[len(found.rstrip(".:")) :]
        plain = found[: len(found) - len(tail)] if tail else found
        where = self._where(plain)
        if not where and tail.startswith("::"):  # fe80:: ends in colons itself
            plain, tail = found, ""
            where = self._where(plain)
        if not where or plain == own:
            return found
        if where == "home" and self.level < COUNTERS:
            return found
        return ("a home address" if where == "home" else "an outside address") + tail

    def _where(self, text: str) -> str:
        """Return `home` or `outside`, empty for what is no address."""
        try:
            packed = addresses.pack_all([str(ipaddress.ip_address(text))])
        except ValueError:
            return ""
        home = self.lan.local(packed) | self.lan.multicast(packed)
        return "home" if home[0] else "outside"

    def place(self, ip: str) -> str:
        """Return an address as it may be told: itself, or where it is."""
        if self.level < NO_REMOTE:
            return ip
        where = self._where(ip)
        if where == "outside":
            return OUTSIDE
        return INSIDE if where == "home" and self.level >= COUNTERS else ip

    def _peers(self, peers: tuple[Peer, ...]) -> tuple[Peer, ...]:
        """Return the peers; those that are no longer told apart are counted together."""
        out: dict[tuple[str, int, str, str], Peer] = {}
        for peer in peers:
            one = replace(peer, ip=self.place(peer.ip), host="")
            key = (one.ip, one.port, one.proto, one.host)
            known = out.get(key)
            total = one.connections + (known.connections if known else 0)
            out[key] = replace(one, connections=total)
        return tuple(sorted(out.values(), key=lambda p: -p.connections))

    def _example(self, one: Example) -> Example:
        return replace(one, orig_h=self.place(one.orig_h), resp_h=self.place(one.resp_h))


def _blanked(column: Array, local: Bool) -> Array:
    """Return addresses with those outside the home as 0.0.0.0 or ::."""
    out = column.copy()
    v4 = (column[:, 0] == 0) & (column[:, 1] >> np.uint64(32) == 0xFFFF)
    out[~local, 0] = 0
    out[~local & v4, 1] = V4_PREFIX
    out[~local & ~v4, 1] = 0
    return out
