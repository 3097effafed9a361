"""How the daemon is: rates, delay, memory, and what it missed, put together for whoever asks.

One plain dict, for `guardian status`, for the metrics and for programs; counts are since the start.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import guardian
from guardian.const import NS
from guardian.discovery import DeviceState, GatewayState
from guardian.pipeline import Pipeline
from guardian.tables import Frames

FORMAT = 1
"""Version of the dict's keys."""

MAX_LISTED = 64
MAX_INCIDENTS = 16
"""Devices and incidents that are listed by name; all are counted."""

_PAGE = os.sysconf("SC_PAGE_SIZE")
_ORDER = {"alert": 0, "learning": 1, "quiet": 2}


class Vitals:
    """Measures as the daemon goes; `snapshot` tells."""

    def __init__(self, database: Path) -> None:
        self.started = time.time()
        self._database = str(database.resolve())
        self._begin = time.monotonic()
        self._cpu = _cpu_s()
        self._last = (self._begin, self._cpu, 0, 0)
        self._batches, self._delay_sum, self._delay_max = 0, 0.0, 0.0
        self._rates = {"packets": 0.0, "connections": 0.0}
        self._cpu_share = 0.0
        self._delay = {"mean_s": 0.0, "max_s": 0.0}

    def handled(self, frames: Frames) -> None:
        """Note that a batch went all the way, from the line to the database."""
        if len(frames):
            delay = max(0.0, (time.time_ns() - int(frames.ts.min())) / NS)
            self._batches += 1
            self._delay_sum += delay
            self._delay_max = max(self._delay_max, delay)

    def snapshot(
        self,
        pipeline: Pipeline,
        gateway: GatewayState,
        devices: Iterable[DeviceState],
        **parts: Any,
    ) -> dict[str, Any]:
        """Return how things are, over the time since the last snapshot where it is a rate.

        parts: what others tell (interfaces, hub, config, store, budget), put in as it is.
        """
        self._measure(pipeline)
        counts = asdict(pipeline.counts)
        shown = sorted(devices, key=lambda d: (_ORDER[d.state], -d.score, d.key))
        incidents = pipeline.incidents.open()
        return {
            "format": FORMAT,
            "version": guardian.__version__,
            "pid": os.getpid(),
            "database": self._database,
            "started": self.started,
            "updated": time.time(),
            "uptime_s": time.monotonic() - self._begin,
            "bundle": f"{pipeline.bundle.name} {pipeline.bundle.version}",
            "rates": dict(self._rates),
            "counts": counts | {"incomplete": pipeline.incomplete},
            "drops": gateway.drops,
            "devices": {
                "known": gateway.devices,
                "evicted": pipeline.devices.evictions,
                **{state: sum(d.state == state for d in shown) for state in _ORDER},
                "list": [
                    {"key": d.key, "name": d.name, "ip": d.ip, "state": d.state,
                     "score": round(d.score, 3)}
                    for d in shown[:MAX_LISTED]
                ],
            },
            "incidents": {
                "open": len(incidents),
                "refused": pipeline.incidents.refused,
                "list": [
                    {"id": i.id, "device": i.device.name, "cause": i.cause,
                     "severity": i.severity, "opened": i.opened / NS}
                    for i in incidents[-MAX_INCIDENTS:]
                ],
            },
            "delay": dict(self._delay),
            "memory": {"rss": _rss()},
            "cpu": {"seconds": _cpu_s() - self._cpu, "share": self._cpu_share},
            **parts,
        }  # fmt: skip

    def _measure(self, pipeline: Pipeline) -> None:
        moment, cpu = time.monotonic(), _cpu_s()
        packets, connections = pipeline.counts.packets, pipeline.counts.connections
        then, cpu_then, packets_then, connections_then = self._last
        span = moment - then
        if span < 0.5:
            return
        self._rates = {
            "packets": (packets - packets_then) / span,
            "connections": (connections - connections_then) / span,
        }
        self._cpu_share = (cpu - cpu_then) / span
        self._delay = {
            "mean_s": self._delay_sum / max(1, self._batches), "max_s": self._delay_max,
        }  # fmt: skip
        self._batches, self._delay_sum, self._delay_max = 0, 0.0, 0.0
        self._last = (moment, cpu, packets, connections)


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def _rss() -> int:
    """Return the bytes of memory in use; the highest so far where the system does not tell."""
    try:
        return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * _PAGE
    except (OSError, ValueError, IndexError):
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
