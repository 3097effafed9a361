"""kill -9 at random moments, and power cuts made of what the kills leave behind.

    python -m tests.torture.kills --kills 200

After each kill the files are copied and looked at as they lie; then the next process opens the
originals, as systemd would have it. For a power cut the copy's WAL is cut at arbitrary bytes.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import random
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardian.const import NS
from guardian.lock import WriterLock
from tests.broker import Broker, Heard, Listener, broker_in, listening, until
from tests.conftest import ROOT
from tests.torture import powercut
from tests.torture.traffic import homes
from tests.torture.victim import PROGRESS

COMMIT_S = 60.0
"""Of packet time, which runs some hundred times as fast as the clock on the wall."""
TOPIC = "guardian/device/+/incident"
MARKS = ("late", "repeat")
START_S = 90.0
"""Seconds that a start may take on a busy machine; it takes one."""
LONGEST_S = 10.0
"""Seconds that a victim lives at most, however slow the machine is."""


@dataclass
class Seen:
    """Figures of a run, for a person."""

    kills: int = 0
    announced: int = 0
    repeated: int = 0
    lost: list[int] = field(default_factory=list)
    """Connections lost by each kill."""
    lost_s: float = 0.0
    """Longest stretch of packet time of which connections were lost."""
    cuts: int = 0
    cut_commits: int = 0
    """Power cuts that undid the last transactions."""

    def __str__(self) -> str:
        mean = sum(self.lost) / max(1, len(self.lost))
        return (
            f"{self.kills} kills: {self.announced} messages announced, all of them in the "
            f"database and none missing at the hub, {self.repeated} sent once more and marked; "
            f"connections lost by a kill: {mean:.0f} on average, {max(self.lost, default=0)} at "
            f"most, from at most {self.lost_s:.0f} s (a commit each {COMMIT_S:.0f} s of packet "
            f"time); {self.cuts} power cuts, {self.cut_commits} of which undid something: every "
            "database whole, nothing announced undone"
        )


def kill_again_and_again(
    folder: Path, kills: int, seed: int, cuts: int = 0, steps: int = 120
) -> Seen:
    """Kill a victim under load so often; assert what must hold after each; return figures."""
    chance = random.Random(seed)
    seen = Seen()
    captures = homes(folder / "homes", 4)
    db, progress = folder / "g.db", folder / "progress"
    begin = 0
    sent: set[int] = set()
    kills_by_seq: Counter[int] = Counter()
    with broker_in(folder) as broker, listening(broker, TOPIC) as hub:
        for number in range(kills):
            progress.unlink(missing_ok=True)
            # A whole daemon every other time: it does more, and so has more places to die in.
            whole = ("--daemon",) if number % 2 else ()
            child = _start(db, broker, captures, progress, begin, *whole)
            try:
                _wait_and_kill(child, progress, hub, chance, steps)
            finally:
                child.kill()
                child.wait()
            seen.kills += 1
            begin, offered = _progress(progress, begin)
            copy = powercut.copied(db, folder / f"copy{number % 2}")
            heard = list(hub.heard)
            _look(copy, heard, offered, seen, sent, kills_by_seq)
            for _ in range(cuts):
                seen.cuts += 1
                seen.cut_commits += powercut.cut_and_look(
                    db, folder / "cut", chance, announced=_keys(heard)
                )
            begin += 1
        _drain(db, broker, progress)
        _look_at_the_end(db, hub, seen, kills_by_seq)
    return seen


def _start(
    db: Path, broker: Broker, captures: Sequence[Path], progress: Path, begin: int, *more: str
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [
            sys.executable, "-m", "tests.torture.victim", str(db), str(broker.port),
            *map(str, captures), "--progress", str(progress), "--begin", str(begin),
            "--commit-s", str(COMMIT_S), *more,
        ],
        cwd=ROOT, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def _wait_and_kill(
    child: subprocess.Popen[bytes],
    progress: Path,
    hub: Listener,
    chance: random.Random,
    steps: int,
) -> None:
    """Wait for a random moment: of the start, of the work, or just after something was told."""
    kind = chance.random()
    if kind < 0.1:
        time.sleep(chance.uniform(0.2, 0.8))
        return
    until(
        lambda: _size(progress) > PROGRESS.size or child.poll() is not None,
        f"the victim works (process {child.pid})",
        START_S,
    )
    assert child.poll() is None, "the victim ended by itself"
    goal = _size(progress) + chance.randint(0, steps) * PROGRESS.size
    heard, deadline = len(hub.heard), time.monotonic() + LONGEST_S
    while _size(progress) < goal and time.monotonic() < deadline:
        if kind > 0.6 and len(hub.heard) > heard:
            time.sleep(chance.uniform(0, 0.01))
            return
        time.sleep(0.001)


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _progress(path: Path, begin: int) -> tuple[int, list[tuple[int, int]]]:
    """Return the round that was reached, and (packet time, connections so far) of each step."""
    raw = path.read_bytes() if path.exists() else b""
    rows = list(PROGRESS.iter_unpack(raw[: len(raw) // PROGRESS.size * PROGRESS.size]))
    return (rows[-1][0] if rows else begin), [(now, count) for _, now, count in rows]


def _query(db: Path, sql: str) -> list[tuple[Any, ...]]:
    with closing(sqlite3.connect(db)) as connection:
        return connection.execute(sql).fetchall()


def _keys(heard: Sequence[Heard]) -> list[str]:
    """Return the messages as they were written, without the marks of sending."""
    return [
        json.dumps({k: v for k, v in h.json().items() if k not in MARKS}, sort_keys=True)
        for h in heard
    ]


def _look(
    copy: Path,
    heard: Sequence[Heard],
    offered: list[tuple[int, int]],
    seen: Seen,
    sent: set[int],
    kills_by_seq: Counter[int],
) -> None:
    """Assert what must hold right after a kill, on a copy of the files."""
    powercut.whole(copy)
    powercut.announced_is_there(copy, _keys(heard))
    rows = _query(copy, "SELECT seq, tries, sent IS NOT NULL FROM outbox WHERE kind = 'incident'")
    for seq, tries, done in rows:
        if not done and tries:
            kills_by_seq[seq] += 1
    now_sent = {seq for seq, _, done in rows if done}
    assert sent <= now_sent, "what a broker took is taken for good"
    sent |= now_sent
    _count_lost(copy, offered, seen)


def _count_lost(copy: Path, offered: list[tuple[int, int]], seen: Seen) -> None:
    """Assert that what was lost is little, and is told to the last connection."""
    if not offered:
        return
    facts = dict(_query(copy, "SELECT key, value FROM meta"))
    stored = _query(copy, "SELECT coalesce(sum(count), 0) FROM connections")[0][0]
    written = int(facts.get("connections_taken", 0)) - int(facts.get("lost_connections", 0))
    assert stored == written
    lock = WriterLock(copy)  # the copy of the note; the boot is the same
    noted = lock.noted
    lock.release()
    assert noted is not None
    taken = int(facts["connections_taken"])
    lost = noted - taken
    assert lost >= 0
    # Killed between the test's note and the store's, the last step was not yet taken.
    assert noted in [count for _, count in offered[-2:]]
    times = [now for now, count in offered if count > taken]
    if lost:
        seconds = (offered[-1][0] - times[0]) / NS
        steps = [b[0] - a[0] for a, b in itertools.pairwise(offered)]
        assert seconds <= COMMIT_S + max(steps) / NS
        seen.lost_s = max(seen.lost_s, seconds)
    seen.lost.append(lost)


def _drain(db: Path, broker: Broker, progress: Path) -> None:
    child = _start(db, broker, [], progress, 0, "--drain")
    assert child.wait(60) == 0


def _look_at_the_end(db: Path, hub: Listener, seen: Seen, kills_by_seq: Counter[int]) -> None:
    """Assert that all was told, in order, and again only where it had to be."""
    rows = _query(
        db, "SELECT seq, payload, tries, sent FROM outbox WHERE kind = 'incident' ORDER BY seq"
    )
    written = [json.dumps(json.loads(payload), sort_keys=True) for _, payload, _, _ in rows]
    assert len(set(written)) == len(written)
    until(lambda: set(written) <= set(_keys(hub.heard)), "the hub hears the last")
    keys = _keys(hub.heard)
    assert list(dict.fromkeys(keys)) == written, "all of them, each first heard in order"
    assert all(done is not None for _, _, _, done in rows)
    times: Counter[str] = Counter()
    for key, message in zip(keys, hub.heard, strict=True):
        if times[key]:
            assert message.json().get("repeat") is True
            seen.repeated += 1
        times[key] += 1
    for (seq, _, tries, _), key in zip(rows, written, strict=True):
        assert times[key] <= tries
        # Each kill before the acknowledgement was committed may repeat it once.
        assert times[key] <= 1 + kills_by_seq[seq]
    told = _query(
        db,
        "SELECT count(*) FROM incident_events e WHERE change IN ('opened', 'escalated') OR change ="
        " 'closed' AND EXISTS (SELECT 1 FROM incident_events o WHERE o.incident = e.incident AND "
        "o.change = 'opened')",
    )[0][0]
    assert told == len(written), "what is in the database was announced"
    seen.announced = len(written)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--cuts", type=int, default=25, help="power cuts after each kill")
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    logging.getLogger("guardian.store").setLevel(logging.ERROR)
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        print(kill_again_and_again(Path(folder), args.kills, args.seed, args.cuts))
    print(f"{time.monotonic() - begun:.0f} s")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
