"""How far a fit is: a bar on a terminal, one line an epoch elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import TextIO

from trainer.fitting.how import History

Echo = Callable[[str], None]

WIDTH = 24


class Progress:
    """Tells epochs by `echo` and, on a terminal, what happens inside one."""

    def __init__(
        self,
        name: str,
        epochs: int,
        rows: int,
        echo: Echo,
        *,
        begin: float = 0,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._name, self._epochs, self._rows, self._echo = name, epochs, rows, echo
        self._stream = sys.stderr if stream is None else stream
        self._tty = self._stream.isatty()
        self._clock = clock
        self._first, self._begun = begin, clock()

    def compiled(self, done: float) -> None:
        """Count rate and time left from here: what was before was mostly compiling."""
        self._first, self._begun = done, self._clock()

    def within(self, epoch: int, share: float) -> None:
        """Draw the bar: `share` of an epoch (from 0) is done."""
        if not self._tty:
            return
        filled = round(share * WIDTH)
        bar = "#" * filled + "." * (WIDTH - filled)
        text = f"{self._name} {epoch + 1}/{self._epochs} [{bar}] {self._rate(epoch + share)}"
        self._stream.write(f"\r{text[:118]}\x1b[K")
        self._stream.flush()

    def after(self, epoch: int, history: History) -> None:
        """Tell an epoch (from 0) that is done."""
        self.clear()
        held_out = f", held out {history.valid[-1]:.4f}" if history.valid else ""
        self._echo(
            f"{self._name}: epoch {epoch + 1}/{self._epochs}, loss {history.loss[-1]:.4f}"
            f"{held_out}, {self._rate(epoch + 1)}"
        )

    def clear(self) -> None:
        """Take the bar away."""
        if self._tty:
            self._stream.write("\r\x1b[K")
            self._stream.flush()

    def _rate(self, done: float) -> str:
        """Return sequences a second and the time left at most; `done` counts epochs."""
        spent = max(self._clock() - self._begun, 1e-9)
        ran = done - self._first
        if ran <= 0:
            return "starting"
        left = spent / ran * (self._epochs - done)
        return f"{self._rows * ran / spent:,.0f} a second, at most {_time(left)} left"


def _time(seconds: float) -> str:
    """Return 42 s, 3:07 min or 2:15 h."""
    whole = round(seconds)
    if whole < 100:
        return f"{whole} s"
    if whole < 6_000:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"
