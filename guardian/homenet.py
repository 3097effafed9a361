"""The home's networks while they change: a provider's new IPv6 prefix, a new address of the router.

The interfaces are asked at times. What is new counts from then on; what is gone counts for a day
longer, since devices go on using old addresses for a while.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence

from guardian import interfaces
from guardian.addresses import PRIVATE, Lan
from guardian.const import NS
from guardian.devices import DeviceTable

log = logging.getLogger("guardian")

KEEP_NS = 86_400 * NS
"""A prefix that is gone counts so long: RFC 7084 lets devices use one for two hours, and some do
for longer."""

MAX_GONE = 32
"""Prefixes that are gone and still count; a line that changes every hour has 24 in a day."""


class HomeNetworks:
    """Keeps the home's networks as the interfaces have them; none where the user named them."""

    def __init__(self, lan: Lan, devices: DeviceTable, names: Sequence[str], *, named: bool):
        self._lan, self._devices = lan, devices
        self._names = tuple(names)
        self._named = named
        self._present: tuple[str, ...] = tuple(_networks(names))
        self._gone: dict[str, int] = {}
        """When a prefix was last seen, ns."""
        self._addresses = set(_addresses(names))

    @property
    def networks(self) -> tuple[str, ...]:
        """The interfaces' own networks, those of late at the end."""
        return (*self._present, *self._gone)

    def refresh(self, now: int) -> bool:
        """Look at the interfaces; return whether the home's networks changed. `now` is ns."""
        addresses = set(_addresses(self._names))
        for address in addresses - self._addresses:
            self._devices.add_gateway_address(address)
        self._addresses = addresses
        if self._named:
            return False
        present = tuple(_networks(self._names))
        before = self.networks
        for network in self._present:
            if network not in present:
                self._gone[network] = now
        self._gone = {
            network: at
            for network, at in self._gone.items()
            if network not in present and 0 <= now - at < KEEP_NS
        }
        while len(self._gone) > MAX_GONE:
            del self._gone[next(iter(self._gone))]
        new = [network for network in present if network not in self._present]
        self._present = present
        if self.networks == before:
            return False
        self._lan.set_networks((*PRIVATE, *self.networks))
        if new:
            log.info("the home has a new network: %s", ", ".join(new))
        return True


def _networks(names: Iterable[str]) -> list[str]:
    return list(dict.fromkeys(net for name in names for net in interfaces.networks(name)))


def _addresses(names: Iterable[str]) -> list[str]:
    return [address for name in names for address in interfaces.addresses(name)]
