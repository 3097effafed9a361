"""What Guardian cannot see, so that quiet is not mistaken for safety.

* packets that the kernel dropped before they were read;
* names that devices ask for over encrypted DNS: what they call is then known by address alone;
* connections of which only one side passes here: the other takes a way around the gateway;
* frames that are not understood;
* what flooding devices did that no model read (guardian/shedding.py), connections that a full
  table ended early, and ARP packets of a flood of them.

Everything counts over the last day, in hours; a day without any makes the spot vanish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from guardian import addresses
from guardian.const import MAX_DEVICES, NS
from guardian.devices import DeviceTable
from guardian.pipeline import Counts, Step
from guardian.tables import Bool, Conns

HOUR_NS = 3_600 * NS
HOURS = 24

ONE_SIDED_LEAST = 20
ONE_SIDED_PERCENT = 5.0
"""Connections with data seen from one side in a day, and their share, to be worth a word: a few
are those that were open when Guardian started."""

UNREAD_PERCENT = 5.0
DROPS_PERCENT = 0.1
"""Shares of the day's packets."""

MAX_NAMED = 3
"""Flooding devices that are named."""

DNS_PORT = 853
"""DNS over TLS and QUIC."""

DNS_NAMES = frozenset(
    b"dns.google dns.google.com dns64.dns.google cloudflare-dns.com one.one.one.one "
    b"1dot1dot1dot1.cloudflare-dns.com mozilla.cloudflare-dns.com chrome.cloudflare-dns.com "
    b"security.cloudflare-dns.com family.cloudflare-dns.com dns.quad9.net dns9.quad9.net "
    b"dns10.quad9.net dns11.quad9.net doh.opendns.com doh.familyshield.opendns.com "
    b"dns.umbrella.com dns.adguard.com dns.adguard-dns.com unfiltered.adguard-dns.com "
    b"family.adguard-dns.com dns.nextdns.io doh.cleanbrowsing.org dns.controld.com "
    b"freedns.controld.com doh.mullvad.net dns.mullvad.net dns0.eu dns.dnshome.de "
    b"doh.dns.apple.com doh.xfinity.com dns.alidns.com doh.pub".split()
)
"""Public servers of DNS over HTTPS, by the name in TLS. A list of names is never whole: what asks
elsewhere is not counted."""

DNS_ADDRESSES = addresses.pack_all(
    (
        "1.1.1.1", "1.0.0.1", "8.8.8.8", "8.8.4.4", "9.9.9.9", "149.112.112.112",
        "208.67.222.222", "208.67.220.220", "94.140.14.14", "94.140.15.15",
        "2606:4700:4700::1111", "2606:4700:4700::1001", "2001:4860:4860::8888",
        "2001:4860:4860::8844", "2620:fe::fe", "2620:fe::9",
    )
)  # fmt: skip
"""The same by address, for TLS that hides the name; only DNS is served there."""


@dataclass
class _Hour:
    number: int
    packets: int = 0
    drops: int = 0
    unread: int = 0
    shed: int = 0
    evicted: int = 0
    arps: int = 0
    connections: int = 0
    """TCP connections with data, and those of them seen from one side."""
    one_sided: int = 0


@dataclass(frozen=True)
class Blind:
    """What cannot be seen, as of one moment."""

    encrypted_dns: int
    """Devices."""
    one_sided: float
    """Percent of the TCP connections with data."""
    spots: tuple[str, ...] = field(default=())
    """A sentence each."""


class BlindSpots:
    """Counts what passes unseen; 24 hours, MAX_DEVICES devices."""

    def __init__(self) -> None:
        self._hours: list[_Hour] = []
        self._dns: dict[str, int] = {}
        """When a device last asked an encrypted server, ns."""
        self._last = (0, 0, 0, 0, 0, 0)
        self._flooding: tuple[str, ...] = ()

    def add(self, step: Step, devices: DeviceTable) -> None:
        """Take a step's records and slices."""
        hour = self._hour(step.now)
        records = step.records
        if len(records):
            tcp = records.proto == 6
            half = one_sided(records)
            data = tcp & ((records.orig_bytes > 0) | (records.resp_bytes > 0))
            hour.connections += int(np.count_nonzero(data))
            hour.one_sided += int(np.count_nonzero(half))
        rows = step.rows
        mine = np.flatnonzero(rows.outbound)
        if not len(mine):
            return
        asks = encrypted_dns(step.slices)[rows.row[mine]]
        for number in np.unique(rows.device[mine[asks]]).tolist():
            key = devices.key(number)
            if key and (key in self._dns or len(self._dns) < MAX_DEVICES):
                self._dns[key] = step.now

    def count(self, counts: Counts, drops: int, now: int, flooding: Sequence[str] = ()) -> None:
        """Take the counts since the start; the kernel's drops among them.

        flooding are the names of devices that were not judged for all they did, worst first.
        """
        self._flooding = tuple(flooding[:MAX_NAMED])
        unread = counts.malformed + sum(counts.not_understood.values())
        total = (counts.packets, drops, unread, counts.shed, counts.evicted, counts.arp_unseen)
        hour = self._hour(now)
        hour.packets += total[0] - self._last[0]
        hour.drops += total[1] - self._last[1]
        hour.unread += total[2] - self._last[2]
        hour.shed += total[3] - self._last[3]
        hour.evicted += total[4] - self._last[4]
        hour.arps += total[5] - self._last[5]
        self._last = total

    def _hour(self, now: int) -> _Hour:
        number = now // HOUR_NS
        if not self._hours or self._hours[-1].number != number:
            self._hours = [h for h in self._hours if 0 <= number - h.number < HOURS]
            self._hours.append(_Hour(number))
        return self._hours[-1]

    def seen(self, now: int) -> Blind:
        """Return what could not be seen in the day before now."""
        day = [h for h in self._hours if 0 <= now // HOUR_NS - h.number < HOURS]
        packets = sum(h.packets for h in day)
        drops, unread = sum(h.drops for h in day), sum(h.unread for h in day)
        whole, half = sum(h.connections for h in day), sum(h.one_sided for h in day)
        self._dns = {k: at for k, at in self._dns.items() if now - at < HOURS * HOUR_NS}
        share = 100.0 * half / whole if whole else 0.0
        spots = []
        if drops and 100.0 * drops >= DROPS_PERCENT * (packets + drops):
            spots.append(
                f"{drops:,} packets of the last day were dropped before they were read: raise "
                "[capture] ring_mib"
            )
        if self._dns:
            who = "1 device asks" if len(self._dns) == 1 else f"{len(self._dns)} devices ask"
            spots.append(
                f"{who} for names over encrypted DNS: what they call is known by address alone"
            )
        if half >= ONE_SIDED_LEAST and share >= ONE_SIDED_PERCENT:
            spots.append(
                f"of {share:.0f} % of the connections only one side passes here: the other goes "
                "around the gateway"
            )
        if unread and 100.0 * unread >= UNREAD_PERCENT * packets:
            spots.append(f"{unread:,} frames of the last day were not understood")
        shed, evicted = sum(h.shed for h in day), sum(h.evicted for h in day)
        if shed:
            spots.append(
                f"{shed:,} connections of {', '.join(self._flooding) or 'a device'}, which floods, "
                "were recorded in the last day but not judged, since many alike were; those of all "
                "others were"
            )
        if evicted:
            spots.append(
                f"{evicted:,} connections of the last day were ended early, since a flood filled "
                "the table"
            )
        arps = sum(h.arps for h in day)
        if arps:
            spots.append(
                f"{arps:,} ARP packets of the last day, which came in floods, were not looked at"
            )
        return Blind(len(self._dns), share, tuple(spots))


def one_sided(records: Conns) -> Bool:
    """Return bool[n]: TCP data went one way, and nothing at all came the other way.

    TCP carries no data that nobody acknowledges, so the other half passes elsewhere.
    """
    found: Bool = (records.proto == 6) & (
        ((records.orig_bytes > 0) & (records.resp_pkts == 0))
        | ((records.resp_bytes > 0) & (records.orig_pkts == 0))
    )
    return found


def encrypted_dns(slices: Conns) -> Bool:
    """Return bool[n]: a question to an encrypted DNS server outside the home."""
    outside = ~slices.local_resp
    secure = outside & (slices.resp_p == 443)
    found: Bool = outside & (slices.resp_p == DNS_PORT)
    if secure.any():
        rows = np.flatnonzero(secure)
        named = [host.lower() in DNS_NAMES for host in slices.host[rows].tolist()]
        known = (slices.resp[rows][:, None, :] == DNS_ADDRESSES[None]).all(axis=2).any(axis=1)
        found[rows] = np.array(named, dtype=np.bool_) | known
    return found
