"""What goes on inside a home that has an app or a hub: devices asked by others, again and again."""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, resolve, udp_ask
from guardian.simulate.home import Habit, Host, World

HTTP_PORTS = (80, 80, 80, 8_080, 443, 8_008, 49_153)
UDP_PORTS = (9_999, 56_700, 5_683, 6_667, 54_321, 38_899)
RESOLVERS = (b"\x08\x08\x08\x08", b"\x08\x08\x04\x04", b"\x01\x01\x01\x01", b"\x09\x09\x09\x09")


def local_polls(w: World, d: Host, rng: Random, dial: Dial) -> Habit:  # noqa: PLR0912 - by form
    """Ask a device of the home for its state, seldom or many times a second: a session for each
    question, one for all of them, datagrams, one MQTT message a session, or all that a page
    consists of, several sessions at a time."""
    every = dial("every", 0.08, 60)
    jitter = dial("jitter", 0.01, 0.8)
    seconds = dial("seconds", 60, 40_000)
    most = int(dial("most", 100, 4_000))
    up, down = int(dial("up", 20, 600)), int(dial("down", 10, 4_000))
    form = dial.k.pick(
        "form", ("http", "http", "held", "udp", "mqtt", "page", "page"), "http", "held"
    )
    fails = dial("fails", 0.003, 0.2)
    breaks = dial("breaks", 30, 3_000)
    yield 0.0
    near = w.others(d)
    if not near:
        return
    peer = rng.choice(near).ip
    port = 1_883 if form == "mqtt" else rng.choice(UDP_PORTS if form == "udp" else HTTP_PORTS)
    if form == "page":
        yield from _pages(w, d, rng, peer, port, (up, down, most), every, fails)
        return
    end, asked, held = w.now + seconds, 0, None
    while w.now < end and asked < most:
        t, asked = w.now, asked + 1
        answer = w.pool.bytes(max(4, int(down * (0.9 + 0.2 * rng.random()))))
        if form == "udp":
            said = None if rng.random() < fails else answer[:1_400]
            udp_ask(w, d, t, peer, port, w.pool.bytes(up), said, d.port(rng))
        elif form == "held":
            if held is None:
                held = Tcp(w, d, peer, port, rng)
                t = held.open(t)
            t = held.ask(t, w.pool.bytes(up), answer)
        else:
            tcp = Tcp(w, d, peer, port, rng)
            if rng.random() < fails:
                t = tcp.dead(t, tries=1) if rng.random() < 0.5 else tcp.refused(t)
            else:
                t = tcp.open(t)
                if form == "mqtt":
                    hello = payloads.mqtt_connect(d.name, 60)
                    t = tcp.ask(t, hello, payloads.mqtt_connack(0))
                    t = tcp.send(t, w.pool.bytes(up))
                else:
                    ask = payloads.http_get("device.local", "/api/state", "app")
                    t = tcp.ask(t, ask, payloads.http_reply(len(answer)) + answer, 0.005)
                t = tcp.close(t + 0.001, by_server=rng.random() < 0.3)
        pause = every * max(0.05, 1 + jitter * rng.uniform(-1, 1))
        if rng.random() < every / (every + breaks):
            pause += breaks * rng.random()  # nobody looks for a while
            if held is not None:
                held.close(t + 0.01)
                held = None
        yield max(t, w.now) + pause


def _pages(
    w: World, d: Host, rng: Random, peer: bytes, port: int, size: tuple[int, int, int],
    every: float, fails: float,
) -> Habit:  # fmt: skip
    """Load a device's pages, each part by a session, now and then."""
    up, down, most = size
    parts, abreast = rng.randint(2, 60), rng.randint(1, 6)
    while most > 0:
        most -= parts
        t = _page(w, d, rng, peer, port, (parts, abreast, up, down), fails)
        yield t + every * (0.2 + 1.6 * rng.random())


def _page(
    w: World, d: Host, rng: Random, peer: bytes, port: int, size: tuple[int, int, int, int],
    fails: float,
) -> float:  # fmt: skip
    """Load the parts of a page, as many abreast as a browser opens. Returns when all are there."""
    parts, abreast, up, down = size
    ready = [w.now + 0.01 * k for k in range(abreast)]
    for _ in range(parts):
        k = ready.index(min(ready))
        tcp = Tcp(w, d, peer, port, rng)
        if rng.random() < fails:
            ready[k] = tcp.refused(ready[k])
            continue
        amount = min(60_000, int(down * rng.lognormvariate(0, 1.2)) + 4)
        ask = payloads.http_get("device.local", f"/{rng.randrange(99)}", "app") + w.pool.bytes(up)
        reply = payloads.http_reply(amount) + w.pool.bytes(amount)
        t = tcp.ask(tcp.open(ready[k]), ask, reply, 0.003)
        ready[k] = tcp.close(t + 0.001, by_server=True) + 0.02 * rng.random()
    return max(ready)


def public_resolver(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """A device that asks a resolver of its own choice on the Internet, not the router's; some look
    the same names up all the time."""
    every = dial("every", 0.5, 600)
    names = int(dial("names", 1, 30))
    yield 0.0
    d.resolver = rng.choice(RESOLVERS)
    while True:
        name = f"n{rng.randrange(names)}.cloud-{d.kind}.example"
        resolve(w, d, name, w.now, rng, ttl=min(30.0, every))
        yield w.now + every * (0.5 + rng.random())
