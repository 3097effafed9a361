"""Bytes of an input, a block at a time: files, standard input, gzip looked through."""

from __future__ import annotations

import gzip
import io
import os
import select
import stat
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import numpy as np

from guardian.errors import InputError
from guardian.tables import U8

BLOCK_BYTES = 8 << 20
"""Bytes read at once: some twenty thousand frames of usual sizes."""
LEAST_BYTES, MOST_BYTES = 2 << 20, 16 << 20
"""Bounds of a block that is fitted to what it holds."""

PEEK_BYTES = 65_536
"""Bytes that can be looked at before reading: the header lines of any log."""

SPARE_BYTES = 64
"""Zeros after the bytes of a block: a gather of a header at the end stays inside."""

_ALL = 1 << 30
"""More than a buffer holds; a read1() of it takes what is there."""

GZIP_MAGIC = b"\x1f\x8b"


def label(path: str | Path) -> str:
    """Return how an input is called in messages."""
    return "standard input" if str(path) == "-" else str(path)


@contextmanager
def opened(path: str | Path) -> Iterator[io.BufferedReader]:
    """Open an input as it lies, `-` being standard input; the stream can peek().

    Raises InputError where there is nothing to open.
    """
    name = label(path)
    if str(path) == "-":
        yield cast("io.BufferedReader", sys.stdin.buffer)
        return
    try:
        mode = Path(path).stat().st_mode
        if stat.S_ISDIR(mode):
            raise InputError(f"{name} is a folder: name the captures or logs in it")
        if stat.S_ISFIFO(mode):
            raise InputError(f"{name} is a pipe: give it as standard input, with `- < {name}`")
        stream = cast("io.BufferedReader", io.BufferedReader(io.FileIO(path), PEEK_BYTES))
    except FileNotFoundError:
        raise InputError(f"{name} does not exist: check the name") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise InputError(f"{name} cannot be opened: {reason}") from error
    with stream:
        yield stream


def head(stream: io.BufferedReader) -> bytes:
    """Return the first bytes of a stream, decompressed if need be, without taking them."""
    first = stream.peek(PEEK_BYTES)[:PEEK_BYTES]
    if not first.startswith(GZIP_MAGIC):
        return first
    try:
        return zlib.decompressobj(31).decompress(first, PEEK_BYTES)
    except zlib.error:
        return b""


class Feed:
    """A stream cut into blocks for a reader that leaves a rest of each for the next.

    `data[:size]` is the block (SPARE_BYTES zeros follow), `at` the position of its first byte
    in the (decompressed) stream. Each block is new memory, so frames may go on pointing into it.
    """

    def __init__(self, stream: io.BufferedReader, block: int = BLOCK_BYTES) -> None:
        self.at = 0
        self.size = 0
        self.data: U8 = np.empty(0, dtype=np.uint8)
        self.fault = ""
        """Why reading ended before the end of the input; empty where it did not."""
        self._block = block
        self._stack = ExitStack()
        self._first = b""
        self._poll: select.poll | None = None
        self._read: Callable[[memoryview], int | None]
        if stream.peek(2)[:2] == GZIP_MAGIC:
            self._read = self._stack.enter_context(gzip.GzipFile(fileobj=stream)).readinto1
        else:
            # Past what was peeked at we read the file itself: a buffer in between would wait for
            # more of a pipe than there is.
            self._first = stream.read1(_ALL)
            self._read = stream.raw.readinto
            self._poll = _poll_of(stream)

    def fit(self, found: int, wanted: int) -> None:
        """Read more at once from now on, or less, so that a block holds about `wanted` things, and
        no more; `found` were in this one."""
        if found > wanted:
            self._block = max(self._block // 2, LEAST_BYTES)
        elif 2 * found <= wanted and self.size >= self._block:
            self._block = min(self._block * 2, MOST_BYTES)

    def close(self) -> None:
        """Let go of the decompressor; the stream itself is its opener's."""
        self._stack.close()

    def more(self, used: int) -> bool:
        """Drop the first `used` bytes of the block and read on; False at the end."""
        rest = self.data[used : self.size]
        room = len(rest) + self._block
        fresh = np.empty(room + SPARE_BYTES, dtype=np.uint8)
        fresh[: len(rest)] = rest
        self.at += used
        self.size = len(rest)
        view = fresh.data
        if self._first:
            taken = min(len(self._first), room - self.size)
            view[self.size : self.size + taken] = self._first[:taken]
            self._first = self._first[taken:]
            self.size += taken
        while self.size < room and not self._first:
            if self._poll is not None and self.size > len(rest) and not self._poll.poll(0):
                break  # a pipe with nothing more to say for now: work on what is there
            try:
                got = self._read(view[self.size : room])
            except (OSError, EOFError, zlib.error) as error:
                self.fault = str(error)
                break
            if not got:
                break
            self.size += got
        fresh[self.size : self.size + SPARE_BYTES] = 0
        self.data = fresh[: self.size + SPARE_BYTES]
        return self.size > len(rest)


def _poll_of(stream: io.BufferedReader) -> select.poll | None:
    """Return a poll object where bytes arrive while we read (a pipe), else None."""
    try:
        fd = stream.fileno()
        if stat.S_ISREG(os.fstat(fd).st_mode):
            return None
    except (OSError, ValueError):
        return None
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return poll
