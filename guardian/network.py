"""The network layer of a batch: IPv4 with options, IPv6 with extension headers.

What comes out is one Datagrams table in order of arrival, from which the transport layer is
read, and the fragments, of which fragments.py makes datagrams that come here again.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from guardian import checksum
from guardian.fates import CUT_SHORT, FRAGMENT, IP_CHECKSUM, MALFORMED, Batch
from guardian.fragments import Pieces
from guardian.frames import rows_at, v4_addresses, words_at
from guardian.links import ETH_IP4, ETH_IP6, Links
from guardian.tables import I64, U8, U64, Array, Bool, Table, col

MAX_EXTENSIONS = 8
"""IPv6 extension headers walked in one packet; RFC 8200 knows at most seven in sequence."""

MAX_OPTIONS = 8
"""Options of an IPv6 header looked at for a home address: it stands first, behind some padding."""

LARGEST = 40 + 0xFFFF
"""Bytes of an IPv6 datagram whose length the header can tell."""

TCP = 6
HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AUTHENTICATION, NOTHING, OPTIONS = 0, 43, 44, 51, 59, 60

HOME_ADDRESS = 201
"""An option among those for the destination."""

_IS_EXTENSION = np.zeros(256, dtype=np.bool_)
_IS_EXTENSION[[HOP_BY_HOP, ROUTING, FRAGMENT_HEADER, AUTHENTICATION, OPTIONS]] = True


UNCUT = Pieces.empty()


@dataclass(frozen=True)
class Datagrams(Table):
    """Whole IP datagrams, one row each."""

    frame: I64 = col("i8")
    src: U64 = col("u8", 2)
    dst: U64 = col("u8", 2)
    v6: Bool = col("?")
    proto: U8 = col("u1")
    net: I64 = col("i8")
    """Offset of the IP header."""
    body: I64 = col("i8")
    """Offset of the transport header, after options and extension headers."""
    end: I64 = col("i8")
    """Offset behind the last byte that the IP header claims; may lie beyond what was captured."""
    judge: Bool = col("?")
    """Its transport checksum can be judged: captured whole, and for addresses that we know."""


def read(
    batch: Batch, links: Links, judge: Bool, rows: I64 | None = None
) -> tuple[Datagrams, Pieces]:
    """Read the IP headers of all frames that are alive, or of those of `rows`.

    `judge` says whose checksums count. Datagrams and fragments are in order of arrival.
    """
    parts = []
    for kind, reader in ((ETH_IP4, _ip4), (ETH_IP6, _ip6)):
        is_kind = links.kind == kind
        mine = batch.alive(np.nonzero(is_kind)[0] if rows is None else rows[is_kind[rows]])
        if len(mine):
            parts.append(reader(batch, links, judge, mine))
    datagrams = [part for part, _ in parts if len(part)]
    pieces = [part for _, part in parts if len(part)]
    whole, cut = Datagrams.concat(datagrams), UNCUT
    if len(datagrams) > 1:
        whole = whole.take(np.argsort(whole.frame, kind="stable"))
    if pieces:
        cut = Pieces.concat(pieces)
        cut = cut.take(np.argsort(cut.row, kind="stable"))
    return whole, cut


def _ip4(batch: Batch, links: Links, judge: Bool, rows: I64) -> tuple[Datagrams, Pieces]:
    net = links.net[rows]
    batch.need(rows, net + 20)
    words = words_at(batch.data, net, 20, ">u4")
    header = (words[0] >> 22 & 0x3C).astype(np.int64)
    length = (words[0] & 0xFFFF).astype(np.int64)
    room = batch.wire_end[rows] - net
    # Segmentation offload leaves the length zero: then the frame itself says how long it is.
    offloaded = length == 0
    length = np.where(offloaded, room, length)
    wrong = (words[0] >> 28 != 4) | (header < 20) | (length < header) | (length > room)
    batch.give_up(rows[wrong], MALFORMED)
    batch.need(rows, net + header)
    # As Zeek, which leaves such packets out before it looks whose they are.
    batch.give_up(rows[judge[rows] & (offloaded | _bad_header(batch, words, net, header))],
                  IP_CHECKSUM)  # fmt: skip

    alive = batch.fate[rows] == 0
    if not alive.all():
        rows, net, header, length = rows[alive], net[alive], header[alive], length[alive]
        words = words[:, alive]
    judge = judge[rows] & (net + length <= batch.cap_end[rows])
    found = Datagrams(
        frame=rows,
        src=v4_addresses(words[3]),
        dst=v4_addresses(words[4]),
        v6=np.zeros(len(rows), dtype=np.bool_),
        proto=(words[2] >> 16 & 0xFF).astype(np.uint8),
        net=net,
        body=net + header,
        end=net + length,
        judge=judge,
    )
    cut = words[1] & 0x3FFF != 0
    if not cut.any():
        return found, UNCUT
    return found.take(~cut), _cut4(batch, found.take(cut), words[1, cut])


def _cut4(batch: Batch, found: Datagrams, word: Array) -> Pieces:
    """Make pieces of IPv4 fragments; `word` is the second of the header."""
    batch.give_up(found.frame, FRAGMENT)
    pieces = Pieces(
        row=found.frame,
        src=found.src,
        dst=found.dst,
        v6=found.v6,
        proto=found.proto,
        ident=(word >> 16).astype(np.uint32),
        offset=(word & 0x1FFF).astype(np.int64) << 3,
        last=word & 0x2000 == 0,
        net=found.net,
        fixed=found.body,
        body=found.body,
        end=found.end,
        named=found.net,
        judge=found.judge,
    )
    return _sound(batch, pieces)


def _sound(batch: Batch, pieces: Pieces) -> Pieces:
    """Return the fragments of which a datagram can be made: whole ones that keep the rules."""
    size = pieces.end - pieces.body
    sound = (pieces.end <= batch.cap_end[pieces.row]) & (size > 0)
    sound &= pieces.last | (size & 7 == 0)
    sound &= pieces.offset + size <= 0xFFFF
    return pieces.take(sound)


def _bad_header(batch: Batch, words: Array, net: I64, header: I64) -> Bool:
    """Return bool[n]: the IPv4 header's checksum is wrong."""
    total = checksum.fold(words.sum(axis=0, dtype=np.uint64))
    longer = np.nonzero((header > 20) & (net + header <= len(batch.data)))[0]
    if len(longer):
        total[longer] = checksum.sums(batch.data, net[longer], net[longer] + header[longer])
    bad: Bool = total != 0xFFFF
    return bad


def _ip6(batch: Batch, links: Links, judge: Bool, rows: I64) -> tuple[Datagrams, Pieces]:
    net = links.net[rows]
    batch.need(rows, net + 40)
    words = words_at(batch.data, net, 40, ">u8")
    first = words[0]
    payload = (first >> 16 & 0xFFFF).astype(np.int64)
    proto = (first >> 8 & 0xFF).astype(np.uint8)
    room = batch.wire_end[rows] - net
    # A payload length of zero may stand for a super-frame of TCP, or for a jumbogram.
    super_frame = (payload == 0) & ((proto == TCP) | (room > LARGEST))
    length = np.where(super_frame, room, payload + 40)
    batch.give_up(rows[(first >> 60 != 6) | (length > room)], MALFORMED)
    end = net + length
    found = Datagrams(
        frame=rows,
        src=words[1:3].T,
        dst=words[3:5].T,
        v6=np.ones(len(rows), dtype=np.bool_),
        proto=proto,
        net=net,
        body=net + 40,
        end=end,
        judge=judge[rows] & (end <= batch.cap_end[rows]),
    )
    pieces = _walk_extensions(batch, found)
    alive = batch.fate[rows] == 0
    return (found if alive.all() else found.take(alive)), pieces


def _walk_extensions(batch: Batch, found: Datagrams) -> Pieces:
    """Move proto and body past extension headers, one more of each datagram a round.

    As Zeek has it, a datagram under way by a routing header goes to its last address, and one with
    a home address comes from there. Of routing headers whose last address nobody knows, checksums
    are not judged: they are made for it.
    """
    rows, end, proto, body = found.frame, found.end, found.proto, found.body
    named = found.net + 6
    cut: list[Pieces] = []
    routed, moved = np.zeros((2, len(found)), dtype=np.bool_)
    for _ in range(MAX_EXTENSIONS):
        here = np.nonzero(_IS_EXTENSION[proto] & (batch.fate[rows] == 0))[0]
        if not len(here):
            return Pieces.concat(cut) if cut else UNCUT
        at, kind, frame = body[here], proto[here], rows[here]
        batch.give_up(frame[at + 8 > end[here]], MALFORMED)
        batch.give_up(frame[at + 8 > batch.cap_end[frame]], CUT_SHORT)
        head = words_at(batch.data, at, 8, "u1")
        units = head[1].astype(np.int64)
        length = np.where(kind == AUTHENTICATION, (units + 2) * 4, (units + 1) * 8)
        length = np.where(kind == FRAGMENT_HEADER, 8, length)
        batch.give_up(frame[at + length > end[here]], MALFORMED)
        part = (kind == FRAGMENT_HEADER) & ((head[2] != 0) | (head[3] & 0xF9 != 0))
        part &= batch.fate[frame] == 0
        if part.any():
            cut.append(_cut6(batch, found.take(here[part]), head[:, part], named[here[part]]))
        underway = (kind == ROUTING) & (head[3] != 0)
        if underway.any():
            known = underway & ((head[2] == 0) & (units >= 2) & (units & 1 == 0)
                                | (head[2] == 2) & (units == 2))  # fmt: skip
            found.judge[here] &= ~underway | known
            first = known & ~routed[here]
            last = words_at(batch.data, (at + length)[first] - 16, 16, ">u8")
            found.dst[here[first]] = last.T
            routed[here[first]] = True
        options = kind == OPTIONS
        if options.any():
            _move_home(batch, found, moved, here[options], at[options], length[options])
        named[here] = at
        proto[here] = head[0]
        body[here] = at + length
    batch.give_up(rows[_IS_EXTENSION[proto]], MALFORMED)
    return Pieces.concat(cut)


def _move_home(
    batch: Batch, found: Datagrams, moved: Bool, rows: I64, at: I64, length: I64
) -> None:
    """Let datagrams come from the home address that their options tell: Mobile IPv6, RFC 6275.

    Rows of found have a header of options at `at`; moved: whose home is known.
    """
    place, stop = at + 2, at + length
    for _ in range(MAX_OPTIONS):
        more = place + 2 <= stop
        rows, place, stop = rows[more], place[more], stop[more]
        if not len(rows):
            return
        kind, size = rows_at(batch.data, place, 2).T.astype(np.int64)
        home = (kind == HOME_ADDRESS) & (size == 16) & (place + 18 <= stop) & ~moved[rows]
        if home.any():
            found.src[rows[home]] = words_at(batch.data, place[home] + 2, 16, ">u8").T
            moved[rows[home]] = True
        place = place + np.where(kind == 0, 1, 2 + size)


def _cut6(batch: Batch, found: Datagrams, head: Array, named: I64) -> Pieces:
    """Make pieces of IPv6 fragments, whose body is the fragment header with bytes `head`."""
    batch.give_up(found.frame, FRAGMENT)
    word = head.astype(np.uint32)
    place = word[2] << 8 | word[3]
    pieces = Pieces(
        row=found.frame,
        src=found.src,
        dst=found.dst,
        v6=found.v6,
        proto=head[0],
        ident=word[4] << 24 | word[5] << 16 | word[6] << 8 | word[7],
        offset=(place & 0xFFF8).astype(np.int64),
        last=place & 1 == 0,
        net=found.net,
        fixed=found.body,
        body=found.body + 8,
        end=found.end,
        named=named,
        judge=found.judge,
    )
    return _sound(batch, pieces)
