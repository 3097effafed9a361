"""What resembles calls to a controller and is none: relays of a cloud, and a store that is away."""

from __future__ import annotations

from random import Random

from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, resolve, udp_ask
from guardian.simulate.home import Habit, Host, World, public_ip

STORES = (445, 445, 445, 139, 21, 22, 2_049, 873)
PUNCHED = (1_024, 65_000)
"""Ports that others' routers give to a hole: any."""


def cloud_relays(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """A camera that is looked at without an open port: datagrams of one size keep some relays
    warm, written into it by address or by name, of which some never answer. Now and then somebody
    looks: datagrams to odd ports until one comes through, then the picture."""
    every = dial("every", 2, 120)
    jitter = dial("jitter", 0.005, 0.5)
    relays = int(dial("relays", 1, 12))
    silent = dial("silent", 0.02, 0.7)
    up, down = int(dial("up", 8, 400)), int(dial("down", 8, 500))
    looks = dial("looks", 900, 20_000)
    most = int(dial("most", 300, 12_000))
    named = dial.k.chance("named", 0.5, True, False)
    one_port = dial.k.chance("one-port", 0.5, False, True)
    port = dial.port("port", (32_100, 10_001, 8_800, 9_000, 3_478, 10_000), 32_761, 20_111)
    yield 0.0
    mute = [rng.random() < silent for _ in range(relays)]
    ports = [port + (rng.randrange(3) if rng.random() < 0.3 else 0) for _ in range(relays)]
    own, size, look = d.port(rng), w.pool.bytes(up), w.now + looks * rng.random()
    while most > 0:
        most -= relays
        for number in range(relays):
            t = w.now + 0.2 * number * rng.random()
            name = f"relay{number}.cloud-{d.kind}.example"
            if named:
                t, _ = resolve(w, d, name, t, rng, 3_600)
            answer = None if mute[number] or rng.random() < 0.02 else w.pool.bytes(down)
            udp_ask(w, d, t, w.cloud(name), ports[number], size, answer,
                    own if one_port else d.port(rng))  # fmt: skip
        if w.now >= look:
            look = w.now + looks * (0.3 + 1.4 * rng.random())
            w.spawn(w.now + 0.5, _look(w, d, w.rng(d.name, "look", str(look)), up))
        yield w.now + every * max(0.05, 1 + jitter * rng.uniform(-1, 1))


def _look(w: World, d: Host, rng: Random, size: int) -> Habit:
    """Punch a hole, then send the picture for a while; or nobody comes through."""
    peers = [public_ip(rng) for _ in range(rng.randint(1, 4))]
    own = d.port(rng)
    for _ in range(rng.randint(3, 20)):
        for peer in peers:
            udp_ask(w, d, w.now, peer, rng.randint(*PUNCHED), w.pool.bytes(size), None, own)
        yield w.now + 0.05 + 0.4 * rng.random()
    if rng.random() < 0.4:
        return
    peer, port = peers[0], rng.randint(*PUNCHED)
    end, rate = w.now + rng.uniform(4, 60), rng.uniform(10, 60)
    while w.now < end:
        for k in range(10):
            said = w.pool.bytes(30) if k == 0 else None
            udp_ask(w, d, w.now + k / rate, peer, port, w.pool.bytes(1_000), said, own)
        yield w.now + 10 / rate


def home_store(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """A device that lays its files on a machine of the home, one session after the other, many
    within a minute when there is much to tell. For a while that machine is off or refuses, and is
    tried again and again."""
    every = dial("every", 1, 400)
    sessions = int(dial("sessions", 1, 40))
    size = dial("size", 300, 600_000)
    talk = int(dial("talk", 2, 14))
    away = dial("away", 0.02, 0.6)
    refuses = dial("refuses", 0.02, 0.9)
    stays = dial("stays", 60, 6_000)
    most = int(dial("most", 100, 3_000))
    port = int(dial.k.pick("port", STORES, 8_445, 990))
    other_port = dial.k.chance("other-port", 0.3, True, False)
    yield 0.0
    near = w.others(d)
    if not near:
        return
    peer = rng.choice(near).ip
    until, gone, done = w.now, False, 0
    while done < most:
        for _ in range(rng.randint(1, sessions)):
            t, done = w.now, done + 1
            if t >= until:
                until, gone = t + stays * (0.2 + 1.6 * rng.random()), rng.random() < away
            if other_port:
                probe = Tcp(w, d, peer, 139 if port == 445 else port + 1, rng)
                t = probe.dead(t, tries=1) if gone else probe.refused(t)
            tcp = Tcp(w, d, peer, port, rng)
            if gone:
                t = tcp.refused(t) if rng.random() < refuses else tcp.dead(t, tries=2)
            else:
                t = tcp.open(t)
                for _ in range(talk):
                    t = tcp.ask(t, w.pool.bytes(rng.randint(40, 300)),
                                w.pool.bytes(rng.randint(40, 500)), 0.002)  # fmt: skip
                amount = int(size * rng.lognormvariate(0, 0.5))
                if amount > 4_000 and rng.random() < 0.6:
                    yield from tcp.bulk(t, amount, True, 3e6, tls=False)
                    t = w.now
                t = tcp.close(t + 0.002)
            yield max(w.now, t) + 0.05 + 2.0 * rng.random() ** 3
        yield w.now + every * (0.4 + 1.2 * rng.random())
