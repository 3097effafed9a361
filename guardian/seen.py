"""The scored slices of a step, one at a time, as the incidents look at them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from guardian.addresses import Lan
from guardian.clues import clues
from guardian.facts import Key, Row
from guardian.routers import Address
from guardian.tables import F32, Conns, FeatureRows, Scores


@dataclass(frozen=True)
class Step:
    """The tables of a step, which its rows share."""

    slices: Conns
    rows: FeatureRows
    scores: Scores


class Seen(NamedTuple):
    """A scored slice of one device."""

    place: int
    """Row in the feature rows and scores."""
    device: int
    told: int
    threat: float
    anomaly: float
    cause: int
    """The most probable class other than benign, an index into the classes."""
    outbound: bool
    from_home: bool
    """Another judged device of the home opened it."""
    unicast: bool
    peer: Address
    port: int
    proto: int
    conn_state: int
    piece: int
    orig_pkts: int
    resp_pkts: int
    duration: float
    begun: int
    """First packet of the connection, ns."""
    sent: int
    """Bytes that the originator sent in the slice; 0 where unknown."""
    clue: int
    """Which plain rule may want it, one of guardian.clues."""
    step: Step

    @property
    def key(self) -> Key:
        return self.peer, self.port, self.proto

    @property
    def x(self) -> F32:
        """float32[F]: the features of the slice; a view, to be copied by who keeps it."""
        out: F32 = self.step.rows.x[self.place]
        return out

    @property
    def got(self) -> int:
        """Bytes that the device received in the slice."""
        c = self.step.slices
        k = int(self.step.rows.row[self.place])
        return int((c.resp_bytes if self.outbound else c.orig_bytes)[k])

    def row(self, cause: str, level: float, new_peer: bool, *, score: float | None = None) -> Row:
        """Return all that an incident may want to keep of the slice."""
        c = self.step.slices
        k = int(self.step.rows.row[self.place])
        orig, resp = c.orig[k].tolist(), c.resp[k].tolist()
        return Row(
            told=self.told,
            ts=int(c.ts[k]),
            uid=c.uid[k].decode("ascii", "replace"),
            orig=(orig[0], orig[1]),
            orig_p=int(c.orig_p[k]),
            resp=(resp[0], resp[1]),
            resp_p=self.port,
            proto=self.proto,
            service=c.service[k].decode("ascii", "replace"),
            host=c.host[k].decode("ascii", "replace"),
            conn_state=self.conn_state,
            orig_bytes=int(c.orig_bytes[k]),
            resp_bytes=int(c.resp_bytes[k]),
            orig_pkts=self.orig_pkts,
            resp_pkts=self.resp_pkts,
            duration=self.duration,
            piece=self.piece,
            final=bool(c.final[k]),
            age=float(c.age[k]),
            outbound=self.outbound,
            label=cause,
            score=self.threat if score is None else score,
            level=level,
            new_peer=new_peer,
            x=self.x.copy(),
            error=self.step.scores.error[self.place].copy(),
        )


def see(slices: Conns, rows: FeatureRows, scores: Scores, lan: Lan) -> Iterator[Seen]:
    """Yield the scored slices in order."""
    if not len(rows):
        return
    row, outbound = rows.row, rows.outbound
    by_home = np.zeros(len(slices), dtype=np.bool_)
    by_home[row[outbound]] = True
    peer = np.where(outbound[:, None], slices.resp[row], slices.orig[row])
    cause = 1 + scores.probability[:, 1:].argmax(axis=1)
    step = Step(slices, rows, scores)
    columns = zip(
        rows.device.tolist(),
        slices.told[row].tolist(),
        scores.threat.tolist(),
        scores.anomaly.tolist(),
        cause.tolist(),
        outbound.tolist(),
        (by_home[row] & ~outbound).tolist(),
        lan.unicast(peer).tolist(),
        map(tuple, peer.tolist()),
        slices.resp_p[row].tolist(),
        slices.proto[row].tolist(),
        slices.conn_state[row].tolist(),
        slices.piece[row].tolist(),
        slices.orig_pkts[row].tolist(),
        slices.resp_pkts[row].tolist(),
        slices.duration[row].tolist(),
        slices.ts[row].tolist(),
        np.maximum(slices.orig_bytes[row], 0).tolist(),
        clues(slices, row).tolist(),
        strict=True,
    )
    for place, column in enumerate(columns):
        yield Seen._make((place, *column, step))
