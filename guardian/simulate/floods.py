"""Floods, as packets in a file: nothing here is ever sent."""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp
from guardian.simulate.frames import ACK, RST, SYN
from guardian.simulate.home import Habit, Host, World, public_ip

MAX_PACKETS = 60_000
"""A flood ends here whatever its rate and length: files stay small enough to carry."""

BREATH_S = 0.5
"""Seconds of a flood that are made at once."""


def syn_flood(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Half-open connections to one victim, which answers some.

    Training also has floods of bare ACKs and of whole HTTP requests.
    """
    rate, seconds = dial("rate", 40, 3_500), dial("seconds", 6, 120)
    port = dial.port("port", (80, 443, 53, 22, 25_565), 8_088, 30_120)
    answers = dial("answers", 0.002, 0.5)
    form = dial.k.pick("form", ("syn", "syn", "syn", "ack", "http"), "syn", "syn")
    yield 0.0
    peer = public_ip(rng)
    there, back, rtt = w.ways(d, peer)
    t, end, sent = w.now, w.now + seconds, 0
    if form == "http":
        rate = min(rate, 150.0)
    while t < end and sent < MAX_PACKETS:
        own_port, seq = rng.randint(1_025, 65_535), rng.getrandbits(32)
        if form == "http":
            tcp = Tcp(w, d, peer, port, rng)
            ask = payloads.http_get("victim.example", "/", "Mozilla/5.0")
            u = tcp.ask(tcp.open(t, "flood"), ask, payloads.http_reply(300) + w.pool.bytes(300))
            tcp.close(u, by_server=True)
            sent += 9
        else:
            w.label_flow(t, d, d.ip, own_port, peer, port, "flood", "tcp")
            flags = SYN if form == "syn" else ACK
            ack = 0 if form == "syn" else seq ^ 0x5A5A5A5A
            w.emit(t, there.tcp(own_port, port, seq, ack, flags, 512))
            sent += 1
        if form == "syn" and rng.random() < answers:
            after = (seq + 1) & 0xFFFFFFFF
            ours = rng.getrandbits(32)
            w.emit(t + rtt, back.tcp(port, own_port, ours, after, SYN | ACK, 29_200))
            w.emit(t + rtt + 0.001, there.tcp(own_port, port, after, 0, RST, 0))
        t += rng.expovariate(rate)
        if t > w.now + BREATH_S:
            yield t


def udp_flood(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Datagrams as fast as it goes to one victim: to one port, or any.

    Training also has floods of DNS questions and of pings.
    """
    rate, seconds = dial("rate", 40, 3_500), dial("seconds", 6, 120)
    size = int(dial("size", 24, 1_400))
    port = dial.port("port", (80, 53, 123, 27_015), 31_337, 2_048)
    spread = dial.k.chance("any-port", 0.4, False, True)
    form = dial.k.pick("form", ("udp", "udp", "udp", "dns", "ping"), "udp", "udp")
    yield 0.0
    peer = public_ip(rng)
    there, _, _ = w.ways(d, peer)
    body, own_port = w.pool.bytes(size), d.port(rng)
    t, end, sent = w.now, w.now + seconds, 0
    while t < end and sent < MAX_PACKETS:
        if form == "ping":
            w.label_flow(t, d, d.ip, 8, peer, 0, "flood", "icmp")
            w.emit(t, there.icmp(8, 0, payloads.ping_body(7, sent)))
        else:
            if form == "dns":
                own_port, port = rng.randint(1_025, 65_535), 53
                question = payloads.dns_query(f"x{sent % 500}.victim.example")
                body = payloads.with_id(question, sent & 0xFFFF)
            elif spread:
                own_port, port = rng.randint(1_025, 65_535), rng.randint(1, 65_535)
            w.label_flow(t, d, d.ip, own_port, peer, port, "flood")
            w.emit(t, there.udp(own_port, port, body))
        sent += 1
        t += rng.expovariate(rate)
        if t > w.now + BREATH_S:
            yield t
