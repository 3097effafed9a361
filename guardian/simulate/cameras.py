"""Cameras: a session to the cloud, clips on motion, snapshots, somebody looking live."""

from __future__ import annotations

from random import Random

from guardian.simulate.chatter import announce, ssdp_notify, wait
from guardian.simulate.cloud import Poll, polling, transfer
from guardian.simulate.common import Member
from guardian.simulate.flows import resolve
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.payloads import Pool


def motion(
    w: World, d: Host, rng: Random, name: str, every: float, size: float, rate: float, parts: int
) -> Habit:
    """Upload a clip when something moves, in one session or in several."""
    yield wait(rng, every, w, w.now)
    while True:
        for _ in range(parts):
            part = int(size / parts * rng.lognormvariate(0, 0.4)) + 3_000
            yield from transfer(w, d, rng, name, 443, part, rate, up=True)
            yield w.now + 0.2 + rng.random()
        # Motion comes in bursts: someone who walks in also walks out.
        burst = rng.random() < 0.35
        yield w.now + 20 + 40 * rng.random() if burst else wait(rng, every, w, w.now)


def media(
    w: World, d: Host, rng: Random, pool: Pool, peer: bytes, port: int, seconds: float,
    rate: float, up: bool,
) -> Habit:  # fmt: skip
    """A UDP media stream with a thin stream of reports the other way; a habit part."""
    there, back, rtt = w.ways(d, peer)
    own_port = d.port(rng)
    w.label_flow(w.now, d, d.ip, own_port, peer, port, "benign")
    w.emit(w.now, there.udp(own_port, port, pool.bytes(96)))
    w.emit(w.now + rtt, back.udp(port, own_port, pool.bytes(64)))
    size, t, end = 1_100, w.now + 2 * rtt, w.now + seconds
    step, number = size / rate, 0
    while t < end:
        frame_size = size - 300 + number * 97 % 300
        if up:
            w.emit(t, there.udp(own_port, port, pool.bytes(frame_size)))
        else:
            w.emit(t, back.udp(port, own_port, pool.bytes(frame_size)))
        if number % 50 == 49:
            way = back.udp(port, own_port, pool.bytes(68)) if up else there.udp(
                own_port, port, pool.bytes(68))  # fmt: skip
            w.emit(t + 0.001, way)
        number += 1
        t += step * (0.9 + 0.2 * rng.random())
        if number % 100 == 0:
            yield t


def live(
    w: World, d: Host, rng: Random, name: str, port: int, every: float, seconds: float, rate: float
) -> Habit:
    """Somebody looks: the camera streams to a relay over UDP for a while."""
    yield wait(rng, every, w, w.now)
    while True:
        t, relay = resolve(w, d, name, w.now, rng)
        yield t
        length = seconds * rng.lognormvariate(0, 0.4)
        yield from media(w, d, rng, w.pool, relay, port, length, rate, up=True)
        yield wait(rng, every, w, w.now)


def camera(m: Member) -> None:
    """A camera of any variant."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    link = m.link(("tls", "mqtts", "raw"), "tls", "mqtts", (15, 240), (400, 4_000), (120, 1_500))
    m.hold(link)
    rng = w.rng(d.name, "motion")
    every = k.span("motion-every", 120, 2_400)
    size = k.span("clip", 60_000, 2_500_000)
    parts = k.size("clip-parts", 1, 5.9)
    m.habit(motion(w, d, rng, m.domain("clips"), every, size,
                             k.span("upload-rate", 80_000, 1_200_000), parts), 40)  # fmt: skip
    if k.chance("live", 0.5, True, True):
        rng = w.rng(d.name, "live")
        port = k.pick("relay-port", (3478, 10001, 19302, 32100), 3479, 12345)
        seconds = k.span("live-seconds", 15, 240)
        rate = k.span("live-rate", 30_000, 150_000)
        every = k.span("live-every", 7_200, 36_000)
        m.habit(live(w, d, rng, m.domain("relay"), port, every, seconds, rate), 60)
    if k.chance("snapshots", 0.4, False, True):
        poll = Poll(m.domain("snap"), 443, k.span("snapshot-every", 60, 1_800),
                    k.size("snapshot", 8_000, 60_000), 220)  # fmt: skip
        m.habit(polling(w, d, w.rng(d.name, "snap"), poll), 30)
    if k.chance("onvif", 0.3, True, False):
        rng = w.rng(d.name, "ssdp")
        m.habit(ssdp_notify(w, d, rng, 8080, k.span("ssdp-every", 300, 1_800)), 10)
    if k.chance("mdns", 0.5, False, True):
        rng = w.rng(d.name, "mdns")
        every = k.span("mdns-every", 300, 3_600)
        m.habit(announce(w, d, rng, "_rtsp._tcp.local.", 554, every), 6)
