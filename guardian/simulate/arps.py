"""Attacks by ARP: sweeping the home, and taking the router's address. Nothing is ever sent.

ARP has no connections, so these packets have label rows of their own: protocol `arp`, the
operation in place of the originator's port. Each packet that the attack sends has a row, and its
answer within a second belongs to it: two addresses alone do not tell a spoofer from whom it plays.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from guardian.simulate.dial import Dial
from guardian.simulate.flows import who_has
from guardian.simulate.frames import arp, checksum, words
from guardian.simulate.home import Habit, Host, Packets, World


def ask_arp(w: World, d: Host, peer: bytes, t: float, label: str) -> float:
    """Ask by ARP for a neighbour, with a label row. Returns the time of the last packet."""
    w.label(t, d, d.ip, 1, peer, 0, "arp", label)
    return who_has(w, d, peer, t)


def arp_sweep(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Ask for every address of the home, perhaps several times; no port is ever tried."""
    rate = dial("rate", 1.5, 120)
    rounds = int(dial("rounds", 1, 5.9))
    pause = dial("pause", 20, 1_800)
    shuffled = dial.k.chance("shuffled", 0.5, False, True)
    yield 0.0
    for _ in range(rounds):
        wanted = [w.prefix + bytes([last]) for last in range(1, 255)]
        if shuffled:
            rng.shuffle(wanted)
        for peer in wanted:
            if peer != d.ip:
                ask_arp(w, d, peer, w.now, "scan")
                yield w.now + rng.expovariate(rate)
        yield w.now + pause * (0.8 + 0.4 * rng.random())


@dataclass(frozen=True)
class Relay:
    """Lets a victim's IPv4 packets to the router pass through a third device for a while.

    Each is seen twice, as an access point sees it: victim to relay, relay to router with one
    hop less. Answers go straight to the victim, since the router was not lied to.
    """

    victim: bytes
    router: bytes
    relay: bytes
    start: float
    end: float
    lag: float

    def __call__(self, packets: Packets) -> Packets:
        ours = self.router + self.victim + b"\x08\0"
        out: Packets = []
        for t, frame in packets:
            if frame[:14] != ours or not self.start <= t < self.end:
                out.append((t, frame))
                continue
            out.append((t, self.relay + frame[6:]))
            head = frame[14:22] + bytes([frame[22] - 1]) + frame[23:24] + b"\0\0" + frame[26:34]
            head = head[:10] + checksum(words(head)).to_bytes(2, "big") + head[12:]
            out.append((t + self.lag, self.router + self.relay + b"\x08\0" + head + frame[34:]))
        return out


def arp_spoof(w: World, d: Host, rng: Random, dial: Dial) -> Habit:
    """Tell a victim again and again that the router's address is here, and pass on what comes."""
    every = dial("every", 1, 12)
    seconds = dial("seconds", 600, 9_000)
    lag = dial("lag", 0.0004, 0.006)
    yield 0.0
    others = w.others(d)
    if not others:
        return
    victim = rng.choice([h for h in others if h.kind == "phone"] or others)
    end = w.now + seconds
    ask_arp(w, d, victim.ip, w.now, "other")
    yield w.now + 0.5
    w.bends.append(Relay(victim.mac, w.gateway.mac, d.mac, w.now, end, lag))
    while w.now < end:
        w.label(w.now, d, w.gateway.ip, 2, victim.ip, 0, "arp", "other")
        w.emit(w.now, arp(2, d.mac, w.gateway.ip, victim.mac, victim.ip))
        yield w.now + every * (0.95 + 0.1 * rng.random())
    who_has(w, victim, w.gateway.ip, w.now)  # the victim finds the router again
