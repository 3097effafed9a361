"""What people hold and use: phones that browse, printers that print."""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.chatter import announce, local_http, ssdp_search, wait
from guardian.simulate.cloud import Poll, fetch, polling, transfer
from guardian.simulate.common import Member
from guardian.simulate.flows import Tcp, resolve, who_has
from guardian.simulate.frames import ip_text
from guardian.simulate.home import Habit, Host, World

SITES = 400
"""Different servers that a phone's pages call."""


def browsing(
    w: World, d: Host, rng: Random, every: float, pages: float, servers: float, object_size: int
) -> Habit:
    """A burst of pages: each calls many servers, some of them dead, with QUIC here and there."""
    yield wait(rng, every, w, w.now)
    while True:
        for _ in range(1 + int(rng.expovariate(1 / pages))):
            t = w.now
            for number in range(1 + int(rng.expovariate(1 / servers))):
                _site(w, d, rng, t + number * 0.05 * rng.random(), object_size)
            yield w.now + 3 + rng.expovariate(1 / 25)
        yield wait(rng, every, w, w.now)


def _site(w: World, d: Host, rng: Random, t: float, object_size: int) -> None:
    """Fetch from one of the page's servers."""
    site = int(SITES * rng.random() ** 2)
    name = f"gone.shop{site}.example" if rng.random() < 0.01 else f"s{site % 7}.site{site}.example"
    size = min(60_000, int(object_size * rng.lognormvariate(0, 1.1)))
    if rng.random() < 0.25:
        t, address = resolve(w, d, name, t, rng)
        if address:
            quic(w, d, rng, address, t, size)
        return
    fetch(w, d, rng, Poll(name, 443, 0, 700, size, cert=3_600, fails=0.02), t)


def quic(w: World, d: Host, rng: Random, peer: bytes, t: float, size: int) -> None:
    """A QUIC-shaped exchange: full datagrams first, then the answer at speed."""
    there, back, rtt = w.ways(d, peer)
    own_port = d.port(rng)
    w.label_flow(t, d, d.ip, own_port, peer, 443, "benign")
    first = b"\xc3\x00\x00\x00\x01\x08" + w.pool.bytes(1_194)
    w.emit(t, there.udp(own_port, 443, first))
    t += rtt
    w.emit(t, back.udp(443, own_port, first))
    w.emit(t + d.lag, there.udp(own_port, 443, b"\x43" + w.pool.bytes(80)))
    t += rtt + d.lag
    for number in range(size // 1_200 + 1):
        w.emit(t, back.udp(443, own_port, b"\x41" + w.pool.bytes(min(1_200, size))))
        if number % 4 == 3:
            w.emit(t + d.lag, there.udp(own_port, 443, b"\x42" + w.pool.bytes(34)))
        t += 0.0007
    w.emit(t + d.lag, there.udp(own_port, 443, b"\x42" + w.pool.bytes(40)))


def app(w: World, d: Host, rng: Random, kinds: tuple[str, ...], every: float, port: int) -> Habit:
    """Use a home app: the phone talks to a device in the LAN, if it is there."""
    yield wait(rng, every, w, w.now)
    while True:
        others = [h for h in w.others(d) if h.kind in kinds]
        if others:
            other = rng.choice(others)
            t = who_has(w, d, other.ip, w.now) + 0.001
            for _ in range(rng.randint(1, 5)):
                t = local_http(w, d, rng, other, port, "/control", 120 + rng.randrange(300), t)
                t += 0.4 + rng.expovariate(1 / 2.0)
        yield wait(rng, every, w, w.now + 5)


def printing(w: World, d: Host, rng: Random, every: float, size: float) -> Habit:
    """Print from the phone: find the printer, ask what it can, send the pages by IPP."""
    yield wait(rng, every, w, w.now)
    while True:
        printer = next((h for h in w.others(d) if h.kind == "printer"), None)
        if printer is not None:
            yield from _job(w, d, rng, printer, int(size * rng.lognormvariate(0, 0.6)))
        yield wait(rng, every, w, w.now + 30)


def _job(w: World, d: Host, rng: Random, printer: Host, size: int) -> Habit:
    t = who_has(w, d, printer.ip, w.now) + 0.001
    host, kind = ip_text(printer.ip), "application/ipp"
    tcp = Tcp(w, d, printer.ip, 631, rng)
    t = tcp.open(t)
    ask = b"\x02\x00\x00\x0b\x00\x00\x00\x01\x01\x47" + w.pool.bytes(180)
    reply = payloads.http_reply(1_900, kind) + w.pool.bytes(1_900)
    t = tcp.ask(t, payloads.http_post(host, "/ipp/print", "phone", ask, kind), reply, 0.03)
    job = b"\x02\x00\x00\x02\x00\x00\x00\x02\x01\x47" + w.pool.bytes(240)
    t = tcp.send(t + 0.8, payloads.http_post(host, "/ipp/print", "phone", job, kind))
    for at in tcp.bulk(t, size, True, 900_000, tls=False):
        t = at
        yield t
    t = tcp.tell(t + 0.2, payloads.http_reply(160, kind) + w.pool.bytes(160))
    tcp.close(t + 0.01)


def backup(w: World, d: Host, rng: Random, name: str, every: float, size: float) -> Habit:
    """Send photos or fetch an app, now and then."""
    yield wait(rng, every, w, w.now)
    while True:
        up = rng.random() < 0.5
        amount = int(size * rng.lognormvariate(0, 0.6))
        yield from transfer(w, d, rng, name, 443, amount, 900_000, up)
        yield wait(rng, every, w, w.now)


def phone(m: Member) -> None:
    """A phone: push session, pages, home apps, printing."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    m.hold(m.link(("tls", "tls", "mqtts"), "tls", "tls", (240, 1_700), (120, 1_200), (80, 1_800)))
    m.habit(browsing(w, d, w.rng(d.name, "pages"), k.span("browse-every", 240, 3_600),
                              k.span("pages", 1.5, 8), k.span("servers", 3, 14),
                              k.size("object", 3_000, 25_000)), 30)  # fmt: skip
    train = (("bulb", "hub"), ("plug", "camera"), ("hub",), ("speaker", "bulb"))
    kinds = k.pick("app-kinds", train, ("plug", "hub", "speaker"), ("bulb", "thermostat"))
    port = k.pick("app-port", (80, 8080, 80, 9999), 8081, 8899)
    rng = w.rng(d.name, "app")
    m.habit(app(w, d, rng, kinds, k.span("app-every", 600, 9_000), port), 50)
    rng = w.rng(d.name, "print")
    m.habit(printing(w, d, rng, k.span("print-every", 7_200, 43_200),
                              k.span("print", 60_000, 900_000)), 100)  # fmt: skip
    rng = w.rng(d.name, "backup")
    every, size = k.span("backup-every", 7_200, 43_200), k.span("backup", 300_000, 4_000_000)
    m.habit(backup(w, d, rng, "photos.site1.example", every, size), 60)
    online = Poll("online.site2.example", 80, k.span("online-every", 600, 5_400), 0, 32,
                  kind="http", path="/generate_204", people=True)  # fmt: skip
    m.habit(polling(w, d, w.rng(d.name, "online"), online), 3)
    rng = w.rng(d.name, "mdns")
    every = k.span("mdns-every", 120, 3_600)
    m.habit(announce(w, d, rng, "_airplay._tcp.local.", 7_000, every, asks=True), 2)
    if k.chance("searches", 0.5, True, True):
        rng = w.rng(d.name, "search")
        every = k.span("search-every", 900, 7_200)
        m.habit(ssdp_search(w, d, rng, "urn:dial-multiscreen-org:service:dial:1", every,
                                      ("speaker", "hub")), 40)  # fmt: skip


def printer(m: Member) -> None:
    """A printer: announces itself, orders ink, sleeps."""
    w, d, k = m.w, m.d, m.k
    m.basics()
    every = k.span("mdns-every", 120, 3_600)
    for service, port in (("_ipp._tcp.local.", 631), ("_pdl-datastream._tcp.local.", 9_100)):
        m.habit(announce(w, d, w.rng(d.name, service), service, port, every), 4)
    ink = Poll(m.domain("ink"), 443, k.span("ink-every", 3_600, 43_200), k.size("ink", 600, 5_000),
               k.size("ink-answer", 200, 3_000), fails=0.03)  # fmt: skip
    m.habit(polling(w, d, w.rng(d.name, "ink"), ink), 60)
    if k.chance("xmpp", 0.5, True, False):
        m.hold(m.link(("tls", "raw"), "tls", "tls", (60, 900), (3_600, 20_000), (80, 400)))
    if k.chance("upnp", 0.5, False, True):
        rng = w.rng(d.name, "ssdp")
        m.habit(ssdp_search(w, d, rng, "upnp:rootdevice", k.span("ssdp-every", 600, 7_200)), 9)
