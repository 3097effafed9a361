"""The clouds are away: what a device does then, again and again; nothing is wrong with it."""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, resolve, udp_ask
from guardian.simulate.home import Habit, Host, World

PORTS = (443, 443, 443, 80, 8_883, 5_228, 5_223, 1_883, 8_080, 4_434)


def outage(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Some of a device's clouds do not answer, or refuse; it tries again with longer pauses, at one
    address of theirs after the other, and asks for the time in vain."""
    clouds = int(dial("clouds", 1, 14))
    addresses = int(dial("addresses", 1, 9))
    first = dial("first", 0.3, 20)
    longest = dial("longest", 5, 400)
    seconds = dial("seconds", 60, 7_200)
    tries = int(dial("tries", 1, 6.9))
    refuses = dial("refuses", 0.01, 0.6)
    names_too = dial.k.chance("names-too", 0.25, False, True)
    clocks = dial.k.chance("clocks", 0.4, True, False)
    yield 0.0
    end, pause, number = w.now + seconds, first, 0
    ports = [rng.choice(PORTS) for _ in range(clouds)]
    while w.now < end:
        which = number % clouds
        name, t = f"api{which}.cloud-{d.kind}.example", w.now
        if names_too:
            query = payloads.with_id(payloads.dns_query(name), rng.getrandbits(16))
            udp_ask(w, d, t, d.resolver, 53, query, None, d.port(rng))
        else:
            t, _ = resolve(w, d, name, t, rng, 60)
            peer = w.cloud(name, rng.randrange(addresses))
            tcp = Tcp(w, d, peer, ports[which], rng)
            t = tcp.refused(t) if rng.random() < refuses else tcp.dead(t, tries=tries)
            if clocks and number % 4 == 0:
                ask = payloads.ntp(3, w.epoch(t))
                udp_ask(w, d, t, w.cloud("0.clocks.example", 0), 123, ask, None, d.port(rng))
        number += 1
        if which == clouds - 1:
            pause = min(longest, pause * (1.2 + rng.random()))
            yield max(w.now, t) + pause
        else:
            yield max(w.now, t - 2.0 * rng.random()) + 0.02 + 0.3 * rng.random()
