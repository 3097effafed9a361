"""What to simulate: a home, its devices, what befalls them, and for how long."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from guardian.errors import ConfigError
from guardian.simulate.knobs import Profile

KINDS = ("camera", "bulb", "plug", "speaker", "thermostat", "hub", "phone", "printer")

INFECTIONS = (
    "telnet-scan", "local-scan", "ssh-guess", "beacon", "download", "syn-flood", "udp-flood",
    "infected",
)  # fmt: skip


MORE_INFECTIONS = (
    "slow-scan", "arp-sweep", "arp-spoof", "dns-flood", "exfiltration", "dns-exfiltration",
    "https-beacon-even", "p2p-malware", "internet-scan", "login-guess", "slow-dos", "message-flood",
    "ping-sweep", "port-sweep",
)  # fmt: skip
"""Later ones. Training homes draw those that training.DRAWN names."""

LOOKALIKES = (
    "firmware-update", "new-app", "guest-phone", "device-setup", "backup", "remote-view", "outage",
    "local-polls", "public-resolver", "cloud-relays", "home-store", "desk-work",
)  # fmt: skip
"""Benign events that look like attacks; they stand among a scenario's infections. Training homes
draw those that training.DRAWN names."""


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
    guest: bool = False
    """It joins as it is: nobody sets it up."""


@dataclass(frozen=True)
class Infection:
    """What befalls a device from `at` seconds on; params override what would be drawn.

    The kind is of INFECTIONS, of MORE_INFECTIONS, or benign, of LOOKALIKES.
    """

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
    at_share: float | None = None,
    profile: Profile = "demo",
    seed: int | None = None,
    start: int | None = None,
    params: tuple[tuple[str, float], ...] = (),
) -> Scenario:
    """Return the home of eight devices, quiet or with one infection.

    `infection` may also be one of LOOKALIKES. `device` is a kind or a name of the home; the
    infection starts at `at_hours`, or at `at_share` of the time (by default six sevenths).
    `profile` is demo, or test for the tests' own home.
    """
    if not 0 < hours <= MAX_HOURS:
        raise ConfigError(f"{hours:g} hours cannot be simulated: give up to {MAX_HOURS:,}")
    test = profile == "test"
    names = {k: f"t-{k}" for k in DEMO_NAMES} if test else DEMO_NAMES
    guest = "t-visitor-phone" if test else "guest-phone"
    target = guest if infection == "guest-phone" else names.get(device, device)
    if infection and target not in (*names.values(), guest):
        known = ", ".join((*KINDS, *names.values()))
        raise ConfigError(f"{device!r} is no device of this home: choose one of {known}")
    devices = tuple(DeviceSpec(kind, names[kind], "D" if test else "C") for kind in KINDS)
    if test:
        # The test home is no copy of the demo: two phones, no printer.
        spare = DeviceSpec("phone", "t-guest-phone", "D", joins=600.0)
        devices = (*(d for d in devices if d.kind != "printer"), spare)
    at = hours * 3600 * 6 / 7 if at_hours is None else at_hours * 3600
    if at_hours is None and at_share is not None:
        at = hours * 3600 * at_share
    if infection == "guest-phone":
        devices = (*devices, DeviceSpec("phone", guest, "D" if test else "C", at, guest=True))
    if infection == "device-setup":
        devices = tuple(replace(d, joins=at) if d.name == target else d for d in devices)
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
    "slow-scan": partial(home, "slow-scan", hours=26.0, at_share=1 / 13),
    "arp-sweep": partial(home, "arp-sweep"),
    "arp-spoof": partial(home, "arp-spoof", hours=12.0, at_share=5 / 6),
    "dns-flood": partial(home, "dns-flood"),
    "exfiltration": partial(home, "exfiltration"),
    "dns-exfiltration": partial(home, "dns-exfiltration", at_share=5 / 7),
    "https-beacon-even": partial(home, "https-beacon-even", at_share=4 / 7),
    "p2p-malware": partial(home, "p2p-malware", at_share=5 / 7),
    "internet-scan": partial(home, "internet-scan", at_share=3 / 7),
    "login-guess": partial(home, "login-guess"),
    "slow-dos": partial(home, "slow-dos"),
    "message-flood": partial(home, "message-flood"),
    "ping-sweep": partial(home, "ping-sweep"),
    "port-sweep": partial(home, "port-sweep"),
    "firmware-update": partial(home, "firmware-update"),
    "new-app": partial(home, "new-app", device="phone"),
    "guest-phone": partial(home, "guest-phone", hours=15.0, at_share=2 / 3),
    "device-setup": partial(home, "device-setup", device="speaker"),
    "backup": partial(home, "backup", device="phone", hours=20.0, at_share=17 / 20),
    "remote-view": partial(home, "remote-view", at_share=1 / 7),
    "outage": partial(home, "outage", at_share=5 / 7),
    "local-polls": partial(home, "local-polls", device="hub", at_share=1 / 7),
    "public-resolver": partial(home, "public-resolver", at_share=1 / 7),
    "cloud-relays": partial(home, "cloud-relays", at_share=1 / 7),
    "home-store": partial(home, "home-store", at_share=1 / 7),
    "desk-work": partial(home, "desk-work", device="phone", at_share=1 / 7),
}
"""Scenarios by name; each takes home()'s keyword arguments. The later ones bring a length and a
start that suit them: a scan for a day, a guest or a spoofer in the evening, a backup
in the night."""

HELP: dict[str, str] = {
    "quiet": "a home of eight devices; nothing happens",
    "telnet-scan": "looks for telnet at random addresses, guesses passwords where one answers",
    "local-scan": "asks for every address of the home, tries the ports of who is there",
    "ssh-guess": "guesses passwords, one login session after the other",
    "beacon": "calls one host with a period and jitter",
    "download": "loads a binary from an odd host and port",
    "syn-flood": "half-open connections to one victim, as fast as it goes",
    "udp-flood": "datagrams to one victim, as fast as it goes",
    "infected": "scan, download, beacon and flood, one after the other",
    "slow-scan": "tries a few ports an hour for a day",
    "arp-sweep": "asks by ARP for every address of the home, tries no port",
    "arp-spoof": "takes the router's address; a phone's traffic passes through the spoofer",
    "dns-flood": "asks for names that do not exist, as fast as it goes",
    "exfiltration": "uploads steadily to one host that was never called before",
    "dns-exfiltration": "carries data out slowly, in names that it looks up",
    "https-beacon-even": "calls a master over TLS, each time with the same number of bytes",
    "p2p-malware": "keeps in touch with many peers by UDP on random high ports",
    "internet-scan": "strangers from outside try the ports of a device",
    "login-guess": "guesses passwords at one service, each time alike",
    "slow-dos": "opens hundreds of connections to one service and holds them",
    "message-flood": "a few connections with messages as fast as it goes",
    "ping-sweep": "pings every machine of a network",
    "port-sweep": "tries many ports of one machine or a few",
    "firmware-update": "benign: a large download from a new host, then a restart",
    "new-app": "benign: a phone calls many new hosts at once",
    "guest-phone": "benign: a phone that nobody knows stays for an evening",
    "device-setup": "benign: a new device with mDNS storms, clocks and many first contacts",
    "backup": "benign: a large upload in the night",
    "remote-view": "benign: the owner looks at a device from outside",
    "outage": "benign: a device's clouds are away, it tries again and again",
    "local-polls": "benign: a hub or an app asks a device of the home again and again",
    "public-resolver": "benign: a device asks a resolver on the Internet, not the router",
    "cloud-relays": "benign: a camera keeps relays warm, so that it can be looked at from afar",
    "home-store": "benign: a device lays files on a machine of the home, which is away at times",
    "desk-work": "benign: files, screens, shells, mail, prints and calls of a computer",
}
"""One line for each scenario."""
