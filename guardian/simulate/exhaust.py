"""Attacks that wear a service out without many packets: held connections, endless messages.

These are packets in a file: nothing here is ever sent.
"""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.floods import MAX_PACKETS
from guardian.simulate.flows import Tcp
from guardian.simulate.home import Habit, Host, World, public_ip

SERVICES = (80, 1_883, 443, 8_080, 5_683, 554)


def slow_dos(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Open hundreds of connections to one service and keep them busy with next to nothing."""
    count = int(dial("connections", 60, 1_500))
    rate = dial("rate", 3, 800)
    drip = dial("drip", 2, 60)
    drips = int(dial("drips", 0.6, 8))
    size = int(dial("size", 2, 60))
    port = dial.k.pick("service", SERVICES, 80, 1_883)
    local = dial.k.chance("local", 0.6, True, True)
    answered = dial.k.chance("answered", 0.4, False, True)
    yield 0.0
    near = [h.ip for h in w.others(d)]
    peer = rng.choice(near) if local and near else public_ip(rng)
    begin, held = w.now, []
    for number in range(count):
        tcp = Tcp(w, d, peer, port, rng)
        t = tcp.open(begin + number / rate, "flood")
        hello = payloads.mqtt_connect(f"c{number}", 60) if port == 1_883 else w.pool.bytes(size)
        t = tcp.ask(t, hello, w.pool.bytes(4)) if answered else tcp.send(t, hello)
        held.append(tcp)
        if t > w.now + 0.5:
            yield t
    for _ in range(drips):
        yield w.now + drip
        for number, tcp in enumerate(held):
            tcp.send(w.now + number * 0.001, w.pool.bytes(size))
    yield w.now + drip
    for number, tcp in enumerate(held):
        t = w.now + number * 0.001
        tcp.reset(t, by_server=True) if rng.random() < 0.5 else tcp.close(t)


def message_flood(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """A few connections to one service, each with messages as fast as it takes them."""
    count = int(dial("connections", 1, 40))
    rate = dial("rate", 20, 1_500)
    seconds = dial("seconds", 3, 90)
    size = int(dial("size", 20, 1_300))
    port = dial.k.pick("service", SERVICES, 80, 1_883)
    local = dial.k.chance("local", 0.6, True, True)
    again = int(dial("again", 1, 6))
    yield 0.0
    near = [h.ip for h in w.others(d)]
    peer = rng.choice(near) if local and near else public_ip(rng)
    sent = 0
    for _ in range(again):
        open_, t = [], w.now
        for number in range(count):
            tcp = Tcp(w, d, peer, port, rng)
            hello = payloads.mqtt_connect(f"m{number}", 60) if port == 1_883 else w.pool.bytes(90)
            t = tcp.ask(tcp.open(t, "flood"), hello, w.pool.bytes(4))
            open_.append(tcp)
        yield t
        end = w.now + seconds
        while w.now < end and sent < MAX_PACKETS:
            t = w.now
            while t < w.now + 0.5:
                open_[sent % count].send(t, w.pool.bytes(size), acked=sent % 4 == 0)
                sent += 2
                t += rng.expovariate(rate)
            yield t
        for tcp in open_:
            tcp.close(w.now + rng.random())
        yield w.now + 5 + 60 * rng.random()
