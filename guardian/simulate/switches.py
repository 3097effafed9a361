"""Bulbs, plugs and thermostats: small steady talkers."""

from __future__ import annotations

from guardian.simulate.chatter import announce, pings, ssdp_notify
from guardian.simulate.cloud import Poll, polling
from guardian.simulate.common import Member


def bulb(m: Member) -> None:
    """A bulb: one session, rare commands, mDNS."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    m.hold(
        m.link(("mqtt", "mqtts", "tls", "raw"), "mqtt", "raw", (10, 300), (600, 5_000), (40, 400))
    )
    if k.chance("mdns", 0.6, True, False):
        rng = w.rng(d.name, "mdns")
        every = k.span("mdns-every", 60, 3_600)
        m.habit(announce(w, d, rng, "_hap._tcp.local.", 80, every), 4)
    if k.chance("beats-lan", 0.2, False, True):
        rng = w.rng(d.name, "ping")
        m.habit(pings(w, d, rng, w.gateway.ip, k.span("ping-every", 30, 900), 1), 8)


def plug(m: Member) -> None:
    """A plug: meters power and reports it, by session or by poll; UPnP."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    link = m.link(("mqtt", "mqtts", "tls"), "mqtt", "mqtts", (20, 400), (60, 900), (60, 300), True)
    m.hold(link)
    if k.chance("reports", 0.5, True, False):
        kind = k.pick("report-kind", ("https", "http-post", "https"), "http-post", "https")
        poll = Poll(m.domain("meter"), 443 if kind == "https" else 80,
                    k.span("report-every", 60, 3_600), k.size("report", 120, 900),
                    k.size("report-answer", 20, 300), kind=kind, path="/energy")  # type: ignore[arg-type]  # fmt: skip
        m.habit(polling(w, d, w.rng(d.name, "meter"), poll), 12)
    if k.chance("upnp", 0.5, True, True):
        rng = w.rng(d.name, "ssdp")
        every = k.span("ssdp-every", 120, 1_800)
        m.habit(ssdp_notify(w, d, rng, 49_153, every), 9)


def thermostat(m: Member) -> None:
    """A thermostat: readings, the weather, a session."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    link = m.link(("tls", "mqtts"), "tls", "tls", (30, 600), (120, 1_800), (150, 1_200), True)
    m.hold(link)
    weather = Poll(m.domain("weather"), 443, k.span("weather-every", 600, 10_800), 180,
                   k.size("weather", 900, 9_000))  # fmt: skip
    m.habit(polling(w, d, w.rng(d.name, "weather"), weather), 25)
    port = k.pick("readings-port", (443, 443, 8443, 9543), 443, 11095)
    readings = Poll(m.domain("readings"), port, k.span("readings-every", 90, 3_600),
                    k.size("reading", 200, 2_000),
                    k.size("reading-answer", 60, 600), fails=0.015)  # fmt: skip
    m.habit(polling(w, d, w.rng(d.name, "readings"), readings), 15)
    if k.chance("mdns", 0.4, True, True):
        rng = w.rng(d.name, "mdns")
        every = k.span("mdns-every", 300, 3_600)
        m.habit(announce(w, d, rng, "_hap._tcp.local.", 51_826, every), 6)
