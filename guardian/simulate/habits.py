"""Habits that many devices share: joining, leases, ARP, time, sessions, polls, announcements.

Each is a generator that yields the time of its next wake (see home.py). Rates come in as
arguments; the device families draw them.
"""

# ruff: noqa: PLR0917 - habits take their rates one by one
from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from random import Random
from typing import Literal

from guardian.simulate import payloads
from guardian.simulate.flows import Tcp, resolve, udp_ask, who_has
from guardian.simulate.frames import Way, arp, ip_bytes, ip_text
from guardian.simulate.home import Habit, Host, World

EVERYONE = b"\xff\xff\xff\xff"
MDNS = (ip_bytes("224.0.0.251"), ip_bytes("ff02::fb"))
SSDP = ip_bytes("239.255.255.250")
ALL_NODES = ip_bytes("ff02::1")
ALL_ROUTERS = ip_bytes("ff02::2")


def wait(rng: Random, mean: float, w: World, t: float) -> float:
    """Return when something next happens that people cause: rarer when the home sleeps."""
    while True:
        t += rng.expovariate(1 / mean)
        if rng.random() < w.awake(t) or t > w.seconds:
            return t


# --- joining ------------------------------------------------------------------
def join(w: World, d: Host, rng: Random) -> Habit:
    """Come into the network: DHCP, ARP announcement, IPv6 address and router search."""
    t, xid, gate = w.now, rng.getrandbits(32), w.gateway
    own, server = ip_text(d.ip), ip_text(gate.ip)
    ask = Way(d.mac, b"\xff" * 6, bytes(4), EVERYONE, d.ttl, d.wired)
    tell = Way(gate.mac, d.mac, gate.ip, d.ip, 64, True)
    for question, reply in (("discover", "offer"), ("request", "ack")):
        message = payloads.dhcp(question, d.mac, d.name, own, server, d.lease_s)
        w.label_udp(t, d, bytes(4), 68, EVERYONE, 67, "benign")
        w.emit(t, ask.udp(68, 67, payloads.with_xid(message, xid)))
        t += 0.002 if question == "request" else 0.3 + rng.random()
        message = payloads.dhcp(reply, d.mac, d.name, own, server, d.lease_s)
        w.label_udp(t, d, gate.ip, 67, d.ip, 68, "benign")
        w.emit(t, tell.udp(67, 68, payloads.with_xid(message, xid)))
        t += 0.01
    w.emit(t, arp(1, d.mac, d.ip, bytes(6), d.ip))
    who_has(w, d, gate.ip, t + 0.05)
    if d.v6:
        _find_router(w, d, t + 0.2)
    yield from lease(w, d, rng, t + d.lease_s / 2)


def _find_router(w: World, d: Host, t: float) -> None:
    """Ask whether the link-local address is taken, then for a router."""
    group = ip_bytes("ff02::1:ff00:0")[:13] + d.ip6[13:]
    nobody = Way(d.mac, b"\x33\x33" + group[12:], bytes(16), group, 255, d.wired)
    w.label_udp(t, d, bytes(16), 135, group, 136, "benign", "icmp")
    w.emit(t, nobody.icmp(135, 0, bytes(4) + d.ip6))
    t += 1.0
    w.label_udp(t, d, d.ip6, 133, ALL_ROUTERS, 134, "benign", "icmp")
    w.emit(t, w.group(d, ALL_ROUTERS).icmp(133, 0, bytes(4) + b"\x01\x01" + d.mac))


def lease(w: World, d: Host, rng: Random, at: float) -> Habit:
    """Renew the lease at half its time, by unicast."""
    gate = w.gateway
    own, server = ip_text(d.ip), ip_text(gate.ip)
    while True:
        yield at
        xid = rng.getrandbits(32)
        renew = payloads.dhcp("renew", d.mac, d.name, own, server, d.lease_s)
        ack = payloads.dhcp("ack", d.mac, d.name, own, server, d.lease_s)
        udp_ask(
            w, d, w.now, gate.ip, 67, payloads.with_xid(renew, xid), payloads.with_xid(ack, xid), 68
        )
        at = w.now + d.lease_s / 2 * (1 + 0.02 * rng.random())


def neighbours(w: World, d: Host, rng: Random, every: float) -> Habit:
    """Refresh the ARP entry of the gateway; sometimes the gateway asks. IPv6 likewise."""
    gate = w.gateway
    while True:
        yield w.now + every * (0.7 + 0.6 * rng.random())
        if rng.random() < 0.6:
            who_has(w, d, gate.ip, w.now)
        else:
            who_has(w, gate, d.ip, w.now)
        if d.v6 and rng.random() < 0.2:
            there, back, _ = w.ways(d, gate.ip6)
            w.label_udp(w.now, d, d.ip6, 135, gate.ip6, 136, "benign", "icmp")
            w.emit(w.now, there.icmp(135, 0, bytes(4) + gate.ip6 + b"\x01\x01" + d.mac, 255))
            answer = b"\xe0\0\0\0" + gate.ip6 + b"\x02\x01" + gate.mac
            w.emit(w.now + gate.lag, back.icmp(136, 0, answer, 255))


def router(w: World, rng: Random, every: float) -> Habit:
    """The gateway advertises its prefix to all."""
    gate = w.gateway
    body = payloads.advertisement("fd5a:7c10:2e::", gate.mac)
    while True:
        yield w.now + every * (0.6 + 0.8 * rng.random())
        w.label_udp(w.now, gate, gate.ip6, 134, ALL_NODES, 133, "benign", "icmp")
        w.emit(w.now, w.group(gate, ALL_NODES).icmp(134, 0, body))


# --- time, pings, announcements ------------------------------------------------
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
            w.label_udp(w.now + number, d, d.ip, 8, peer, 0, "benign", "icmp")
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
                w.label_udp(t, d, own, 5353, group, 5353, "benign")
                w.emit(t, w.group(d, group).udp(5353, 5353, message))
        yield w.now + every * (0.8 + 0.4 * rng.random())


def ssdp_notify(w: World, d: Host, rng: Random, port: int, every: float) -> Habit:
    """Announce a UPnP device to the LAN."""
    yield w.now + every * rng.random()
    while True:
        own_port = d.port(rng)
        for again in range(3):
            t = w.now + again * 0.1
            w.label_udp(t, d, d.ip, own_port, SSDP, 1900, "benign")
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
            w.label_udp(t + again, d, d.ip, own_port, SSDP, 1900, "benign")
            w.emit(t + again, w.group(d, SSDP, 4).udp(own_port, 1900, payloads.ssdp_search(target)))
        for other in w.hosts.values():
            if other.kind in answer_by and other is not d:
                there, _, _ = w.ways(other, d.ip)
                at = t + 0.1 + rng.random()
                w.label_udp(at, other, other.ip, 1900, d.ip, own_port, "benign")
                reply = payloads.ssdp_reply(ip_text(other.ip), 80, other.name)
                w.emit(at, there.udp(1900, own_port, reply))
        yield wait(rng, every, w, t)


# --- the cloud --------------------------------------------------------------------
@dataclass(frozen=True)
class Link:
    """A long-lived session to a vendor's cloud. Times in seconds, sizes in bytes."""

    name: str
    port: int
    kind: Literal["tls", "mqtt", "mqtts", "raw"]
    keepalive: float
    up: int
    down: int
    life: float
    """Seconds after which one side ends the session; a new one follows."""
    event_every: float
    """Mean seconds between messages that people or sensors cause, when the home is awake."""
    event: int
    steady: bool = False
    """Events come day and night, as a sensor's do."""
    tcp_probes: bool = False
    """Keepalives are bare TCP ones."""
    cert: int = 3_000


def _open(w: World, d: Host, rng: Random, link: Link, t: float) -> tuple[float, Tcp]:
    """Open a Link: TCP, TLS where it has it, MQTT where it speaks it."""
    t, address = resolve(w, d, link.name, t, rng, 300)
    tcp = Tcp(w, d, address, link.port, rng)
    t = tcp.open(t)
    if link.kind in ("tls", "mqtts"):
        t = tcp.tls(t, link.name, 230 + len(d.name) * 3, link.cert)
    if link.kind == "mqtt":
        client = f"{d.kind}-{d.mac.hex()}"
        connect = payloads.mqtt_connect(client, int(link.keepalive) + 1, d.name, "secret")
        t = tcp.ask(t, connect, payloads.mqtt_connack())
        t = tcp.ask(t, payloads.mqtt_subscribe(f"{client}/set"), payloads.MQTT_SUBACK)
    elif link.kind == "mqtts":
        t = tcp.ask(t + 0.001, tcp.records(90 + len(d.name)), tcp.records(28))
        t = tcp.ask(t, tcp.records(70), tcp.records(29))
    else:
        opening = w.pool.bytes(link.up * 2) if link.kind == "raw" else tcp.records(link.up * 3)
        answer = w.pool.bytes(link.down) if link.kind == "raw" else tcp.records(link.down * 2)
        t = tcp.ask(t + 0.002, opening, answer, 0.02)
    return t, tcp


def _beat(w: World, tcp: Tcp, link: Link, t: float) -> float:
    if link.tcp_probes:
        return tcp.probe(t)
    if link.kind == "mqtt":
        return tcp.ask(t, payloads.MQTT_PINGREQ, payloads.MQTT_PINGRESP)
    if link.kind == "raw":
        return tcp.ask(t, w.pool.bytes(link.up), w.pool.bytes(link.down))
    return tcp.ask(t, tcp.records(link.up), tcp.records(link.down))


def _event(w: World, d: Host, tcp: Tcp, link: Link, rng: Random, t: float) -> float:
    size = max(8, int(link.event * rng.lognormvariate(0, 0.35)))
    if link.kind == "mqtt":
        topic = f"{d.kind}-{d.mac.hex()}/state"
        data = payloads.mqtt_publish(topic, min(size, 4_000) // 16 * 16 + 16)
    else:
        data = w.pool.bytes(min(size, 60_000)) if link.kind == "raw" else tcp.records(size)
    if rng.random() < 0.3:  # the cloud commands, the device answers
        t = tcp.tell(t, tcp.records(link.down) if link.kind != "mqtt" else payloads.MQTT_PINGRESP)
    return tcp.send(t, data)


def session(w: World, d: Host, rng: Random, link: Link, was_open: bool = False) -> Habit:
    """Hold a Link for as long as it lives, then open it again; sometimes it fails first."""
    t = w.now
    first = True
    while True:
        if first and was_open:
            # It stood before the capture began: no handshake is seen.
            address = w.cloud(link.name)
            tcp = Tcp(w, d, address, link.port, rng)
            t += link.keepalive * rng.random()
        else:
            if rng.random() < 0.03:
                t = yield from _outage(w, d, rng, link, t)
            t, tcp = _open(w, d, rng, link, t)
        ends = t + link.life * rng.lognormvariate(0, 0.3)
        beat = t + link.keepalive * (0.97 + 0.06 * rng.random())
        rate = (lambda at: at + rng.expovariate(1 / link.event_every)) if link.steady else (
            lambda at: wait(rng, link.event_every, w, at)
        )  # fmt: skip
        event = rate(t)
        if first and was_open:  # its first packet seen is whatever comes next
            begun = min(beat, event, ends)
            w.label(begun, d, d.ip, tcp.own_port, tcp.peer, link.port, "tcp", "benign")
        first = False
        while min(beat, event) < ends:
            yield min(beat, event)
            if event < beat:
                t = _event(w, d, tcp, link, rng, max(t, event))
                event = max(t, rate(event))
            else:
                t = _beat(w, tcp, link, max(t, beat))
                beat = beat + link.keepalive * (0.98 + 0.04 * rng.random())
        t = max(t, ends)
        yield t
        fate = rng.random()
        end = tcp.close if fate < 0.6 else tcp.reset
        t = end(t, by_server=fate < 0.3 or 0.6 <= fate < 0.9)
        t += 1.0 + rng.expovariate(1 / 8.0)
        yield t


def _outage(w: World, d: Host, rng: Random, link: Link, t: float) -> Generator[float, None, float]:
    """The server is away for some minutes: SYNs without answer or refused, with back-off."""
    pause = 5.0 + 10 * rng.random()
    for _ in range(rng.randint(2, 6)):
        yield t
        t, address = resolve(w, d, link.name, t, rng, 60)
        tcp = Tcp(w, d, address, link.port, rng)
        t = tcp.refused(t) if rng.random() < 0.3 else tcp.dead(t, tries=rng.randint(2, 4))
        t += pause
        pause = min(pause * 2, 120)
    return t


# --- short sessions ---------------------------------------------------------------
@dataclass(frozen=True)
class Poll:
    """A short session that comes back: a check, a report, a snapshot."""

    name: str
    port: int
    every: float
    up: int
    down: int
    jitter: float = 0.05
    kind: Literal["https", "http", "http-post"] = "https"
    cert: int = 2_800
    fails: float = 0.01
    path: str = "/v1/status"
    people: bool = False
    """Comes by what people do, not by the clock."""


def fetch(w: World, d: Host, rng: Random, poll: Poll, t: float) -> float:
    """One session of a Poll; a share of them fails. Returns when it is over."""
    t, address = resolve(w, d, poll.name, t, rng, 240)
    if not address:
        return t
    tcp = Tcp(w, d, address, poll.port, rng)
    luck = rng.random()
    if luck < poll.fails:
        return tcp.dead(t, tries=2) if luck < poll.fails / 2 else tcp.refused(t)
    t = tcp.open(t)
    up = max(16, int(poll.up * rng.lognormvariate(0, 0.1)))
    down = min(60_000, max(16, int(poll.down * rng.lognormvariate(0, 0.25))))
    if poll.kind == "https":
        cert = poll.cert if rng.random() < 0.6 else 0
        t = tcp.tls(t, poll.name, 240, cert)
        t = tcp.ask(t + 0.001, tcp.records(up), tcp.records(down), 0.01 + 0.05 * rng.random())
        return tcp.tls_close(t + 0.001, by_server=rng.random() < 0.4)
    agent = f"{d.kind}/1.{d.mac[5] % 9}"
    if poll.kind == "http":
        request = payloads.http_get(poll.name, poll.path, agent)
    else:
        body = w.pool.bytes(min(up, 60_000))
        request = payloads.http_post(poll.name, poll.path, agent, body, "application/json")
    reply = payloads.http_reply(down) + w.pool.bytes(down)
    t = tcp.ask(t, request, reply, 0.02)
    return tcp.close(t, by_server=True)


def polling(w: World, d: Host, rng: Random, poll: Poll) -> Habit:
    """Repeat a Poll, by the clock or by what people do."""
    yield w.now + poll.every * rng.random()
    while True:
        t = fetch(w, d, rng, poll, w.now)
        if poll.people:
            yield wait(rng, poll.every, w, t)
        else:
            yield max(t, w.now + poll.every * (1 + poll.jitter * (2 * rng.random() - 1)))


def transfer(
    w: World, d: Host, rng: Random, name: str, port: int, size: int, rate: float, up: bool,
    tls: bool = True,
) -> Habit:  # fmt: skip
    """One large upload or download over TLS or plain HTTP; a habit part."""
    t, address = resolve(w, d, name, w.now, rng)
    tcp = Tcp(w, d, address, port, rng)
    t = tcp.open(t)
    if tls:
        t = tcp.tls(t, name, 250, 3_100 if rng.random() < 0.6 else 0)
        if up:
            t = tcp.send(t, tcp.records(420))
        else:
            t = tcp.ask(t, tcp.records(320), tcp.records(400), 0.02)
    elif up:
        t = tcp.send(t, payloads.http_post(name, "/upload", d.kind, b"", "video/mp4"))
    else:
        kind = "application/octet-stream"
        t = tcp.ask(t, payloads.http_get(name, "/fw/latest.bin", d.kind),
                    payloads.http_reply(size, kind), 0.02)  # fmt: skip
    for at in tcp.bulk(t, size, up, rate, tls):
        t = at
        yield t
    if up:
        t = tcp.tell(t + tcp.rtt, tcp.records(180) if tls else payloads.http_reply(0))
    if tls:
        tcp.tls_close(t + 0.01, by_server=rng.random() < 0.3)
    else:
        tcp.close(t + 0.01, by_server=True)


def firmware(w: World, d: Host, rng: Random, poll: Poll, size: int, rate: float,
             update_at: float | None, tls: bool) -> Habit:  # fmt: skip
    """Look for new firmware now and then; at `update_at` there is some, and it is loaded."""
    at = w.now + min(poll.every, 3 * 3600.0) * rng.random()
    while True:
        if update_at is not None and update_at < at:
            yield update_at
            t = fetch(w, d, rng, poll, w.now)
            yield t
            server = "fw." + poll.name.partition(".")[2]
            yield from transfer(w, d, rng, server, 443 if tls else 80, size, rate, False, tls)
            yield w.now + 20.0
            w.spawn(w.now + 15.0, join(w, d, rng))  # it starts anew
            update_at = None
            at = w.now + poll.every
        yield at
        fetch(w, d, rng, poll, w.now)
        at = w.now + poll.every * (0.95 + 0.1 * rng.random())


def lost_cause(w: World, d: Host, rng: Random, port: int, every: float, tries: int) -> Habit:
    """Call a server that is long gone: the vendor never cleaned up."""
    address = w.cloud(f"lost-{d.kind}")
    yield w.now + every * rng.random()
    while True:
        t = Tcp(w, d, address, port, rng).dead(w.now, tries=tries)
        yield t + every * (0.9 + 0.2 * rng.random())
