"""Scores -> incidents: opened, updated, escalated, closed; one per device and cause.

How much evidence it takes stands in evidence.py. Here is what becomes of it:

* an incident opens once; later evidence of its cause, or from its peers, joins it;
* it is updated at most once in `update_s`, escalated when its severity rises, and closed after a
  quiet time that is longer for a slow beacon;
* what comes back within `merge_s` of the closing continues the same incident, silently;
* moments are those of packet time, so how the input was cut into steps changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from guardian import addresses
from guardian.addresses import Lan
from guardian.arpwatch import Finding, arp_rows
from guardian.const import MAX_OPEN_INCIDENTS, NS
from guardian.counters import Finding as Counted
from guardian.devices import DeviceTable
from guardian.drift import Cuts
from guardian.evidence import (
    Asked,
    Contrast,
    EvidenceSettings,
    Ruler,
    class_line,
    device_line,
    doublings,
    log_odds,
)
from guardian.facts import Row
from guardian.fetched import Questions
from guardian.homes import Home, Homes
from guardian.incidents import Change, Incident, IncidentEvent
from guardian.lifecycle import FOREVER, SEVERITIES, LifeSettings, Open, restored, severity_of
from guardian.plainrules import PlainRules
from guardian.seen import Seen, see
from guardian.suspicion import UNUSUAL, Opening, Suspicion
from guardian.tables import Conns, FeatureRows, Scores
from guardian.week import Week
from guardian.wishes import HOLDS, Allow, Feedback, Snooze, Watch, Wish, Wishes
from guardian.witness import is_heavy, is_notable, joins, named

__all__ = [
    "AlertSettings",
    "Allow",
    "Feedback",
    "IncidentTable",
    "Ruler",
    "Snooze",
    "Watch",
]


@dataclass(frozen=True)
class AlertSettings:
    """What decides, and for how long an incident lives."""

    evidence: EvidenceSettings = field(default_factory=EvidenceSettings)
    life: LifeSettings = field(default_factory=LifeSettings)
    counters: bool = True
    """Plain counters may speak, too."""
    a_week: int = 0
    """Incidents told in any seven days; those of high severity, and those that a plain rule saw,
    are always told. 0: no limit."""


class IncidentTable:
    """The home's incidents; capped: MAX_OPEN_INCIDENTS, and MAX_DEVICES in memory."""

    def __init__(
        self,
        ruler: Ruler,
        devices: DeviceTable,
        lan: Lan,
        settings: AlertSettings | None = None,
    ) -> None:
        self.settings = settings or AlertSettings()
        self.refused = 0
        """Incidents that did not open since too many were open."""
        self._ruler = ruler
        self._devices = devices
        self._lan = lan
        self._line = log_odds(ruler.threat_line)
        evidence = self.settings.evidence
        self._suspect = self._line - evidence.heavy_lower
        self._lines = {
            kind: class_line(self._line, log_odds(own), evidence.class_moves_most)
            for kind, own in ruler.class_lines.items()
        }
        self._least = min([self._line, *self._lines.values()]) - (
            evidence.heavy_lower + evidence.bad_lower
        )
        """What lies under this is under every line: most rows do."""
        self._prior = ruler.prior
        self._threats = Contrast(evidence.contrast, _level(ruler.ordinary_threat, log_odds))
        self._anomalies = Contrast(
            evidence.unusual_contrast,
            _level(ruler.ordinary_anomaly, lambda v: doublings(v / ruler.anomaly_line)),
        )
        self._rules = PlainRules()
        self._questions = Questions()
        self._wishes = Wishes()
        self.homes = Homes(evidence, cuts=Cuts.of(ruler.usual, ruler.features))
        self._incidents: dict[str, dict[str, Open]] = {}
        """By device, then by cause; a device without any has no entry."""
        self._number = 0
        self._due = FOREVER
        self._events: list[IncidentEvent] = []
        self.week = Week()

    # --- the stream ---------------------------------------------------------

    def step(
        self, slices: Conns, rows: FeatureRows, scores: Scores, now: int
    ) -> list[IncidentEvent]:
        """Take some slices in the order of `told`, their rows and the rows' scores.

        Return what changed. All rows of a slice must be in one step.
        """
        for one in see(slices, rows, scores, self._lan):
            self._timers(one.told)
            self._row(one)
        self._timers(now)
        return self._take()

    def arp(self, finding: Finding) -> list[IncidentEvent]:
        """Take what ARP gave away; findings come in the order of time, between the slices."""
        self._timers(finding.told)
        index = self._devices.judged(finding.mac)
        if index >= 0 and self.settings.counters:
            device = self._devices.key(index)
            rows = arp_rows(finding, self._devices.ref(index).ip, self._ruler)
            rows = [r for r in rows if not self._allowed(device, r, finding.cause, finding.told)]
            known = self._running(device, finding.cause)
            if known is not None and rows:
                self._join(known, rows)
            elif rows:
                home = self.homes.get(device, finding.told)
                opening = Opening(finding.cause, rows)
                self._open(device, home, opening, finding.told, counter=finding.sentence)
        return self._take()

    def tick(self, now: int) -> list[IncidentEvent]:
        """Let time pass: updates that are due, incidents that end."""
        self._timers(now)
        return self._take()

    def finish(self, now: int) -> list[IncidentEvent]:
        """Tell what was not yet told; what is open stays open."""
        self._timers(now)
        for one in self._sorted():
            if one.dirty:
                self._emit("updated", one, now)
        return self._take()

    def open(self) -> list[Incident]:
        """Return the open incidents as they are now, oldest first."""
        return [one.snapshot(self._ruler) for one in self._sorted() if one.closed is None]

    def threatened(self) -> set[str]:
        """Return MAC, or address where there is none, of devices with an open incident that a
        person was told of."""
        refs = [one.ref for one in self._sorted() if one.closed is None and one.announced]
        return {ref.mac or ref.ip for ref in refs}

    def score(self, device: int) -> float:
        """Return the highest threat a device index had this hour or the one before, 0 to 1."""
        home = self.homes.peek(self._devices.key(device))
        return max(home.highest, home.before) if home else 0.0

    def learning(self, device: int) -> bool:
        """Tell whether a device index is too new to be called settled."""
        known = self._devices.device(device)
        age = known.last_seen - known.first_seen
        return age < self.settings.evidence.learning_s * NS

    def succeed(self, before: IncidentTable) -> None:
        """Go on where a table with other models had come, as far as that means the same.

        What plain counters and rules saw always does; what added up by class, where the classes
        and the features are the same.
        """
        self._rules, self._questions = before._rules, before._questions
        ours, theirs = self._ruler, before._ruler
        if (ours.classes, ours.features) == (theirs.classes, theirs.features):
            self.homes.succeed(before.homes)

    def restore(
        self,
        incidents: list[Incident],
        untold: Mapping[str, bool] | None = None,
        told: Iterable[int] = (),
    ) -> None:
        """Take stored incidents up again, open or lately closed; nobody is told again.

        untold has the ids of those that nobody was told of yet, and whether the week's limit held
        them back; told are the moments at which incidents were told of late, ns.
        """
        untold = untold or {}
        self.week.load(told, self.settings.a_week)
        for incident in sorted(incidents, key=lambda i: (i.opened, i.id)):
            ref = incident.device
            device = ref.mac or f"ip:{ref.ip}"
            one = restored(incident, device, self.homes.get(device, incident.updated).habits)
            if incident.id in untold:
                one.announced, one.held = False, untold[incident.id]
            if self._keep(one):
                self._due = min(self._due, self._due_of(one)[0])

    def apply(self, wish: Wish, now: int) -> list[IncidentEvent]:
        """Take what the user knows.

        Raises KeyError where feedback names an incident that is neither open nor lately closed.
        """
        if isinstance(wish, Allow):
            self._allow(wish, now)
        elif isinstance(wish, Snooze):
            self._wishes.snooze(wish.device, wish.until)
        elif isinstance(wish, Watch):
            self._wishes.watch(wish)
        else:
            self._feedback(wish, now)
        return self._take()

    def hold(self, wishes: Iterable[Allow | Snooze | Watch]) -> None:
        """Let these wishes hold and no others; what is open stays as it is."""
        self._wishes = Wishes(wishes)
        self._due = 0  # a snooze that was taken back lets its device speak at once

    # --- one row --------------------------------------------------------------

    def _row(self, one: Seen) -> None:
        device = self._devices.key(one.device)
        if not device:
            return
        home = self.homes.get(device, one.told)
        home.rate(one.threat, one.told)
        level, odd = log_odds(one.threat), doublings(one.anomaly / self._ruler.anomaly_line)
        self._threats.add(level)
        self._anomalies.add(odd)
        if one.from_home:
            # The other device of the home opened it, and is judged for it.
            home.calm(one.told, one.peer, one.x)
            return
        self._questions.look(device, one)
        evidence = self.settings.evidence
        suspicion = home.suspicion
        age = one.told - self._devices.first_seen(one.device)
        young = age < evidence.learning_s * NS
        if joins(one, age):
            home.joined = one.told
            home.day.comes()
        new_peer = not home.habits.knows(one.peer)
        counted = one.unicast and one.outbound and self.settings.counters
        over, row, notable = False, None, counted and is_notable(one)
        if notable or level >= self._least:
            heavy = self.settings.counters and is_heavy(one)
            cause = named(self._ruler.classes[one.cause], one, heavy)
            bad = self._wishes.watched(device, cause, one.told)
            line = self._line - evidence.bad_lower if bad else self._line_of(one, suspicion)
            if heavy:
                line -= evidence.heavy_lower
            over = level >= line and self._threats.stands_out(level)
            row = one.row(cause, level, new_peer) if over or notable else None
            if row is not None and self._allowed(device, row, cause, one.told):
                home.calm(one.told, one.peer, one.x)
                return
            if over and row is not None:
                by_name = self._questions.named(device, row)
                joining = home.joined > 0 and one.told - home.joined < evidence.joining_s * NS
                # What is being set up loads firmware, but not from an address.
                asked = self._asked(young, joining and by_name is not False, bad, one.told)
                # What joined an incident is counted there; the plain counters are not asked.
                counted &= not self._evidence(device, home, row, line, asked, heavy, by_name)
        if not over:
            suspicion.under(one.key, level, self._line, one.told)
            if level < self._line:
                home.calm(one.told, one.peer, one.x)
            self._odd(device, home, one, odd, young)
        if self.settings.counters and (counted or one.clue):
            suspected = self._ruler.classes[one.cause] == "c2" and level >= self._suspect
            for finding in self._rules.look(
                device, one, row, level, new_peer, counted=counted, suspected=suspected
            ):
                self._counted(device, home, finding, one.told)
        if one.clue and self._prior is not None and one.outbound:
            self._today(device, home, one, level, new_peer, young)
        trouble = self._troubled(device)
        suspicion.threat_past.add(level, one.told, trouble)
        suspicion.anomaly_past.add(odd, one.told, trouble)

    def _line_of(self, one: Seen, suspicion: Suspicion) -> float:
        """Return a device's line: that of its class, raised by its past. What others do to a
        computer is no computer's doing."""
        evidence, base = self.settings.evidence, self._line
        if self._lines and one.outbound:
            base = self._lines.get(self._devices.kind(one.device), base)
        high = suspicion.threat_past.high(evidence.past_rows)
        return device_line(self._line, base, high, evidence.raise_most)

    def _asked(self, young: bool, joining: bool, bad: bool, told: int) -> Asked:
        """Return how much evidence opens an incident of a device at a moment."""
        evidence = self.settings.evidence
        asked = evidence.asked(young=young, joining=joining)
        if bad:
            return asked.part(evidence.bad_share)
        spent = self.week.spent(told, self.settings.a_week)
        return asked.part(1.0 + evidence.week_more * spent)

    def _evidence(
        self,
        device: str,
        home: Home,
        row: Row,
        line: float,
        asked: Asked,
        heavy: bool,
        by_name: bool | None,
    ) -> bool:
        """Take a row over the line: it joins an open incident (true) or adds to the suspicion."""
        known = self._running(device, row.label)
        if known is None:
            known = self._of_peer(device, row)
            if known is not None and home.turned(row.peer, row.label):
                known = None
        if known is not None:
            known.model_rows += 1
            if known.counter and known.model_rows >= self.settings.evidence.open_rows:
                known.counter = ""
            home.suspicion.against_others(row)
            self._join(known, [row])
            return True
        evidence = self.settings.evidence
        weight = evidence.heavy_rows if heavy else 1
        share = evidence.named_share if by_name else 1.0
        opening = home.suspicion.over(row, line, asked, weight, share)
        if opening is not None:
            self._open(device, home, opening, row.told)
        return opening is not None

    def _of_peer(self, device: str, row: Row) -> Open | None:
        """Return the open incident that already has the row's peer: what one device does to one
        machine is one story, whatever each connection looks like."""
        for cause, one in self._incidents.get(device, {}).items():
            if one.closed is None and cause != UNUSUAL and row.peer in one.facts.peers:
                return one
        return None

    def _odd(self, device: str, home: Home, one: Seen, odd: float, young: bool) -> None:
        """Take what the autoencoder says, where the classifier says nothing."""
        evidence = self.settings.evidence
        past = None if young else home.suspicion.anomaly_past.high(evidence.past_rows)
        if past is None:
            return
        line = min(max(0.0, past + evidence.unusual_margin), evidence.unusual_raise_most)
        if odd < line or not self._anomalies.stands_out(odd):
            home.suspicion.ordinary(one.told)
            return
        row = one.row(UNUSUAL, odd, not home.habits.knows(one.peer), score=one.anomaly)
        known = self._running(device, UNUSUAL)
        if self._allowed(device, row, UNUSUAL, one.told):
            return
        if known is not None:
            self._join(known, [row])
        elif not self._troubled(device):
            opening = home.suspicion.odd(row, line)
            if opening is not None:
                self._open(device, home, opening, one.told)

    def _today(
        self, device: str, home: Home, one: Seen, level: float, new_peer: bool, young: bool
    ) -> None:
        """Hold what a device did today to what devices of its class do at most."""
        if not home.day.take(one, new_peer and not young):
            return
        prior, kind = self._prior, self._devices.kind(one.device)
        if prior is None or not self.settings.counters or self._troubled(device):
            return
        what = home.day.beyond(prior, kind, self.settings.evidence.own_days)
        if what >= 0:
            said = home.day.says(what, prior, kind)
            row = one.row(UNUSUAL, level, new_peer)
            self._counted(device, home, Counted(UNUSUAL, said, [row]), one.told)

    def _counted(self, device: str, home: Home, finding: Counted, told: int) -> None:
        """Let what a plain counter or rule saw open an incident, or join its own."""
        rows = [r for r in finding.rows if not self._allowed(device, r, finding.cause, told)]
        known = self._running(device, finding.cause)
        if known is None and rows:
            opening = Opening(finding.cause, rows)
            self._open(device, home, opening, told, counter=finding.sentence)
        elif known is not None and known.counter and rows:
            self._join(known, rows)

    # --- incidents ------------------------------------------------------------

    def _open(
        self, device: str, home: Home, opening: Opening, told: int, *, counter: str = ""
    ) -> None:
        """Open an incident, or take a lately closed one up again."""
        known = self._incidents.get(device, {}).get(opening.cause)
        if known is not None:
            if known.closed is not None:
                known.closed = None
                known.announced &= not known.by_user
                known.by_user = False
                known.counter = counter if known.counter else ""
            self._join(known, opening.rows)
            return
        one = Open(
            device=device,
            ref=self._devices.ref(self._devices.index(device)),
            cause=opening.cause,
            opened=told,
            habits=home.habits,
            counter=counter,
            model_rows=0 if counter else len(opening.rows),
        )
        if not self._keep(one):
            return
        for row in opening.rows:
            one.add(row)
        one.severity = severity_of(one, self._others(one))
        home.suspicion.forget(opening.cause)
        home.day.tainted = True
        self._emit("opened", one, told)

    def _join(self, one: Open, rows: list[Row]) -> None:
        for row in rows:
            one.add(row)
        severity = severity_of(one, self._others(one))
        if SEVERITIES.index(severity) > SEVERITIES.index(one.severity):
            one.severity = severity
            self._emit("escalated", one, one.last)
        else:
            self._due = min(self._due, self._due_of(one)[0])

    def _keep(self, one: Open) -> bool:
        if self._number >= MAX_OPEN_INCIDENTS:
            self.refused += 1
            return False
        self._incidents.setdefault(one.device, {})[one.cause] = one
        self._number += 1
        return True

    def _drop(self, one: Open) -> None:
        del self._incidents[one.device][one.cause]
        if not self._incidents[one.device]:
            del self._incidents[one.device]
        self._number -= 1

    def _running(self, device: str, cause: str) -> Open | None:
        """Return the open incident of a device and cause."""
        one = self._incidents.get(device, {}).get(cause)
        return None if one is None or one.closed is not None else one

    def _others(self, one: Open) -> int:
        """Return how many other attacks of the same device are open."""
        return sum(
            other.closed is None and cause not in (one.cause, UNUSUAL)
            for cause, other in self._incidents[one.device].items()
        )

    def _troubled(self, device: str) -> bool:
        return any(one.closed is None for one in self._incidents.get(device, {}).values())

    def _emit(self, change: Change, one: Open, at: int) -> None:
        index = self._devices.index(one.device)
        if index >= 0:
            one.ref = self._devices.ref(index)
        if change in ("opened", "escalated") and not one.announced:
            change = self._first(one, at)
        one.dirty, one.emitted = 0, at
        self._events.append(IncidentEvent(change, one.snapshot(self._ruler), one.announced))
        self._due = min(self._due, self._due_of(one)[0])

    def _first(self, one: Open, at: int) -> Change:
        """Tell of an incident for the first time, unless its device is snoozed or the week full.

        Then it is told when that is over, if it is still open. For one of high severity, or that
        a plain rule saw, the week is never full.
        """
        if self._wishes.snoozed_until(one.device) > at:
            return "updated"
        if not _sure(one) and self.week.room_at(self.settings.a_week) > at:
            one.held, before = True, one.held
            return "updated" if before else "held"
        one.announced = True
        self.week.spend(at, self.settings.a_week)
        return "opened"

    def _take(self) -> list[IncidentEvent]:
        events, self._events = self._events, []
        return events

    # --- time -----------------------------------------------------------------

    def _due_of(self, one: Open) -> tuple[int, str]:
        """Return the next moment at which something happens to an incident by itself."""
        life = self.settings.life
        if one.closed is not None:
            return one.closed + int(life.merge_s * NS), one.id
        due = one.last + one.quiet_ns(life)
        if one.dirty:
            due = min(due, max(one.dirty, one.emitted + int(life.update_s * NS)))
        if not one.announced:
            due = min(due, max(one.emitted, self._quiet_until(one)))
        return due, one.id

    def _quiet_until(self, one: Open) -> int:
        """Return the moment from which on an incident that was not told may be."""
        room = 0 if _sure(one) else self.week.room_at(self.settings.a_week)
        return max(self._wishes.snoozed_until(one.device), room)

    def _timers(self, now: int) -> None:
        """Let happen what is due before now."""
        while self._due < now:
            one = min(self._all(), key=self._due_of, default=None)
            self._due = FOREVER if one is None else self._due_of(one)[0]
            if one is not None and self._due < now:
                self._ring(one, self._due)

    def _ring(self, one: Open, due: int) -> None:
        life = self.settings.life
        if one.closed is not None:
            self._drop(one)
        elif due >= one.last + one.quiet_ns(life):
            one.closed = due
            self._emit("closed", one, due)
        elif not one.announced and due >= self._quiet_until(one):
            self._emit("opened", one, due)
        else:
            self._emit("updated", one, due)

    # --- the user --------------------------------------------------------------

    def _allowed(self, device: str, row: Row, cause: str, at: int) -> bool:
        if not self._wishes.allowed:
            return False
        peers = (addresses.text(*row.peer), row.host)
        return self._wishes.covers(device, peers, row.resp_p, cause, at)

    def _allow(self, allow: Allow, now: int) -> None:
        """Allow from now on; an incident that is nothing else is closed."""
        self._wishes.allow(allow)
        for one in self._sorted():
            targets = one.targets()
            if one.closed is None and all(
                allow.covers(one.device, peers, port, one.cause, now) for peers, port in targets
            ):
                self._close(one, now)

    def _close(self, one: Open, now: int) -> None:
        one.closed, one.by_user = max(now, one.last), True
        self.homes.get(one.device, now).suspicion.forget(one.cause)
        self._emit("closed", one, one.closed)

    def _feedback(self, feedback: Feedback, now: int) -> None:
        one = next((o for o in self._all() if o.id == feedback.incident), None)
        if one is None:
            raise KeyError(feedback.incident)
        until = now + HOLDS[feedback.answer]
        if feedback.answer == "bad":
            self._wishes.disallow(one.device, one.cause)
            self._wishes.watch(Watch(one.device, one.cause, until))
            return
        self._wishes.unwatch(one.device, one.cause)
        self._wishes.allow(Allow(device=one.device, cause=one.cause, until=until))
        if one.closed is None:
            self._close(one, now)

    def _sorted(self) -> list[Open]:
        return sorted(self._all(), key=lambda one: (one.opened, one.id))

    def _all(self) -> Iterator[Open]:
        for causes in self._incidents.values():
            yield from causes.values()


def _level(value: float | None, scale: Callable[[float], float]) -> float | None:
    return None if value is None else scale(value)


def _sure(one: Open) -> bool:
    """Tell whether an incident is told in a full week, too."""
    return one.severity == "high" or (bool(one.counter) and one.cause != UNUSUAL)
