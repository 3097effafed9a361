"""An attack put into a benign device's life, and beside it the same with harmless traffic.

A guest is what one device of one capture does and suffers: malicious slices of an attack, or of a
simulated infection; for the placebo a stretch of a benign device's traffic. It is moved in time and
belongs to the host's device from there on. What the placebo raises, the attack's finding is not
worth: a host where both raise an incident counts as not found.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from guardian import simulate as simulation
from guardian.const import NS
from guardian.simulate.build import build
from guardian.simulate.scenario import INFECTIONS, LOOKALIKES, MORE_INFECTIONS, TEST_SEED, home
from guardian.simulate.training import SLOW
from guardian.tables import I64
from trainer.streams import Stream, graft
from trainer.trial.figures import family_of
from trainer.trial.subjects import Subject
from trainer.trial.taken import Taken, take

LONGEST = 600
"""Slices of a guest at most: a flood has thousands that say the same."""
PLACEBO_SLICES = 100
BEFORE = 2_000
"""Slices of the host that are kept before the guest comes: more than any feature remembers."""
AFTER_S = 3_600
"""Seconds of the host that are kept after the guest's last slice."""
LEAST_HOST_S = 900
"""A host is known for at least so long."""
HOSTS_OF_A_HOME = 2
SIMULATED_HOURS = {**dict.fromkeys(SLOW, 8.0), "slow-scan": 26.0}
"""How long a home with an infection lasts; others OTHER_HOURS. It begins at INFECTED_AT_H."""
OTHER_HOURS = 2.0
INFECTED_AT_H = 1.0
EVENT_S = 1_800
"""Seconds of a benign event that are put into another's life."""
ARP_ALONE = ("arp-sweep", "arp-spoof")
"""Infections whose malice is no connection, so that nothing can be put into another's life."""
KINDS = tuple(kind for kind in (*INFECTIONS, *MORE_INFECTIONS) if kind not in ARP_ALONE)


@dataclass(frozen=True)
class Host:
    """A benign device in whose life guests are put."""

    name: str
    group: str
    taken: Taken
    device: int
    kind: str
    """Its class."""


@dataclass(frozen=True)
class Guest:
    """Slices of one device, in the order they were told."""

    name: str
    group: str
    stream: Stream
    device: int
    malice: I64 | None
    """Moments of its malicious packets, before it is moved."""
    family: str


@dataclass(frozen=True)
class Mixed:
    """A host's stream with a guest in it."""

    stream: Stream
    start: int
    """When the guest's first packet comes, ns."""
    delta: int


def guest_of(subject: Subject, one: Taken) -> Guest | None:
    """Return the attack of a capture as a guest; None where no connection is labelled."""
    bad = np.flatnonzero(one.stream.label > 0)
    if not len(bad):
        return None
    stream = one.stream.take(bad)
    side = stream.orig_device if (stream.orig_device >= 0).any() else stream.resp_device
    if (side >= 0).any():
        device = int(np.bincount(side[side >= 0]).argmax())
    else:  # a target that never speaks is no device yet; in its host's place it is one
        device = 0
        target, rank = np.unique(stream.slices.resp, axis=0, return_inverse=True)
        hit = rank.reshape(-1) == np.bincount(rank.reshape(-1), minlength=len(target)).argmax()
        stream = replace(stream, resp_device=np.where(hit, 0, -1).astype(np.int32))
    mine = (stream.orig_device == device) | (stream.resp_device == device)
    stream = stream.take(np.flatnonzero(mine)[:LONGEST])
    return Guest(
        subject.name, subject.group, stream, device, one.malice, family_of(stream.label)
    )  # fmt: skip


def hosts_of(subject: Subject, one: Taken) -> list[Host]:
    """Return devices of a benign capture that open connections for long enough, the busiest
    first.

    What nobody called benign (strangers who knock from the Internet) is taken out: it would be an
    attack in every life and every placebo.
    """
    stream = one.stream.take(np.flatnonzero(one.stream.label == 0))
    one, out = replace(one, stream=stream), []
    for device in np.unique(stream.orig_device[stream.orig_device >= 0]).tolist():
        told = stream.slices.told[stream.orig_device == device]
        if len(told) >= 30 and int(told[-1] - told[0]) >= LEAST_HOST_S * NS:
            key = one.key(device)
            name = f"{subject.name} {key}"
            host = Host(name, subject.group, one, device, subject.class_of(key))
            out.append((-len(told), host))
    out.sort(key=lambda pair: pair[0])
    return [host for _, host in out[:HOSTS_OF_A_HOME]]


def placebo_of(host: Host, rng: np.random.Generator) -> Guest:
    """Return a stretch of a benign device's traffic as a guest."""
    stream = host.taken.stream
    rows = np.flatnonzero((stream.orig_device == host.device) | (stream.resp_device == host.device))
    begin = int(rng.integers(0, max(1, len(rows) - PLACEBO_SLICES)))
    part = stream.take(rows[begin : begin + PLACEBO_SLICES])
    return Guest(host.name, host.group, part, host.device, None, "")


def mixed(host: Host, guest: Guest, share: float) -> Mixed:
    """Put a guest into a host's life at a share of it."""
    stream = host.taken.stream
    told = stream.slices.told[
        (stream.orig_device == host.device) | (stream.resp_device == host.device)
    ]
    start = int(told[0] + share * (told[-1] - told[0]))
    delta = start - int(guest.stream.slices.ts.min())
    end = int(guest.stream.slices.told.max()) + delta + AFTER_S * NS
    middle = int(np.searchsorted(stream.slices.told, start))
    last = int(np.searchsorted(stream.slices.told, end, side="right"))
    part = stream.take(slice(max(0, middle - BEFORE), last))
    return Mixed(graft(part, host.device, guest.stream, guest.device, delta), start, delta)


def simulated(kinds: Sequence[str] = KINDS, seed: int = 1) -> Iterator[Guest]:
    """Yield infections of the simulator as guests; rates are those kept for tests."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / "home.pcap"
            hours = SIMULATED_HOURS.get(kind, OTHER_HOURS)
            scenario = home(kind, profile="test", hours=hours, at_hours=INFECTED_AT_H,
                            seed=TEST_SEED + seed)  # fmt: skip
            few = tuple(d for d in scenario.devices if d.kind in ("camera", "phone", "hub"))
            simulation.simulate(replace(scenario, devices=few), path)
            one = take(path)
            guest = guest_of(Subject(kind, (), "simulated", "attack"), one)
            if guest is not None:
                yield guest


def lookalikes(kinds: Sequence[str] = LOOKALIKES, seed: int = 1) -> Iterator[Guest]:
    """Yield benign events of the simulator as guests: what the device does for EVENT_S from its
    beginning."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds:
            path = Path(folder) / "home.pcap"
            scenario = simulation.SCENARIOS[kind](
                profile="test", hours=OTHER_HOURS, at_hours=INFECTED_AT_H, seed=TEST_SEED + seed
            )
            simulation.simulate(scenario, path)
            one = take(path)
            world, _, _ = build(scenario)
            device = one.devices.index(world.hosts[scenario.infections[0].device].mac.hex(":"))
            begin = int((scenario.start + INFECTED_AT_H * 3_600) * NS)
            stream = one.stream
            mine = (stream.orig_device == device) | (stream.resp_device == device)
            mine &= (stream.slices.ts >= begin) & (stream.slices.ts < begin + EVENT_S * NS)
            stream = stream.take(np.flatnonzero(mine)[:LONGEST])
            if device >= 0 and len(stream):
                yield Guest(kind, "simulated", stream, device, None, "")


def chosen(hosts: Sequence[Host], number: int, count: int) -> list[Host]:
    """Return `count` hosts for the guest of this number: each in turn, far apart in the list."""
    step = max(1, len(hosts) // count)
    return [hosts[(number + k * step) % len(hosts)] for k in range(min(count, len(hosts)))]
