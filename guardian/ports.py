"""Ports that a server probably answers on: where the first packet seen is an answer, the roles
are turned. Zeek's likely_server_ports of its default scripts."""

from __future__ import annotations

import numpy as np

from guardian.tables import Array, Bool

_TCP = (
    21, 22, 25, 53, 80, 81, 88, 102, 110, 135, 139, 143, 389, 443, 445, 502, 563, 585, 587, 614,
    631, 636, 989, 990, 992, 993, 995, 1080, 1434, 1883, 2811, 3128, 3268, 3306, 3389, 5223, 5432,
    5222, 5269, 6379, 6666, 6667, 6668, 6669, 8000, 8080, 8888, 20000,
)  # fmt: skip
_UDP = (
    53, 67, 88, 123, 137, 161, 162, 389, 443, 514, 1812, 2123, 2152, 3268, 3544, 4011, 4789, 5060,
    5072, 5353, 5355, 6081, 20000,
)  # fmt: skip

DNS_UDP = (53, 137, 5353, 5355)
"""Where Zeek's DNS analyzer sits, with its shorter expiry."""


def _table(ports: tuple[int, ...]) -> Array:
    table = np.zeros(65536, dtype=np.bool_)
    table[list(ports)] = True
    return table


_LIKELY = {6: _table(_TCP), 17: _table(_UDP)}
_IS_DNS = _table(DNS_UDP)


def turned(proto: Array, flags: Array, sport: Array, dport: Array) -> Bool:
    """Return bool[n]: the first packet of a connection comes from its responder.

    Not asked for packets to broadcast or multicast, which nobody answers for.
    """
    out = np.zeros(len(proto), dtype=np.bool_)
    for number, likely in _LIKELY.items():
        rows = np.flatnonzero(proto == number)
        if not len(rows):
            continue
        here, there = likely[sport[rows]], likely[dport[rows]]
        if number == 17:
            out[rows] = here & ~there
            continue
        syn, ack = flags[rows] & 2 != 0, flags[rows] & 16 != 0
        midstream = ~syn | ack
        out[rows] = midstream & here & (~there | syn | (sport[rows] < dport[rows]))
    return out


def is_dns(proto: Array, port: Array) -> Bool:
    """Return bool[n]: UDP to a responder's DNS port."""
    found: Bool = (proto == 17) & _IS_DNS[port]
    return found
