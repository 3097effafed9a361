"""What the weekly timer does: the home's traffic out to a folder, a bundle that lies ready in.

Nothing leaves the machine: a person's workstation fetches the copy and lays a bundle into
bundles/ready. The daemon rehearses and installs it (guardian/bundleready.py); here it is asked to,
once for each bundle. For two weeks the incidents that a new bundle opens are held against those
before, and it is taken back where it cries wolf.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Callable
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardian import bundle as bundles
from guardian import commands, quietdays
from guardian.bundlehome import BundleHome
from guardian.const import NS
from guardian.errors import BundleError, GuardianError
from guardian.schema import open_reader

Echo = Callable[[str], None]

DAY = 86_400 * NS
WATCHED_NS = 14 * DAY
"""A new bundle is held against the one before for so long."""
BEFORE_NS = 28 * DAY
"""What was before it is taken from so long."""
LEAST = 4
"""Incidents under which no bundle is called worse: a bad week is no proof."""
TIMES = 3.0
"""As many times more of them a day as before, with one added for the luck of a quiet month."""
FINE = 3
"""Answers that it was nothing, after which a bundle cries wolf whatever was before."""
ANSWER_S = 1_500.0
"""Seconds to wait for the daemon's word on a bundle: a rehearsal may take twenty minutes."""
MAX_KEPT = 64
"""Digests that are remembered; a bundle a week makes that more than a year."""


@dataclass
class Memory:
    """What was done with each bundle, by its digest, beside the copies."""

    path: Path
    asked: dict[str, int] = field(default_factory=dict)
    """When the daemon was asked to install it, ns: never twice by itself."""
    used: dict[str, int] = field(default_factory=dict)
    """Since when it judges, ns."""

    @classmethod
    def load(cls, path: Path) -> Memory:
        """Return what was written; nothing where the file is missing or damaged."""
        with suppress(OSError, ValueError, RecursionError, TypeError, AttributeError, KeyError):
            found = json.loads(path.read_text(encoding="ascii"))
            parts = ({str(k): int(v) for k, v in found[name].items()} for name in ("asked", "used"))
            return cls(path, *parts)
        return cls(path)

    def save(self) -> None:
        """Write it whole or not at all."""
        known: dict[str, Any] = {"asked": _newest(self.asked), "used": _newest(self.used)}
        fresh = self.path.with_name(f".{self.path.name}.new")
        fresh.write_text(json.dumps(known), encoding="ascii")
        fresh.replace(self.path)


def _newest(known: dict[str, int]) -> dict[str, int]:
    return dict(sorted(known.items(), key=lambda item: item[1])[-MAX_KEPT:])


def handover(
    database: Path,
    *,
    key: str = "",
    fixed: bool = False,
    now: int,
    wait_s: float = ANSWER_S,
    echo: Echo = print,
) -> int:
    """Do what is due and tell a line of each; return 0, or 1 where a bundle was refused.

    `fixed`: the settings name a bundle, so none is installed here. Raises GuardianError.
    """
    folder = database.parent / "handover"
    copy = quietdays.lay_out(database, folder, now)
    if copy is not None:
        echo(f"the home's traffic lies in {copy} ({copy.stat().st_size >> 20:,} MiB): "
             f"guardian train {copy.name} -o mine, on the workstation")  # fmt: skip
    if fixed:
        echo("the settings name a bundle: none is installed by itself")
        return 0
    memory = Memory.load(folder / "bundles.json")
    home = BundleHome.beside(database, key)
    try:
        why = cries_wolf(database, home, memory, now)
        if why:
            ask(database, "rollback", now)
            echo(f"the bundle installed last is taken back: {why}")
            return 0
        return take_in(database, home, memory, now, wait_s, echo)
    finally:
        memory.save()


def take_in(
    database: Path, home: BundleHome, memory: Memory, now: int, wait_s: float, echo: Echo
) -> int:
    """Ask the daemon to install what lies ready, once, and tell what came of it."""
    try:
        fresh = bundles.load(home.ready, key=home.key)
    except BundleError as error:
        there = (home.ready / bundles.MANIFEST).exists()
        echo(f"left where it is: {error}" if there else f"no bundle lies in {home.ready}")
        return int(there)
    name = f"{fresh.name} {fresh.version}"
    if fresh.digest == current(home) or fresh.digest in memory.asked:
        echo(f"{name} was taken in or tried already (guardian bundle install tries it again)")
        return 0
    memory.asked[fresh.digest] = now
    memory.save()  # a bundle that makes all fall is not asked for every night
    before = home.last()
    ask(database, "install", now)
    deadline = time.monotonic() + wait_s
    while (found := home.last()) == before or found.get("digest") != fresh.digest:
        if time.monotonic() > deadline:
            echo(f"{name}: no word from the daemon yet; guardian bundle status tells later")
            return 0
        time.sleep(min(1.0, wait_s / 50))
    if found.get("what") == "installed":
        memory.used[fresh.digest] = now
        echo(f"{name} takes over, after its rehearsal")
        return 0
    echo(f"{name} is refused: {found.get('why')}")
    return 1


def cries_wolf(database: Path, home: BundleHome, memory: Memory, now: int) -> str:
    """Return why the bundle in use is to be taken back, or nothing.

    Only the models' incidents count, and not those that the user called bad.
    """
    digest = current(home)
    if not digest:
        return ""
    since = memory.used.setdefault(digest, now)
    days = max(1.0, (now - since) / DAY)
    if now - since > WATCHED_NS:
        return ""
    counted = (
        "SELECT count(*), coalesce(sum(feedback IN ('fine', 'this-was-me')), 0) FROM incidents"
        " WHERE speaker = 'model' AND coalesce(feedback, '') <> 'bad'"
        " AND opened >= ? AND opened < ?"
    )
    try:
        with closing(open_reader(database)) as db:
            new, fine = db.execute(f"{counted} AND bundle = ?", (since, now, digest)).fetchone()
            (first,) = db.execute("SELECT min(first_seen) FROM devices").fetchone()
            begin = max(since - BEFORE_NS, min(first or since, since))
            (old, _) = db.execute(counted, (begin, since)).fetchone()
    except sqlite3.Error as error:
        raise GuardianError(f"cannot read {database} ({error}): try again") from error
    if fine >= FINE:
        return f"you called {fine} of its {new} incidents nothing"
    usual = (old + 1) / max(1.0, (since - begin) / DAY)
    if new >= LEAST and new / days > TIMES * usual:
        return (
            f"it opened {new} incidents in {days:.0f} days, the one before {old} in "
            f"{(since - begin) / DAY:.0f}"
        )
    return ""


def current(home: BundleHome) -> str:
    """Return the digest of the installed bundle; nothing where the shipped one is in use."""
    with suppress(GuardianError):
        return bundles.load(home.current, key=home.key).digest
    return ""


def ask(database: Path, kind: commands.Kind, now: int) -> None:
    """Leave a command for the daemon."""
    commands.give(database, commands.new(kind, {}, now))
