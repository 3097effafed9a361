"""What the user said that still holds: allowances, snoozes and answers, as the database keeps them.

The `commands` table is the only truth. The daemon folds it into its wishes after each change and
at its start, the command line folds it to list what holds; so both always agree.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from guardian.wishes import HOLDS

SQL = """
SELECT c.id, c.created, c.author, c.kind, c.args, c.done, i.device, i.cause
FROM commands c LEFT JOIN incidents i
ON c.kind = 'feedback' AND i.id = json_extract(c.args, '$.incident')
WHERE c.result = 'ok' AND c.kind IN ('allow', 'snooze', 'feedback')
ORDER BY c.created, c.id
"""
"""What was taken and not undone, oldest first; the device and cause of an answer's incident."""


@dataclass(frozen=True)
class Rule:
    """One thing the user said that holds. Empty texts stand for anything; times are ns."""

    id: str
    """Of the command, by which it is undone."""
    created: int
    author: str
    kind: str
    """allow, snooze or feedback."""
    device: str
    """Key of a device."""
    peer: str = ""
    cause: str = ""
    until: int | None = None
    answer: str = ""
    incident: str = ""

    @property
    def allows(self) -> bool:
        """What it names is no evidence: an allowance, or an answer that it was fine."""
        return self.kind == "allow" or self.answer in ("fine", "this-was-me")


def holding(db: sqlite3.Connection, now: int) -> list[Rule]:
    """Return the rules that hold at `now` (ns), oldest first."""
    return [rule for rule in fold(db.execute(SQL)) if rule.until is None or rule.until > now]


def fold(rows: Iterable[tuple[Any, ...]]) -> list[Rule]:
    """Return what is left when each row of SQL, oldest first, has replaced what it contradicts.

    A device has one snooze and an incident one answer: the last. `bad` takes back what was
    allowed to the device for the cause before it, and what is fine later takes back `bad`.
    """
    out: list[Rule] = []
    for row in rows:
        rule = _rule(*row)
        if rule is not None:
            out = [old for old in out if not _replaces(rule, old)]
            out.append(rule)
    return out


def _rule(
    name: str, created: int, author: str, kind: str, text: str, done: int,
    device: str | None, cause: str | None,
) -> Rule | None:  # fmt: skip
    args = json.loads(text)
    if kind == "feedback":
        if device is None or cause is None:
            return None  # the incident has gone by age, and its answer with it
        answer = args["answer"]
        return Rule(
            name, created, author, kind, device, cause=cause, until=done + HOLDS[answer],
            answer=answer, incident=args["incident"],
        )  # fmt: skip
    return Rule(
        name, created, author, kind, args.get("device") or "", args.get("peer") or "",
        args.get("cause") or "", args.get("until"),
    )  # fmt: skip


def _replaces(new: Rule, old: Rule) -> bool:
    if new.kind == "snooze":
        return old.kind == "snooze" and old.device == new.device
    if new.kind != "feedback":
        return False
    if old.kind == "feedback" and old.incident == new.incident:
        return True
    if old.device != new.device or old.cause not in ("", new.cause):
        return False
    return old.allows if new.answer == "bad" else old.answer == "bad"
