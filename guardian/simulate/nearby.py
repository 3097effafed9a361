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


def local_polls(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Ask a device of the home for its state, seldom or many times a second: a session for each
    question, one for all of them, datagrams, or one MQTT message a session."""
    every = dial("every", 0.08, 60)
    jitter = dial("jitter", 0.01, 0.8)
    seconds = dial("seconds", 60, 40_000)
    most = int(dial("most", 100, 4_000))
    up, down = int(dial("up", 20, 600)), int(dial("down", 10, 4_000))
    form = dial.k.pick("form", ("http", "http", "held", "udp", "mqtt"), "http", "held")
    fails = dial("fails", 0.003, 0.2)
    breaks = dial("breaks", 30, 3_000)
    yield 0.0
    near = w.others(d)
    if not near:
        return
    peer = rng.choice(near).ip
    port = 1_883 if form == "mqtt" else rng.choice(UDP_PORTS if form == "udp" else HTTP_PORTS)
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
