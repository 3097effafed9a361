"""What class of device one is: a thing, a phone or a computer, by what it shows of itself.

Known are how its DHCP client asks (dhcp.Hello.fingerprint), what it calls itself and whether it
made its MAC up. All of it may be a lie, so one sign is not enough, what contradicts itself is a
thing, and a class moves a line by little (evidence.class_line). What a device does is no sign: a
scan has as many peers as a browser.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from guardian.dhcp import fingerprint_of
from guardian.kin import made_up

THING, PHONE, COMPUTER = "thing", "phone", "computer"
CLASSES = (THING, PHONE, COMPUTER)
"""Of devices; what shows nothing is a thing."""

ENOUGH = 2
"""Signs that make a class."""

_IOS = (
    "1,121,3,6,15,108,114,119,162,252", "1,121,3,6,15,108,114,119,252", "1,121,3,6,15,114,119,252",
    "1,121,3,6,15,119,252", "1,3,6,15,119,252",
)  # fmt: skip
_ANDROID = (
    "1,3,6,15,26,28,51,58,59,43,114,108", "1,3,6,15,26,28,51,58,59,43,114",
    "1,3,6,15,26,28,51,58,59,43", "1,33,3,6,15,26,28,51,58,59,43",
)  # fmt: skip
_ANDROIDS = ("7.0", "7.1.1", "7.1.2", "8.0.0", "8.1.0", *map(str, range(9, 21)))
_OLD_ANDROID = ("1,33,3,6,15,26,28,51,58,59", "1,33,3,6,15,28,51,58,59")
_WINDOWS = (
    "1,3,6,15,31,33,43,44,46,47,119,121,249,252", "1,3,6,15,31,33,43,44,46,47,119,121,249,252,114",
    "1,3,6,15,31,33,43,44,46,47,121,249,252", "1,15,3,6,44,46,47,31,33,121,249,43",
    "1,15,3,6,44,46,47,31,33,121,249,43,252", "1,15,3,6,44,46,47,31,33,121,249,252,43",
    "1,15,3,6,44,46,47,31,33,249,43", "1,15,3,6,44,46,47,31,33,249,43,252",
)  # fmt: skip
_MACOS = (
    "1,121,3,6,15,108,114,119,162,252,95,44,46", "1,121,3,6,15,108,114,119,252,95,44,46",
    "1,121,3,6,15,114,119,252,95,44,46", "1,121,3,6,15,119,252,95,44,46",
    "1,3,6,15,119,252,95,44,46", "1,3,6,15,119,95,252,44,46", "1,3,6,15,119,95,252,44,46,47",
)  # fmt: skip
_LINUX = (
    "1,2,6,12,15,26,28,121,3,33,40,41,42,119,249,252,17", "1,28,2,3,15,6,119,12,44,47,26,121,42",
)  # fmt: skip


def _systems() -> dict[str, tuple[str, int]]:
    """Return class and number of signs by fingerprint: the options that systems ask for in order,
    as they are publicly known, with their vendor class.

    Windows names itself beside its list: two signs. An Android may be a television and what asks
    like Linux a small board: one.
    """
    table = (
        (PHONE, 1, _IOS, ("",)),
        (PHONE, 1, _ANDROID, tuple(f"android-dhcp-{version}" for version in _ANDROIDS)),
        (PHONE, 1, _OLD_ANDROID, ("dhcpcd-5.2.10", "dhcpcd-5.5.6")),
        (COMPUTER, 2, _WINDOWS, ("MSFT 5.0",)),
        (COMPUTER, 1, _MACOS, ("",)),
        (COMPUTER, 1, _LINUX, ("",)),
    )
    return {
        fingerprint_of(bytes(map(int, asks.split(","))), vendor.encode()): (kind, signs)
        for kind, signs, lists, vendors in table
        for asks in lists
        for vendor in vendors
    }


SYSTEMS = _systems()

_NAMES = {
    PHONE: re.compile(
        r"(?<![a-z])(iphone|ipad|android|galaxy|pixel|oneplus|redmi|xperia|smartphone|phone|handy)"
        r"(?![a-z])",
        re.IGNORECASE,
    ),
    COMPUTER: re.compile(
        r"^(desktop|laptop)-[0-9a-z]{7,8}$|(?<![a-z])(macbook|imac|mac-?mini|thinkpad|laptop|"
        r"notebook|workstation|pc)(?![a-z])",
        re.IGNORECASE,
    ),
}


def shown(made_up_mac: bool, fingerprint: str, names: Iterable[str]) -> str:
    """Return the class that signs show; THING where they contradict each other, empty where they
    are too few."""
    signs = {PHONE: int(made_up_mac), COMPUTER: 0}
    system, weight = SYSTEMS.get(fingerprint, (PHONE, 0))
    signs[system] += weight
    called = tuple(names)
    for kind, pattern in _NAMES.items():
        signs[kind] += any(pattern.search(name) for name in called)
    found = [kind for kind, count in signs.items() if count >= ENOUGH]
    return found[0] if len(found) == 1 else THING if found else ""


def class_of(before: str, macs: Iterable[int], fingerprint: str, names: Iterable[str]) -> str:
    """Return the class of a device that was of class `before`; empty where it showed none so far.

    It stays where signs become fewer, since clients of DHCP ask now this way and now that. What
    showed two classes is a thing from then on.
    """
    found = shown(any(map(made_up, macs)), fingerprint, names) or before
    return found if before in ("", found) else THING


def stored(macs: Iterable[int], fingerprint: str, names: Iterable[str]) -> str:
    """Return the class of a device as the table kin has it."""
    return class_of("", macs, fingerprint, names) or THING
