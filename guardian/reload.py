"""SIGHUP: the settings read anew while the daemon runs.

What can change live does (keys with live=True in config.py, applied here by section). What cannot
is told and waits for a restart. Settings with a mistake change nothing: the old ones stay.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from guardian import logs
from guardian.addresses import usual
from guardian.config import KEYS, Settings, override
from guardian.errors import GuardianError
from guardian.outlets import Outlets
from guardian.parts import Parts
from guardian.publish import Publisher
from guardian.retention import Retention

log = logging.getLogger("guardian")


@dataclass(frozen=True)
class Change:
    """Settings of a section that shall hold from now on."""

    old: Settings
    new: Settings
    parts: Parts


def _home(change: Change) -> None:
    parts = change.parts
    given = parts.store.names()
    names = {usual(name): text for name, text in change.new.home.names.items()}
    gone = {usual(name) for name in change.old.home.names} - set(names)
    for name, text in (names | dict.fromkeys(gone, "")).items():
        if name not in given:  # a name given by command wins
            parts.pipeline.devices.set_name(name, text)


def _model(change: Change) -> None:
    incidents = change.parts.pipeline.incidents
    incidents.settings = replace(incidents.settings, counters=change.new.model.counters)


def _alerts(change: Change) -> None:
    old, new = change.old.alerts, change.new.alerts
    incidents = change.parts.pipeline.incidents
    evidence = incidents.settings.evidence.adapting(new.adapt)
    incidents.settings = replace(incidents.settings, evidence=evidence)
    incidents.homes.renew()
    if new.a_week != old.a_week:
        change.parts.polling.configure_budget(new.a_week, time.time_ns())


def _store(change: Change) -> None:
    keep = change.new.store
    change.parts.store.keep = Retention(
        keep.connections_days, keep.incidents_days, max_bytes=keep.max_mib << 20
    )


def _privacy(change: Change) -> None:
    parts = change.parts
    privacy = replace(parts.pipeline.privacy, level=change.new.privacy.level)
    parts.store.set_privacy(privacy, time.time_ns())  # refuses first, where the disk does
    parts.pipeline.privacy = privacy
    parts.pipeline.devices.set_learn_names(privacy.names)
    parts.polling.set_names(privacy.names)


def _mqtt(change: Change) -> None:
    parts = change.parts
    fresh = Publisher(change.new.mqtt, parts.store)  # refuses what cannot be right
    parts.publisher.close(time.time_ns())
    parts.publisher = fresh
    parts.recorder.publisher = fresh


def _notify(change: Change) -> None:
    fresh = Outlets(change.new.notify)  # refuses what cannot be right
    change.parts.outlets.close()
    change.parts.outlets = fresh


def _log(change: Change) -> None:
    logs.set_levels(change.new.log.level, change.new.log.parts)


APPLY: dict[str, Callable[[Change], None]] = {
    "home": _home,
    "model": _model,
    "alerts": _alerts,
    "store": _store,
    "privacy": _privacy,
    "mqtt": _mqtt,
    "notify": _notify,
    "log": _log,
}
"""By section, what lets its live keys hold; called where one of them changed."""


class Reloader:
    """Knows the settings in force, and which of the file's wait for a restart."""

    def __init__(self, settings: Settings, again: Callable[[], Settings] | None, file: str) -> None:
        """again reads the settings as at the start; without it nothing is reloaded."""
        self.settings = settings
        """In force: what was loaded, with what changed live since."""
        self._again = again
        self._file = file
        self._read_at = time.time()
        self._fault = ""
        self._waiting: tuple[str, ...] = ()

    def state(self) -> dict[str, Any]:
        """Return what `guardian status` tells of the settings."""
        return {
            "file": self._file,
            "read": self._read_at,
            "fault": self._fault,
            "restart": list(self._waiting),
        }

    def reload(self, parts: Parts) -> None:
        """Read the settings again and let hold what can; say all of it in the log."""
        if self._again is None:
            log.warning("these settings cannot be read again: restart instead")
            return
        try:
            new = self._again()
        except GuardianError as error:
            self._fault = str(error)
            log.warning("the settings stay as they were: %s", error)
            return
        self._read_at, self._fault = time.time(), ""
        changed = differences(self.settings, new)
        live = [path for path in changed if can_change(path)]
        self._waiting = tuple(path for path in changed if path not in live)
        for section in dict.fromkeys(path.partition(".")[0] for path in live):
            self._apply(section, [p for p in live if p.startswith(f"{section}.")], new, parts)
        if self._waiting:
            log.warning("waits for a restart: %s", ", ".join(self._waiting))
        if not changed:
            log.info("the settings were read again: nothing changed")

    def _apply(self, section: str, paths: list[str], new: Settings, parts: Parts) -> None:
        given = {path.partition(".")[2]: getattr(getattr(new, section), path.partition(".")[2])
                 for path in paths}  # fmt: skip
        wanted = override(self.settings, section, **given)
        try:
            APPLY[section](Change(self.settings, wanted, parts))
        except GuardianError as error:
            self._fault = str(error)
            log.warning("[%s] stays as it was: %s", section, error)
            return
        self.settings = wanted
        log.info("changed: %s", ", ".join(paths))


def differences(old: Settings, new: Settings) -> list[str]:
    """Return the keys whose values differ, as section.key."""
    return [
        key.path
        for section, keys in KEYS.items()
        for name, key in keys.items()
        if getattr(getattr(old, section), name) != getattr(getattr(new, section), name)
    ]


def can_change(path: str) -> bool:
    """Tell whether a key can change while the daemon runs."""
    section, _, name = path.partition(".")
    return KEYS[section][name].rule.live and section in APPLY
