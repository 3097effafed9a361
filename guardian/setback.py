"""A wall clock that was set back: what an earlier hour left behind is not dated ahead of now.

A clock set forward needs nothing: it only seems that nobody spoke for a while. Set back, every
timeout would wait until the clock has caught up, and nothing be found until then. So beyond
SET_BACK_NS the daemon begins anew, as a restart would.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from guardian.const import NS
from guardian.devices import Device
from guardian.incidents import Incident

SET_BACK_NS = 30 * NS
"""Less than this is waited for; what was learned in the last hours is worth half a minute."""


def devices_by(now: int, devices: Iterable[Device]) -> list[Device]:
    """Return devices as seen by `now` (ns) at the latest."""
    return [
        replace(d, first_seen=min(d.first_seen, now), last_seen=min(d.last_seen, now))
        for d in devices
    ]


def incidents_by(now: int, incidents: Iterable[Incident]) -> list[Incident]:
    """Return incidents as opened and updated by `now` (ns) at the latest."""
    return [replace(i, opened=min(i.opened, now), updated=min(i.updated, now)) for i in incidents]
