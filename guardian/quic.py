"""The server name that a QUIC client asks for, out of its first packets.

An Initial packet is sealed with keys that follow from the connection id in its header (RFC 9001,
RFC 9369, and drafts from 23 on), so that anybody on the path may read it. The ClientHello within
comes in pieces, in any order, over one to three packets. What came before the standard, Google's
own QUIC, says the name in the clear.

Over TCP, too, such a hello may fill more than one segment (Hellos.segment).

Nothing here raises on any bytes. A hello is bounded, and so are those that wait for the rest of
theirs and the packets opened in a second.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, lru_cache

from guardian import aes, tlsname
from guardian.const import NS

MAX_INITIALS = 6
"""Initial packets opened of a connection: a hello with post-quantum keys fills two, and the
client may send them again."""
MAX_HELLO = 4_096
"""Bytes of a hello that are looked at: one with post-quantum keys has 1,800."""
MAX_PIECES = 64
"""Pieces of a hello: Chrome cuts it into a dozen on purpose."""
MAX_WAITING = 256
"""Hellos that wait for the rest of theirs, 1 MiB; the one that waits longest goes first."""
OPENED_PER_S = 128
"""Packets opened in a second of packet time, half a millisecond each on a PC: more than a home
sends that opens a page. Of what a flood brings beyond, no name is learned."""
MAX_SECONDS = 1_024
"""Seconds whose packets are counted; a batch of a file may hold many."""

Flow = tuple[bytes, bytes, int, int]
"""Who sends to whom: addresses and ports."""

_V2 = 0x6B3343CF
_SALT = bytes.fromhex("38762cf7f55934b34d179ae6a4c80cadccbb7f0a")
_SALT_V2 = bytes.fromhex("0dede3def700a6db819381be6e269dcbf9bd2ed9")
_SALT_29 = bytes.fromhex("afbfec289993d24c9e9786f19c6111e04390a899")
_SALT_23 = bytes.fromhex("c3eef712c72ebb5a11a7d2432bb46365bef9f502")
_SALTS = {
    1: _SALT,
    _V2: _SALT_V2,
    **dict.fromkeys(range(0xFF000021, 0xFF000023), _SALT),
    **dict.fromkeys(range(0xFF00001D, 0xFF000021), _SALT_29),
    **dict.fromkeys(range(0xFF000017, 0xFF00001D), _SALT_23),
}
_ACK, _ACK_ECN, _CRYPTO, _CLOSE = 2, 3, 6, 0x1C
_FIRST = frozenset((0, 1, _ACK, _ACK_ECN, _CRYPTO, _CLOSE))
"""Frames that an Initial may begin with: padding, ping, and those."""


@dataclass(frozen=True)
class Keys:
    """What one side's Initial packets of a connection are sealed with.

    Most packets that cannot be opened are known as such by their headers, so the keys of the text
    are made when they are asked for.
    """

    secret: bytes
    prefix: bytes
    """Of the labels, by the version."""

    @cached_property
    def header(self) -> aes.Schedule:
        return aes.schedule(_expand(self.secret, self.prefix + b"hp", 16))

    @cached_property
    def text(self) -> aes.Schedule:
        return aes.schedule(_expand(self.secret, self.prefix + b"key", 16))

    @cached_property
    def nonce(self) -> bytes:
        return _expand(self.secret, self.prefix + b"iv", 12)


@dataclass(frozen=True)
class Initial:
    """An Initial packet within a datagram: where it lies, and its header's fields."""

    version: int
    to: bytes
    """The connection id that it is sent to; a client's first one is random and makes the keys."""
    begin: int
    number: int
    """Where the packet number is, which its own protection hides the length of."""
    end: int
    """May lie behind the datagram's end, if that was cut."""


# --- a packet -------------------------------------------------------------------------------


@lru_cache(maxsize=64)
def keys_of(version: int, first_id: bytes, client: bool = True) -> Keys:
    """Return a side's keys, by the first connection id that the client sent to."""
    initial = hmac.digest(_SALTS[version], first_id, "sha256")
    secret = _expand(initial, b"client in" if client else b"server in", 32)
    return Keys(secret, b"quicv2 " if version == _V2 else b"quic ")


def _expand(secret: bytes, label: bytes, size: int) -> bytes:
    """HKDF-Expand-Label of TLS 1.3, for what fits into one hash."""
    label = b"tls13 " + label
    info = size.to_bytes(2, "big") + bytes([len(label)]) + label + b"\x00\x01"
    return hmac.digest(secret, info, "sha256")[:size]


def initials(datagram: bytes) -> Iterator[Initial]:
    """Yield the Initial packets of a datagram, as far as its headers can be read."""
    at = 0
    while at + 7 <= len(datagram) and datagram[at] & 0xC0 == 0xC0:
        begin = at
        first, version = datagram[at], int.from_bytes(datagram[at + 1 : at + 5], "big")
        if version not in _SALTS:
            return
        kind = (first >> 4) - (version == _V2) & 3  # version 2 counts the kinds from 1
        to = datagram[at + 6 : at + 6 + datagram[at + 5]]
        at += 6 + len(to)
        source = datagram[at] if at < len(datagram) else 21
        at += 1 + source
        if kind == 0:
            token, at = _number(datagram, at)
            at += token
        size, at = _number(datagram, at)
        # No packet number and sample is shorter; a Retry has no size at all.
        if kind == 3 or len(to) > 20 or source > 20 or size < 20 or at + 20 > len(datagram):
            return
        if kind == 0:
            yield Initial(version, to, begin, at, at + size)
        at += size


def opened(datagram: bytes, packet: Initial, keys: Keys) -> bytes | None:
    """Return a packet's frames; None where these are not its keys, or it is damaged.

    Of a packet that a short capture cut, the frames as far as they are there; only reserved bits
    tell then whether the keys are right.
    """
    at = packet.number
    mask = aes.encrypt_one(keys.header, datagram[at + 4 : at + 4 + aes.BLOCK])
    first = datagram[packet.begin] ^ mask[0] & 0x0F
    if first & 0x0C:
        return None
    size = (first & 3) + 1
    number = bytes(a ^ b for a, b in zip(datagram[at : at + size], mask[1:], strict=False))
    nonce = keys.nonce[:-size] + bytes(
        a ^ b for a, b in zip(keys.nonce[-size:], number, strict=True)
    )
    at += size
    if aes.first_byte(keys.text, nonce, datagram[at : at + 1]) not in _FIRST:
        return None  # the whole would cost ten times as much
    if packet.end > len(datagram):
        return aes.unmasked(keys.text, nonce, datagram[at : packet.end - aes.TAG])
    head = bytes([first]) + datagram[packet.begin + 1 : packet.number] + number
    return aes.unsealed(keys.text, nonce, head, datagram[at : packet.end])


def pieces(frames: bytes) -> list[tuple[int, bytes]] | None:
    """Return the pieces of the handshake in an Initial's frames, by their offsets.

    None where something is no frame that may be there; a piece that is cut off ends the frames.
    """
    found = []
    at = 0
    while at < len(frames):
        kind = frames[at]
        at += 1
        if kind == 0:  # padding: on to the next other byte
            at = len(frames) - len(frames[at:].lstrip(b"\x00"))
        elif kind == _CRYPTO:
            offset, at = _number(frames, at)
            size, at = _number(frames, at)
            found.append((offset, frames[at : at + size]))
            at += size
        elif kind in (_ACK, _ACK_ECN):
            at = _behind_ack(frames, at, kind)
        elif kind == _CLOSE:
            return found
        elif kind != 1:
            return None
    return found


def _behind_ack(frames: bytes, at: int, kind: int) -> int:
    for _ in range(2):
        _, at = _number(frames, at)
    ranges, at = _number(frames, at)
    for _ in range(1 + 2 * min(ranges, MAX_PIECES) + 3 * (kind == _ACK_ECN)):
        _, at = _number(frames, at)
    return at


def _number(data: bytes, at: int) -> tuple[int, int]:
    """Return the number of variable length at a place, and the place behind it."""
    if at >= len(data):
        return 0, at
    size = 1 << (data[at] >> 6)
    value = int.from_bytes(data[at : at + size], "big")
    return value & (1 << 8 * size - 2) - 1, at + size


# --- a hello --------------------------------------------------------------------------------


@dataclass
class Hello:
    """The pieces of one client's hello."""

    version: int
    first_id: bytes
    looked: int = 0
    begin: int = 0
    """Over TCP: the sequence number of its first byte."""
    held: list[tuple[int, bytes]] = field(default_factory=list)

    def add(self, more: list[tuple[int, bytes]]) -> None:
        for offset, data in more:
            if data and offset + len(data) <= MAX_HELLO and len(self.held) < MAX_PIECES:
                self.held.append((offset, data))

    def name(self) -> tuple[bytes, bool]:
        """Return the server name, and whether nothing more is to be learned."""
        start = bytearray()
        for offset, data in sorted(self.held):
            if offset > len(start):
                break
            start += data[len(start) - offset :]
        if not start:
            return b"", False
        if start[0] != 1:
            return b"", True  # no ClientHello
        found = tlsname.server_name(b"\x16\x03\x03\x00\x00" + start)
        whole = len(start) >= 4 + int.from_bytes(start[1:4], "big") and len(start) >= 4
        return found, bool(found) or whole


class Hellos:
    """The hellos of which a part was seen, and how many packets may still be opened."""

    def __init__(self) -> None:
        self._waiting: dict[Flow, Hello] = {}
        self._opened: dict[int, int] = {}
        self.skipped = 0
        """Packets that were not opened, because too many came in their second."""

    def __len__(self) -> int:
        return len(self._waiting)

    def look(self, flow: Flow, ts: int, datagram: bytes) -> tuple[bytes, bool]:
        """Look into a client's datagram; return the server name and whether the search is over."""
        if datagram[:1] <= b"\x7f":  # short: the client has the keys of its session
            self._waiting.pop(flow, None)
            return b"", True
        hello = self._waiting.get(flow)
        for packet in initials(datagram):
            if hello is None:
                hello = Hello(packet.version, packet.to)
            if not self._may(ts):
                return b"", False
            hello.looked += 1
            frames = opened(datagram, packet, keys_of(hello.version, hello.first_id))
            if frames is None and packet.to != hello.first_id:
                # Perhaps the server had the client begin again, with another id, even version.
                frames = opened(datagram, packet, keys_of(packet.version, packet.to))
                if frames is not None:
                    hello = Hello(packet.version, packet.to, hello.looked)
            if frames is not None:
                hello.add(pieces(frames) or [])
            name, done = hello.name()
            if done or hello.looked >= MAX_INITIALS:
                self._waiting.pop(flow, None)
                return name, True
        if hello is not None:
            self._wait(flow, hello)
        return b"", False

    def segment(self, flow: Flow, seq: int, payload: bytes) -> bytes:
        """Look into a client's segment of TLS over TCP; return the server name, empty for none.

        A hello with post-quantum keys fills two segments, and its name may be in the second.
        """
        hello = self._waiting.get(flow)
        if payload[:2] == b"\x16\x03" and payload[5:6] == b"\x01":
            if len(payload) >= 9 + int.from_bytes(payload[6:9], "big"):
                return b""  # a whole one, whose name would be known
            seq, payload = seq + 5, payload[5:]  # behind the record's head
            hello = Hello(0, b"", begin=seq)
        if hello is None:
            return b""
        hello.add([(seq - hello.begin & 0xFFFFFFFF, payload)])
        name, over = hello.name()
        if over:
            self._waiting.pop(flow, None)
        else:
            self._wait(flow, hello)
        return name

    def _wait(self, flow: Flow, hello: Hello) -> None:
        if flow not in self._waiting and len(self._waiting) >= MAX_WAITING:
            del self._waiting[next(iter(self._waiting))]
        self._waiting[flow] = hello

    def _may(self, ts: int) -> bool:
        """Count a packet in its second; return whether there were few enough."""
        second = ts // NS
        count = self._opened.get(second, 0)
        if count >= OPENED_PER_S:
            self.skipped += 1
            return False
        if not count and len(self._opened) >= MAX_SECONDS:
            del self._opened[next(iter(self._opened))]
        self._opened[second] = count + 1
        return True


# --- before the standard --------------------------------------------------------------------


def google_name(datagram: bytes) -> bytes:
    """Return the name in a hello of Google's QUIC (Q025 to Q046), empty if there is none.

    The hello is a table: a tag and where its value ends, for each, then the values.
    """
    at = datagram.find(b"CHLO")
    if at < 0:
        return b""
    count = int.from_bytes(datagram[at + 4 : at + 6], "little")
    table, values = at + 8, at + 8 + 8 * count
    begin = 0
    for entry in range(table, min(values, len(datagram)), 8):
        end = int.from_bytes(datagram[entry + 4 : entry + 8], "little")
        if datagram[entry : entry + 4] == b"SNI\x00":
            return datagram[values + begin : values + end]
        begin = end
    return b""
