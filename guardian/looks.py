"""The first payloads of connections whose service is not known, given to the detection."""

from __future__ import annotations

from typing import Any

import numpy as np

from guardian import service
from guardian.connstate import IDLE, PARTIAL, SNIFF
from guardian.connstore import Store
from guardian.const import NS
from guardian.datagrams import QUIC, printable
from guardian.quic import Hellos
from guardian.tables import I64, U8, Bool, Packets

SHELL_IDLE_NS = 3_600 * NS
"""Inactivity allowed once SSH or FTP is confirmed, as in Zeek's scripts."""
_SHELLS = (b"ssh", b"ftp")
_WHOLE = frozenset((b"http", b"ssl", b"ssh", b"ftp", b"smtp", b"irc", b"pop3", b"imap", b"xmpp"))
"""Services that Zeek confirms only where it saw the connection from its start."""
_FIRST = 2
"""Payloads of a connection looked at before the others."""
_NAMED_LATER = frozenset((QUIC, b"ssl"))
"""Services whose name may come in pieces."""

Known = tuple[int, bytes, bytes, int]
"""What is remembered of a connection: detection's memory, service, host, inactivity allowed."""


def look(
    hellos: Hellos, known: Known, partial: int, asking: bool, packets: Packets, data: U8, i: int
) -> Known:
    """Look into packet i of a connection that is hungry_one; return what is known now."""
    return _looked(hellos, known, partial, asking, packets, data.data, i, *_about(packets, i))


def _about(packets: Packets, i: Any) -> tuple[Any, ...]:
    """Return of packet i, or of packets: protocol, ports, where the payload begins and ends."""
    begin = packets.payload_start[i]
    end = begin + np.minimum(packets.payload_cap[i], service.MAX_LOOK)
    columns = (packets.proto[i], packets.sport[i], packets.dport[i], begin, end)
    return tuple(column.tolist() for column in columns)


def _looked(
    hellos: Hellos, known: Known, partial: int, asking: bool, packets: Packets, data: memoryview,
    i: int, proto: int, sport: int, dport: int, begin: int, end: int,
) -> Known:  # fmt: skip
    memory, found, host, idle = known
    payload = bytes(data[begin:end])
    memory, found, host = service.sniff(
        memory, asking, proto, dport if asking else sport, payload, found, host
    )
    if asking and not host and found in _NAMED_LATER:
        flow = (packets.src[i].tobytes(), packets.dst[i].tobytes(), sport, dport)
        if found == QUIC:
            name, over = hellos.look(flow, int(packets.ts[i]), payload)
            memory = service.settled(memory) if over else memory
        else:
            name = hellos.segment(flow, int(packets.seq[i]), payload)
        host = printable(name)
    if partial and found in _WHOLE:
        found = b""
    return memory, found, host, SHELL_IDLE_NS if found.startswith(_SHELLS) else idle


def look_all(store: Store, packets: Packets, data: U8, slots: I64, index: I64, asks: Bool) -> None:
    """Look into the packets at index, of rows in slots: each row's stand together, in order.

    asks: the originator's.
    """
    wanted = service.wanted(store.ints[slots, SNIFF], asks)
    hungry = np.flatnonzero((wanted > 0) & (packets.payload_cap[index] > 0))
    if not len(hungry):
        return
    slots, index, asks, wanted = slots[hungry], index[hungry], asks[hungry], wanted[hungry]
    begins, place = _rows(slots)
    rows = slots[begins]
    rank = np.where(asks, _count(asks, begins, place), _count(~asks, begins, place))
    columns = (store.ints[rows, SNIFF], store.service[rows], store.host[rows])
    idle = store.ints[rows, IDLE].tolist()
    known: list[Known] = list(zip(*(c.tolist() for c in columns), idle, strict=True))
    partial = store.ints[rows, PARTIAL].tolist()
    view = data.data

    def go(picked: I64, until: dict[int, int]) -> dict[int, int]:
        """Look into picked packets; return of rows that now want more where they stopped."""
        more: dict[int, int] = {}
        which = index[picked]
        about = _about(packets, which)
        for at, row, asking, i, *what in zip(
            picked.tolist(), place[picked].tolist(), asks[picked].tolist(), which.tolist(),
            *about, strict=True,
        ):  # fmt: skip
            before = known[row]
            if row in more or at <= until.get(row, -1) or not service.hungry_one(before[0], asking):
                continue
            after = _looked(store.hellos, before, partial[row], asking, packets, view, i, *what)
            known[row] = after
            if not until and service.patient(after[0]) and not service.patient(before[0]):
                more[row] = at
        return more

    # Two payloads tell most. The rest is looked at where they did not, and few then want more than
    # the first packets: those go on from where they said so.
    picked = np.flatnonzero(rank < wanted)
    early = _count(np.ones(len(picked), dtype=np.bool_), *_rows(place[picked])) < _FIRST
    until = go(picked[early], {})
    rest = picked[~early]
    if len(rest):
        unsure = np.zeros(len(rows), dtype=np.bool_)
        for row in np.unique(place[rest]).tolist():
            memory = known[row][0]
            hungry_still = service.hungry_one(memory, True) or service.hungry_one(memory, False)
            unsure[row] = hungry_still and row not in until
        until |= go(rest[unsure[place[rest]]], {})
    if until:
        patient = np.zeros(len(rows), dtype=np.bool_)
        patient[list(until)] = True
        go(np.flatnonzero(patient[place] & (rank < service.PATIENCE)), until)
    store.ints[rows, SNIFF] = [one[0] for one in known]
    store.service[rows] = [one[1] for one in known]
    store.host[rows] = [one[2] for one in known]
    store.ints[rows, IDLE] = [one[3] for one in known]


def _rows(place: I64) -> tuple[Bool, I64]:
    """Return of packets in order of their rows where a row begins, and the number of each's row."""
    begins = np.append(True, place[1:] != place[:-1])
    return begins, np.cumsum(begins) - 1


def _count(sent: Bool, begins: Bool, place: I64) -> I64:
    """Return how many packets that were sent stand before each in its row."""
    before: I64 = np.cumsum(sent) - sent
    count: I64 = before - before[begins][place]
    return count
