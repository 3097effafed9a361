"""What the user says to a running daemon, from the database to the pipeline; and what was open."""

from __future__ import annotations

import logging
from typing import Any

from guardian.alerts import Allow, Feedback, Snooze
from guardian.commands import Command
from guardian.incidents import IncidentEvent
from guardian.pipeline import Pipeline
from guardian.store import Store

log = logging.getLogger("guardian")


class Polling:
    """Takes commands from the store and gives them to the pipeline."""

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self._store = store
        self._pipeline = pipeline

    def restore(self, now: int) -> None:
        """Take up again what an earlier run knew: names, devices, open incidents, rules."""
        devices = self._pipeline.devices
        devices.load(self._store.devices())
        for key, name in self._store.names().items():
            devices.set_name(key, name)
        self._pipeline.incidents.restore(self._store.open_incidents())
        for command in self._store.rules(now):
            self._pipeline.incidents.apply(wish(command), now)

    def poll(self, now: int) -> list[IncidentEvent]:
        """Do what waits; return what it changed. Raises StoreError."""
        events: list[IncidentEvent] = []
        for command in self._store.poll_commands(now):
            result = "ok"
            try:
                events += self._do(command, now)
            except KeyError as error:
                result = f"refused: {error.args[0] if error.args else 'unknown'}"
                log.warning("a command of %r was %s", command.author, result)
            self._store.mark_done(command.id, now, result)
        return events

    def _do(self, command: Command, now: int) -> list[IncidentEvent]:
        args: dict[str, Any] = command.args
        if command.kind == "name":
            self._store.name_device(args["device"], args["name"])
            self._pipeline.devices.set_name(args["device"], args["name"])
            return []
        if command.kind == "feedback":
            self._store.set_feedback(args["incident"], args["answer"])
            try:
                return self._pipeline.incidents.apply(wish(command), now)
            except KeyError:
                # An incident of the past: the answer is kept for training all the same.
                return []
        return self._pipeline.incidents.apply(wish(command), now)


def wish(command: Command) -> Allow | Snooze | Feedback:
    """Return what the incidents understand of a command."""
    args = command.args
    if command.kind == "allow":
        return Allow(
            device=args.get("device") or "",
            peer=args.get("peer") or "",
            cause=args.get("cause") or "",
            until=args["until"],
        )
    if command.kind == "snooze":
        return Snooze(args["device"], args["until"])
    return Feedback(args["incident"], args["answer"])
