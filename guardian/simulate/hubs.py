"""Hubs: a cloud session, and the local devices that they ask for their state."""

from __future__ import annotations

from random import Random

from guardian.simulate.chatter import announce, local_http, pings, ssdp_notify, ssdp_search
from guardian.simulate.cloud import Poll, polling
from guardian.simulate.common import Member
from guardian.simulate.home import Habit, Host, World


def rounds(
    w: World, d: Host, rng: Random, kinds: tuple[str, ...], port: int, every: float, size: int
) -> Habit:
    """Ask each local device of the given kinds for its state over HTTP, round after round."""
    yield w.now + every * rng.random()
    while True:
        t = w.now
        for other in w.others(d):
            if other.kind not in kinds:
                continue
            t = local_http(w, d, rng, other, port, "/state", size, t)
            t += 0.05 + 0.2 * rng.random()
        yield max(t, w.now + every * (0.97 + 0.06 * rng.random()))


def hub(m: Member) -> None:
    """A home automation hub."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    m.hold(m.link(("mqtts", "tls", "mqtt"), "mqtts", "tls", (20, 600), (60, 900), (80, 900), True))
    rng = w.rng(d.name, "rounds")
    train = (("bulb",), ("plug", "bulb"), ("bulb", "thermostat"), ("camera",))
    kinds = k.pick("round-kinds", train, ("plug", "thermostat"), ("plug", "camera", "bulb"))
    port = k.pick("round-port", (80, 80, 8080, 9999), 8081, 8899)
    m.habit(rounds(w, d, rng, kinds, port, k.span("round-every", 30, 900),
                             k.size("state", 80, 1_500)), 35)  # fmt: skip
    report = Poll(m.domain("api"), k.pick("api-port", (443, 443, 8443, 4433), 443, 443),
                  k.span("api-every", 120, 3_600), k.size("api", 200, 6_000),
                  k.size("api-answer", 100, 2_000))  # fmt: skip
    m.habit(polling(w, d, w.rng(d.name, "api"), report), 18)
    rng = w.rng(d.name, "mdns")
    m.habit(announce(w, d, rng, "_hap._tcp.local.", 8_123, k.span("mdns-every", 60, 1_800),
                             k.chance("mdns-asks", 0.5, True, False)), 4)  # fmt: skip
    if k.chance("searches", 0.5, True, False):
        rng = w.rng(d.name, "search")
        every = k.span("search-every", 300, 3_600)
        m.habit(ssdp_search(w, d, rng, "upnp:rootdevice", every, ("plug", "printer")), 22)
    else:
        rng = w.rng(d.name, "ssdp")
        m.habit(ssdp_notify(w, d, rng, 8_080, k.span("ssdp-every", 100, 1_800)), 22)
    if k.chance("pings", 0.4, True, False):
        rng = w.rng(d.name, "ping")
        m.habit(pings(w, d, rng, w.gateway.ip, k.span("ping-every", 60, 1_200), 2), 8)
