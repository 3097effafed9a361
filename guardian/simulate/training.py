"""Homes to learn from: every one different, none of them the demo's or the tests'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from random import Random

from guardian.simulate.scenario import (
    INFECTIONS,
    KINDS,
    LOOKALIKES,
    MORE_INFECTIONS,
    DeviceSpec,
    Infection,
    Scenario,
)

UPLOADS = ("exfiltration",)
"""No connection tells them from a camera's or a backup's: as malice, they make cameras bad."""

DRAWN: tuple[str, ...] = (*(k for k in MORE_INFECTIONS if k not in UPLOADS), *LOOKALIKES)
"""Which of MORE_INFECTIONS and LOOKALIKES the training homes draw besides: the one switch.

What it names comes on top, by chance of its own: the homes' devices and other infections stay as
they are.
"""

EPOCH = 1_600_000_000
"""Training homes live in the three years after September 2020; demo and tests later."""

SLOW = ("beacon", "infected", "slow-scan", "dns-exfiltration", "https-beacon-even", "p2p-malware",
        "internet-scan")  # fmt: skip
"""What needs time to show."""

LENGTHS_H = ((2.0, 6.0, 0.35), (6.0, 16.0, 0.4), (16.0, 30.0, 0.2), (40.0, 72.0, 0.05))
"""(from, to, share): mostly some hours; a few long series, which have few devices."""


def training_homes(n: int, seed: int = 1) -> Iterator[Scenario]:
    """Yield n homes: three to seven kinds of devices, vendors A and B, quiet or infected.

    About a third stay quiet; of the others each has one to three infections. Some devices
    come new into the home, some load firmware.
    """
    for number in range(n):
        yield _home(Random(f"train/{seed}/{number}"), number, seed)


def _home(rng: Random, number: int, seed: int) -> Scenario:
    low, high, _ = rng.choices(LENGTHS_H, [share for _, _, share in LENGTHS_H])[0]
    hours = rng.uniform(low, high)
    long = hours > 30
    kinds = rng.sample(KINDS, rng.randint(2, 4) if long else rng.randint(3, 7))
    kinds += rng.choices(kinds, k=rng.randint(0, 2))
    devices = tuple(_device(rng, kind, i, hours) for i, kind in enumerate(kinds))
    infections: tuple[Infection, ...] = ()
    if rng.random() < 0.67:
        # Each kind comes in turn first, so that few homes have them all.
        wanted = [INFECTIONS[number % len(INFECTIONS)], *rng.choices(INFECTIONS, k=2)]
        wanted = wanted[: rng.randint(1, 3)]
        infections = tuple(_infection(rng, devices, hours, kind) for kind in wanted)
    third = rng.choice(("192.168.0", "192.168.2", "192.168.50", "192.168.178", "10.0.0", "10.7.1",
                        "172.16.4"))  # fmt: skip
    scenario = Scenario(
        name=f"home-{seed}-{number}",
        seed=rng.getrandbits(48) | 1 << 48,
        start=EPOCH + rng.randrange(3 * 365 * 86_400),
        hours=hours,
        devices=devices,
        infections=infections,
        lan=f"{third}.0/24",
        profile="train",
        utc_offset_h=float(rng.randint(-8, 9)),
    )
    return _more(Random(f"train/{seed}/{number}/more"), scenario, number) if DRAWN else scenario


def _more(rng: Random, home: Scenario, number: int) -> Scenario:
    """Add what DRAWN names: two to four attacks to the homes that are not quiet, and eight benign
    events to most.
    """
    devices, befalls = home.devices, home.infections
    attacks = [kind for kind in DRAWN if kind in MORE_INFECTIONS]
    events = [kind for kind in DRAWN if kind in LOOKALIKES]
    if attacks and befalls:
        wanted = [attacks[number % len(attacks)], *rng.choices(attacks, k=rng.randint(1, 3))]
        befalls += tuple(_infection(rng, devices, home.hours, kind) for kind in wanted)
    wanted = [events[number % len(events)], *rng.choices(events, k=7)] if events else []
    for kind in wanted if rng.random() < 0.85 else ():
        if kind in ("guest-phone", "device-setup"):
            # A kind that is there already: no training home has all eight.
            what = "phone" if kind == "guest-phone" else rng.choice(devices).kind
            guest = what == "phone" and kind == "guest-phone"
            at = rng.uniform(0.05, 0.8) * home.hours * 3600
            new = DeviceSpec(what, f"new-{len(devices)}", rng.choice("AB"), at, guest=guest)
            if len({d.kind for d in (*devices, new)}) < len(KINDS):
                devices = (*devices, new)
                befalls = (*befalls, Infection(kind, new.name, at))
        else:
            phones = tuple(d for d in devices if d.kind == "phone")
            at_home = phones if kind == "new-app" else devices
            if at_home:
                befalls = (*befalls, _infection(rng, at_home, home.hours, kind))
    return replace(home, devices=devices, infections=befalls)


def _device(rng: Random, kind: str, number: int, hours: float) -> DeviceSpec:
    joins = rng.uniform(0, hours * 3600 * 0.8) if rng.random() < 0.25 else None
    updates = rng.uniform(joins or 0, hours * 3600) if rng.random() < 0.2 else None
    return DeviceSpec(kind, f"{kind}-{number}", rng.choice("AB"), joins, updates)


def _infection(rng: Random, devices: tuple[DeviceSpec, ...], hours: float, kind: str) -> Infection:
    """Let it befall any device at any time; what beats slowly begins early enough to show."""
    victim = rng.choice(devices)
    latest = 0.5 if kind in SLOW else 0.95
    at = rng.uniform(0.02, latest) * hours * 3600
    if victim.joins is not None:
        at = max(at, victim.joins + rng.uniform(30, 3_600))
    return Infection(kind, victim.name, at)
