"""Sentences for the hub: what holds, and what an allowance would change."""

from __future__ import annotations

from datetime import datetime

from guardian.const import NS
from guardian.names import printable
from guardian.rules import Rule

MAX_SAID = 200
"""Characters of a sentence; twenty of them stand in a message."""


def rule_said(rule: Rule, name: str) -> str:
    """Return what the user said, with until when it holds; `name` is the device's."""
    of = name or rule.device or "every device"
    what = rule.cause or "anything"
    if rule.kind == "snooze":
        said = f"no notice about {of}"
    elif rule.answer == "bad":
        said = f"{what} of {of} is told sooner"
    else:
        said = f"{what} of {of}{f' with {rule.peer}' if rule.peer else ''} is fine"
    if rule.until is not None:
        moment = datetime.fromtimestamp(rule.until / NS).astimezone()
        said += f" until {moment:%Y-%m-%d %H:%M}"
    return printable(said, MAX_SAID)


def effect_said(total: int, whole: int, part: int) -> str:
    """Return how many incidents an allowance would have hidden, of all there were."""
    if not total:
        return "there are no incidents so far: it would have changed nothing"
    said = f"of the {total:,} incidents so far, {whole:,} would not have been told"
    if part:
        said += f", and {part:,} more would have had less evidence"
    return said


def question(key: str, name: str, old: str, called: str, why: str) -> str:
    """Return the question whether a device is an earlier one under another MAC."""
    return printable(
        f"Is {name} ({key}) the device that was {called} ({old}) under another MAC? {why}", MAX_SAID
    )
