"""What a slice says for itself beside its scores: what it should be called, and what weighs."""

from __future__ import annotations

from guardian.const import NS
from guardian.counters import UDP, Counters, silent
from guardian.seen import Seen

DOWNLOAD, GUESSING = "download", "brute-force"
DHCP = 67
JOINS_NS = 120 * NS
"""A device that asks for an address so soon after it was first seen is a new one."""
LEAST_DOWNLOAD = 4_000
"""Bytes of a slice below which no program was fetched: the smallest loaders have ten thousand."""


def named(cause: str, one: Seen, heavy: bool) -> str:
    """Return what a slice is to be called: a heavy one is a flood, a download that brought next to
    nothing is a call.
    """
    if heavy:
        return "flood"
    return "c2" if cause == DOWNLOAD and one.got < LEAST_DOWNLOAD else cause


def is_heavy(one: Seen) -> bool:
    """Tell whether a slice that the device opened is large and unanswered enough to lend weight."""
    return (
        one.unicast
        and one.outbound
        and Counters.is_heavy(one.orig_pkts, one.resp_pkts, one.duration)
    )


def is_silent(one: Seen) -> bool:
    """Tell whether nobody answered, or refused."""
    return silent(one.proto, one.conn_state, one.resp_pkts)


def is_notable(one: Seen) -> bool:
    """Tell whether a plain counter may want a row."""
    if one.piece == 0 and is_silent(one):
        return True
    return Counters.is_giant(one.orig_pkts, one.resp_pkts, one.duration)


def joins(one: Seen, age: int) -> bool:
    """Tell whether a device of this age (ns) asks for its first address."""
    return age < JOINS_NS and one.port == DHCP and one.proto == UDP
