"""What the user says to a running daemon, from the database to the pipeline; and what was open."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from guardian.alerts import Allow, Feedback, Snooze, Watch
from guardian.commands import Command
from guardian.const import NS
from guardian.incidents import IncidentEvent
from guardian.keeper import Keeper
from guardian.kin import Kinship
from guardian.makers import makers
from guardian.pipeline import Pipeline
from guardian.rules import Rule
from guardian.setback import devices_by, incidents_by
from guardian.store import Store

WEEK_NS = 7 * 86_400 * NS

LOOK_UP_NS = 300 * NS
"""Between looks for the makers of devices without a name."""

BUDGET = "budget"
"""The fact under which the alerts a week stand that the user set while we ran: N/M, N in place of
the settings' M. Where these say something else by now, they were written later and hold."""

log = logging.getLogger("guardian")


class Polling:
    """Takes commands from the store and gives them to the pipeline."""

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self._store = store
        self._pipeline = pipeline
        self._configured = pipeline.incidents.settings.a_week
        self.actions: dict[str, Callable[[dict[str, Any], int], None]] = {}
        """What others do for a kind of command (forget, link, drill, install): (arguments, now ns).
        They raise KeyError with a sentence where they refuse."""
        self._looked_up: set[int] = set()
        self._look_up_at = 0
        self.keeper = Keeper(store, pipeline)
        self.actions |= self.keeper.actions
        self._kin = Kinship(store, pipeline.devices, names=pipeline.privacy.names)
        self.actions |= self._kin.actions

    def set_names(self, wanted: bool) -> None:
        """Let questions about devices say the names that these give themselves, or not."""
        self._kin.names = wanted

    def restore(self, now: int) -> None:
        """Take up again what an earlier run knew: names, devices, open incidents, rules."""
        devices = self._pipeline.devices
        devices.load(devices_by(now, self._store.devices()))
        self._kin.restore()
        for key, name in self._store.names().items():
            devices.set_name(key, name)
        self.resume(now)

    def resume(self, now: int) -> None:
        """Tell incidents that begin anew what was open, what was told and what the user said."""
        self.keeper.restore(now)
        incidents = self._pipeline.incidents
        budget, _, instead = self._store.fact(BUDGET).partition("/")
        if budget.isdecimal() and instead == str(self._configured):
            incidents.settings = replace(incidents.settings, a_week=int(budget))
        incidents.restore(
            incidents_by(now, self._store.open_incidents()),
            self._store.untold(),
            [min(at, now) for at in self._store.told(now - WEEK_NS)],
        )
        self._store.note_limit(incidents.settings.a_week)
        self._reload(now)

    def set_budget(self, a_week: int, now: int) -> None:
        """Let so many alerts be told a week from now on, also after a restart."""
        incidents = self._pipeline.incidents
        self._store.set_fact(BUDGET, f"{a_week}/{self._configured}")
        incidents.settings = replace(incidents.settings, a_week=a_week)
        self._store.note_limit(a_week)
        self.count_told(now)

    def configure_budget(self, a_week: int, now: int) -> None:
        """Let the settings say anew how many alerts a week are told."""
        self._configured = a_week
        self.set_budget(a_week, now)

    def count_told(self, now: int) -> None:
        """Count anew what the week's alerts were spent on, as the database has it."""
        self._pipeline.incidents.restore([], None, self._store.told(now - WEEK_NS))
        self._reload(now)  # what was held back may be told now

    def _reload(self, now: int) -> None:
        """Let hold what the database says, after a start and after each change of it."""
        wishes: list[Allow | Snooze | Watch] = []
        for rule in self._store.rules(now):
            try:
                wishes.append(self._held(rule))
            except KeyError as error:
                log.warning("a rule of %r no longer holds: %s", rule.author, error.args[0])
        self._pipeline.incidents.hold(wishes)

    def poll(self, now: int) -> list[IncidentEvent]:
        """Do what waits; return what it changed. Raises StoreError."""
        events: list[IncidentEvent] = []
        for command in self._store.poll_commands(now):
            result = "ok"
            try:
                if command.kind in self.actions:
                    self.actions[command.kind](command.args, now)
                else:
                    events += self._do(command, now)
            except KeyError as error:
                result = f"refused: {error.args[0] if error.args else 'unknown'}"
                log.warning("a command of %r was %s", command.author, result)
            self._store.mark_done(command.id, now, result)
            if result == "ok" and command.kind in {"undo", "feedback", "allow", "snooze"}:
                self._reload(now)
        self._kin.step(now)
        self.keeper.step(now)
        self._look_up(now)
        return self._pipeline.privacy.events(events)

    def _look_up(self, now: int) -> None:
        """Find out who made devices that have no name, seldom: it takes a tenth of a second."""
        if 0 <= now - self._look_up_at < LOOK_UP_NS:
            return
        self._look_up_at = now
        wanted = set(self._pipeline.devices.nameless()) - self._looked_up
        if wanted:
            self._looked_up = set(self._pipeline.devices.nameless())
            self._pipeline.devices.set_makers(makers(wanted))

    def _do(self, command: Command, now: int) -> list[IncidentEvent]:
        args: dict[str, Any] = command.args
        if command.kind == "name":
            self._store.name_device(args["device"], args["name"])
            self._pipeline.devices.set_name(args["device"], args["name"])
            return []
        if command.kind == "budget":
            self.set_budget(args["a_week"], now)
            return []
        if command.kind not in {"allow", "snooze", "feedback", "undo"}:
            raise KeyError(f"this Guardian cannot {command.kind} here")
        if command.kind == "undo":
            if not self._store.undo(args["command"]):
                raise KeyError(f"nothing to undo by the name of {args['command']}")
            return []
        if command.kind == "feedback":
            # Kept for training, also where the incident is of the past; what it changes is read
            # back after this.
            if not self._store.set_feedback(args["incident"], args["answer"]):
                raise KeyError(f"no incident {args['incident']}")
            try:
                return self._pipeline.incidents.apply(self._wish(command), now)
            except KeyError:
                return []
        return self._pipeline.incidents.apply(self._wish(command), now)

    def _wish(self, command: Command) -> Allow | Snooze | Feedback:
        """Return what the incidents understand of a command. Raises KeyError."""
        args = command.args
        if command.kind == "allow":
            return Allow(
                device=self._key(args["device"]) if args.get("device") else "",
                peer=args.get("peer") or "",
                cause=args.get("cause") or "",
                until=args["until"],
            )
        if command.kind == "snooze":
            return Snooze(self._key(args["device"]), args["until"])
        return Feedback(args["incident"], args["answer"])

    def _held(self, rule: Rule) -> Allow | Snooze | Watch:
        """Return what the incidents understand of a rule. Raises KeyError."""
        device = self._key(rule.device) if rule.device else ""
        if rule.kind == "snooze":
            return Snooze(device, rule.until or 0)
        if rule.allows:
            return Allow(device=device, peer=rule.peer, cause=rule.cause, until=rule.until)
        return Watch(device, rule.cause, rule.until or 0)

    def _key(self, text: str) -> str:
        key = self._pipeline.devices.find(text)
        if not key:
            raise KeyError(f"no device {text}")
        return key
