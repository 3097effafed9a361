"""What every device family shares: its start, its vendor's names, its share of the basics."""

from __future__ import annotations

from collections.abc import Iterable

from guardian.simulate.chatter import clock
from guardian.simulate.cloud import Link, Poll, firmware, lost_cause, session
from guardian.simulate.home import Habit, Host, World
from guardian.simulate.knobs import Knobs
from guardian.simulate.presence import comings, join, lease, neighbours
from guardian.simulate.scenario import DeviceSpec
from guardian.simulate.setup import Plan, setup

VENDORS = {"A": "arbor", "B": "brisk", "C": "cedarhome", "D": "dunlin"}
"""Made-up vendors under .example: no name of the simulation exists."""


class Member:
    """A device while its habits are put together."""

    def __init__(self, w: World, d: Host, k: Knobs, spec: DeviceSpec) -> None:
        self.w, self.d, self.k, self.spec = w, d, k, spec
        self.vendor = f"{VENDORS[spec.variant]}-{spec.kind}.example"
        self.starts = spec.joins or 0.0

    def domain(self, role: str) -> str:
        return f"{role}.{self.vendor}"

    def habit(self, habit: Habit, after: float = 0.0) -> None:
        """Start a habit once the device is there."""
        self.w.spawn(self.starts + after, habit)

    def basics(self) -> None:
        """Lease, ARP, time, firmware checks, and here and there a dead server."""
        w, d, k = self.w, self.d, self.k
        rng = w.rng(d.name, "basics")
        d.asks_v6 = k.chance("asks-v6", 0.4, True, False)
        d.lease_s = k.size("lease", 1_800, 172_800)
        if self.spec.joins is None:
            self.habit(lease(w, d, rng, d.lease_s / 2 * rng.random()))
        elif self.spec.guest:
            self.habit(join(w, d, rng))
        else:
            self.habit(setup(w, d, rng, self.vendor, Plan.draw(k)))
        self.habit(neighbours(w, d, w.rng(d.name, "arp"), k.span("arp", 60, 1_200)), 5)
        server = k.pick("ntp", ("0.pool.example", "time.arbor.example"), "ntp.cedarhome.example",
                        "clock.dunlin.example")  # fmt: skip
        self.habit(clock(w, d, w.rng(d.name, "ntp"), server, k.span("ntp", 64, 7_200)), 3)
        if k.chance("comes-and-goes", 0.25, self.spec.kind == "phone", self.spec.kind == "phone"):
            rng = w.rng(d.name, "comings")
            self.habit(comings(w, d, rng, k.span("comes", 3_600, 40_000)), 600)
        check = Poll(self.domain("update"), 443, k.span("firmware", 3_600, 86_400), 240,
                     k.size("firmware-answer", 300, 2_500))  # fmt: skip
        size = k.size("firmware-size", 1_200_000, 9_000_000)
        rate = k.span("firmware-rate", 200_000, 2_500_000)
        tls = k.chance("firmware-tls", 0.6, True, False)
        rng = w.rng(d.name, "firmware")
        update = firmware(w, d, rng, check, size, rate, self.spec.update_at, tls)
        self.habit(update, 20)
        if k.chance("lost-server", 0.15, self.spec.kind == "plug", self.spec.kind == "bulb"):
            port = k.pick("lost-port", (443, 80, 8883, 5222), 8080, 9443)
            every = k.span("lost-every", 600, 14_400)
            rng = w.rng(d.name, "lost")
            self.habit(lost_cause(w, d, rng, port, every, k.size("lost-tries", 2, 5.9)))

    def link(
        self, kinds: Iterable[str], demo: str, test: str, keep: tuple[float, float],
        event_every: tuple[float, float], event: tuple[float, float], steady: bool = False,
    ) -> Link:  # fmt: skip
        """Draw the device's session to its cloud."""
        k = self.k
        kind = k.pick("link", tuple(kinds), demo, test)
        ports = {
            "tls": k.pick("tls-port", (443, 443, 8443, 5228), 443, 443),
            "mqtts": k.pick("mqtts-port", (8883, 8883, 443), 8883, 8883),
            "mqtt": 1883,
            "raw": k.pick("raw-port", (32100, 6000, 10240, 7000), 5683, 15555),
        }
        return Link(
            name=self.domain("link"),
            port=ports[kind],
            kind=kind,  # type: ignore[arg-type]
            keepalive=k.span("keepalive", *keep),
            up=k.size("beat-up", 20, 180),
            down=k.size("beat-down", 20, 180),
            life=k.span("life", 3_600, 172_800),
            event_every=k.span("event-every", *event_every),
            event=k.size("event", *event),
            steady=steady,
            tcp_probes=k.chance("tcp-probes", 0.15, False, False),
            cert=k.size("cert", 1_800, 5_200),
        )

    def hold(self, link: Link) -> None:
        """Hold the session; of a device that was there before, it often stood already."""
        rng = self.w.rng(self.d.name, "link")
        was_open = self.spec.joins is None and rng.random() < 0.5
        after = 2.0 if was_open else 2.0 + 20 * rng.random()
        self.habit(session(self.w, self.d, rng, link, was_open), after)
