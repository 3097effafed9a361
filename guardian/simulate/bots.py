"""What a bot does besides: it calls its master, and loads more of itself. Nothing is sent."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, resolve, udp_ask
from guardian.simulate.frames import ip_text
from guardian.simulate.home import Habit, Host, World, public_ip

HELD = ("held", "held-silent", "irc")
FORMS = ("short", "short", "held", "held-silent", "irc", "dead", "dead", "http", "tls", "udp")


def beacon(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Call one host again and again, with a period and jitter.

    Forms: short sessions, a held one with keepalives that are answered or not, IRC, a master
    that is gone (S0), HTTP, TLS, UDP. The demo's is short, the tests' held.
    """
    period = dial("period", 2, 1_800)
    jitter = dial("jitter", 0.003, 0.6)
    port = dial.port("port", (443, 80, 6_667, 4_444, 8_888, 1_312, 666, 50), 5_034, 9_555)
    up, down = int(dial("up", 4, 900)), int(dial("down", 4, 900))
    lasts = dial("lasts", 3_600, 172_800)
    form = dial.k.pick("form", FORMS, "short", "held")
    named = dial.k.chance("named", 0.2, False, False)
    fails = dial("fails", 0.003, 0.4)
    retries = int(dial("retries", 1, 5.9))
    yield 0.0
    peer, end = public_ip(rng), w.now + lasts
    own_port = d.port(rng)

    def after(t: float) -> float:
        return t + period * max(0.05, 1 + jitter * rng.uniform(-1, 1))

    while w.now < end:
        t = w.now
        if named:
            t, peer = resolve(w, d, f"c{rng.randrange(3)}.rendezvous.example", t, rng, 600, "c2")
        if form in HELD:
            yield from _held(w, d, rng, peer, port, (up, down), end, after, form)
            continue
        luck = rng.random()
        if form == "udp":
            reply = None if luck < fails else w.pool.bytes(down)
            udp_ask(w, d, t, peer, port, w.pool.bytes(up), reply, own_port, "c2")
        else:
            tcp = Tcp(w, d, peer, port, rng)
            if form == "dead" or luck < fails * 0.7:
                tcp.dead(t, "c2", retries)
            elif luck < fails:
                tcp.refused(t, "c2")
            else:
                _beat(w, tcp, rng, form, up, down, tcp.open(t, "c2"))
        yield after(t)


def _beat(w: World, tcp: Tcp, rng: Random, form: str, up: int, down: int, t: float) -> None:
    """One short session with the master."""
    if form == "tls":
        t = tcp.tls(t, "update.rendezvous.example", 190, 900)
        t = tcp.ask(t, tcp.records(up), tcp.records(down), 0.02)
        tcp.tls_close(t + 0.001)
        return
    if form == "http":
        request = payloads.http_get("cdn.rendezvous.example", "/gate.php?id=7", "Mozilla/4.0")
        t = tcp.ask(t, request, payloads.http_reply(down, "text/html") + w.pool.bytes(down), 0.03)
    else:
        t = tcp.ask(t, w.pool.bytes(up), w.pool.bytes(down), 0.01)
        if rng.random() < 0.04:  # a command, and what came of it
            t = tcp.tell(t + 0.05, w.pool.bytes(down * 3))
            t = tcp.send(t + 0.3, w.pool.bytes(min(60_000, up * 12)))
    tcp.close(t + 0.001, by_server=rng.random() < 0.3)


def _held(
    w: World, d: Host, rng: Random, peer: bytes, port: int, sizes: tuple[int, int], end: float,
    after: Callable[[float], float], form: str,
) -> Habit:  # fmt: skip
    """One long session with keepalives of equal size; it falls and comes back."""
    ping, pong = w.pool.bytes(sizes[0]), w.pool.bytes(sizes[1])
    hello, welcome = w.pool.bytes(sizes[0] + 12), pong
    if form == "irc":
        nick = d.mac.hex()[6:].encode()
        hello = b"NICK b" + nick + b"\r\nUSER b 8 * :b\r\nJOIN #room\r\n"
        welcome = b":irc.example 001 b" + nick + b" :Welcome\r\n"
        ping, pong = b"PING :irc.example\r\n", b":irc.example PONG irc.example\r\n"
    tcp = Tcp(w, d, peer, port, rng)
    t = tcp.ask(tcp.open(w.now, "c2"), hello, welcome)
    falls = t + rng.expovariate(1 / 7_200)
    while t < min(end, falls):
        yield after(t)
        t = max(t, w.now)
        t = tcp.send(t, ping) if form == "held-silent" else tcp.ask(t, ping, pong)
    tcp.reset(t + 0.1, by_server=rng.random() < 0.7)
    yield t + 5 + 20 * rng.random()


def download(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Fetch a binary over HTTP from an odd host and port, perhaps for several processors.

    Training also has bare TCP and TLS.
    """
    size = dial("size", 12_000, 4_000_000)
    rate = dial("speed", 40_000, 2_000_000)
    port = dial.port("port", (80, 80, 8_080, 8_081, 4_040, 1_337), 48_101, 16_666)
    times = int(dial("times", 1, 9.9))
    gap = dial("gap", 0.3, 60)
    form = dial.k.pick("form", ("http", "http", "http", "raw", "tls"), "http", "http")
    yield 0.0
    peer = public_ip(rng)
    for number in range(times):
        tcp = Tcp(w, d, peer, port, rng)
        if rng.random() < 0.05:
            tcp.refused(w.now, "download")
            yield w.now + gap
            continue
        t = tcp.open(w.now, "download")
        amount = int(size * rng.lognormvariate(0, 0.1))
        if form == "tls":
            t = tcp.tls(t, "files.rendezvous.example", 190, 900)
            t = tcp.ask(t, tcp.records(120), tcp.records(300), 0.02)
        elif form == "http":
            ask = payloads.http_get(f"{ip_text(peer)}:{port}", f"/bins/filler{number}", "Wget")
            t = tcp.ask(t, ask, payloads.http_reply(amount, "application/octet-stream"), 0.02)
        for at in tcp.bulk(t, amount, False, rate, tls=form == "tls"):
            t = at
            yield t
        tcp.close(t + 0.002, by_server=True)
        yield t + gap * (0.5 + rng.random())
