"""The first payloads of connections whose service is not known, given to the detection."""

from __future__ import annotations

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

Known = tuple[int, bytes, bytes, int]
"""What is remembered of a connection: detection's memory, service, host, inactivity allowed."""


def look(
    hellos: Hellos, known: Known, partial: int, asking: bool, packets: Packets, data: U8, i: int
) -> Known:
    """Look into packet i of a connection; return what is known now."""
    memory, found, host, idle = known
    if not service.hungry_one(memory, asking):
        return known
    start = int(packets.payload_start[i])
    cap = min(int(packets.payload_cap[i]), service.MAX_LOOK)
    sport, dport = int(packets.sport[i]), int(packets.dport[i])
    payload = data[start : start + cap].tobytes()
    memory, found, host = service.sniff(
        memory, asking, int(packets.proto[i]), dport if asking else sport, payload, found, host
    )
    if found == QUIC and asking:
        flow = (packets.src[i].tobytes(), packets.dst[i].tobytes(), sport, dport)
        name, over = hellos.look(flow, int(packets.ts[i]), payload)
        if over:
            memory, host = service.settled(memory), printable(name)
    if partial and found in _WHOLE:
        found = b""
    return memory, found, host, SHELL_IDLE_NS if found.startswith(_SHELLS) else idle


def look_all(store: Store, packets: Packets, data: U8, slots: I64, index: I64, asks: Bool) -> None:
    """Look into the packets at index, in order, of the rows in slots; asks: the originator's."""
    hungry = service.hungry(store.ints[slots, SNIFF], asks) & (packets.payload_cap[index] > 0)
    for at in np.flatnonzero(hungry).tolist():
        slot = int(slots[at])
        row = store.ints[slot]
        known = (int(row[SNIFF]), store.service[slot], store.host[slot], int(row[IDLE]))
        partial, asking = int(row[PARTIAL]), bool(asks[at])
        row[SNIFF], store.service[slot], store.host[slot], row[IDLE] = look(
            store.hellos, known, partial, asking, packets, data, int(index[at])
        )
