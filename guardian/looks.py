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
    """Look into the packets at index, in order, of the rows in slots; asks: the originator's."""
    hungry = service.hungry(store.ints[slots, SNIFF], asks) & (packets.payload_cap[index] > 0)
    picked = _first(np.flatnonzero(hungry), slots * 2 + asks)
    if not len(picked):
        return
    rows, place = np.unique(slots[picked], return_inverse=True)
    columns = (store.ints[rows, SNIFF], store.service[rows], store.host[rows])
    idle = store.ints[rows, IDLE].tolist()
    known: list[Known] = list(zip(*(c.tolist() for c in columns), idle, strict=True))
    partial = store.ints[rows, PARTIAL].tolist()
    which, view = index[picked], data.data
    for row, asking, i, *about in zip(
        place.tolist(), asks[picked].tolist(), which.tolist(), *_about(packets, which), strict=True
    ):
        if service.hungry_one(known[row][0], asking):
            known[row] = _looked(
                store.hellos, known[row], partial[row], asking, packets, view, i, *about
            )
    store.ints[rows, SNIFF] = [one[0] for one in known]
    store.service[rows] = [one[1] for one in known]
    store.host[rows] = [one[2] for one in known]
    store.ints[rows, IDLE] = [one[3] for one in known]


def _first(picked: I64, side: I64) -> I64:
    """Return of the picked packets the first few of each side: more are never looked at."""
    if len(picked) <= 1:
        return picked
    order = np.argsort(side[picked], kind="stable")
    sorted_ = side[picked[order]]
    begins = np.flatnonzero(np.append(True, sorted_[1:] != sorted_[:-1]))
    rank = np.arange(len(picked)) - np.repeat(begins, np.diff(begins, append=len(picked)))
    kept: I64 = np.sort(picked[order[rank < service.PATIENCE]])
    return kept
