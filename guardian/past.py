"""What a device was like, packed so that it survives a restart, and unpacked again.

Levels are answers of one bundle and mean nothing to another; habits hold as long as the features
are the same, and the maxima (maxima.py), plain counts, with any bundle. What is packed is read from
a file: anything may stand in it.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from guardian.const import MAX_PAST_BYTES
from guardian.evidence import Past
from guardian.firstday import Day
from guardian.habits import Habits
from guardian.homes import Home, Homes
from guardian.maxima import Maxima
from guardian.routers import Address

FORMAT = 1
"""Of what is packed; another one is not read."""


@dataclass(frozen=True)
class Models:
    """What the models at work say of what can be taken over."""

    digest: str
    features: tuple[str, ...]

    @property
    def order(self) -> int:
        """A number for the features in their order."""
        return zlib.crc32(",".join(self.features).encode())


def pack(
    home: Home,
    models: Models,
    keep: Callable[[Iterable[Address]], list[Address]] = list,
    maxima: Maxima | None = None,
) -> bytes:
    """Return a device's past; `keep` says which peers may leave the memory."""
    suspicion = home.suspicion
    found = {
        "format": FORMAT,
        "digest": models.digest,
        "order": models.order,
        "first": home.first,
        "joined": home.joined,
        "threat": suspicion.threat_past.as_json(),
        "anomaly": suspicion.anomaly_past.as_json(),
        "habits": home.habits.as_json(keep),
        "weeks": home.weeks.as_json() if home.weeks else None,
        "day": home.day.as_json(),
        "maxima": maxima.as_json() if maxima else None,
    }
    return zlib.compress(json.dumps(found, separators=(",", ":")).encode(), 6)


def unpack(packed: bytes, models: Models, homes: Homes, now: int) -> tuple[Home, Maxima | None]:
    """Return what was packed, as far as it fits the models; nothing in it is later than `now` (ns).

    Raises ValueError where it is something else.
    """
    try:
        opened = zlib.decompressobj()
        text = opened.decompress(packed, MAX_PAST_BYTES)
        if opened.unconsumed_tail:
            raise ValueError("too long")
        found = json.loads(text)
        maxima = found.get("maxima")  # an earlier Guardian wrote none
        return (
            _home(found, models, homes, now),
            None if maxima is None else Maxima.from_json(maxima, now),
        )
    except (
        zlib.error,
        ArithmeticError,
        AttributeError,
        LookupError,
        TypeError,
        RecursionError,
    ) as error:
        raise ValueError(f"no past of a device: {error}") from error


def _home(found: Any, models: Models, homes: Homes, now: int) -> Home:
    if found["format"] != FORMAT:
        raise ValueError("another format")
    home = homes.fresh(min(int(found["first"]), now))
    home.joined = min(int(found["joined"]), now)
    if found["digest"] == models.digest:
        home.suspicion.threat_past = Past.from_json(found["threat"])
        home.suspicion.anomaly_past = Past.from_json(found["anomaly"])
        if home.weeks is not None and found["weeks"] is not None:
            home.weeks.take(found["weeks"], now)
    if found["order"] == models.order:
        home.habits = Habits.from_json(found["habits"], len(models.features))
        home.habits.by(now)
    day = found.get("day")  # an earlier Guardian wrote none
    if day is not None:
        home.day = Day.from_json(day)
    return home
