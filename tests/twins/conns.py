"""The slow twin of ConnTable: one packet, one connection at a time, nothing clever.

It shares the packets' type and the service detection with the fast one, and no more: keys are
tuples, states are words, sequence numbers are unwrapped absolutes, held data is a set of bytes.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from guardian import service
from guardian.addresses import Lan, pack_all
from guardian.connlog import UNSET  # noqa: F401  (the log's word for what is not set)
from tests.packets import Packet

SECOND = 1_000_000_000
NEVER = 1 << 70
WORD = 1 << 32
FIN, SYN, RST, ACK = 1, 2, 4, 16

PAIRS = {
    1: {8: 0, 0: 8, 13: 14, 14: 13, 15: 16, 16: 15, 10: 9, 9: 10, 17: 18, 18: 17},
    58: {128: 129, 129: 128, 133: 134, 134: 133, 135: 136, 136: 135, 130: 131, 131: 130,
         139: 140, 140: 139, 144: 145, 145: 144},
}  # fmt: skip
SERVERS = {6: {21, 22, 25, 53, 80, 443}, 17: {53, 67, 123, 137, 161, 443, 5353, 5355}}
DNS = {53, 137, 5353, 5355}
SHELLS = ("ssh", "ftp")
FROM_START = {"http", "ssl", "ssh", "ftp", "smtp", "irc", "pop3", "imap", "xmpp"}
OPENING = {"inactive", "syn", "syn-ack"}


def near(number: int, guess: int) -> int:
    """Return the unwrapped sequence number that is closest to a guess."""
    delta = (number - guess) % WORD
    return guess + (delta - WORD if delta >= WORD // 2 else delta)


@dataclass
class Side:
    """One end of a connection."""

    address: str
    port: int
    pkts: int = 0
    ip_bytes: int = 0
    bytes: int = 0
    state: str = "inactive"
    before: str = "inactive"
    start: int = 0
    top: int = 0
    acked: int = 0
    fin: bool = False
    fin_at: int = 0
    closed: bool = False
    letters: set[str] = field(default_factory=set)
    last: dict[str, int] = field(default_factory=dict)
    events: Counter[str] = field(default_factory=Counter)
    delivered: int = 1
    trimmed: int = 1
    held: set[int] = field(default_factory=set)
    highest: int = 0
    blind: bool = False
    ended: bool = False
    seen: bool = False


@dataclass
class Live:
    """One living connection."""

    proto: int
    sides: list[Side]
    ts: int
    born: int
    last: int
    heard: int
    idle: int
    history: str = ""
    missed: int = 0
    partial: bool = False
    closing: int | None = None
    waits: bool = False
    attempt: int | None = None
    dns: bool = False
    memory: int = 0
    service: bytes = b""
    host: bytes = b""
    piece: int = 0
    due: int = NEVER
    opened: int = 0
    told: tuple[int, ...] = (0,) * 7

    def side_of(self, packet: Packet) -> int:
        orig = self.sides[0]
        return 0 if (packet.src, _ports(packet)[0]) == (orig.address, orig.port) else 1

    def write(self, side: int, letter: str) -> None:
        if len(self.history) < 48:
            self.history += letter if side == 0 else letter.lower()

    def first_time(self, side: int, kind: str, letter: str) -> bool:
        if kind in self.sides[side].letters:
            return False
        self.sides[side].letters.add(kind)
        self.write(side, letter)
        return True

    def count(self, side: int, letter: str) -> None:
        self.sides[side].events[letter] += 1
        number = str(self.sides[side].events[letter])
        if number[0] == "1" and set(number[1:]) <= {"0"}:
            self.write(side, letter)

    def payload(self, side: int) -> int:
        me, you = self.sides[side], self.sides[1 - side]
        if self.proto != 6:
            return me.bytes
        lost = me.before == "syn" and me.state == "reset" and you.state == "inactive"
        if lost and me.acked - me.start not in (0, 1):
            return 0
        size = max(me.top, me.acked) - me.start
        size -= size > 0
        return max(size - (me.fin and size > 0), 0)

    def deadline(self) -> int:
        if self.proto != 6:
            if self.dns:
                looks = 1
                while self.born + 10 * looks * SECOND - self.heard < 9 * SECOND:
                    looks += 1
                return self.born + 10 * looks * SECOND
            return self.heard + self.idle
        if self.closing is not None:
            return self.closing + 5 * SECOND
        end = self.heard + self.idle
        states = [side.state for side in self.sides]
        if states == ["inactive", "inactive"]:
            end = min(end, self.born + 11 * SECOND)
        if states[0] in {"syn", "syn-ack"} and states[1] == "inactive" and self.attempt:
            end = min(end, self.attempt + 5 * SECOND)
        if any(s.closed for s in self.sides) and {"reset", "inactive"} & set(states):
            look = self.born + 5 * SECOND
            while look <= self.heard + 5 * SECOND:
                look += 6 * SECOND
            end = min(end, look)
        return end

    def boundary(self, clock: int) -> int:
        end = self.born + 5 * SECOND
        while end <= clock:
            end += 60 * SECOND
        return end


def _ports(packet: Packet) -> tuple[int, int]:
    if packet.proto in PAIRS:
        return packet.sport, PAIRS[packet.proto].get(packet.sport, packet.dport)
    return packet.sport, packet.dport


def _key(packet: Packet) -> object:
    sport, dport = _ports(packet)
    ends = ((packet.src, sport), (packet.dst, dport))
    if packet.proto in PAIRS and packet.sport not in PAIRS[packet.proto]:
        return (packet.proto, ends)
    return (packet.proto, frozenset(ends))


class Twin:
    """All connections of a list of packets."""

    def __init__(self) -> None:
        self.lan = Lan()
        self.live: dict[object, Live] = {}
        self.clock = -NEVER
        self.records: list[dict[str, Any]] = []
        self.slices: list[dict[str, Any]] = []

    def run(self, packets: list[Packet]) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
        """Return records and slices as dictionaries, in no order."""
        for packet in packets:
            self.clock = max(self.clock, packet.ts)
            self.pass_time()
            self.take(packet)
        for conn in list(self.live.values()):
            self.end(conn, self.clock)
        return self.records, self.slices

    def pass_time(self) -> None:
        for key, conn in list(self.live.items()):
            if conn.due <= self.clock and conn.due < conn.deadline():
                self.speak(conn, conn.due, final=False)
            if conn.deadline() <= self.clock:
                self.end(conn, conn.deadline())
                del self.live[key]

    def take(self, packet: Packet) -> None:
        key = _key(packet)
        conn = self.live.get(key)
        if conn is not None and packet.proto == 6 and _reused(conn, packet):
            self.end(conn, self.clock + 1)
            conn = None
        if conn is None:
            conn = self.live[key] = self.begin(packet)
        side = conn.side_of(packet)
        if packet.bad:
            if packet.proto in {6, 17}:
                conn.count(side, "C")
            return
        if conn.due == NEVER:
            conn.due, conn.opened = conn.boundary(self.clock), packet.ts
        if packet.proto == 6:
            side = _tcp(conn, side, packet, self.clock)
        else:
            conn.last = max(conn.last, packet.ts)
            conn.heard = self.clock
            if packet.proto == 17:
                conn.first_time(side, "data", "D")
            if packet.proto in {1, 17, 58}:
                conn.sides[side].bytes += len(packet.payload)
        conn.sides[side].pkts += 1
        conn.sides[side].ip_bytes += packet.ip_len
        captured = packet.payload[: len(packet.payload) - packet.cut]
        if captured and service.hungry_one(conn.memory, side == 0):
            port = packet.sport if side else packet.dport
            conn.memory, conn.service, conn.host = service.sniff(
                conn.memory, side == 0, packet.proto, port, captured[: service.MAX_LOOK],
                conn.service, conn.host,
            )  # fmt: skip
            if conn.partial and conn.service.decode() in FROM_START:
                conn.service = b""
            if conn.service.decode().startswith(SHELLS):
                conn.idle = 3_600 * SECOND

    def begin(self, packet: Packet) -> Live:
        sport, dport = _ports(packet)
        flip = False
        servers = SERVERS.get(packet.proto, set())
        if packet.proto == 17:
            flip = sport in servers and dport not in servers
        elif packet.proto == 6 and (not packet.flags & SYN or packet.flags & ACK):
            flip = sport in servers
            if dport in servers and not packet.flags & SYN:
                flip = flip and sport < dport
        if packet.dst.startswith(("224.", "ff")):
            flip = False
        sides = [Side(packet.src, sport), Side(packet.dst, dport)]
        if flip:
            sides.reverse()
        return Live(
            packet.proto, sides, packet.ts, self.clock, packet.ts, self.clock, 60 * SECOND,
            history="^" if flip else "", dns=packet.proto == 17 and sides[1].port in DNS,
        )  # fmt: skip

    def end(self, conn: Live, told: int) -> None:
        if conn.due != NEVER:
            self.speak(conn, min(conn.due, told), final=conn.due >= told)
        self.records.append(self.row(conn, told))

    def speak(self, conn: Live, told: int, final: bool) -> None:
        row = self.row(conn, told)
        now = self.amounts(conn)
        since = [a - b for a, b in zip(now, conn.told, strict=True)]
        names = ("orig_pkts", "orig_ip_bytes", "resp_pkts", "resp_ip_bytes", "missed_bytes",
                 "orig_bytes", "resp_bytes")  # fmt: skip
        row.update(zip(names, since, strict=True))
        row["duration"] = max(conn.last - conn.opened, 0) / SECOND
        for name in ("orig_bytes", "resp_bytes"):
            row[name] = max(row[name], 0)
            if conn.piece == 0 and row["duration"] == 0:
                row[name] = -1
        row.update(piece=conn.piece, final=final)
        self.slices.append(row)
        conn.told, conn.due, conn.piece = now, NEVER, conn.piece + 1

    def amounts(self, conn: Live) -> tuple[int, ...]:
        o, r = conn.sides
        return (o.pkts, o.ip_bytes, r.pkts, r.ip_bytes, conn.missed, conn.payload(0),
                conn.payload(1))  # fmt: skip

    def row(self, conn: Live, told: int) -> dict[str, Any]:
        o, r = conn.sides
        duration = max(conn.last - conn.ts, 0) / SECOND
        return {
            "ts": conn.ts, "orig": o.address, "resp": r.address, "orig_p": o.port,
            "resp_p": r.port, "proto": conn.proto, "service": conn.service, "host": conn.host,
            "duration": duration,
            "orig_bytes": conn.payload(0) if duration else -1,
            "resp_bytes": conn.payload(1) if duration else -1,
            "conn_state": _state(conn), "missed_bytes": conn.missed,
            "history": conn.history.encode(), "orig_pkts": o.pkts, "orig_ip_bytes": o.ip_bytes,
            "resp_pkts": r.pkts, "resp_ip_bytes": r.ip_bytes, "piece": 0, "final": True,
            "age": duration, "told": told,
            "refused": bool(service.refused(np.array([conn.memory]))[0]),
            "local_orig": bool(self.lan.local(pack_all([o.address]))[0]) or _link(o.address),
            "local_resp": bool(self.lan.local(pack_all([r.address]))[0]) or _link(r.address),
        }  # fmt: skip


def _link(address: str) -> bool:
    return address.startswith("224.0.0.")


def _state(conn: Live) -> str:  # noqa: PLR0911
    o, r = (side.state for side in conn.sides)
    if conn.proto == 17:
        asked, answered = (side.pkts > 0 for side in conn.sides)
        if asked:
            return "SF" if answered else "S0"
        return "SHR" if answered else "OTH"
    if conn.proto != 6:
        return "OTH"
    absent = {"inactive", "partial"}
    if r == "reset":
        nothing = conn.payload(0) == 0 and conn.payload(1) == 0
        if o in {"syn", "syn-ack"} or (o == "reset" and nothing):
            return "REJ"
        return "RSTRH" if o in absent else "RSTR"
    if o == "reset":
        if r not in absent:
            return "RSTO"
        return "RSTOS0" if re.fullmatch(r"\^?S[^HAFGIQ]*R.*", conn.history) else "OTH"
    if o == "closed":
        return "SF" if r == "closed" else "SH" if r in absent else "S2"
    if r == "closed":
        return "SHR" if o in absent else "S3"
    if (o, r) == ("syn", "inactive"):
        return "S0"
    return "S1" if (o, r) == ("established", "established") else "OTH"


# --- TCP ------------------------------------------------------------------------------------


def _reused(conn: Live, packet: Packet) -> bool:
    if not packet.flags & SYN:
        return False
    o, r = conn.sides
    begun = o
    if packet.flags & ACK:
        if o.state != "inactive":
            return False
        begun = r
    if o.closed and r.closed:
        return True
    if packet.seq == begun.start % WORD:
        return False
    overtaken = o.state == "syn-ack" and r.state == "inactive" and packet.seq == r.start % WORD
    return bool(packet.flags & ACK) or not overtaken


def _tcp(conn: Live, s: int, packet: Packet, clock: int) -> int:  # noqa: PLR0912
    """Apply a packet; return the side that sent it (a flip changes its number)."""
    me, you = conn.sides[s], conn.sides[1 - s]
    syn, fin, rst, ack = (bool(packet.flags & bit) for bit in (SYN, FIN, RST, ACK))
    length = len(packet.payload)
    if not me.seen:
        if s == 0:
            conn.partial = not syn or ack
        elif not conn.partial:
            conn.partial = not syn
    span = (0 if rst else length) + syn + fin
    _number(me, syn, packet.seq, span)
    at = near(packet.seq, me.top)
    relative = at - me.start
    _letter(conn, s, (syn, fin, rst, ack), relative, length)
    if packet.window == 0 and not rst and you.state != "closed" and me.state != "reset":
        conn.count(s, "W")
    if not (me.closed and you.closed):
        conn.last, conn.heard = max(conn.last, packet.ts), clock
    if fin:
        me.fin, me.fin_at = True, relative + span
    confirmed = 0
    if ack and you.state == "inactive":
        you.start = you.acked = you.top = (packet.ack - 1) % WORD
        confirmed = 1
    elif ack:
        there = near(packet.ack, you.acked)
        if there >= you.start:
            confirmed = there - you.start
            wild = packet.ack == 0 and there - you.acked > 1 << 20
            if not rst and there > you.acked and not wild:
                you.acked = there
    ahead = near(packet.seq + span, me.top) - me.top
    if (syn or rst) and abs(ahead) > 1 << 20:
        pass
    elif fin and me.top == me.start + 1:
        me.top += ahead % WORD
    elif me.state == "reset":
        pass
    elif ahead > 0:
        me.top += ahead
    elif length:
        conn.count(s, "T")
    closes = _move(conn, me, (syn, fin, rst, ack), length, clock)
    s = 0 if conn.sides[0] is me else 1
    if ack:
        _confirm(conn, you, confirmed)
    me.seen = True
    if length and not rst and relative >= 0 and not packet.cut:
        _hold(conn, me, relative + syn, length)
    _look_for_end(conn, me)
    if closes:
        _close(conn, me)
    return s


def _number(me: Side, syn: bool, seq: int, span: int) -> None:
    if me.state == "inactive" and not syn:
        me.start = me.acked = (seq - 1) % WORD
        me.top = me.start + 1
        return
    anew = syn and (
        me.state in {"inactive", "established", "partial"}
        or (me.state in {"syn", "syn-ack"} and seq != me.start % WORD)
        or (me.state == "reset" and me.before == "inactive")
    )
    if anew:
        me.start = me.acked = seq
        me.top = seq + span


def _letter(
    conn: Live, s: int, flags: tuple[bool, bool, bool, bool], relative: int, length: int
) -> None:
    syn, fin, rst, ack = flags
    me = conn.sides[s]
    if fin and rst:
        conn.first_time(s, "inconsistent", "I")
    elif syn + fin + rst > 1:
        conn.first_time(s, "multi", "Q")
    elif syn or fin or rst:
        kind = "syn" if syn else "fin" if fin else "rst"
        letter = {"syn": "H" if ack else "S", "fin": "F", "rst": "R"}[kind]
        place = relative + length if fin else relative
        if not conn.first_time(s, kind, letter) and place != me.last.get(kind, 0):
            conn.write(s, letter)
        me.last[kind] = place
    elif length:
        conn.first_time(s, "data", "D")
    elif ack:
        conn.first_time(s, "ack", "A")


def _enter(conn: Live, me: Side, state: str) -> None:
    you = conn.sides[1] if conn.sides[0] is me else conn.sides[0]
    if state == me.state:
        return
    if state not in OPENING and me.state in OPENING and you.state in OPENING:
        conn.idle = max(conn.idle, 300 * SECOND)
    me.before, me.state = me.state, state


def _move(  # noqa: PLR0912
    conn: Live, me: Side, flags: tuple[bool, bool, bool, bool], length: int, clock: int
) -> bool:
    """Move the states; return whether the side closes."""
    syn, fin, rst, ack = flags
    orig = conn.sides[0] is me
    you = conn.sides[1] if orig else conn.sides[0]
    if me.state == "inactive":
        if syn and orig:
            _enter(conn, me, "syn-ack" if ack else "syn")
            conn.attempt = clock
        elif syn:
            if not ack and you.state == "syn-ack":
                conn.sides.reverse()
                conn.told = tuple(conn.told[i] for i in (2, 3, 0, 1, 4, 6, 5))
                conn.partial = False
                conn.history = (conn.history + "^")[:48]
                _enter(conn, you, "established")
                me.seen = True
            if you.state == "syn":
                _enter(conn, you, "established")
            _enter(conn, me, "established")
        if fin:
            _enter(conn, me, "closed")
        if rst:
            _enter(conn, me, "reset")
        if me.state == "inactive" and not (not orig and not length and you.state == "syn"):
            if ack and you.state == "established":
                _enter(conn, me, "established")
                conn.partial, me.seen = False, True
            else:
                _enter(conn, me, "partial")
        return fin or rst
    if me.state in {"syn", "syn-ack"}:
        if fin:
            _enter(conn, me, "closed")
        if rst:
            _enter(conn, me, "reset")
        return fin or rst
    if me.state in {"established", "partial"}:
        if syn and not ack and me.state == "partial" and you.state == "inactive":
            _enter(conn, me, "syn")
        if fin and not rst:
            _enter(conn, me, "closed")
            if (you.state, you.before) == ("reset", "closed"):
                _enter(conn, you, "closed")
        if rst:
            _enter(conn, me, "reset")
        return fin or rst
    if me.state == "closed" and rst and you.state != "closed":
        _enter(conn, me, "reset")
        return not me.closed
    return False


def _hold(conn: Live, me: Side, start: int, length: int) -> None:
    if me.blind:
        return
    fresh = range(max(start, me.acked - me.start, me.trimmed), start + length)
    if not fresh:
        return
    me.highest = max(me.highest, fresh.stop)
    unconfirmed = me.acked - me.start <= 1
    me.held.update(range(max(fresh.start, me.delivered), fresh.stop))
    if fresh.start <= me.delivered < fresh.stop:
        _deliver(me)
        if unconfirmed and conn.payload(0 if conn.sides[0] is me else 1) > 16_384:
            me.trimmed = max(me.trimmed, me.delivered)
    waiting = len(me.held) + max(me.delivered - me.trimmed, 0)
    if (unconfirmed and me.highest - me.delivered > 16_384) or waiting > 10 << 20:
        me.blind = True
        me.highest = me.trimmed
        me.held.clear()


def _deliver(me: Side) -> None:
    while me.delivered in me.held:
        me.held.discard(me.delivered)
        me.delivered += 1


def _confirm(conn: Live, me: Side, upto: int) -> None:
    if me.fin and upto >= me.fin_at:
        upto = me.fin_at - 1
    if upto <= me.trimmed:
        return
    if upto > me.delivered and not (upto <= 2 and conn.partial):
        while me.delivered < upto and not me.blind:
            hole = min((number for number in me.held if number < upto), default=upto)
            _gap(conn, me, hole - me.delivered)
            me.delivered = hole
            _deliver(me)
        me.delivered = max(me.delivered, upto)
    me.trimmed = upto
    _deliver(me)
    _look_for_end(conn, me)


def _gap(conn: Live, me: Side, length: int) -> None:
    if all(
        s.state == "established" or (s.state, s.before) == ("closed", "established")
        for s in conn.sides
    ):
        conn.count(0 if conn.sides[0] is me else 1, "G")
        conn.missed += length


def _lacks(conn: Live, me: Side) -> bool:
    you = conn.sides[1] if conn.sides[0] is me else conn.sides[0]
    behind = me.top - me.start - me.delivered
    if me.blind or behind < 0:
        return False
    return behind > 1 or (me.state != "reset" and you.highest > you.trimmed)


def _look_for_end(conn: Live, me: Side) -> None:
    over = me.fin or me.state in {"closed", "reset"}
    if over and not me.ended and not _lacks(conn, me):
        me.ended = True
        if conn.waits:
            _close(conn, me)
            conn.waits = False


def _close(conn: Live, me: Side) -> None:
    conn.waits = _lacks(conn, me)
    if conn.waits or me.closed:
        return
    me.closed = True
    you = conn.sides[1] if conn.sides[0] is me else conn.sides[0]
    if me.state == "reset" or you.closed or you.state == "inactive":
        conn.closing = conn.heard
