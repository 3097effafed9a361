"""Which connection a tunnelled one came through: Zeek's tunnel_parents, and tunnels as services.

A tunnel over UDP is a connection itself. GRE and IP in IP are none: there the parent is a name for
the pair of addresses, as in Zeek, which has no record of its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from guardian import keys
from guardian.const import MAX_PARENTS, NS
from guardian.keys import Groups, Keys
from guardian.tables import I64, U64, Array, Conns, Packets
from guardian.tunnels import AYIYA, GENEVE, GTP, IP_TUNNEL, TEREDO, VXLAN

SPAN_NS = 10 * NS
"""Within so much packet time no connection over UDP ends and begins again."""

_NAMES = {
    VXLAN: b"vxlan", GENEVE: b"geneve", GTP: b"gtpv1", TEREDO: b"teredo", AYIYA: b"ayiya",
}  # fmt: skip


@dataclass
class Parents:
    """What is known of tunnels by slot of the connection table; few connections have any."""

    uids: dict[int, list[bytes]] = field(default_factory=dict)
    """The connections through which one came, in order."""
    carries: dict[int, set[tuple[int, bool]]] = field(default_factory=dict)
    """What a connection carried, and whether its low end sent it."""

    def __bool__(self) -> bool:
        return bool(self.uids or self.carries)

    def release(self, slots: I64) -> None:
        if self:
            for slot in slots.tolist():
                self.uids.pop(slot, None)
                self.carries.pop(slot, None)

    def tell(self, slots: I64, records: Conns) -> None:
        """Write tunnel_parents and the tunnels' names into the rows of new records."""
        for row, slot in enumerate(slots.tolist() if self else ()):
            if slot in self.uids:
                records.tunnel_parents[row] = b",".join(self.uids[slot])
            if slot in self.carries:
                names = _services(self.carries[slot])
                given = records.service[row].split(b",") if records.service[row] else []
                records.service[row] = b",".join(dict.fromkeys([*names, *given]))


def _services(carried: set[tuple[int, bool]]) -> list[bytes]:
    """Return names of what was carried; Teredo must come from both sides, as Zeek wants it."""
    found = sorted({tunnel for tunnel, _ in carried})
    both = {(TEREDO, True), (TEREDO, False)} <= carried
    return [_NAMES[tunnel] for tunnel in found if tunnel != TEREDO or both]


def to_group(packets: Packets) -> tuple[Packets, Packets]:
    """Return the packets that belong to connections, and all: what only carries others by IP is no
    connection."""
    if not packets.carries.any():
        return packets, packets
    return packets.take(packets.carries != IP_TUNNEL), packets


def cuts(packets: Packets, clock: I64) -> list[int]:
    """Return where a batch must be cut so that no tunnel's connection begins twice in a part."""
    rows = np.flatnonzero(packets.carries)
    out: list[int] = []
    if len(rows):
        begun = int(clock[0])
        while True:
            next_ = int(np.searchsorted(clock[rows], begun + SPAN_NS))
            if next_ >= len(rows):
                break
            out.append(int(rows[next_]))
            begun = int(clock[rows[next_]])
    return out


def note(
    parents: Parents,
    packets: Packets,
    whole: Packets,
    *,
    order: I64,
    groups: Groups,
    keyed: Keys,
    slots: I64,
    uid_of: Callable[[U64], list[bytes]],
    words: U64,
    seed: int,
) -> None:
    """Note the tunnels of a part of a batch.

    `packets` are the part, `whole` all to which Packets.carrier refers; the groups have `slots`
    (-1 for none); uid_of gives the uids of connections by the hashes of their keys, empty for none.
    """
    group = np.empty(len(packets), dtype=np.int64)
    group[order] = groups.number
    rows = np.flatnonzero(packets.carries)
    if len(rows):
        seen = np.unique(
            np.stack([group[rows], packets.carries[rows], keyed.low_sends[rows]]), axis=1
        )
        for g, tunnel, low in seen.T.tolist():
            if slots[g] >= 0:
                parents.carries.setdefault(int(slots[g]), set()).add((tunnel, bool(low)))
    rows = np.flatnonzero(packets.carrier)
    if not len(rows):
        return
    via = whole.take(packets.carrier[rows] - 1)
    names = keys.of(via, words).hash
    over_ip = via.carries == IP_TUNNEL
    pair = np.stack([group[rows].astype(np.uint64), names])
    _, first = np.unique(pair, axis=1, return_index=True)
    first = np.sort(first)
    uids = _uids(via.take(first), over_ip[first], names[first], uid_of, seed)
    for slot, uid in zip(slots[group[rows[first]]].tolist(), uids, strict=True):
        known = parents.uids.setdefault(slot, []) if uid and slot >= 0 else [uid]
        if uid not in known and len(known) < MAX_PARENTS:
            known.append(uid)


def _uids(
    via: Packets, over_ip: Array, names: U64, uid_of: Callable[[U64], list[bytes]], seed: int
) -> list[bytes]:
    """Return the uids of carriers."""
    nothing = np.zeros(len(via), dtype=np.int64)
    kind = via.proto.astype(np.uint64) << np.uint64(8)
    pairs = keys.uids(via.src, via.dst, kind, nothing, nothing, seed).tolist()
    conns = uid_of(names)
    return [p if ip else c for p, c, ip in zip(pairs, conns, over_ip.tolist(), strict=True)]
