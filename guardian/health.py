"""What the daemon tells of itself while it runs: to `guardian status` and to Prometheus."""

from __future__ import annotations

import logging
import sqlite3
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from guardian import interfaces
from guardian.config import MetricsSettings
from guardian.const import NS
from guardian.discovery import DeviceState, GatewayState
from guardian.parts import Parts
from guardian.statusfile import StatusFile
from guardian.tables import Frames
from guardian.vitals import Vitals

log = logging.getLogger("guardian")


class Health:
    """Puts a status together at times, writes it to its file, and lets the metrics show it."""

    def __init__(self, database: Path, metrics: MetricsSettings) -> None:
        """Raises ConfigError where metrics must not or cannot listen as set."""
        self._vitals = Vitals(database)
        self._file = StatusFile(database)
        self._metrics = None
        self._failed = ""
        if metrics.listen:
            from guardian.metrics import Metrics  # noqa: PLC0415 - no server where none is wanted

            self._metrics = Metrics(metrics.listen, exposed=metrics.exposed)

    def handled(self, frames: Frames) -> None:
        """Note that a batch went all the way."""
        self._vitals.handled(frames)

    def soon(self) -> None:
        """Let the next look write the file."""
        self._file.soon()

    def tell(
        self,
        parts: Parts,
        gateway: GatewayState,
        devices: Sequence[DeviceState],
        config: dict[str, Any],
        moment: float,
    ) -> None:
        """Measure, and tell where it is due; moment is monotonic seconds."""
        if self._metrics is None and not self._file.due(moment):
            return
        status = self._vitals.snapshot(
            parts.pipeline,
            gateway,
            devices,
            interfaces=_interfaces(parts),
            blind_spots=list(gateway.blind_spots),
            budget={"a_week": gateway.budget, "told": gateway.told, "held": gateway.held},
            hub=_hub(parts),
            changed=parts.polling.keeper.changed(),
            store={"last_commit": parts.store.last_commit / NS},
            config=config,
        )
        if self._metrics is not None:
            self._metrics.tell(status)
        if self._file.due(moment):
            try:
                self._file.write(status, moment)
                self._failed = ""
            except OSError as error:
                if str(error) != self._failed:
                    log.warning("cannot write %s: %s", self._file.path, error)
                self._failed = str(error)

    def close(self) -> None:
        if self._metrics is not None:
            self._metrics.close()
        self._file.close()


def _interfaces(parts: Parts) -> list[dict[str, Any]]:
    drops = parts.live.drops_by_interface()
    return [
        {"name": name, "up": up, "drops": drops[name], "networks": interfaces.networks(name)}
        for name, up in parts.live.up_by_interface().items()
    ]


def _hub(parts: Parts) -> dict[str, Any]:
    publisher = parts.publisher
    if not publisher.enabled:
        return {}
    waiting: int | None = None
    with suppress(sqlite3.Error):  # the store itself says what is wrong with the database
        waiting = parts.store.outbox.waiting()
    return {"connected": publisher.connected, "waiting": waiting, "hidden": publisher.hidden}
