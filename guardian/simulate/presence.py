"""Being in the network: joining by DHCP, leases, ARP and its IPv6 kin, coming and going."""

from __future__ import annotations

from random import Random

from guardian.simulate import payloads
from guardian.simulate.flows import udp_ask, who_has
from guardian.simulate.frames import Way, arp, ip_bytes, ip_text
from guardian.simulate.home import Habit, Host, World

EVERYONE = b"\xff\xff\xff\xff"
ALL_NODES = ip_bytes("ff02::1")
ALL_ROUTERS = ip_bytes("ff02::2")


def join(w: World, d: Host, rng: Random, lasting: bool = True) -> Habit:
    """Come into the network: DHCP, ARP announcement, IPv6 address and router search.

    lasting: it also renews its lease from now on.
    """
    d.came = w.now
    t, xid, gate = w.now, rng.getrandbits(32), w.gateway
    own, server = ip_text(d.ip), ip_text(gate.ip)
    ask = Way(d.mac, b"\xff" * 6, bytes(4), EVERYONE, d.ttl, d.wired)
    tell = Way(gate.mac, d.mac, gate.ip, d.ip, 64, True)
    for question, reply in (("discover", "offer"), ("request", "ack")):
        message = payloads.dhcp(question, d.mac, d.name, own, server, d.lease_s)
        w.label_flow(t, d, bytes(4), 68, EVERYONE, 67, "benign")
        w.emit(t, ask.udp(68, 67, payloads.with_xid(message, xid)))
        t += 0.002 if question == "request" else 0.3 + rng.random()
        message = payloads.dhcp(reply, d.mac, d.name, own, server, d.lease_s)
        w.label_flow(t, d, gate.ip, 67, d.ip, 68, "benign")
        w.emit(t, tell.udp(67, 68, payloads.with_xid(message, xid)))
        t += 0.01
    w.emit(t, arp(1, d.mac, d.ip, bytes(6), d.ip))
    who_has(w, d, gate.ip, t + 0.05)
    if d.v6:
        _find_router(w, d, t + 0.2)
    if lasting:
        yield from lease(w, d, rng, t + d.lease_s / 2)


def comings(w: World, d: Host, rng: Random, every: float) -> Habit:
    """Leave the network and come back: out of reach, out of power, out of the house."""
    while True:
        yield w.now + every * (0.5 + rng.random())
        w.spawn(w.now, join(w, d, rng, lasting=False))


def _find_router(w: World, d: Host, t: float) -> None:
    """Ask whether the link-local address is taken, then for a router."""
    group = ip_bytes("ff02::1:ff00:0")[:13] + d.ip6[13:]
    nobody = Way(d.mac, b"\x33\x33" + group[12:], bytes(16), group, 255, d.wired)
    w.label_flow(t, d, bytes(16), 135, group, 136, "benign", "icmp")
    w.emit(t, nobody.icmp(135, 0, bytes(4) + d.ip6))
    t += 1.0
    w.label_flow(t, d, d.ip6, 133, ALL_ROUTERS, 134, "benign", "icmp")
    w.emit(t, w.group(d, ALL_ROUTERS).icmp(133, 0, bytes(4) + b"\x01\x01" + d.mac))


def lease(w: World, d: Host, rng: Random, at: float) -> Habit:
    """Renew the lease at half its time, by unicast."""
    gate = w.gateway
    own, server = ip_text(d.ip), ip_text(gate.ip)
    while True:
        yield at
        xid = rng.getrandbits(32)
        renew = payloads.dhcp("renew", d.mac, d.name, own, server, d.lease_s)
        ack = payloads.dhcp("ack", d.mac, d.name, own, server, d.lease_s)
        udp_ask(
            w, d, w.now, gate.ip, 67, payloads.with_xid(renew, xid), payloads.with_xid(ack, xid), 68
        )
        at = w.now + d.lease_s / 2 * (1 + 0.02 * rng.random())


def neighbours(w: World, d: Host, rng: Random, every: float) -> Habit:
    """Refresh the ARP entry of the gateway; sometimes the gateway asks. IPv6 likewise."""
    gate = w.gateway
    while True:
        yield w.now + every * (0.7 + 0.6 * rng.random())
        if rng.random() < 0.6:
            who_has(w, d, gate.ip, w.now)
        else:
            who_has(w, gate, d.ip, w.now)
        if d.v6 and rng.random() < 0.2:
            there, back, _ = w.ways(d, gate.ip6)
            w.label_flow(w.now, d, d.ip6, 135, gate.ip6, 136, "benign", "icmp")
            w.emit(w.now, there.icmp(135, 0, bytes(4) + gate.ip6 + b"\x01\x01" + d.mac, 255))
            answer = b"\xe0\0\0\0" + gate.ip6 + b"\x02\x01" + gate.mac
            w.emit(w.now + gate.lag, back.icmp(136, 0, answer, 255))


def router(w: World, rng: Random, every: float) -> Habit:
    """The gateway advertises its prefix to all."""
    gate = w.gateway
    body = payloads.advertisement("fd5a:7c10:2e::", gate.mac)
    while True:
        yield w.now + every * (0.6 + 0.8 * rng.random())
        w.label_flow(w.now, gate, gate.ip6, 134, ALL_NODES, 133, "benign", "icmp")
        w.emit(w.now, w.group(gate, ALL_NODES).icmp(134, 0, body))
