"""Scans of many machines by ping, and of many ports of a few machines.

These are packets in a file: nothing here is ever sent.
"""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.dial import Dial
from guardian.simulate.flows import Tcp, udp_ask
from guardian.simulate.home import Habit, Host, World, public_ip
from guardian.simulate.scans import WELL_KNOWN

MAX_PROBES = 12_000
"""A sweep ends here whatever its rate: files stay small enough to carry."""


def ping_sweep(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Ping every machine of the home or of a network outside; few answer."""
    rate = dial("rate", 0.5, 200)
    count = int(dial("machines", 12, 1_000))
    rounds = int(dial("rounds", 1, 3.5))
    answers = dial("answers", 0.003, 0.2)
    size = int(dial("size", 1, 56))
    local = dial.k.chance("local", 0.7, True, True)
    yield 0.0
    base = public_ip(rng)[:2]
    for number in range(rounds):
        for k in range(min(count, MAX_PROBES)):
            if local:
                peer = w.prefix + bytes([1 + k % 254])
            else:
                peer = base + bytes([k >> 8 & 255, k & 255])
            host = w.by_ip.get(peer)
            if peer != d.ip:
                there, back, rtt = w.ways(d, peer)
                ident = (number << 12 | k) % 0xFFFF + 1
                w.label_flow(w.now, d, d.ip, 8, peer, 0, "scan", "icmp")
                body = payloads.ping_body(ident, number)[: 4 + size]
                w.emit(w.now, there.icmp(8, 0, body))
                if (host is not None and host.since <= w.now) or rng.random() < answers:
                    w.emit(w.now + rtt, back.icmp(0, 0, body))
            yield w.now + rng.expovariate(rate)


def port_sweep(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Try many ports of one machine or a few: refused, dropped, or open and left at once."""
    rate = dial("rate", 1.5, 500)
    machines = int(dial("machines", 1, 24))
    count = int(dial("ports", 20, 1_500))
    refused, dropped = dial("refused", 0.02, 1.0), dial("dropped", 0.02, 1.0)
    opened = dial("open", 0.002, 0.06)
    datagrams = dial.k.chance("datagrams", 0.15, False, False)
    local = dial.k.chance("local", 0.5, False, True)
    tries = 2 if dial.k.chance("again", 0.4, True, True) else 1
    grabs = dial.k.chance("grabs", 0.3, False, False)
    yield 0.0
    near = [h.ip for h in w.others(d)]
    peers = near[:machines] if local and near else [public_ip(rng) for _ in range(machines)]
    ports = [*WELL_KNOWN, *(p for p in range(1, 4_096) if p not in WELL_KNOWN)][:count]
    rng.shuffle(ports)
    # A firewall drops or refuses all alike: each machine has its own share.
    silent = [rng.random() < dropped / (dropped + refused) for _ in peers]
    probes = [(k, port) for port in ports for k in range(len(peers))][:MAX_PROBES]
    for k, port in probes:
        if datagrams:
            udp_ask(w, d, w.now, peers[k], port, w.pool.bytes(12), None, d.port(rng), "scan")
        else:
            tcp = Tcp(w, d, peers[k], port, rng)
            if rng.random() < opened:
                t = tcp.open(w.now, "scan")
                t = tcp.tell(t + 0.05, w.pool.bytes(40)) if grabs else t
                tcp.reset(t + 0.001)
            elif silent[k]:
                tcp.dead(w.now, "scan", tries)
            else:
                tcp.refused(w.now, "scan")
        yield w.now + rng.expovariate(rate)
