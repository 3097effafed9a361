"""An infection's rates, and what several infections share."""

from __future__ import annotations

from guardian.simulate.home import Host, World
from guardian.simulate.knobs import Knobs

RESERVED_PORTS = (5_034, 9_555, 48_101, 16_666, 8_088, 30_120, 31_337, 2_048)
"""Ports of the demo's and the test's malware: training draws none of them."""


class Dial:
    """Rates by name: from the scenario's params, else drawn.

    A param is called like the rate, or `kind.rate` to mean one kind of a chain.
    """

    def __init__(self, k: Knobs, params: tuple[tuple[str, float], ...]) -> None:
        self.k = k
        self.given = dict(params)
        self.used: set[str] = set()

    def _take(self, name: str, drawn: float) -> float:
        for key in (f"{self.k.kind}.{name}", name):
            if key in self.given:
                self.used.add(key)
                return self.given[key]
        return drawn

    def __call__(self, name: str, low: float, high: float) -> float:
        return self._take(name, self.k.span(name, low, high))

    def port(self, name: str, train: tuple[int, ...], demo: int, test: int) -> int:
        """Return a port; training takes one of `train` or any high one that is not reserved."""
        high = RESERVED_PORTS[0]
        while high in RESERVED_PORTS:
            high = self.k.rng.randint(1_025, 65_000)
        return int(self._take(name, self.k.pick(name, (*train, high, high), demo, test)))


def outsider(w: World, victim: Host, ip: bytes) -> Host:
    """Return a host on the Internet that calls a device through a port the user opened."""
    host = Host("outside", "outside", w.gateway.mac, ip, ttl=49, lag=0.09, v6=False)
    host.stands_for = victim.mac
    return host
