"""How the daemon is, in a small file that `guardian status` reads; nothing listens for it.

The file lies in systemd's RuntimeDirectory (memory, so that no SD card is worn) where the unit
gives one, and beside the database otherwise, where it is written less often. Each writing replaces
it whole, so a reader never sees half of it. It goes with a clean stop.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

from guardian.errors import GuardianError

RUNTIME = Path("/run/guardian")
"""RuntimeDirectory of the shipped unit."""

MEMORY_S = 5.0
DISK_S = 30.0
"""Seconds between writings: on a disk a day has 2,880 of some kilobytes."""

MAX_BYTES = 64 << 10
"""Bytes of the file. What the network can grow in it is capped where it is put together."""

STALE = 4
"""Times the usual pause after which its writer is taken for hung or gone."""

FILE_MODE = 0o640


class StatusError(GuardianError):
    """No daemon tells how it is."""


def name_of(database: Path) -> str:
    """Return the file's name for a database."""
    return f"{database.stem}-status.json"


class StatusFile:
    """The daemon's side."""

    def __init__(self, database: Path) -> None:
        given = os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0]
        self.path = (Path(given) if given else database.parent) / name_of(database)
        self.every_s = MEMORY_S if given else DISK_S
        self._due = time.monotonic() + MEMORY_S

    def due(self, moment: float) -> bool:
        """Tell whether it is time to write; moment is monotonic seconds."""
        return moment >= self._due

    def soon(self) -> None:
        """Let the next look find it due."""
        self._due = 0.0

    def write(self, status: dict[str, Any], moment: float) -> None:
        """Replace the file. Raises OSError where that fails; it is tried again at its time."""
        self._due = moment + self.every_s
        text = json.dumps({**status, "every_s": self.every_s}, allow_nan=False)
        if len(text) > MAX_BYTES:
            raise OSError(f"the status has {len(text):,} bytes, more than {MAX_BYTES:,}")
        fresh = self.path.with_name(f".{self.path.name}.new")
        fd = os.open(
            fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, FILE_MODE
        )
        with os.fdopen(fd, "w", encoding="ascii") as file:
            file.write(text)
        fresh.replace(self.path)

    def close(self) -> None:
        """Remove it: who reads then knows that nobody runs."""
        self.path.unlink(missing_ok=True)


def read(database: Path) -> dict[str, Any]:
    """Return what the daemon of a database last wrote, with `age_s`, `stale` and `gone`.

    stale: it wrote nothing for long; gone: its process is not there any more, either.
    Raises StatusError where nobody runs, or where it may not be read.
    """
    found: list[dict[str, Any]] = []
    for folder in (RUNTIME, database.parent):
        path = folder / name_of(database)
        try:
            with path.open("rb") as file:
                status = json.loads(file.read(MAX_BYTES + 1))
        except FileNotFoundError:
            continue
        except PermissionError as error:
            raise StatusError(
                f"no right to read {path}: join the group guardian (sudo usermod -aG guardian "
                "$USER, then log in again) or use sudo"
            ) from error
        except (OSError, ValueError) as error:
            raise StatusError(f"cannot read {path} ({error}): restart the daemon") from error
        if isinstance(status, dict) and status.get("database") == str(database.resolve()):
            found.append(status)
    if not found:
        raise StatusError(
            f"no daemon runs for {database}: start it (sudo systemctl start guardian), or name its "
            "database with --db"
        )
    last = max(found, key=lambda status: status.get("updated", 0))
    last["age_s"] = max(0.0, time.time() - last.get("updated", 0))
    last["stale"] = last["age_s"] > STALE * last.get("every_s", DISK_S)
    last["gone"] = last["stale"] and not _runs(last.get("pid", 0))
    return last


def _runs(pid: Any) -> bool:
    """Tell whether a process is there; anybody may ask that."""
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except (OSError, ValueError, OverflowError):
        return True  # it is another user's
    return True
