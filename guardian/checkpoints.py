"""What `guardian check` looks at beside the parts it opens: ring, clock, disk, the hub's birth.

Each returns what it found; what is wrong raises GuardianError, what a person should know but need
not mend raises Note.
"""

from __future__ import annotations

import ctypes
import os
import time
from datetime import datetime
from pathlib import Path

from guardian import config, lanside, statusfile
from guardian.bundle import Bundle
from guardian.config import Settings
from guardian.const import NS
from guardian.errors import ConfigError, GuardianError, InputError

SLACK_S = 300.0
"""A clock may be so far behind what was written: two machines, or a correction."""

FILLS_MS = 50.0
"""A ring that holds less than this of a full line loses packets at the first pause: the daemon
lets them gather for as long."""

_TIME_ERROR = 5
"""adjtimex(2): the clock is not synchronised."""


class Note(GuardianError):  # noqa: N818 - it is none
    """Nothing is wrong, but a person should know this."""


def settings_said(path: Path | None, settings: Settings) -> str:
    """Return which settings hold; a file with a password that others may read is noted."""
    file = config.file_of(path)
    changed = sum(
        getattr(getattr(settings, section), name) != key.default
        for section, keys in config.KEYS.items()
        for name, key in keys.items()
    )
    if file is None:
        return f"no file, {changed} keys set by environment or command line"
    said = f"{file}, {changed} keys differ from the default"
    secret = any(
        key.rule.secret and getattr(getattr(settings, section), name)
        for section, keys in config.KEYS.items()
        for name, key in keys.items()
    )
    if secret and file.stat().st_mode & 0o004:
        raise Note(f"{said}; it holds a password and everybody may read it: chmod o-r {file}")
    return said


def ring(settings: Settings) -> str:
    """Return how long the rings hold a full line; raises ConfigError where they are too large."""
    names, mib = settings.capture.interface, settings.capture.ring_mib
    total = mib * max(1, len(names))
    room = _memory_mib()
    if room and total > room / 2:
        raise ConfigError(
            f"{total:,} MiB of rings are more than half of the {room:,} MiB that may be used: "
            "lower [capture] ring_mib"
        )
    held = {name: _holds_ms(name, mib) for name in names}
    said = f"{mib} MiB" + (" each" if len(names) > 1 else "")
    short = [f"{name} {ms:.0f} ms" for name, ms in held.items() if ms and ms < FILLS_MS]
    if short:
        raise Note(
            f"{said} hold little of a full line ({', '.join(short)}): if `guardian status` tells "
            "of drops, raise [capture] ring_mib"
        )
    known = [f"{ms:.0f} ms of a full line on {name}" for name, ms in held.items() if ms]
    return f"{said}: {', '.join(known)}" if known else said


def _holds_ms(name: str, mib: int) -> float:
    """Return how long a ring holds the line's full speed; 0 where that is not known."""
    try:
        speed = int((lanside.SYS / name / "speed").read_text(encoding="ascii"))
    except (OSError, ValueError):
        return 0.0
    return (mib << 20) * 8 / (speed * 1e6) * 1_000 if speed > 0 else 0.0


def _memory_mib() -> int:
    """Return the MiB of memory that this machine, or this service, may use; 0 where unknown."""
    lines = _text("/proc/meminfo").splitlines()
    found = [int(line.split()[1]) >> 10 for line in lines if line.startswith("MemTotal:")]
    group = _text("/proc/self/cgroup").rpartition("::")[2].strip()
    limit = _text(f"/sys/fs/cgroup{group}/memory.max").strip()
    if limit.isdecimal():
        found.append(int(limit) >> 20)
    return min(found, default=0)


def clock(bundle: Bundle, database: Path) -> str:
    """Return the time as this machine has it.

    Raises InputError where it is behind what was already written, Note where nothing sets it.
    """
    now = time.time()
    said = time.strftime("%Y-%m-%d %H:%M %Z", time.localtime(now))
    made = bundle.manifest.get("created", "")
    written = [(_epoch(made), "these models were made"), (_last_commit(database), "the last run")]
    for at, what in written:
        if at and now < at - SLACK_S:
            raise InputError(
                f"it is {said} here, before {what}: set the clock (timedatectl set-ntp true), or "
                "alerts are dated wrongly"
            )
    if _unsynchronised():
        raise Note(
            f"{said}; nothing keeps it right: timedatectl set-ntp true, or install chrony "
            "(hours of the day are what devices are known by)"
        )
    return said


def _epoch(text: str) -> float:
    try:
        return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()
    except ValueError:
        return 0.0


def _last_commit(database: Path) -> float:
    from guardian import reading  # noqa: PLC0415 - only where there is a database

    if not os.access(database, os.R_OK):
        return 0.0
    try:
        with reading.reading(database) as tables:
            rows = tables.execute("SELECT value FROM meta WHERE key = 'last_commit'").fetchall()
    except GuardianError:
        return 0.0  # the line of the database says what is wrong with it
    return int(rows[0][0]) / NS if rows else 0.0


def _unsynchronised() -> bool:
    """Tell whether the kernel says that nothing keeps the clock; false where it does not tell."""
    try:
        libc = ctypes.CDLL(None, use_errno=True)
        state = libc.adjtimex(ctypes.create_string_buffer(256))  # modes = 0: only asks
    except (OSError, AttributeError):
        return False
    return bool(state == _TIME_ERROR)


def disk(settings: Settings) -> str:
    """Return the room for the database.

    Raises InputError where there is hardly any, Note where its limit does not fit.
    """
    path = Path(settings.store.path)
    target = path if path.exists() else path.parent
    if not target.exists():
        raise Note("not looked at: there is no folder for the database")
    free = os.statvfs(target)
    mib = free.f_bavail * free.f_frsize >> 20
    if mib < 64:
        raise InputError(f"only {mib} MiB are free for {path}: make room")
    used = (path.stat().st_size if path.exists() else 0) >> 20
    most = settings.store.max_mib
    said = f"{mib:,} MiB free, the database has {used:,} of {most:,} MiB"
    if most - used > mib:
        raise Note(f"{said}: it may fill the disk; lower [store] max_mib")
    return said


def metrics(settings: Settings) -> str:
    """Return who may read the figures; raises ConfigError where they would be open to all."""
    if not settings.metrics.listen:
        return "off; nothing listens"
    from guardian.metrics import address  # noqa: PLC0415 - no server where none is wanted

    host, port = address(settings.metrics.listen, exposed=settings.metrics.exposed)
    if settings.metrics.exposed:
        raise Note(f"whoever reaches {host} port {port} may read them: there is no password")
    return f"at {host} port {port}, for this machine"


def daemon(settings: Settings) -> str:
    """Return how the running daemon is; raises Note where it complains."""
    path = Path(settings.store.path)
    try:
        found = statusfile.read(path)
    except statusfile.StatusError as error:
        if "no right" in str(error):
            raise Note(str(error)) from error
        return "not running"
    if found["stale"]:
        what = "ended without a word" if found["gone"] else "does not go on"
        raise Note(f"it {what}: look at `journalctl -u guardian`, then restart it")
    complaints = [f"settings: {found['config']['fault']}"] if found["config"]["fault"] else []
    if found["config"]["restart"]:
        complaints.append(f"waits for a restart: {', '.join(found['config']['restart'])}")
    if found["drops"]:
        complaints.append(f"{found['drops']:,} packets dropped: raise [capture] ring_mib")
    if complaints:
        raise Note("; ".join(complaints))
    return "runs; guardian status tells more"


def hub(settings: Settings) -> str:
    """Listen for the hub's birth on the broker; raises Note where it is not heard."""
    if not settings.mqtt.host:
        return "no broker is set"
    from guardian.broker import hear_birth  # noqa: PLC0415 - paho only where there is a broker

    topic = f"{settings.mqtt.discovery_prefix.rstrip('/')}/status"
    said = hear_birth(settings.mqtt)
    if said == "online":
        return f"Home Assistant is there ({topic} says online)"
    if said:
        raise Note(f"{topic} says {said}: Home Assistant is away")
    heard = _birth_heard(settings)
    if heard:
        return f"Home Assistant was heard {heard}"
    raise Note(
        f"nothing is kept on {topic}: Home Assistant says it there when it starts. If its entities "
        "are missing, see that its MQTT integration uses this broker and this prefix"
    )


def _birth_heard(settings: Settings) -> str:
    try:
        at = statusfile.read(Path(settings.store.path)).get("hub", {}).get("birth", 0)
    except statusfile.StatusError:
        return ""
    return time.strftime("on %d %b at %H:%M", time.localtime(at)) if at else ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return ""


def notify(settings: Settings) -> str:
    """Return which receivers beside the hub are on, and what leaves; raises ConfigError."""
    given = settings.notify
    on = [
        name
        for name, value in (
            ("webhook", given.webhook), ("push", given.push), ("syslog", given.syslog),
            ("eve", given.eve),
        )
        if value
    ]  # fmt: skip
    if not on:
        return "nothing beside the hub"
    from guardian.receivers import receivers  # noqa: PLC0415 - loaded where one is on

    receivers(given)
    leaves = ": incidents leave this machine" if on != ["eve"] else ""
    return f"{', '.join(on)}{leaves}"
