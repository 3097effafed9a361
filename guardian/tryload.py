"""`python -m guardian.tryload FOLDER`: load a bundle, run its golden sequences, rehearse it.

A bundle may be broken in ways that no check of its manifest sees: a model that makes the runtime
crash, hang or take all memory. So the daemon lets this process meet it first. It prints one JSON
object: ok, error, digest, name, version, created, seconds; with --db rehearsal: opened, gone,
changed, days, worse (sentences), notes.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

LOAD_CPU_S = 60
"""Seconds of processor for loading: a gateway takes two."""
REHEARSE_CPU_S = 1_200
"""And for a rehearsal: 30,000 connections take a gateway some minutes."""
MEMORY = 320 << 20
"""Bytes of memory of its own: with what the daemon has, below the unit's MemoryMax."""
ADDRESSES = 1 << 30
"""Bytes of addresses, libraries and mapped files with it."""
MAX_TOLD = 20
"""Incidents of a kind that the answer names; it counts all."""


def main() -> int:
    """Try a bundle; the exit status is 0 where it answered, good or bad."""
    parser = argparse.ArgumentParser(prog="python -m guardian.tryload")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--key", default="")
    parser.add_argument("--db", type=Path)
    parser.add_argument("--beside", type=Path, help="the bundle in use")
    parser.add_argument("--since", type=int, default=0, help="ns")
    parser.add_argument("--no-counters", action="store_true")
    parser.add_argument("--lan", action="append", default=[])
    given = parser.parse_args()
    confine(LOAD_CPU_S if given.db is None else REHEARSE_CPU_S)
    sys.stdout.write(json.dumps(tried(given)) + "\n")
    return 0


def confine(cpu_s: int) -> None:
    """Take little and come last: time, memory, no core file, the first to be killed."""
    limits = {
        resource.RLIMIT_CPU: cpu_s,
        resource.RLIMIT_DATA: MEMORY,
        resource.RLIMIT_AS: ADDRESSES,
        resource.RLIMIT_CORE: 0,
    }
    for what, most in limits.items():
        with suppress(OSError, ValueError):
            resource.setrlimit(what, (most, most))
    with suppress(OSError):
        os.nice(10)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000", encoding="ascii")


def tried(given: argparse.Namespace) -> dict[str, Any]:
    """Return the answer."""
    from guardian import bundle as bundles  # noqa: PLC0415 - within the limits
    from guardian.errors import GuardianError  # noqa: PLC0415
    from guardian.scoring import Scorer  # noqa: PLC0415

    begun, what = time.monotonic(), "it"
    try:
        found = bundles.load(given.folder, key=given.key)
        Scorer(found)
        answer: dict[str, Any] = {
            "ok": True, "digest": found.digest, "name": found.name, "version": found.version,
            "created": found.created,
        }  # fmt: skip
        what = "its rehearsal, which --anyway leaves out,"
        if given.db is not None:
            answer["rehearsal"] = _rehearsed(given, found)
    except GuardianError as error:
        return {"ok": False, "error": str(error)}
    except MemoryError:
        return {"ok": False, "error": f"{what} takes more than {MEMORY >> 20} MiB of memory"}
    return answer | {"seconds": round(time.monotonic() - begun, 2)}


def _rehearsed(given: argparse.Namespace, found: Any) -> dict[str, Any]:
    from guardian import bundle as bundles  # noqa: PLC0415 - only where it is asked for
    from guardian import rehearsal  # noqa: PLC0415
    from guardian.errors import InputError  # noqa: PLC0415

    beside = bundles.load(given.beside or bundles.default_path())
    try:
        told = rehearsal.rehearse(
            found, beside, given.db, lan=tuple(given.lan), counters=not given.no_counters,
            since=given.since,
        )  # fmt: skip
    except InputError as error:
        # A database without connections says nothing against a bundle.
        return {"opened": [], "gone": [], "changed": 0, "same": 0, "days": 0.0, "worse": [],
                "notes": [str(error)]}  # fmt: skip
    return {
        "opened": [rehearsal.line(one) for one in told.opened[:MAX_TOLD]],
        "gone": [rehearsal.line(one) for one in told.gone[:MAX_TOLD]],
        "changed": len(told.changed), "same": len(told.both) - len(told.changed),
        "days": round(told.days, 2), "worse": rehearsal.worse(told), "notes": list(told.notes),
    }  # fmt: skip


if __name__ == "__main__":
    raise SystemExit(main())
