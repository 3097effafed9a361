"""How many incidents a week a person is told of."""

from __future__ import annotations

from collections.abc import Iterable

from guardian.const import NS

_WEEK_NS = 7 * 86_400 * NS


class Week:
    """When incidents were told of late; `most` is the week's limit, 0 for none."""

    def __init__(self) -> None:
        self.told: list[int] = []
        """The last moments, as many as a week may have, ns."""

    def load(self, told: Iterable[int], most: int) -> None:
        """Take up again what was told before a restart."""
        self.told = sorted(told)[-most:] if most else []

    def spend(self, at: int, most: int) -> None:
        """Note that one was told of."""
        if most:
            self.told = [*self.told, at][-most:]

    def room_at(self, most: int) -> int:
        """Return the moment from which on the week has room for another one, ns."""
        return self.told[-most] + _WEEK_NS if 0 < most <= len(self.told) else 0
