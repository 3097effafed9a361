"""Caps and times, each with its unit and its reason.

Everything that the LAN can grow has a cap here; a stage that reaches its cap
counts what it evicted or refused and says so.
"""

from __future__ import annotations

NS = 1_000_000_000
"""Nanoseconds in a second: all times inside the core are int64 nanoseconds since the epoch."""

# --- frames ---------------------------------------------------------------
BATCH_FRAMES = 45_056
"""Frames in a batch of a replay, and about as many as are read at once: large enough that numpy's
fixed costs vanish, small enough that a batch takes some 30 MB."""

MAX_FRAME_BYTES = 262_144
"""Bytes in one captured frame (libpcap's own limit); more means a damaged record header."""

MAX_TUNNELS = 4
"""Tunnels inside tunnels that are opened: one is usual, and each level costs a round."""

MAX_PARENTS = 2
"""Tunnels named in tunnel_parents: one for each direction; more is a path that keeps changing."""

FRAGMENT_TIMEOUT_NS = 30 * NS
"""A datagram waits so long for its fragments after the first came: as long as Linux waits."""

MAX_FRAGMENTED = 1_024
MAX_FRAGMENT_BYTES = 4 << 20
"""Datagrams that wait for fragments, and their bytes (Linux holds 4 MiB too); the one that waits
longest goes first. For each level of tunnels."""

MAX_PIECES = 256
"""Separate stretches held of one datagram: a whole one of 64 KiB has 45, and many tiny ones
would cost time."""

FRAGMENTS_PER_S = 4_096
"""Fragments put together in a second of packet time, 50 Mbit/s of full ones: 0.07 s of work on a
PC, some 0.3 s on a small gateway. What a flood brings beyond is only counted."""

# --- connections ----------------------------------------------------------
MAX_CONNS = 65_536
"""Live connections (rows). A home has hundreds; a scan or spoofed flood fills the table, which
then evicts and counts. About 800 bytes a row."""

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

MAX_ROUTERS = 16
"""MACs taken for routers: a home has one to three; a fool may forge more."""

ROUTER_GRACE_S = 600
"""Seconds after which a known device is no longer believed to be a second router: before that a
mesh box may just have started, after that it is more likely luring the traffic of others."""

SETTLED_S = 600
"""Seconds a device must have been seen over before brief visitors are forgotten in its stead."""

MAX_DHCP_PER_STEP = 1_024
"""DHCP messages of a batch that are searched for a name; a home sends a few an hour."""

MAX_MDNS_PER_STEP = 256
MAX_MDNS_PER_DEVICE = 16
"""mDNS messages of a batch that are read, in all and of one device; a home sends some a minute,
tens of microseconds each. One that floods is not heard out."""

MAX_HEARD = 8
"""Names kept of what a device calls itself by DHCP and mDNS; the one unheard longest goes."""

MAX_LINKED = 16
"""Further MACs of one device: a phone that changes its own daily and is linked each time; the
oldest goes."""

MAX_UNGUESSED = 64
"""Devices that are compared with all others at a look; forged ones wait for the next."""

# --- features and sequences -----------------------------------------------
WINDOW_S = 60.0
"""Seconds of a device's short context window."""

MAX_PAIRS_PER_DEVICE = 512
"""(peer, port, protocol) keys remembered for a device; the one longest unseen goes first."""

CAP_PAIR_COUNT = 40
CAP_WINDOW_COUNT = 100
CAP_AGE_S = 3_600.0
"""Counts and ages are cut here, or a model learns that long series are benign."""

MAX_AMOUNT = 1e12
"""Bytes or packets of a slice beyond this are taken as this: no home line carries a terabyte in
a minute, but a damaged log may say so."""

WINDOW_LONG_S = 600.0
"""Seconds of a device's long context window."""

PAIR_HISTORY = 12
"""Connections of a pair whose gaps and sizes are compared: a beacon shows itself in fewer."""

MAX_PAIRS = 32_768
"""Pairs remembered for all devices together, about 0.5 to 1 kB each; the pairs of the device
that spoke longest ago go first."""

MAX_PORTS_PER_DEVICE = 512
"""(port, protocol, direction) keys whose last use is remembered for a device."""

BASELINE_STEP_S = 600
BASELINE_DELAY_S = 3_600
BASELINE_HALF_LIFE_S = 7 * 86_400
"""A device's own usual maximum: kept by steps of ten minutes, used once it is an hour old (so
that an attack does not become its own measure at once), halved each week."""

# --- incidents ----------------------------------------------------------------
MAX_OPEN_INCIDENTS = 512
"""Incidents open or lately closed; more than a person could read. Beyond it none opens, counted."""

MAX_EXAMPLES = 10
MAX_PEERS = 20
"""Connections and peers shown with an incident: what a person reads, not what there was."""

MAX_COUNTED = 4_096
"""Distinct peers (and ports, and keys) counted in one incident; beyond it the text says `over`."""

MAX_JUDGED = 512
"""Devices whose evidence, past and habits are remembered, 60 kB each (20 kB for its day); more
are forged MACs."""

MAX_KEYS_PER_DEVICE = 32
"""(peer, port, protocol) keys of a device whose evidence adds up; only suspected ones are kept."""

MAX_ARP_MACHINES = 256
"""Machines whose ARP questions are counted, with up to 1,024 addresses each: 25 MB at worst."""

MAX_ARP_CLAIMS = 4_096
"""Addresses whose claimant is remembered, 300 bytes each; the one longest unclaimed goes first."""

MAX_ARPS_PER_STEP = 4_096
"""ARP packets of a batch that are looked at, a microsecond each; more are a flood of them."""

MAX_PENDING = 64
"""Rows kept of evidence that may yet become an incident; an incident opens with fewer."""

MAX_KNOWN_PEERS = 512
"""Peers of a device that are known, so that others are new; the one longest unused goes first."""

MAX_HABIT_ROWS = 48
"""Sampled feature rows of a device that give its own usual range; 12 kB."""

MAX_PAST_BYTES = 256 << 10
"""What one device was like, as it is kept over a restart: 60 kB of text at most, so more is no such
thing. Packed it takes 17 kB at worst, once an hour, of MAX_JUDGED devices at most."""

PASTS_AT_ONCE = 16
"""Devices written at one look of the daemon's, a millisecond each; the rest waits for the next."""

MAX_DAY_NAMED = 128
MAX_DAY_STRANGERS = 32
"""Machines that a device asked for by name and that it calls without, as its day counts them: 20 kB
at worst. Who was asked for longest ago and the oldest stranger go first."""

MAX_HABIT_HOURS = 168
"""Hours (a week) whose counts give what a device usually does."""

# --- logs -------------------------------------------------------------------
BATCH_ROWS = 16_384
"""Rows of a log in a batch."""

MAX_LINE_BYTES = 1 << 20
"""Bytes in one line of a log; a conn.log row has a few hundred."""

MAX_SLICES_PER_RECORD = 1_440
"""Slices cut from one log record (a day's); the last one takes what is left."""

# --- what `guardian score` holds ---------------------------------------------
MAX_LISTED = 500_000
"""Records held back until nothing more is gathered against them: weeks of a home. 170 bytes each,
400 where all are evidence: 200 MB at worst. Beyond it the oldest are printed as they are then."""

MAX_GATHERED = 2 * MAX_LISTED
"""Records of which the evidence is remembered, 250 bytes each: those held, and those that still
live."""

MAX_CALLED = 10_000
"""Machines and ports of incidents of which `guardian score` counts the calls, 400 bytes each;
malware has a few, one of peers some hundred."""

# --- text from the network --------------------------------------------------
UID_BYTES = 24
SERVICE_BYTES = 32
HISTORY_BYTES = 48
HOST_BYTES = 64
PARENTS_BYTES = 40
"""Widths of the byte-string columns; longer values are cut."""

ROWS_PER_CHUNK = 4_096
"""Slices that go through features, sequences and models together: the sequences of a chunk take
about 12 MB, so a flood's half a million slices in one step do not take a gigabyte."""

MAX_TURNS = 64
"""Peers of a device whose class is followed while an incident has them: an attack that turns into
another is against few; those of a scan come once each and push each other out."""

# --- overload ---------------------------------------------------------------
ROWS_AT_ONCE = 2_000
ROWS_PER_S = 100
"""Slices of a device and direction that are judged at once, and more in each second of packet time.
A phone has tens in a busy second; a small gateway may judge some 2,000 a second in all (a guess:
none was at hand)."""

ALIKE = 4
RARE_PER_S = 50
"""Beyond that, slices of a second to one peer and to one port that are still judged, and in all: a
flooding device that also does something else is judged for that."""
