"""Speakers: a chatty session, questions, music, looking for friends in the LAN."""

from __future__ import annotations

from random import Random

from guardian.simulate.chatter import announce, pings, ssdp_search, wait
from guardian.simulate.cloud import Poll, polling, transfer
from guardian.simulate.common import Member
from guardian.simulate.home import Habit, Host, World


def music(
    w: World, d: Host, rng: Random, name: str, every: float, seconds: float, rate: float,
    piece_s: float,
) -> Habit:  # fmt: skip
    """Play for a while: a download every `piece_s` seconds, at several times real speed."""
    yield wait(rng, every, w, w.now)
    while True:
        end = w.now + seconds * rng.lognormvariate(0, 0.4)
        while w.now < end:
            began = w.now
            size = int(rate * piece_s * rng.lognormvariate(0, 0.1))
            yield from transfer(w, d, rng, name, 443, size, rate * 8, up=False)
            yield max(w.now, began + piece_s * (0.95 + 0.1 * rng.random()))
        yield wait(rng, every, w, w.now)


def question(w: World, d: Host, rng: Random, name: str, every: float, voice: int) -> Habit:
    """Someone asks: a little voice up, a spoken answer down."""
    yield wait(rng, every, w, w.now)
    while True:
        up = int(voice * rng.lognormvariate(0, 0.4))
        yield from transfer(w, d, rng, name, 443, up, 32_000, up=True)
        yield from transfer(w, d, rng, name, 443, up * 2, 200_000, up=False)
        yield wait(rng, every, w, w.now)


def speaker(m: Member) -> None:
    """A smart speaker."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    m.hold(m.link(("tls", "tls", "mqtts"), "tls", "tls", (20, 400), (200, 2_000), (100, 2_500)))
    rng = w.rng(d.name, "music")
    m.habit(music(w, d, rng, m.domain("audio"), k.span("music-every", 5_400, 43_200),
                           k.span("music-seconds", 300, 2_700), k.span("music-rate", 6_000, 20_000),
                           k.span("music-piece", 8, 240)), 90)  # fmt: skip
    rng = w.rng(d.name, "voice")
    m.habit(question(w, d, rng, m.domain("voice"), k.span("voice-every", 900, 10_800),
                              k.size("voice", 20_000, 120_000)), 70)  # fmt: skip
    online = Poll(m.domain("connectivity"), 80, k.span("online-every", 60, 1_800), 0,
                  k.size("online", 16, 300), kind="http", path="/generate_204")  # fmt: skip
    m.habit(polling(w, d, w.rng(d.name, "online"), online), 5)
    rng = w.rng(d.name, "mdns")
    every = k.span("mdns-every", 60, 1_800)
    m.habit(announce(w, d, rng, "_googlecast._tcp.local.", 8_009, every), 4)
    if k.chance("searches", 0.6, True, True):
        rng = w.rng(d.name, "search")
        every = k.span("search-every", 300, 3_600)
        m.habit(ssdp_search(w, d, rng, "ssdp:all", every, ("plug", "hub", "printer")), 30)
    if k.chance("pings", 0.3, False, True):
        rng = w.rng(d.name, "ping")
        m.habit(pings(w, d, rng, w.gateway.ip, k.span("ping-every", 60, 1_200), 1), 8)
