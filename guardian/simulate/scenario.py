"""What to simulate: a home, its devices, what befalls them, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from guardian.errors import ConfigError
from guardian.simulate.knobs import Profile

KINDS = ("camera", "bulb", "plug", "speaker", "thermostat", "hub", "phone", "printer")

INFECTIONS = (
    "telnet-scan", "local-scan", "ssh-guess", "beacon", "download", "syn-flood", "udp-flood",
    "infected",
)  # fmt: skip


@dataclass(frozen=True)
class DeviceSpec:
    """A device of the home. Times are seconds after the scenario's start."""

    kind: str
    name: str
    variant: str
    """A and B are vendors of training homes, C of the demo, D of the tests."""
    joins: float | None = None
    """When it comes new into the home and is set up; None: it was there before."""
    update_at: float | None = None
    """When it finds new firmware and loads it."""


@dataclass(frozen=True)
class Infection:
    """What befalls a device from `at` seconds on; params override what would be drawn."""

    kind: str
    device: str
    at: float
    params: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Scenario:
    """A home for some hours. The same scenario gives the same bytes."""

    name: str
    seed: int
    start: int
    """Epoch seconds, UTC."""
    hours: float
    devices: tuple[DeviceSpec, ...]
    infections: tuple[Infection, ...] = ()
    lan: str = "192.168.1.0/24"
    profile: Profile = "demo"
    utc_offset_h: float = 0.0
    """The home's local time, for its daily rhythm."""


DEMO_NAMES = {
    "camera": "hall-camera",
    "bulb": "desk-bulb",
    "plug": "kitchen-plug",
    "speaker": "den-speaker",
    "thermostat": "thermostat",
    "hub": "home-hub",
    "phone": "annas-phone",
    "printer": "office-printer",
}

DEMO_START = 1_781_166_600
"""11 June 2026, 08:30 UTC: a Thursday."""

MAX_HOURS = 24 * 366
"""A year: gigabytes. More is a slip of the finger."""

DEMO_SEED = 20_260_611
TEST_SEED = 77_003


def home(
    infection: str = "",
    *,
    name: str = "",
    hours: float = 7.0,
    device: str = "camera",
    at_hours: float | None = None,
    profile: Profile = "demo",
    seed: int | None = None,
    start: int | None = None,
    params: tuple[tuple[str, float], ...] = (),
) -> Scenario:
    """Return the home of eight devices, quiet or with one infection.

    `device` is a kind or a name of the home; the infection starts at `at_hours` (by default at
    six sevenths of the time). `profile` is demo, or test for the tests' own home.
    """
    if not 0 < hours <= MAX_HOURS:
        raise ConfigError(f"{hours:g} hours cannot be simulated: give up to {MAX_HOURS:,}")
    test = profile == "test"
    names = {k: f"t-{k}" for k in DEMO_NAMES} if test else DEMO_NAMES
    target = names.get(device, device)
    if infection and target not in names.values():
        known = ", ".join((*KINDS, *names.values()))
        raise ConfigError(f"{device!r} is no device of this home: choose one of {known}")
    devices = tuple(DeviceSpec(kind, names[kind], "D" if test else "C") for kind in KINDS)
    if test:
        # The test home is no copy of the demo: two phones, no printer.
        spare = DeviceSpec("phone", "t-guest-phone", "D", joins=600.0)
        devices = (*(d for d in devices if d.kind != "printer"), spare)
    at = hours * 3600 * 6 / 7 if at_hours is None else at_hours * 3600
    befalls = (Infection(infection, target, at, params),) if infection else ()
    return Scenario(
        name=name or infection or "quiet",
        seed=(TEST_SEED if test else DEMO_SEED) if seed is None else seed,
        start=(DEMO_START + 9_000_000 if test else DEMO_START) if start is None else start,
        hours=hours,
        devices=devices,
        infections=befalls,
        lan="192.168.77.0/24" if test else "192.168.1.0/24",
        profile=profile,
    )


SCENARIOS: dict[str, Callable[..., Scenario]] = {
    "quiet": home,
    **{kind: partial(home, kind) for kind in INFECTIONS},
}
"""Scenarios by name; each takes home()'s keyword arguments."""
