"""What the incidents remember of each device, bounded."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass, field

from guardian.const import MAX_JUDGED, MAX_TURNS, NS, SETTLED_S
from guardian.drift import Cuts, Weeks
from guardian.evidence import EvidenceSettings, Past
from guardian.firstday import Day
from guardian.habits import Habits
from guardian.routers import Address
from guardian.suspicion import Suspicion
from guardian.tables import F32

TURN_ROWS = 12
"""Rows of another class after which a peer's incident no longer takes them: the length of a
sequence, within which a model still sees what went before."""

_HOUR_NS = 3_600 * NS


@dataclass
class Home:
    """What is remembered of one device."""

    suspicion: Suspicion
    first: int
    """When it was first judged, ns."""
    joined: int = 0
    """When it last asked for an address as a new device, ns; 0 where nobody saw that."""
    habits: Habits = field(default_factory=Habits)
    weeks: Weeks | None = None
    """For drift; None where nothing says how to cut its bins."""
    day: Day = field(default_factory=Day)
    hour: int = -1
    highest: float = 0.0
    before: float = 0.0
    """Highest threat of the current hour and of the one before."""
    turns: OrderedDict[Address, tuple[str, int]] = field(default_factory=OrderedDict)
    """By peer with an open incident: another class than its cause, and how often in a row."""

    def turned(self, peer: Address, label: str) -> bool:
        """Tell whether what is done to a peer has become another thing: TURN_ROWS in a row."""
        last, run = self.turns.pop(peer, (label, 0))
        run = run + 1 if last == label else 1
        self.turns[peer] = (label, run)
        if len(self.turns) > MAX_TURNS:
            self.turns.popitem(last=False)
        return run >= TURN_ROWS

    def calm(self, told: int, peer: Address, x: F32) -> None:
        """Take a calm row: it shows what is usual."""
        self.habits.add(told, peer, x)
        if self.weeks is not None:
            self.weeks.add(told, x)

    def rate(self, threat: float, told: int) -> None:
        """Take note of a threat."""
        hour = told // _HOUR_NS
        if hour != self.hour:
            self.before = self.highest if hour == self.hour + 1 else 0.0
            self.hour, self.highest = hour, 0.0
        self.highest = max(self.highest, threat)


class Homes:
    """Devices by key; at most MAX_JUDGED. Brief visitors go first, the longest unseen of them."""

    def __init__(
        self, settings: EvidenceSettings, capacity: int = MAX_JUDGED, cuts: Cuts | None = None
    ) -> None:
        self._settings = settings
        self._cuts = cuts
        self._capacity = capacity
        self._brief: OrderedDict[str, Home] = OrderedDict()
        self._settled: OrderedDict[str, Home] = OrderedDict()

    def __len__(self) -> int:
        return len(self._brief) + len(self._settled)

    def fresh(self, now: int) -> Home:
        """Return what is remembered of a device that was never seen: nothing."""
        return Home(Suspicion(self._settings), now, weeks=self._weeks())

    def _weeks(self) -> Weeks | None:
        return Weeks(self._cuts, self._settings.learning_s) if self._cuts is not None else None

    def peek(self, device: str) -> Home | None:
        """Return what is remembered of a device, if anything is."""
        return self._settled.get(device) or self._brief.get(device)

    def settled(self) -> dict[str, Home]:
        """Return what is remembered of devices that are no brief visitors, longest unseen first."""
        return dict(self._settled)

    def succeed(self, before: Homes) -> None:
        """Let what adds up against devices go on where other models of the same classes judge."""
        for mine, theirs in ((self._settled, before._settled), (self._brief, before._brief)):
            for device, home in theirs.items():
                mine[device] = self.fresh(home.first)
                mine[device].suspicion.succeed(home.suspicion)
                mine[device].day = home.day
                home.day.renew()

    def put(self, device: str, home: Home) -> None:
        """Remember a settled device as it was before a restart, as the one seen last."""
        known = self.peek(device)
        if known is not None:
            home.suspicion.succeed(known.suspicion)
        self.drop(device)
        if len(self) < self._capacity:
            self._settled[device] = home

    def drop(self, device: str) -> None:
        """Remember nothing of a device."""
        self._settled.pop(device, None)
        self._brief.pop(device, None)

    def renew(self) -> None:
        """Let what each device's day is held to be looked up anew."""
        for home in (*self._settled.values(), *self._brief.values()):
            home.day.renew()

    def unlearn(self, device: str = "") -> None:
        """Let a device (all of them where none is given) begin its past anew; what adds up
        against it stays."""
        for key, home in [*self._settled.items(), *self._brief.items()]:
            if device in ("", key):
                home.suspicion.threat_past, home.suspicion.anomaly_past = Past(), Past()
                home.habits, home.weeks, home.day = Habits(), self._weeks(), Day()

    def get(self, device: str, now: int) -> Home:
        """Return what is remembered of a device that is seen now."""
        home = self._settled.get(device)
        if home is not None:
            self._settled.move_to_end(device)
            return home
        home = self._brief.pop(device, None)
        if home is None:
            home = self.fresh(now)
            if len(self) >= self._capacity:
                (self._brief or self._settled).popitem(last=False)
        settled = now - home.first >= SETTLED_S * NS
        (self._settled if settled else self._brief)[device] = home
        return home
