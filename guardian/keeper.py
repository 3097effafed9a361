"""Keeps what devices were like over a restart, and over a change of the models."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

import numpy as np

from guardian.changed import words
from guardian.const import NS, PASTS_AT_ONCE
from guardian.homes import Homes
from guardian.maxima import Maxima
from guardian.past import Models, pack, unpack
from guardian.pipeline import Pipeline
from guardian.privacy import NO_REMOTE
from guardian.routers import Address
from guardian.store import Store

log = logging.getLogger("guardian")

SHOWN_NS = 28 * 86_400 * NS
MAX_LISTED = 16
"""For so long, and of so many devices, a change of habits is shown."""


class Keeper:
    """Writes the past of each settled device once an hour and at the end, and takes it up again.

    Brief visitors are not written: MACs can be invented. At privacy level 3 nothing is, and from
    level 2 on no peer outside the home.
    """

    def __init__(self, store: Store, pipeline: Pipeline) -> None:
        self._store = store
        self._pipeline = pipeline
        self._homes: Homes | None = None
        self._changed: list[dict[str, Any]] = []
        self._before = self._models()
        self._hours: dict[str, int] = {}
        """By key of a device, the hour in which it was written last."""
        self.actions = {"unlearn": lambda args, _now: self.unlearn(args["device"])}

    def restore(self, now: int) -> None:
        """Give incidents that begin anew what is known of the devices at home. Raises StoreError.

        What another table of this run held is newer than what was written.
        """
        incidents, models = self._pipeline.incidents, self._models()
        features = self._pipeline.features
        if self._homes is incidents.homes:
            return
        kept = self._store.pasts() if self._pipeline.privacy.rows else {}
        if self._homes is not None:
            kept |= {key: pack(home, self._before) for key, home in self._homes.settled().items()}
        bad = 0
        for key, past in kept.items():
            index = self._pipeline.devices.index(key)
            if index < 0:
                continue
            try:
                home, maxima = unpack(past, models, incidents.homes, now)
            except ValueError:
                bad += 1
                continue
            incidents.homes.put(key, home)
            # Over a change of bundle alone the features live on, and what they hold is newer.
            if maxima is not None and features.maxima(index) is None:
                features.put_maxima(index, maxima)
        if bad:
            log.warning("what %d devices were like could not be read and is learnt anew", bad)
        self._homes, self._before, self._hours = incidents.homes, models, {}
        self._look(now)

    def _look(self, now: int) -> None:
        """Read which devices changed."""
        self._changed = [
            {"key": key, "at": at / NS, "what": words(features)}
            for key, at, features in self._store.changes(now - SHOWN_NS)
        ][:MAX_LISTED]

    def step(self, now: int) -> None:
        """Write devices of which an hour ended, some at a time. Raises StoreError."""
        homes = self._pipeline.incidents.homes.settled()
        for key, home in homes.items():
            if home.weeks is not None and home.weeks.changed is not None:
                (at, features), home.weeks.changed = home.weeks.changed, None
                if self._store.note_change(key, at, features):
                    name = self._pipeline.devices.ref(self._pipeline.devices.index(key)).name
                    log.info("%s changed its habits: %s", name or key, words(features))
                    self._look(now)
        hours = self._hours = {
            key: self._hours[key] if self._hours.get(key, -1) >= 0 else home.hour
            for key, home in homes.items()
        }
        due = [key for key, home in homes.items() if home.hour != hours[key]]
        self._write(due[:PASTS_AT_ONCE], now)

    def changed(self) -> list[dict[str, Any]]:
        """Return the devices that changed their habits in the last weeks, the latest first."""
        return self._changed

    def keep(self, now: int) -> None:
        """Write all, for a stop. Raises StoreError."""
        self._write(self._pipeline.incidents.homes.settled(), now)

    def unlearn(self, key: str) -> None:
        """Forget what a device was like; of all devices where none is named.

        What adds up against it, what is open and what the user said stay. Raises KeyError.
        """
        found = self._pipeline.devices.find(key) if key else ""
        if key and not found:
            raise KeyError(f"no device {key}")
        self._pipeline.incidents.homes.unlearn(found)
        features, devices = self._pipeline.features, self._pipeline.devices
        for one in [found] if found else [device.key for device in devices.devices()]:
            if features.maxima(devices.index(one)) is not None:
                features.put_maxima(devices.index(one), Maxima())
        self._store.unlearn(found)
        self._changed = [one for one in self._changed if found and one["key"] != found]

    def _models(self) -> Models:
        bundle = self._pipeline.bundle
        return Models(bundle.digest, bundle.features)

    def _write(self, keys: Iterable[str], now: int) -> None:
        if not self._pipeline.privacy.rows:
            return
        homes, models = self._pipeline.incidents.homes, self._models()
        found: dict[str, Any] = {key: homes.peek(key) for key in keys}
        devices, features = self._pipeline.devices, self._pipeline.features
        pasts = {
            key: pack(home, models, self._allowed, features.maxima(devices.index(key)))
            for key, home in found.items()
            if home
        }
        self._store.save_pasts(pasts, now)
        self._hours.update({key: home.hour for key, home in found.items() if home})

    def _allowed(self, peers: Iterable[Address]) -> list[Address]:
        """Return the peers that may be kept."""
        known = list(peers)
        privacy = self._pipeline.privacy
        if privacy.level < NO_REMOTE or not known:
            return known
        local = privacy.lan.local(np.array(known, dtype=np.uint64))
        return [peer for peer, here in zip(known, local.tolist(), strict=True) if here]
