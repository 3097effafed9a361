"""Talking to servers: long sessions with keepalives, polls, transfers, firmware, dead ends."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from random import Random
from typing import Literal

from guardian.simulate import payloads
from guardian.simulate.chatter import wait
from guardian.simulate.flows import Tcp, resolve
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.presence import join


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
    while True:
        unseen = was_open
        if unseen:
            was_open = False
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
        opened = t
        while min(beat, event) < ends:
            yield min(beat, event)
            if d.came > opened:  # it started anew, and forgot the session
                break
            if unseen:  # its first packet seen is whatever comes next
                w.label(w.now, d, d.ip, tcp.own_port, tcp.peer, link.port, "tcp", "benign")
                unseen = False
            if event < beat:
                t = _event(w, d, tcp, link, rng, max(t, event))
                event = max(t, rate(event))
            else:
                t = _beat(w, tcp, link, max(t, beat))
                beat = beat + link.keepalive * (0.98 + 0.04 * rng.random())
        if d.came > opened:
            t = max(t, w.now)
            continue
        t = max(t, ends)
        yield t
        if unseen:
            w.label(t, d, d.ip, tcp.own_port, tcp.peer, link.port, "tcp", "benign")
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
            w.spawn(w.now + 15.0, join(w, d, rng, lasting=False))  # it starts anew
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
