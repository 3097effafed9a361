"""A bundle is met by a child process first, within limits; nothing of it can hurt the daemon."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from guardian.errors import BundleError

LOAD_S = 300.0
"""Seconds that loading may take; the child is killed then."""
REHEARSE_S = 3_600.0
"""And a rehearsal, which only takes what is left of the processor."""
MAX_ANSWER = 65_536
"""Bytes of the child's answer: a pipe holds as many, so that the child never waits for us."""


class Trial:
    """A child that tries a bundle. Ask `answer` now and then; `close` ends it."""

    def __init__(
        self,
        folder: Path,
        *,
        key: str = "",
        db: Path | None = None,
        beside: Path | None = None,
        since: int = 0,
        counters: bool = True,
        lan: Sequence[str] = (),
    ) -> None:
        """Begin; with `db` it is also rehearsed over that database, beside the bundle in use.

        Raises BundleError where no process can be started.
        """
        given = [str(folder), "--since", str(since), *(f"--lan={net}" for net in lan)]
        given += [f"--key={key}"] if key else []
        given += [f"--db={db}"] if db is not None else []
        given += [f"--beside={beside}"] if beside is not None else []
        given += [] if counters else ["--no-counters"]
        self._deadline = time.monotonic() + (LOAD_S if db is None else REHEARSE_S)
        try:
            self._child = subprocess.Popen(
                [sys.executable, "-m", "guardian.tryload", *given],
                cwd=Path(__file__).resolve().parents[1],  # where this very guardian is found
                env={**_KEPT, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
            )
        except OSError as error:
            raise BundleError(f"cannot try the bundle: {error.strerror or error}") from error

    def answer(self) -> dict[str, Any] | None:
        """Return what the child found, None while it works.

        Raises BundleError where the bundle is broken, or broke the child.
        """
        status = self._child.poll()
        if status is None:
            if time.monotonic() < self._deadline:
                return None
            self.close()
            raise BundleError("it hung while it was tried: install another one")
        assert self._child.stdout is not None
        with self._child.stdout as pipe:
            raw = b"" if pipe.closed else pipe.read(MAX_ANSWER)
        return understood(raw, status)

    def wait(self) -> dict[str, Any]:
        """Return the answer as `answer` does, however long it takes."""
        while (found := self.answer()) is None:
            time.sleep(0.05)
        return found

    def close(self) -> None:
        """End the child if it still runs."""
        if self._child.poll() is None:
            self._child.kill()
        self._child.wait()
        if self._child.stdout is not None:
            self._child.stdout.close()


def understood(raw: bytes, status: int) -> dict[str, Any]:
    """Return the answer that a child gave. Raises BundleError where it is none, or no good one."""
    if status:
        how = f"signal {-status}" if status < 0 else f"status {status}"
        raise BundleError(f"it made the process that tried it fall ({how}): install another one")
    try:
        found = json.loads(raw)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not isinstance(found.get("digest", ""), str):
        raise BundleError("the process that tried it gave no answer: install another one")
    if found.get("ok") is not True:
        raise BundleError(str(found.get("error") or "it could not be loaded")[:1_000])
    return found


def _environment() -> dict[str, str]:
    """Return what the child gets of the environment: no password of ours is in it."""
    kept = ("PATH", "LANG", "LC_ALL", "HOME", "TMPDIR", "VIRTUAL_ENV", "PYTHONPATH", "TZ")
    return {name: os.environ[name] for name in kept if name in os.environ}


_KEPT = _environment()
