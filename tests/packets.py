"""Packets for tests, built by hand: no frames, no decoder, any history one can think of."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from guardian.addresses import pack
from guardian.const import NS
from guardian.tables import Arps, Decoded, Packets

FIN, SYN, RST, PSH, ACK = 1, 2, 4, 8, 16
START = 1_700_000_000 * NS
WRAP = 1 << 32


@dataclass(frozen=True)
class Packet:
    """One packet; time is ns after START, payload its bytes."""

    time: int
    src: str
    sport: int
    dst: str
    dport: int
    proto: int = 6
    flags: int = 0
    seq: int = 0
    ack: int = 0
    payload: bytes = b""
    window: int = 1_000
    bad: bool = False
    cut: int = 0
    """Bytes of the payload that were not captured."""

    @property
    def ts(self) -> int:
        return START + self.time

    @property
    def ip_len(self) -> int:
        return (40 if self.proto == 6 else 28) + len(self.payload)


def decoded(packets: Sequence[Packet], now: int | None = None) -> Decoded:
    """Return packets as decode would hand them out; now is ns after START."""
    n = len(packets)
    p = Packets.blank(n)
    at, blob = 0, b"".join(packet.payload for packet in packets)
    for i, packet in enumerate(packets):
        p.src[i], p.dst[i] = pack(packet.src), pack(packet.dst)
        p.payload_start[i] = at
        at += len(packet.payload)
    p.ts[:] = [q.ts for q in packets]
    p.frame[:] = np.arange(n)
    p.src_mac[:] = [_mac(q.src) for q in packets]
    p.dst_mac[:] = [_mac(q.dst) for q in packets]
    p.v6[:] = [":" in q.src for q in packets]
    p.proto[:] = [q.proto for q in packets]
    p.sport[:] = [q.sport for q in packets]
    p.dport[:] = [q.dport for q in packets]
    p.ip_len[:] = [q.ip_len for q in packets]
    p.payload_len[:] = [len(q.payload) for q in packets]
    p.payload_cap[:] = [len(q.payload) - q.cut for q in packets]
    p.flags[:] = [q.flags for q in packets]
    p.seq[:] = [q.seq for q in packets]
    p.ack[:] = [q.ack for q in packets]
    p.window[:] = [q.window for q in packets]
    p.bad_csum[:] = [q.bad for q in packets]
    clock = max([q.ts for q in packets], default=0)
    if now is not None:
        clock = max(clock, START + now)
    data = np.frombuffer(blob, dtype=np.uint8)
    return Decoded(p, Arps.empty(), data, {}, 0, clock)


def _mac(address: str) -> int:
    return 0x020000000000 | (pack(address)[1] & 0xFFFFFFFF)


@dataclass
class _End:
    """One end of a conversation as it sees its own numbers."""

    address: str
    port: int
    seq: int
    sent: list[tuple[int, int, bytes]]


_GAPS = (0, 0, 1, 1_000, 1_000_000, 40_000_000, 700_000_000, 3 * NS, 4_999_999_999, 5 * NS,
         6 * NS, 9 * NS, 11 * NS, 59 * NS, 61 * NS, 301 * NS)  # fmt: skip
_TEXTS = (
    b"GET / HTTP/1.1\r\nHost: Example.com\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0-a\r\n",
    b"220 mail ready\r\n", b"EHLO me\r\n", b"USER me\r\n", b"x", b"\x00" * 30, b"y" * 1_400,
    b"\x10\x10\x00\x04MQTT\x04\x02\x00\x3c\x00\x04abcd", b"\x16\x03\x01\x00\x05\x01\x00\x00\x01",
    b"\x12\x34\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x03abc\x02de\x00\x00\x01\x00\x01",
    b"\x23" + b"\x00" * 47, b"STARTTLS\r\n", b"HTTP/1.1 101 S\r\nUpgrade: websocket\r\n\r\n",
    b"\x30\x43\x02\x01\x02\x60\x3d\x02\x01\x03\x04\x00\xa3\x36\x04\x0aGSS-SPNEGO\x04\x28NTLMSSP\x00",
)  # fmt: skip
_HOSTS = ("192.168.1.2", "192.168.1.3", "93.184.216.34", "fe80::1", "224.0.0.251")


def conversation(rng: random.Random, calm: bool) -> list[Packet]:
    """Return a random conversation; a calm one mostly keeps to the rules."""
    start = rng.choice((0, 0, rng.randrange(20 * NS), rng.randrange(400 * NS)))
    proto = rng.choice((6, 6, 6, 6, 17, 17, 1, 58, 132))
    if proto == 6:
        return _tcp(rng, start, calm)
    a, b = rng.sample(_HOSTS, 2)
    if proto in {1, 58}:
        kinds = ((8, 0), (0, 0), (3, 1), (128, 0), (129, 0), (135, 0))
        ports = [rng.choice(kinds) for _ in range(2)]
    else:
        sport = rng.choice((53, 123, 5353, 40_000, 40_001, 0))
        dport = rng.choice((53, 123, 5353, 40_000, 0)) if proto == 17 else 0
        ports = [(sport, dport), (dport, sport)]
    out, time = [], start
    for _ in range(rng.randrange(1, 8)):
        time += rng.choice(_GAPS)
        back = rng.random() < 0.4
        src, dst = (b, a) if back else (a, b)
        sport, dport = ports[back]
        bad = rng.random() < 0.1
        text = rng.choice(_TEXTS) if rng.random() < 0.8 else b""
        out.append(Packet(time, src, sport, dst, dport, proto, payload=text, bad=bad))
    return out


def _tcp(rng: random.Random, start: int, calm: bool) -> list[Packet]:
    a, b = rng.sample(_HOSTS[:3], 2)
    first = rng.choice((0, 1, 1_000, WRAP - 20, WRAP - 2_000, 1 << 31, rng.randrange(WRAP)))
    ends = (
        _End(a, rng.choice((40_000, 40_001, 80, 22)), first, []),
        _End(b, rng.choice((80, 22, 25, 40_002)), rng.choice((5, WRAP - 3, 1 << 31)), []),
    )
    out: list[Packet] = []
    time = start
    script = _script(rng, calm)
    for who, what in script:
        time += rng.choice(_GAPS[:7]) if calm and rng.random() < 0.9 else rng.choice(_GAPS)
        packet = _make(rng, ends[who], ends[1 - who], time, what)
        if rng.random() < (0.02 if calm else 0.1):
            continue  # lost
        out.append(packet)
        if rng.random() < (0.02 if calm else 0.08):
            time += rng.choice(_GAPS[:6])
            out.append(replace(packet, time=time))  # twice
    if not calm and rng.random() < 0.3 and len(out) > 1:
        i = rng.randrange(len(out) - 1)
        x, y = out[i], out[i + 1]
        out[i : i + 2] = [replace(y, time=x.time), replace(x, time=y.time)]
    return out


def _script(rng: random.Random, calm: bool) -> list[tuple[int, str]]:
    steps: list[tuple[int, str]] = []
    if rng.random() < 0.85:
        steps += [(0, "syn"), (1, "synack"), (0, "ack")]
    for _ in range(rng.randrange(0, 14)):
        who = rng.randrange(2)
        steps.append((who, rng.choice(("data", "data", "data", "ack"))))
        if not calm and rng.random() < 0.3:
            odd = ("old", "keep", "zero", "bad", "skip", "syn", "synack", "rst", "fin", "finrst",
                   "synfin", "noack", "half", "big")  # fmt: skip
            steps.append((who, rng.choice(odd)))
    if rng.random() < 0.7:
        who = rng.randrange(2)
        steps += [(who, "fin"), (1 - who, "ack"), (1 - who, "fin"), (who, "ack")]
    elif rng.random() < 0.5:
        steps.append((rng.randrange(2), "rst"))
    return steps


def _make(rng: random.Random, me: _End, you: _End, time: int, what: str) -> Packet:
    """Return a packet of a kind and move the sender's numbers on."""
    text = rng.choice(_TEXTS)
    packet = Packet(
        time, me.address, me.port, you.address, you.port,
        flags=ACK, seq=me.seq % WRAP, ack=you.seq % WRAP,
    )  # fmt: skip
    flags = {"syn": SYN, "synack": SYN | ACK, "fin": FIN | ACK, "rst": RST | ACK,
             "finrst": FIN | RST, "synfin": SYN | FIN, "noack": 0}  # fmt: skip
    packet = replace(packet, flags=flags.get(what, ACK))
    if what in {"syn", "synack"}:
        me.seq += 1
    elif what in {"data", "noack", "bad", "half", "zero", "big"}:
        if what == "big":
            text = b"z" * 20_000
        packet = replace(packet, payload=text, flags=packet.flags | PSH)
        me.sent.append((me.seq, me.seq + len(text), text))
        me.seq += len(text)
    elif what == "fin":
        if rng.random() < 0.3:
            packet = replace(packet, payload=text)
            me.seq += len(text)
        me.seq += 1
    elif what == "old" and me.sent:
        seq, _, text = rng.choice(me.sent)
        packet = replace(packet, seq=seq % WRAP, payload=text)
    elif what == "keep":
        packet = replace(packet, seq=(me.seq - 1) % WRAP, payload=rng.choice((b"", b"k")))
    elif what == "skip":
        me.seq += rng.choice((1, 1_460, 30_000))
    if what == "zero":
        packet = replace(packet, window=0)
    if what == "bad":
        packet = replace(packet, bad=True)
    if what == "half" and len(packet.payload) > 1:
        packet = replace(packet, cut=1)
    return packet


def traffic(seed: int, conversations: int = 6) -> list[Packet]:
    """Return the packets of some random conversations, merged by time."""
    rng = random.Random(seed)
    out: list[Packet] = []
    for _ in range(rng.randrange(1, conversations + 1)):
        out += conversation(rng, calm=rng.random() < 0.5)
    out.sort(key=lambda packet: packet.time)
    return out
