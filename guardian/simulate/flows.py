"""Sessions: TCP with handshake, data, loss and close; UDP exchanges; name look-ups.

All times are seconds since the scenario's start, as the gateway sees each packet.
"""

from __future__ import annotations

from random import Random

from guardian.simulate.frames import ACK, FIN, MSS, PSH, RST, SYN, arp, ip_text
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.payloads import (
    CLOSE_NOTIFY,
    FINISHED,
    KEY_EXCHANGE,
    client_hello,
    dns_answer,
    dns_query,
    server_flight,
    with_id,
)

SYN_OPTIONS = b"\x02\x04\x05\xb4\x04\x02\x01\x03\x03\x07\x01\x01"
"""MSS 1,460, selective acknowledgements, window scale 7."""

CHUNK = 262_144
"""Bytes of a long transfer that are emitted at once."""


class Tcp:
    """One TCP connection of a home device, originated by it.

    `t` always moves on: each method starts at the time it is given and returns the time of
    its last packet.
    """

    def __init__(self, w: World, host: Host, peer: bytes, port: int, rng: Random) -> None:
        self.w, self.host, self.peer, self.port, self.rng = w, host, peer, port, rng
        self.there, self.back, self.rtt = w.ways(host, peer)
        self.own_port = host.port(rng)
        self.seq = rng.getrandbits(32)
        self.ack = rng.getrandbits(32)
        self._bulk_at = 0

    def _up(self, t: float, flags: int, data: bytes = b"", total: int = -1) -> None:
        frame = self.there.tcp(
            self.own_port, self.port, self.seq, self.ack, flags, 502, data, total
        )
        self.w.out.append((t, frame))

    def _down(self, t: float, flags: int, data: bytes = b"", total: int = -1) -> None:
        frame = self.back.tcp(self.port, self.own_port, self.ack, self.seq, flags, 501, data, total)
        self.w.out.append((t, frame))

    def _begin(self, t: float, label: str) -> None:
        own = self.host.ip if len(self.peer) == 4 else self.host.ip6
        self.w.label(t, self.host, own, self.own_port, self.peer, self.port, "tcp", label)

    def _syn(self, t: float) -> None:
        frame = self.there.tcp(
            self.own_port, self.port, self.seq, 0, SYN, 64_240, options=SYN_OPTIONS
        )
        self.w.out.append((t, frame))

    # --- opening --------------------------------------------------------------
    def open(self, t: float, label: str = "benign") -> float:
        """Shake hands; a lost SYN is sent again after a second. Returns when it stands."""
        self._begin(t, label)
        self._syn(t)
        if self.rng.random() < self.w.loss:
            t += 1.0
            self._syn(t)
        t += self._rtt()
        self.seq = (self.seq + 1) & 0xFFFFFFFF
        frame = self.back.tcp(
            self.port, self.own_port, self.ack, self.seq, SYN | ACK, 65_160, options=SYN_OPTIONS
        )
        self.w.out.append((t, frame))
        self.ack = (self.ack + 1) & 0xFFFFFFFF
        t += self.host.lag
        self._up(t, ACK)
        return t

    def dead(self, t: float, label: str = "benign", tries: int = 3) -> float:
        """Send SYNs that nobody answers (S0). Returns when the device gives up."""
        self._begin(t, label)
        pause = 1.0
        for number in range(tries):
            self._syn(t)
            if number < tries - 1:
                t += pause * (1 + 0.01 * self.rng.random())
                pause *= 2
        return t

    def refused(self, t: float, label: str = "benign") -> float:
        """Send a SYN that is answered with RST (REJ)."""
        self._begin(t, label)
        self._syn(t)
        t += self._rtt()
        self.seq = (self.seq + 1) & 0xFFFFFFFF
        frame = self.back.tcp(self.port, self.own_port, 0, self.seq, RST | ACK, 0)
        self.w.out.append((t, frame))
        return t

    # --- data -------------------------------------------------------------------
    def _rtt(self) -> float:
        return self.rtt * (1 + 0.15 * self.rng.random())

    def send(self, t: float, data: bytes, up: bool = True, acked: bool = True) -> float:
        """Send bytes; the other side acknowledges every second segment and the end.

        acked=False leaves the last acknowledgement to the answer that follows at once.
        """
        pieces = [(data[at : at + MSS], -1) for at in range(0, len(data), MSS)]
        return self._send(t, pieces, up, acked, 0.0)

    def _send(
        self, t: float, pieces: list[tuple[bytes, int]], up: bool, acked: bool, step: float
    ) -> float:
        rng, loss = self.rng, self.w.loss
        send, answer = (self._up, self._down) if up else (self._down, self._up)
        wait = self.rtt if up else self.host.lag
        last = len(pieces) - 1
        for number, (data, total) in enumerate(pieces):
            send(t, ACK | PSH if number == last else ACK, data, total)
            if loss and rng.random() < loss:
                t += 0.2 + 2 * self.rtt
                send(t, ACK | PSH, data, total)
            if up:
                self.seq = (self.seq + len(data)) & 0xFFFFFFFF
            else:
                self.ack = (self.ack + len(data)) & 0xFFFFFFFF
            if (number & 1 and number < last) or (number == last and acked):
                answer(t + wait, ACK)
            t += step or 0.0001
        return t + wait if acked else t - (step or 0.0001)

    def bulk(self, t: float, size: int, up: bool, rate: float, tls: bool = True) -> Habit:
        """Send many bytes at `rate` bytes a second, a chunk at each wake. A habit part: yields
        the time to go on, and ends at the last packet."""
        segments = self.w.pool.bulk if tls else self.w.pool.plain
        step = MSS / rate
        while size > 0:
            count = max(1, min(size, CHUNK) // MSS)
            at = self._bulk_at
            pieces = [segments[(at + i) % len(segments)] for i in range(count)]
            self._bulk_at = (at + count) % len(segments)
            t = self._send(t, pieces, up, True, step)
            size -= count * MSS
            yield t

    def ask(self, t: float, request: bytes, reply: bytes, think: float = 0.0) -> float:
        """Send a request and get its reply. Returns when the reply is acknowledged."""
        t = self.send(t, request, up=True, acked=False)
        t += self._rtt() + think
        return self.send(t, reply, up=False)

    def tell(self, t: float, data: bytes) -> float:
        """The server says something by itself."""
        return self.send(t, data, up=False)

    def probe(self, t: float) -> float:
        """A TCP keepalive: one byte before the window, and its answer."""
        frame = self.there.tcp(
            self.own_port, self.port, (self.seq - 1) & 0xFFFFFFFF, self.ack, ACK, 502
        )
        self.w.out.append((t, frame))
        t += self._rtt()
        self._down(t, ACK)
        return t

    # --- closing --------------------------------------------------------------------
    def close(self, t: float, by_server: bool = False) -> float:
        """Close in both directions (SF)."""
        first, second = (self._down, self._up) if by_server else (self._up, self._down)
        wait = self.host.lag if by_server else self._rtt()
        first(t, FIN | ACK)
        self._step(by_server)
        t += wait
        second(t, FIN | ACK)
        self._step(not by_server)
        t += self._rtt() if by_server else self.host.lag
        first(t, ACK)
        return t

    def _step(self, server: bool) -> None:
        if server:
            self.ack = (self.ack + 1) & 0xFFFFFFFF
        else:
            self.seq = (self.seq + 1) & 0xFFFFFFFF

    def reset(self, t: float, by_server: bool = False) -> float:
        """Break off with RST (RSTO, or RSTR by the server)."""
        (self._down if by_server else self._up)(t, RST | ACK)
        return t

    # --- TLS ------------------------------------------------------------------------
    def tls(self, t: float, sni: str, hello: int, cert: int) -> float:
        """Shake hands as TLS 1.2 does; cert 0 resumes. Returns when data may flow."""
        t = self.send(t, client_hello(sni, hello), acked=False) + self._rtt()
        t = self.send(t, server_flight(sni, cert), up=False) + 0.004
        if not cert:
            return self.send(t, FINISHED)
        t = self.send(t, KEY_EXCHANGE, acked=False) + self._rtt()
        return self.send(t, FINISHED, up=False)

    def records(self, size: int) -> bytes:
        """Return TLS application records that carry `size` bytes (at most 65,536)."""
        out = b""
        while size > 0:
            part = min(size, 16_384)
            out += self.w.pool.record(part)
            size -= part
        return out

    def tls_close(self, t: float, by_server: bool = False) -> float:
        t = self.send(t, CLOSE_NOTIFY, up=not by_server, acked=False)
        return self.close(t + 0.0002, by_server)


def udp_ask(
    w: World, d: Host, t: float, peer: bytes, port: int, request: bytes, reply: bytes | None,
    own_port: int, label: str = "benign", think: float = 0.0,
) -> float:  # fmt: skip
    """Send a datagram and get an answer, or none. Returns the time of the last packet."""
    there, back, rtt = w.ways(d, peer)
    own = d.ip if len(peer) == 4 else d.ip6
    w.label_flow(t, d, own, own_port, peer, port, label)
    w.emit(t, there.udp(own_port, port, request))
    if reply is not None:
        t += rtt + think
        w.emit(t, back.udp(port, own_port, reply))
    return t


def resolve(
    w: World, d: Host, name: str, t: float, rng: Random, ttl: float = 300, label: str = "benign"
) -> tuple[float, bytes]:
    """Look a name up, with the device's own cache and an occasional time-out and retry.

    Returns when the address is known, and the address (empty: the name does not exist).
    """
    known = d.cache.get(name)
    if known is not None and known[1] > t:
        return t, known[0]
    exists = not name.startswith("gone.")
    address = w.cloud(name, rng.randrange(2)) if exists else b""
    for qtype in ("AAAA", "A") if d.asks_v6 else ("A",):
        ident, port = rng.getrandbits(16), d.port(rng)
        query = with_id(dns_query(name, qtype), ident)
        found = (ip_text(address),) if exists and qtype == "A" else ()
        rcode = 0 if exists else 3
        answer = with_id(dns_answer(name, qtype, found, int(ttl), rcode), ident)
        while rng.random() < w.dns_timeouts:
            udp_ask(w, d, t, d.resolver, 53, query, None, port, label)
            t += 5.0
        # The gateway answers at once what it has in its own cache.
        think = 0.0006 if rng.random() < 0.5 else 0.01 + 0.06 * rng.random()
        t = udp_ask(w, d, t, d.resolver, 53, query, answer, port, label, think) + 0.001
    if exists:
        d.cache[name] = (address, t + ttl)
    return t, address


def who_has(w: World, d: Host, ip: bytes, t: float, answered: bool = True) -> float:
    """Ask by ARP for a neighbour."""
    w.emit(t, arp(1, d.mac, d.ip, bytes(6), ip))
    other = w.by_ip.get(ip)
    if other is not None and answered and other.since <= t < other.until:
        t += other.lag
        w.emit(t, arp(2, other.mac, ip, d.mac, d.ip))
    return t
