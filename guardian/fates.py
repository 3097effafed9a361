"""What becomes of each frame on its way through decode: one small number a frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guardian.tables import I64, U8, Array, Frames

ALIVE, ARP, MALFORMED, SPLIT = 0, 1, 2, 3
"""Still on its way to a packet row; an ARP row; its headers contradict themselves; an 802.11
frame of several packets, each of which is looked at for itself."""

KINDS = (
    "cut short",
    "link type",
    "llc",
    "ethertype",
    "eapol",
    "pppoe",
    "mpls",
    "arp",
    "ip fragment",
    "ppp",
    "802.11",
    "802.11 protected",
    "no next header",
    "ip checksum",
)
"""Why a frame is not understood: all names there are in Decoded.not_understood.

cut short: the snap length cuts a header; arp: ARP of other kinds than IPv4 over Ethernet; pppoe:
its discovery; ppp: PPP's own control; mpls: what lies under the labels is not known; 802.11:
management, control and frames without data; 802.11 protected: encrypted; ip fragment: pieces that
complete no datagram; no next header: IPv6 that says that it holds nothing; ip checksum: that of an
IPv4 header is wrong, or not made yet.
"""
(
    CUT_SHORT, LINK_TYPE, LLC, ETHERTYPE, EAPOL, PPPOE, MPLS, OTHER_ARP, FRAGMENT, PPP, WIFI,
    PROTECTED, NO_NEXT, IP_CHECKSUM,
) = range(4, 4 + len(KINDS))  # fmt: skip


@dataclass(frozen=True)
class Batch:
    """Where the frames of a batch lie, and what became of them so far."""

    data: U8
    start: I64
    cap_end: I64
    """int64[n]: offset in data behind the last captured byte."""
    wire_end: I64
    """int64[n]: where the frame would end, had all of it been captured."""
    fate: U8
    """uint8[n], written to by the stages of decode."""

    @classmethod
    def of(cls, frames: Frames) -> Batch:
        return cls(
            data=frames.data,
            start=frames.start,
            cap_end=frames.start + frames.caplen,
            # No wire is shorter than what was captured from it.
            wire_end=frames.start + np.maximum(frames.wirelen, frames.caplen),
            fate=np.zeros(len(frames), dtype=np.uint8),
        )

    def need(self, rows: Array, upto: I64) -> None:
        """Give up the frames (indices) whose next header, up to offset `upto`, is not all there."""
        missing = upto > self.cap_end[rows]
        if missing.any():
            lost = rows[missing]
            malformed = upto[missing] > self.wire_end[lost]
            self.give_up(lost, np.where(malformed, MALFORMED, CUT_SHORT))

    def give_up(self, rows: Array, fate: Array | int) -> None:
        """Set the fate of frames (indices), unless they met one before."""
        alive = self.fate[rows] == ALIVE
        self.fate[rows[alive]] = fate if isinstance(fate, int) else fate[alive]

    def alive(self, rows: Array) -> I64:
        """Return those of the frames (indices) that are still on their way."""
        left: I64 = rows[self.fate[rows] == ALIVE]
        return left

    def counts(self) -> tuple[dict[str, int], int]:
        """Return the frames not understood by kind, and the malformed."""
        by_fate = np.bincount(self.fate, minlength=CUT_SHORT + len(KINDS)).tolist()
        kinds = {name: by_fate[CUT_SHORT + i] for i, name in enumerate(KINDS)}
        return {name: n for name, n in kinds.items() if n}, by_fate[MALFORMED]
