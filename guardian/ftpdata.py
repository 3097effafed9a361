"""Connections of FTP that another one announced: Zeek's service `ftp-data`.

A client names by PORT or EPRT, a server by its reply to PASV or EPSV (227, 229), where the other
side is to connect to. Who connects there within five minutes is a data connection, whatever it
carries. What decides is the order of packets, never a batch.
"""

from __future__ import annotations

import re
from bisect import bisect_left

import numpy as np

from guardian.addresses import V4_PREFIX, pack
from guardian.const import NS
from guardian.frames import words_at
from guardian.keys import picked
from guardian.tables import I64, U8, Bool, Packets

NAME = b"ftp-data"

SPAN_NS = 300 * NS
"""So long an announcement holds (Zeek's scripts say five minutes)."""
PER_S = 32
"""Announcements looked at in a second of packet time, so that at most 9,600 hold: a client that
fetches many files makes some ten a second."""
MOST_BYTES = 512
"""Bytes of a payload that may announce: a line."""

_TCP = 6
_COMMANDS = [int.from_bytes(word, "big") for word in (b"PORT", b"EPRT")]
_REPLIES = [int.from_bytes(word, "big") for word in (b"227 ", b"229 ")]
_UPPER = np.uint32(0xDFDFDFDF)
_SIX = re.compile(rb"([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3}),([0-9]{1,3})")
_EXTENDED = re.compile(rb"[ (]([!-/:-@|~])([12]?)\1([0-9A-Fa-f.:]{0,45})\1([0-9]{1,5})\1")

_Key = tuple[int, int, int, int, int]
"""Both halves of the address that is to connect, and of the one to connect to, and its port."""


class Announced:
    """What was announced in the last minutes."""

    def __init__(self) -> None:
        self._found: dict[_Key, list[tuple[int, int]]] = {}
        """For each: number among all packets, and clock, of its announcements, rising."""
        self._second = self._count = 0

    def __len__(self) -> int:
        return len(self._found)

    def hear(self, packets: Packets, clock: I64, data: U8, serial: int) -> None:
        """Note what packets announce; serial: number of the first among all."""
        rows = _candidates(packets, data)
        if len(self._found) and len(clock):
            self._forget(int(clock[0]))
        for i in rows.tolist():
            second = int(clock[i]) // NS
            if second != self._second:
                self._second, self._count = second, 0
            self._count += 1
            if self._count <= PER_S:
                start = int(packets.payload_start[i])
                line = data[start : start + int(packets.payload_cap[i])].tobytes()
                self._hear(packets, i, line, (serial + i, int(clock[i])))

    def _hear(self, packets: Packets, i: int, line: bytes, when: tuple[int, int]) -> None:
        src = packets.src[i].tolist()
        end = announced(line, (src[0], src[1]))
        if end is not None:
            high, low = packets.dst[i].tolist()
            self._found.setdefault((high, low, *end), []).append(when)

    def _forget(self, clock: int) -> None:
        old = clock - SPAN_NS
        over = [key for key, times in self._found.items() if times[-1][1] <= old]
        for key in over:
            del self._found[key]

    def awaits(self, packets: Packets, clock: I64, index: I64, turned: Bool, serial: int) -> Bool:
        """Return bool[index]: the connection that begins with this packet was announced.

        turned: the packet comes from its responder.
        """
        rows = np.flatnonzero(packets.proto[index] == _TCP)
        which, back = index[rows], turned[rows]
        src, dst = packets.src[which], packets.dst[which]
        sport, dport = packets.sport[which], packets.dport[which]
        orig, resp = picked(back, dst, src), picked(back, src, dst)
        resp_p = np.where(back, sport, dport)
        left = np.arange(len(which))
        for column, place in ((resp_p, 4), (resp[:, 1], 3), (orig[:, 1], 1)):
            known = np.array(list({key[place] for key in self._found}), dtype=column.dtype)
            left = left[np.isin(column[left], known)]
        found = np.zeros(len(index), dtype=np.bool_)
        for i in left.tolist():
            times = self._found.get((*orig[i].tolist(), *resp[i].tolist(), int(resp_p[i])), [])
            last = bisect_left(times, (serial + int(which[i]),)) - 1
            if last >= 0 and int(clock[which[i]]) - times[last][1] < SPAN_NS:
                found[rows[i]] = True
        return found


def _candidates(packets: Packets, data: U8) -> I64:
    """Return the packets that begin like an announcement."""
    size = packets.payload_cap
    rows: I64 = np.flatnonzero((size > len(b"229 (")) & (size <= MOST_BYTES))
    rows = rows[packets.proto[rows] == _TCP]
    if not len(rows):
        return rows
    word = words_at(data, packets.payload_start[rows], 4, ">u4")[0]
    like = np.isin(word & _UPPER, _COMMANDS) | np.isin(word, _REPLIES)
    return rows[like & ~packets.bad_csum[rows]]


def announced(line: bytes, speaker: tuple[int, int]) -> tuple[int, int, int] | None:
    """Return the address, in two halves, and port that a line of FTP announces, None for none.

    Where it names no address it is the speaker's.
    """
    line = line.split(b"\r", 1)[0].split(b"\n", 1)[0]
    if line[:4].upper() in (b"PORT", b"227 "):
        match = _SIX.search(line)
        numbers = [int(number) for number in match.groups()] if match else [256]
        if max(numbers) > 255:
            return None
        address = int.from_bytes(bytes(numbers[:4]), "big")
        return 0, V4_PREFIX | address, numbers[4] << 8 | numbers[5]
    match = _EXTENDED.search(line)
    if match is None or int(match[4]) > 0xFFFF:
        return None
    if not match[3]:
        return (*speaker, int(match[4])) if line.startswith(b"229") else None
    try:
        return (*pack(match[3].decode()), int(match[4]))
    except ValueError:
        return None
