"""What comes to a device from the Internet: strangers who knock, and its owner who looks in.

These are packets in a file: nothing here is ever sent.
"""

from __future__ import annotations

from random import Random

from guardian.simulate.dial import Dial, outsider
from guardian.simulate.flows import Tcp, udp_ask
from guardian.simulate.home import Habit, Host, World, public_ip
from guardian.simulate.scans import GUESSES, WELL_KNOWN

MAX_SOURCES = 400
"""Strangers at most: the same come back."""


def internet_scan(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Many strangers try the ports of a device that the router exposes; most get no answer."""
    per_hour = dial("knocks-per-hour", 15, 1_500)
    seconds = dial("seconds", 3_000, 100_000)
    sources = min(MAX_SOURCES, int(dial("sources", 3, 400)))
    answers = dial("answers", 0.003, 0.3)
    refuses = dial("refuses", 0.01, 0.8)
    datagrams = dial("datagrams", 0.01, 0.3)
    again = dial("again", 0.05, 0.6)
    yield 0.0
    strangers = [outsider(w, d, public_ip(rng)) for _ in range(sources)]
    end = w.now + seconds
    while w.now < end:
        stranger = strangers[rng.randrange(sources)]
        port = rng.choice(WELL_KNOWN) if rng.random() < 0.7 else rng.randint(1, 65_000)
        if rng.random() < datagrams:
            ask = w.pool.bytes(rng.randint(8, 120))
            udp_ask(w, stranger, w.now, d.ip, port, ask, None, stranger.port(rng), "scan")
        else:
            luck = rng.random()
            for number in range(3 if rng.random() < again else 1):
                tcp = Tcp(w, stranger, d.ip, port, rng)
                t = w.now + number * (0.4 + rng.random())
                if luck < answers:
                    t = tcp.open(t, "scan")
                    if rng.random() < 0.5:
                        t = tcp.ask(t, w.pool.bytes(rng.randint(10, 300)), w.pool.bytes(90))
                    tcp.reset(t + 0.01) if rng.random() < 0.5 else tcp.close(t + 0.01)
                elif luck < answers + refuses:
                    tcp.refused(t, "scan")
                else:
                    tcp.dead(t, "scan", rng.randint(1, 3))
        yield w.now + rng.expovariate(per_hour / 3_600)


LOGINS = (21, 110, 143, 554, 1_883, 1_883, 3_389, 5_900, 8_081, 22, 23, 2_323)
"""Where passwords are asked for; most answer with a line and hang up."""


def login_guess(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Guess passwords at one service or a few, steadily and each time alike.

    The victims are in the home, outside, or the device is a victim itself.
    """
    hosts = int(dial("hosts", 1, 8))
    gap = dial("gap", 0.05, 25)
    sessions = int(dial("sessions", 40, 1_200))
    tries = dial("tries", 1, 5)
    up, down = int(dial("up", 12, 160)), int(dial("down", 4, 240))
    think = dial("think", 0.002, 2.5)
    port = dial.k.pick("login", LOGINS, 21, 1_883)
    where = dial.k.pick("where", ("local", "local", "out", "inbound"), "local", "local")
    banner = dial.k.chance("banner", 0.5, True, False)
    yield 0.0
    near = [h.ip for h in w.others(d)]
    sources, peers = [d], [public_ip(rng) for _ in range(hosts)]
    if where == "local" and near:
        peers = rng.sample(near, min(hosts, len(near)))
    elif where == "inbound":
        sources, peers = [outsider(w, d, ip) for ip in peers], [d.ip]
    for number in range(sessions):
        t = w.now
        tcp = Tcp(w, sources[number % len(sources)], peers[number % len(peers)], port, rng)
        if port in GUESSES:
            t = GUESSES[port](tcp, t, 1 + int(rng.expovariate(1 / tries)), think)
        elif rng.random() < 0.02:
            t = tcp.refused(t, "brute-force")
        else:
            t = tcp.open(t, "brute-force")
            t = tcp.tell(t + 0.01, w.pool.bytes(down)) if banner else t
            for _ in range(1 + int(rng.expovariate(1 / tries))):
                word = w.pool.bytes(up + rng.randrange(6))
                t = tcp.ask(t + 0.02 * rng.random(), word, w.pool.bytes(down), think)
            t = tcp.close(t + 0.01, by_server=rng.random() < 0.6)
        yield max(t, w.now) + gap * (0.6 + 0.8 * rng.random())


def remote_view(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """The owner looks at a device from outside, through a port of the router: benign."""
    every = dial("every", 1_500, 20_000)
    asks = int(dial("asks", 2, 30))
    size = int(dial("size", 2_000, 300_000))
    port = dial.k.pick("service", (443, 80, 554, 8_443, 8_080, 37_777), 443, 8_443)
    yield 0.0
    places = [outsider(w, d, public_ip(rng)) for _ in range(3)]
    while True:
        owner = rng.choice(places)
        for _ in range(rng.randint(1, 4)):
            tcp = Tcp(w, owner, d.ip, port, rng)
            t = tcp.open(w.now)
            for _ in range(1 + int(rng.expovariate(1 / asks))):
                answer = w.pool.bytes(max(40, int(size * rng.random())))
                t = tcp.ask(t, w.pool.bytes(rng.randint(80, 700)), answer, 0.01)
                yield t
                t = max(t, w.now) + rng.expovariate(1.0)
            tcp.close(t + 0.02)
            yield max(w.now, t) + rng.random()
        yield w.now + rng.expovariate(1 / every)
