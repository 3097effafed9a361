"""Caps and times, each with its unit and its reason.

Everything that the LAN can grow has a cap here; a stage that reaches its cap
counts what it evicted or refused and says so.
"""

from __future__ import annotations

NS = 1_000_000_000
"""Nanoseconds in a second: all times inside the core are int64 nanoseconds since the epoch."""

# --- frames ---------------------------------------------------------------
BATCH_FRAMES = 16_384
"""Frames in a batch of a replay: large enough that numpy's fixed costs vanish, small enough
that the columns of a batch stay in the cache of a small machine."""

MAX_FRAME_BYTES = 262_144
"""Bytes in one captured frame (libpcap's own limit); more means a damaged record header."""

# --- connections ----------------------------------------------------------
MAX_CONNS = 65_536
"""Live connections (rows). A home has hundreds; a scan or spoofed flood fills the table, which
then evicts and counts. About 300 bytes a row."""

SLICE_FIRST_NS = 5 * NS
"""A connection speaks first 5 s after it opened: soon enough to stop a scan, late enough that
most connections are over and are one slice."""

SLICE_NEXT_NS = 60 * NS
"""Then every minute: a day-long session gives 1,440 slices at most."""

# --- devices --------------------------------------------------------------
MAX_DEVICES = 4_096
"""Devices remembered. MAC spoofing can invent any number; the one longest unseen goes first."""

MAX_ADDRESSES_PER_DEVICE = 32
"""Addresses kept for a device (IPv6 privacy addresses change daily)."""

MAX_NAME = 64
"""Characters of a name learned from the network (DHCP's own limit for a label is 63)."""

# --- features and sequences -----------------------------------------------
WINDOW_S = 60.0
"""Seconds of a device's short context window."""

MAX_PAIRS_PER_DEVICE = 512
"""(peer, port, protocol) keys remembered for a device; the one longest unseen goes first."""

CAP_PAIR_COUNT = 40
CAP_WINDOW_COUNT = 100
CAP_AGE_S = 3_600.0
"""Counts and ages are cut here, or a model learns that long series are benign."""

# --- text from the network --------------------------------------------------
UID_BYTES = 24
SERVICE_BYTES = 32
HISTORY_BYTES = 48
HOST_BYTES = 64
"""Widths of the byte-string columns; longer values are cut."""

ROWS_PER_CHUNK = 4_096
"""Slices that go through features, sequences and models together: the sequences of a chunk take
about 12 MB, so a flood's half a million slices in one step do not take a gigabyte."""
