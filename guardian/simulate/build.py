"""From a scenario to a home that runs: hosts, habits, infections, and their rates."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable

from guardian.errors import ConfigError
from guardian.simulate.cameras import camera
from guardian.simulate.common import Member
from guardian.simulate.home import Host, World
from guardian.simulate.hubs import hub
from guardian.simulate.infections import infect
from guardian.simulate.knobs import Knobs
from guardian.simulate.people import phone, printer
from guardian.simulate.presence import router
from guardian.simulate.scenario import DeviceSpec, Scenario
from guardian.simulate.sound import speaker
from guardian.simulate.switches import bulb, plug, thermostat

FAMILIES: dict[str, Callable[[Member], None]] = {
    "camera": camera,
    "bulb": bulb,
    "plug": plug,
    "speaker": speaker,
    "thermostat": thermostat,
    "hub": hub,
    "phone": phone,
    "printer": printer,
}

WIRED = ("hub", "printer")


def build(scenario: Scenario) -> tuple[World, dict[str, float], dict[str, object]]:
    """Return the home ready to run, every rate that it drew and every choice it made, by name.

    Raises ConfigError for a scenario that contradicts itself.
    """
    try:
        lan = ipaddress.IPv4Network(scenario.lan)
    except ValueError as error:
        raise ConfigError(f"{scenario.lan!r} is no LAN: write it like 192.168.1.0/24") from error
    if lan.prefixlen != 24:
        raise ConfigError(f"{scenario.lan} is no /24: the simulated home has 254 addresses")
    key = f"{scenario.profile}/{scenario.seed}"
    w = World(key, scenario.start * 1_000_000, scenario.hours * 3600, scenario.lan,
              scenario.utc_offset_h)  # fmt: skip
    drawn: dict[str, float] = {}
    chosen: dict[str, object] = {}
    knobs = Knobs(scenario.profile, w.rng("home"), "home")
    w.loss = knobs.span("loss", 0.0002, 0.012)
    w.dns_timeouts = knobs.span("dns-timeouts", 0.0005, 0.02)
    w.spawn(1.0, router(w, w.rng("router"), knobs.span("advertise", 60, 900)))
    drawn |= knobs.drawn
    members = [_member(w, scenario, spec, number) for number, spec in enumerate(scenario.devices)]
    for member in members:  # all hosts are there before the first habit looks for them
        FAMILIES[member.spec.kind](member)
        _keep(member.k, member.d.name, drawn, chosen)
    for number, infection in enumerate(scenario.infections):
        for k in infect(w, infection, scenario.profile, number):
            _keep(k, f"{infection.device}#{number}", drawn, chosen)
    return w, drawn, chosen


def _keep(k: Knobs, who: str, drawn: dict[str, float], chosen: dict[str, object]) -> None:
    drawn |= {f"{who}/{name}": value for name, value in k.drawn.items()}
    chosen |= {f"{who}/{name}": value for name, value in k.chosen.items()}


def _member(w: World, scenario: Scenario, spec: DeviceSpec, number: int) -> Member:
    if spec.kind not in FAMILIES:
        raise ConfigError(
            f"{spec.kind!r} is no kind of device: choose one of {', '.join(FAMILIES)}"
        )
    if spec.name in w.hosts:
        raise ConfigError(f"two devices are called {spec.name!r}: give each its own name")
    rng = w.rng(spec.name, "host")
    mac = bytes([rng.randrange(256) & 0xFC, *rng.randbytes(2)]) + rng.randbytes(3)
    if spec.kind == "phone":  # phones make their MAC up
        mac = bytes([mac[0] | 2]) + mac[1:]
    wired = spec.kind in WIRED
    lag = 0.0006 if wired else 0.0015 + 0.004 * rng.random()
    ip = w.prefix + bytes([20 + (number * 7 + rng.randrange(7)) % 220])
    host = Host(spec.name, spec.kind, mac, ip, 64, wired, lag, w.gateway.ip)
    host.since = spec.joins or 0.0
    host.ttl = 255 if spec.kind == "printer" else 64
    w.add(host)
    return Member(w, host, Knobs(scenario.profile, w.rng(spec.name, "knobs"), spec.kind), spec)
