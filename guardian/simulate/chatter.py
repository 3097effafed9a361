"""Small talk: time, pings, mDNS and SSDP, exchanges with local devices.

Each habit is a generator that yields the time of its next wake (see home.py).
"""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.flows import Tcp, resolve, udp_ask, who_has
from guardian.simulate.frames import ip_bytes, ip_text
from guardian.simulate.home import Habit, Host, World

MDNS = (ip_bytes("224.0.0.251"), ip_bytes("ff02::fb"))
SSDP = ip_bytes("239.255.255.250")


def wait(rng: Random, mean: float, w: World, t: float) -> float:
    """Return when something next happens that people cause: rarer when the home sleeps."""
    while True:
        t += rng.expovariate(1 / mean)
        if rng.random() < w.awake(t) or t > w.seconds:
            return t


def clock(w: World, d: Host, rng: Random, name: str, every: float) -> Habit:
    """Ask an NTP server for the time; some answers get lost."""
    own_port = 123 if rng.random() < 0.5 else 0
    yield w.now + every * rng.random()
    while True:
        t, server = resolve(w, d, name, w.now, rng, 600)
        port = own_port or d.port(rng)
        answer = payloads.ntp(4, w.epoch(t)) if rng.random() > 0.02 else None
        udp_ask(w, d, t, server, 123, payloads.ntp(3, w.epoch(t)), answer, port)
        yield t + every * (0.98 + 0.04 * rng.random())


def pings(w: World, d: Host, rng: Random, peer: bytes, every: float, count: int) -> Habit:
    """Ping a host a few times, again and again."""
    yield w.now + every * rng.random()
    while True:
        ident = rng.getrandbits(16)
        for number in range(count):
            there, back, rtt = w.ways(d, peer)
            body = payloads.ping_body(ident, number)
            w.label_flow(w.now + number, d, d.ip, 8, peer, 0, "benign", "icmp")
            w.emit(w.now + number, there.icmp(8, 0, body))
            w.emit(w.now + number + rtt, back.icmp(0, 0, body))
        yield w.now + count + every * (0.9 + 0.2 * rng.random())


def announce(
    w: World, d: Host, rng: Random, service: str, port: int, every: float, asks: bool = False
) -> Habit:
    """Tell (or ask) the LAN about a service by mDNS, over IPv4 and IPv6."""
    yield w.now + min(every, 30.0) * rng.random()
    while True:
        for group in MDNS if d.v6 else MDNS[:1]:
            own = d.ip if len(group) == 4 else d.ip6
            if asks:
                message = payloads.mdns_question(service)
            else:
                message = payloads.mdns_announcement(service, d.name, port, ip_text(own))
            for again in range(2):
                t = w.now + again * (1.0 + 0.01 * rng.random())
                w.label_flow(t, d, own, 5353, group, 5353, "benign")
                w.emit(t, w.group(d, group).udp(5353, 5353, message))
        yield w.now + every * (0.8 + 0.4 * rng.random())


def ssdp_notify(w: World, d: Host, rng: Random, port: int, every: float) -> Habit:
    """Announce a UPnP device to the LAN."""
    yield w.now + every * rng.random()
    while True:
        own_port = d.port(rng)
        for again in range(3):
            t = w.now + again * 0.1
            w.label_flow(t, d, d.ip, own_port, SSDP, 1900, "benign")
            message = payloads.ssdp_notify(ip_text(d.ip), port, d.name)
            w.emit(t, w.group(d, SSDP, 4).udp(own_port, 1900, message))
        yield w.now + every * (0.9 + 0.2 * rng.random())


def ssdp_search(
    w: World, d: Host, rng: Random, target: str, every: float, answer_by: tuple[str, ...] = ()
) -> Habit:
    """Search the LAN for UPnP devices; those of the named kinds answer."""
    yield wait(rng, every, w, w.now)
    while True:
        own_port, t = d.port(rng), w.now
        for again in range(2):
            w.label_flow(t + again, d, d.ip, own_port, SSDP, 1900, "benign")
            w.emit(t + again, w.group(d, SSDP, 4).udp(own_port, 1900, payloads.ssdp_search(target)))
        for other in w.others(d):
            if other.kind in answer_by:
                there, _, _ = w.ways(other, d.ip)
                at = t + 0.1 + rng.random()
                w.label_flow(at, other, other.ip, 1900, d.ip, own_port, "benign")
                reply = payloads.ssdp_reply(ip_text(other.ip), 80, other.name)
                w.emit(at, there.udp(1900, own_port, reply))
        yield wait(rng, every, w, t)


def local_http(
    w: World, d: Host, rng: Random, other: Host, port: int, path: str, size: int, t: float
) -> float:
    """One HTTP exchange inside the LAN; now and then the peer is busy and refuses."""
    if rng.random() < 0.1:
        t = who_has(w, d, other.ip, t) + 0.0005
    tcp = Tcp(w, d, other.ip, port, rng)
    if rng.random() < 0.01:
        return tcp.refused(t)
    t = tcp.open(t)
    body = payloads.http_reply(size) + w.pool.bytes(size)
    t = tcp.ask(t, payloads.http_get(ip_text(other.ip), path, d.kind), body, 0.005)
    return tcp.close(t, by_server=True)
