"""What happens in a home, is benign, and looks like an attack: updates, new apps, guests."""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.chatter import MDNS
from guardian.simulate.cloud import Poll, fetch, polling, transfer
from guardian.simulate.dial import Dial
from guardian.simulate.flows import resolve, udp_ask
from guardian.simulate.frames import ip_text
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.people import quic
from guardian.simulate.presence import join

DAY_S = 86_400.0


def firmware_update(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Load large firmware from a host that was never called before, restart, report."""
    size = dial("size", 4e6, 6e7)
    speed = dial("speed", 150_000, 4e6)
    parts = int(dial("parts", 1, 8.9))
    tls = dial.k.chance("tls", 0.7, True, False)
    down_s = dial("restarts", 15, 120)
    yield 0.0
    name = f"images.mirror-{d.kind}.example"
    ask = Poll(name, 443, 0, 400, 1_600, fails=0)
    yield fetch(w, d, rng, ask, w.now) + 0.5
    for _ in range(parts):
        amount = int(size / parts)
        yield from transfer(w, d, rng, name, 443 if tls else 80, amount, speed, False, tls)
        yield w.now + 0.2 + rng.random()
    yield w.now + down_s
    w.spawn(w.now, join(w, d, rng, lasting=False))
    yield w.now + 4
    fetch(w, d, rng, ask, w.now)


def new_app(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Install an app: its package, then many hosts at once, of which some are called for good."""
    servers = int(dial("servers", 12, 90))
    spread = dial("spread", 5, 90)
    size = dial("package", 2e6, 2e7)
    kept = int(dial("kept", 1, 6.9))
    every = dial("every", 40, 1_800)
    fails = dial("fails", 0.004, 0.1)
    yield 0.0
    yield from transfer(w, d, rng, "packages.appstore.example", 443, int(size), 3e6, False)
    yield w.now + 6 + 10 * rng.random()
    brand = f"app{rng.randrange(1_000)}"
    roles = ("api", "ads", "cdn", "metrics", "push", "login", "track", "img")
    names = [f"{roles[i % 8]}{i // 8}.{brand if i % 3 else f'net{i}'}.example"
             for i in range(servers)]  # fmt: skip
    begin = w.now
    for at, name in sorted((rng.random() ** 2 * spread, name) for name in names):
        yield max(w.now, begin + at)
        bytes_down = min(60_000, int(4_000 * rng.lognormvariate(0, 1.2)))
        if rng.random() < 0.2:
            t, address = resolve(w, d, name, w.now, rng)
            quic(w, d, rng, address, t, bytes_down)
        else:
            fetch(w, d, rng, Poll(name, 443, 0, 700, bytes_down, fails=fails), w.now)
    for number, name in enumerate(names[:kept]):
        poll = Poll(name, 443, every * (number + 1), 300, 900, people=number % 2 == 0)
        w.spawn(w.now, polling(w, d, w.rng(d.name, "new-app", name), poll))


def guest_phone(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """A guest's phone goes home again after an evening (its joining is the device's own)."""
    del rng
    stays = dial("stays", 5_000, 25_000)
    yield 0.0
    w.leave(d, w.now + stays)


def device_setup(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Beside what a device that `joins` does: mDNS storms, clocks, registration at the cloud."""
    services = int(dial("services", 2, 9.9))
    rounds = int(dial("rounds", 3, 20))
    gap = dial("gap", 0.2, 5)
    clouds = int(dial("clouds", 6, 40))
    tries = dial("fails", 0.01, 0.2)
    yield 0.0
    yield w.now + 4
    w.spawn(w.now, _storm(w, d, w.rng(d.name, "storm"), services, rounds, gap))
    for number in range(4):
        t, server = resolve(w, d, f"{number}.clocks.example", w.now, rng, 60)
        answer = payloads.ntp(4, w.epoch(t))
        udp_ask(w, d, t, server, 123, payloads.ntp(3, w.epoch(t)), answer, d.port(rng))
        yield t + 0.5 + rng.random()
    roles = ("register", "auth", "certs", "time", "ota", "metrics", "region", "push")
    for number in range(clouds):
        name = f"{roles[number % 8]}{number // 8}.cloud-{d.kind}.example"
        poll = Poll(name, 443, 0, 400 + rng.randrange(2_500), 300 + rng.randrange(5_000),
                    fails=tries)  # fmt: skip
        t = fetch(w, d, rng, poll, w.now)
        yield max(w.now, t) + rng.expovariate(1 / (gap + 0.5))


def _storm(w: World, d: Host, rng: Random, services: int, rounds: int, gap: float) -> Habit:
    """Probe for, claim and announce each service, round after round, over IPv4 and IPv6."""
    for number in range(rounds):
        for service in range(services):
            kind = f"_svc{service}._tcp.local."
            for group in MDNS if d.v6 else MDNS[:1]:
                own = d.ip if len(group) == 4 else d.ip6
                said = payloads.mdns_announcement(kind, d.name, 8_000 + service, ip_text(own))
                message = payloads.mdns_question(kind) if number < 2 else said
                w.label_flow(w.now, d, own, 5353, group, 5353, "benign")
                w.emit(w.now, w.group(d, group).udp(5353, 5353, message))
            yield w.now + 0.005 + 0.02 * rng.random()
        yield w.now + gap * (0.7 + 0.6 * rng.random())


def backup(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Upload much in the night, file by file, every night at about the same time."""
    size = dial("size", 8e6, 1.2e8)
    speed = dial("speed", 200_000, 3e6)
    files = int(dial("files", 2, 14))
    yield 0.0
    while True:
        night = w.now
        for _ in range(files):
            amount = max(20_000, int(size / files * rng.lognormvariate(0, 0.5)))
            yield from transfer(w, d, rng, "vault.keepsafe.example", 443, amount, speed, True)
            yield w.now + 0.3 + rng.expovariate(1 / 2.0)
        yield max(w.now, night + DAY_S + 600 * rng.uniform(-1, 1))
