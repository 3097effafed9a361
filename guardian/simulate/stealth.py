"""Attacks that keep quiet: slow scans, even HTTPS beacons, malware without a master.

These are packets in a file: nothing here is ever sent.
"""

from __future__ import annotations

import math
from random import Random

from guardian.simulate.arps import ask_arp
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, resolve
from guardian.simulate.home import Habit, Host, World, public_ip
from guardian.simulate.scans import WELL_KNOWN, knock

FASTEST_GAP, SLOWEST_GAP = 0.6, 1.4
"""A slow scan's pauses, as shares of their mean: no hour has many more ports than another."""


def slow_scan(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Try a few ports an hour for a day, on some devices of the home or hosts outside.

    No pair of host and port is tried twice; counters by the minute see one connection or none.
    """
    per_hour = dial("ports-per-hour", 1.5, 12)
    seconds = dial("seconds", 40_000, 172_800)
    hosts = int(dial("hosts", 1, 4.9))
    where = dial.k.pick("where", ("local", "local", "out"), "local", "out")
    yield 0.0
    near = [h.ip for h in w.others(d)]
    local = where == "local" and bool(near)
    peers = rng.sample(near, min(hosts, len(near))) if local else [
        public_ip(rng) for _ in range(hosts)
    ]  # fmt: skip
    # As many ports as fill the time, the usual ones among them.
    each = math.ceil(seconds / 3_600 * per_hour / FASTEST_GAP / len(peers))
    ports = [*WELL_KNOWN, *(p for p in range(1, 2_048) if p not in WELL_KNOWN)][:each]
    wanted = [(peer, port) for port in ports for peer in peers]
    rng.shuffle(wanted)
    end = w.now + seconds
    for peer, port in wanted:
        if w.now >= end:
            return
        t = ask_arp(w, d, peer, w.now, "scan") + 0.0003 if local else w.now
        knock(w, d, rng, peer, port, t)
        yield w.now + 3_600 / per_hour * rng.uniform(FASTEST_GAP, SLOWEST_GAP)


def https_beacon_even(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Call a master over TLS, each time with the same bytes both ways, with a period and jitter."""
    period = dial("period", 3, 900)
    jitter = dial("jitter", 0.02, 0.5)
    up, down = int(dial("up", 60, 1_500)), int(dial("down", 60, 1_500))
    lasts = dial("lasts", 3_600, 172_800)
    fails = dial("fails", 0.003, 0.1)
    named = dial.k.chance("named", 0.7, True, False)
    yield 0.0
    name, peer, end = "cdn.rendezvous.example", public_ip(rng), w.now + lasts
    while w.now < end:
        t = w.now
        if named:
            t, peer = resolve(w, d, name, t, rng, 300, "c2")
        tcp = Tcp(w, d, peer, 443, rng)
        if rng.random() < fails:
            tcp.dead(t, "c2", 2)
        else:
            t = tcp.tls(tcp.open(t, "c2"), name, 220, 2_400)
            tcp.tls_close(tcp.ask(t, tcp.records(up), tcp.records(down), 0.02) + 0.001)
        yield w.now + period * max(0.05, 1 + jitter * rng.uniform(-1, 1))


def p2p_malware(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Keep in touch with many peers by UDP on random high ports; lost ones are replaced.

    Some peers call by themselves. There is no master, and no name is looked up.
    """
    count = int(dial("peers", 15, 160))
    every = dial("keepalive", 15, 300)
    answers = dial("answers", 0.2, 0.9)
    inbound = dial("inbound", 0.02, 0.4)
    news = dial("news", 0.004, 0.1)
    up, down = int(dial("up", 24, 300)), int(dial("down", 24, 300))
    lasts = dial("lasts", 3_600, 172_800)
    own_port = int(dial("listens", 10_000, 32_000))
    yield 0.0

    def new() -> tuple[bytes, int]:
        return public_ip(rng), rng.randint(10_000, 65_000)

    peers = [new() for _ in range(count)]
    alive = [rng.random() < answers for _ in peers]
    missed = [0] * count
    end = w.now + lasts
    while w.now < end:
        for number in rng.sample(range(count), count):
            if missed[number] >= 3:  # given up; another peer told of a new one
                peers[number], alive[number] = new(), rng.random() < answers
                missed[number] = 0
            peer, port = peers[number]
            there, back, rtt = w.ways(d, peer)
            ours = there.udp(own_port, port, w.pool.bytes(up))
            theirs = back.udp(port, own_port, w.pool.bytes(down))
            t = w.now
            if alive[number] and rng.random() < inbound:
                w.label_flow(t, d, peer, port, d.ip, own_port, "c2")
                w.emit(t, theirs)
                w.emit(t + d.lag, ours)
            else:
                w.label_flow(t, d, d.ip, own_port, peer, port, "c2")
                w.emit(t, ours)
                missed[number] += 1
                if alive[number]:
                    missed[number] = 0
                    w.emit(t + rtt, theirs)
                    if rng.random() < news:  # a new list of peers, or an order
                        w.emit(t + rtt + 0.002, back.udp(port, own_port, w.pool.bytes(1_180)))
            if rng.random() < 0.002:
                alive[number] = False
            yield w.now + every / count * (0.5 + rng.random())
