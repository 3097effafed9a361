"""The first minutes of a new device: restless, local, full of failures, and benign.

Real set-ups look like attacks to a model that never saw one: ARP for many neighbours, local
HTTP, names in bursts, servers that do not answer.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from guardian.simulate import payloads
from guardian.simulate.chatter import MDNS, SSDP, local_http
from guardian.simulate.cloud import Poll, fetch
from guardian.simulate.flows import Tcp, resolve, udp_ask, who_has
from guardian.simulate.frames import ip_text
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.knobs import Knobs
from guardian.simulate.presence import join

DEAD_PORTS = (443, 443, 443, 80, 8_443, 5_228, 8_883, 1_883, 5_671, 9_443)


@dataclass(frozen=True)
class Plan:
    """What a set-up does, drawn once."""

    servers: int
    pause: float
    fails: float
    sweep: int
    local_calls: int
    local_port: int
    searches: int
    joins: int
    clocks: int
    in_vain: bool
    """Its cloud does not answer: it is set up where the Internet is away, or years later."""

    @classmethod
    def draw(cls, k: Knobs) -> Plan:
        return cls(
            servers=k.size("setup-servers", 2, 22),
            pause=k.span("setup-pause", 0.3, 12),
            fails=k.span("setup-fails", 0.01, 0.35),
            sweep=k.size("setup-sweep", 1, 120),
            local_calls=k.size("setup-local", 1, 60),
            local_port=k.pick("setup-port", (80, 80, 8080, 443, 49_153, 8_888), 81, 10_080),
            searches=k.size("setup-searches", 1, 12),
            joins=k.size("setup-joins", 1, 3.9),
            clocks=k.size("setup-clocks", 1, 9),
            in_vain=k.chance("setup-in-vain", 0.15, False, False),
        )


def setup(w: World, d: Host, rng: Random, vendor: str, plan: Plan) -> Habit:
    """Join (perhaps several times), look around, be configured from a phone, call the vendor."""
    for _ in range(plan.joins - 1):  # the first tries end with a restart
        w.spawn(w.now, join(w, d, rng, lasting=False))
        yield w.now + 5 + 15 * rng.random()
    w.spawn(w.now, join(w, d, rng))
    yield w.now + 3
    w.spawn(w.now, _look_around(w, d, rng, plan))
    w.spawn(w.now + 2 * rng.random(), _configure(w, d, rng, plan))
    if plan.in_vain:
        yield from _in_vain(w, d, rng, vendor, plan)
        return
    for number in range(plan.servers):
        name = f"{('api', 'reg', 'cfg', 'log', 'time', 'cdn')[number % 6]}{number // 6}.{vendor}"
        if rng.random() < plan.fails / 3:
            name = f"gone.{name}"
        kind = "http" if rng.random() < 0.2 else "https"
        poll = Poll(name, 80 if kind == "http" else 443, 0, 200 + rng.randrange(900),
                    150 + rng.randrange(6_000), kind=kind, fails=plan.fails)  # type: ignore[arg-type]  # fmt: skip
        t = fetch(w, d, rng, poll, w.now)
        # Some calls run side by side.
        yield w.now + 0.1 if rng.random() < 0.3 else t + rng.expovariate(1 / plan.pause)


def _in_vain(w: World, d: Host, rng: Random, vendor: str, plan: Plan) -> Habit:
    """Call clouds that never answer, one or several at a time, without longer pauses."""
    ports = [rng.choice(DEAD_PORTS) for _ in range(1 + plan.servers // 4)]
    addresses, tries = rng.randint(1, 6), rng.randint(1, 4)
    abreast = rng.randint(1, 3)
    end = w.now + 30 * 50 ** rng.random()
    number = 0
    while w.now < end:
        t = w.now
        for _ in range(abreast):
            which = number % len(ports)
            t, _ = resolve(w, d, f"cloud{which}.{vendor}", w.now, rng, 60)
            peer = w.cloud(f"cloud{which}.{vendor}", rng.randrange(addresses))
            t = Tcp(w, d, peer, ports[which], rng).dead(t, tries=tries)
            number += 1
        yield t + rng.expovariate(1 / plan.pause)


def _look_around(w: World, d: Host, rng: Random, plan: Plan) -> Habit:
    first = rng.randrange(1, 254)
    for number in range(plan.sweep):
        peer = w.prefix + bytes([1 + (first + number) % 253])
        if peer != d.ip:
            who_has(w, d, peer, w.now)
        yield w.now + 0.01 + 0.1 * rng.random()
    for _ in range(plan.clocks):
        t, server = resolve(w, d, f"{rng.randrange(4)}.pool.example", w.now, rng, 60)
        answer = payloads.ntp(4, w.epoch(t)) if rng.random() > 0.1 else None
        udp_ask(w, d, t, server, 123, payloads.ntp(3, w.epoch(t)), answer, d.port(rng))
        yield t + 1 + rng.random()
    for _ in range(plan.searches):
        own_port, t = d.port(rng), w.now
        w.label_flow(t, d, d.ip, own_port, SSDP, 1900, "benign")
        w.emit(t, w.group(d, SSDP, 4).udp(own_port, 1900, payloads.ssdp_search("ssdp:all")))
        group = rng.choice(MDNS)
        own = d.ip if len(group) == 4 else d.ip6
        message = payloads.mdns_announcement("_setup._tcp.local.", d.name, 80, ip_text(own))
        w.label_flow(t + 0.02, d, own, 5353, group, 5353, "benign")
        w.emit(t + 0.02, w.group(d, group).udp(5353, 5353, message))
        yield t + 0.5 + 3 * rng.random()


def _configure(w: World, d: Host, rng: Random, plan: Plan) -> Habit:
    """The phone's app asks and tells the new device; without a phone nobody does."""
    phones = [h for h in w.others(d) if h.kind == "phone"]
    if not phones:
        return
    phone, t = phones[0], w.now
    for number in range(plan.local_calls):
        if number and rng.random() < 0.1:  # the device is busy with itself
            Tcp(w, phone, d.ip, plan.local_port, rng).dead(t, tries=2)
        else:
            size = 60 + rng.randrange(2_500)
            t = local_http(w, phone, rng, d, plan.local_port, "/setup", size, t)
        t += 0.3 + rng.expovariate(1 / 2.0)
        yield t
