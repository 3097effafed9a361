"""Which connection a tunnelled one came through: Zeek's tunnel_parents, and tunnels as services.

A tunnel over UDP is a connection itself. GRE and IP in IP are none: there the parent is a name for
the pair of addresses, as in Zeek, which has no record of its own.

A connection whose packets come now through one path of tunnels, now through another or none, has an
X in its history from the sixth change on. Those that change go one by one (connalone) until then.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from guardian import keys
from guardian.const import MAX_PARENTS, MAX_TUNNELS, NS
from guardian.keys import Groups, Keys
from guardian.tables import I64, U64, Array, Bool, Conns, Packets
from guardian.tunnels import AYIYA, GENEVE, GTP, IP_TUNNEL, TEREDO, VXLAN

SPAN_NS = 10 * NS
"""Within so much packet time no connection over UDP ends and begins again."""

MAX_CHANGES = 5
"""Changes of its tunnels after which Zeek does not follow a connection's any more."""

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
    paths: dict[int, tuple[int, int]] = field(default_factory=dict)
    """By which tunnels its last packet came (see _paths), and how often that had changed; where
    there is nothing, by none and never."""
    words: U64 = field(default_factory=lambda: keys.seeds(secrets.randbits(256)))
    """Paths are hashed by these, which do not change with the table's."""

    def __bool__(self) -> bool:
        return bool(self.uids or self.carries or self.paths)

    def release(self, slots: I64) -> None:
        if self:
            for slot in slots.tolist():
                self.uids.pop(slot, None)
                self.carries.pop(slot, None)
                self.paths.pop(slot, None)

    def shift(self, slot: int, path: int, first: bool) -> bool:
        """Note the path of a connection's next packet, or of its first; return whether the tunnels
        changed once too often by it."""
        if first:
            if path:
                self.paths[slot] = path, 0
            return False
        before, changes = self.paths.get(slot, (0, 0))
        if path == before:
            return False
        self.paths[slot] = path, changes + 1
        return changes == MAX_CHANGES

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


@dataclass(frozen=True)
class Shifts:
    """The paths of a part of a batch, where some came through tunnels."""

    path: list[int]
    """Of each packet."""
    differs: Bool
    """bool[n]: by another path than the packet before it of its group; in the groups' order."""
    changing: Bool
    """bool[g]: the group changes its path here, and is followed still."""


def shifts(
    parents: Parents, packets: Packets, whole: Packets, order: I64, groups: Groups, slots: I64,
    new: Bool,
) -> Shifts | None:  # fmt: skip
    """Return the paths of a part of a batch, None where it has nothing to do with tunnels.

    The groups have `slots`, those that are new just begun; of these, and of what does not change,
    the paths are noted.
    """
    if not packets.carrier.any() and not parents.paths:
        return None
    path = _paths(packets, whole, parents.words)[order]
    differs = np.zeros(len(order), dtype=np.bool_)
    differs[1:] = (path[1:] != path[:-1]) & (groups.number[1:] == groups.number[:-1])
    known = [parents.paths.get(slot, (0, 0)) for slot in slots.tolist()]
    first = path[groups.first].tolist()
    changed = np.logical_or.reduceat(differs, groups.first)
    changed |= [now != before for now, (before, _) in zip(first, known, strict=True)] & ~new
    changed &= [changes <= MAX_CHANGES for _, changes in known]
    for g in np.flatnonzero(new & ~changed & (path[groups.first] != 0)).tolist():
        parents.shift(int(slots[g]), first[g], True)
    back = np.empty_like(path)
    back[order] = path
    return Shifts(back.tolist(), differs, changed)


def _paths(packets: Packets, whole: Packets, words: U64) -> U64:
    """Return uint64[n]: by which tunnels packets came, whichever way through each; 0 for none."""
    path = np.zeros(len(packets), dtype=np.uint64)
    via = np.unique(whole.carrier[whole.carrier > 0]) - 1
    name = np.zeros(1 + len(whole), dtype=np.uint64)
    carriers = whole.take(via)
    kind = carriers.carries.astype(np.uint64)
    name[via + 1] = keys.mix(keys.of(carriers, words).hash + kind)
    at = packets.carrier
    for _ in range(MAX_TUNNELS):
        if not at.any():
            break
        path = np.where(at > 0, keys.mix(path + name[at]), path)
        at = np.where(at > 0, whole.carrier[at - 1], 0)
    return path


def note(
    parents: Parents,
    packets: Packets,
    whole: Packets,
    *,
    keyed: Keys,
    slots: I64,
    uid_of: Callable[[U64], list[bytes]],
    words: U64,
    seed: int,
) -> None:
    """Note the tunnels of a part of a batch.

    `packets` are the part, each of the connection in one of `slots`; `whole` are all to which
    Packets.carrier refers; uid_of gives the uids of connections by the hashes of their keys, empty
    for none.
    """
    rows = np.flatnonzero(packets.carries)
    if len(rows):
        seen = np.unique(
            np.stack([slots[rows], packets.carries[rows], keyed.low_sends[rows]]), axis=1
        )
        for slot, tunnel, low in seen.T.tolist():
            parents.carries.setdefault(slot, set()).add((tunnel, bool(low)))
    rows = np.flatnonzero(packets.carrier)
    if not len(rows):
        return
    via = whole.take(packets.carrier[rows] - 1)
    names = keys.of(via, words).hash
    over_ip = via.carries == IP_TUNNEL
    pair = np.stack([slots[rows].astype(np.uint64), names])
    _, first = np.unique(pair, axis=1, return_index=True)
    first = np.sort(first)
    uids = _uids(via.take(first), over_ip[first], names[first], uid_of, seed)
    for slot, uid in zip(slots[rows[first]].tolist(), uids, strict=True):
        known = parents.uids.setdefault(slot, [])
        if uid and uid not in known and len(known) < MAX_PARENTS:
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
