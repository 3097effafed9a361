"""Guardian's part of the engine's benchmark, in a process of its own; prints one line of JSON.

`python -m tests.bench_guardian conns FILE [CAP]`    what `guardian conns FILE --format none` does
`python -m tests.bench_guardian digest FILE [CAP]`   the records' digest, and how many were evicted
`python -m tests.bench_guardian stages FILE`         where the time goes, by samples
`python -m tests.bench_guardian grown NAME CAP`      the files NAME-open, -all and -few, each apart

CAP is the capacity of the table where it is not the default one.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import signal
import sys
import time
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np

from guardian import capture, listing
from guardian.addresses import Lan
from guardian.config import Settings
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.tables import Conns
from tests.bench_memory import status_mb

SAMPLE_S = 0.001
STAGES = {
    "read": ("capture", "feed", "frames", "pcapng", "pcapwalk", "source"),
    "decode": (
        "decode", "links", "network", "transport", "datagrams", "checksum", "tunnels", "fragments",
        "fates",
    ),
    "keys and groups": (
        "keys", "slotindex", "parents", "conns._group", "conns._slots", "conns._rehash",
        "connstore.same_keys",
    ),
    "begin a connection": (
        "conns._begin", "conns._begin_one", "conns._open", "ports", "connstore.allocate",
        "connstore.put_keys", "connstore.name",
    ),
    "UDP and others by column": ("stateless",),
    "cut TCP into events": ("events",),
    "TCP by column": (
        "steady", "rounds", "handshakes", "singles", "connstore.payload", "connstore.fronts",
        "connstore.put_fronts", "connstore.wake",
    ),
    "TCP one by one": (
        "connalone", "tcp", "reassembly", "history", "connstate", "connstore.load",
        "connstore.save",
    ),
    "first looks": (
        "looks", "service", "streams", "brands", "inside", "tlsname", "quic", "aes", "names",
    ),
    "tell and end": (
        "connstore", "outcome", "tables", "addresses", "conns._end", "conns._record",
        "conns._sweep", "conns._tell", "conns._tell_snapshots", "conns._keep", "conns._due",
        "conns._from_alone", "conns._evict", "conns._oldest", "conns.finish",
    ),
    "steering": ("conns", "listing"),
}  # fmt: skip
"""Stages by module, or by function of a module; the function's own wins. What is not named here
shows under its module's name."""
_STAGE_OF = {name: stage for stage, names in STAGES.items() for name in names}


def digest(parts: list[Conns]) -> str:
    """Return sha256 over the sorted records; uids, and the tunnels that name uids, do not count."""
    rows = Conns.concat(parts)
    n = len(rows)
    columns = []
    for name, column in vars(rows).items():
        if name in {"uid", "tunnel_parents"} or not n:
            continue
        whole = np.round(column * 1e6).astype(np.int64) if column.dtype.kind == "f" else column
        columns.append(np.ascontiguousarray(whole).reshape(n, -1).view(np.uint8))
    wide = np.ascontiguousarray(np.hstack(columns)) if n else np.zeros((0, 1), dtype=np.uint8)
    order = np.argsort(wide.view(f"V{wide.shape[1]}").ravel(), kind="stable")
    return hashlib.sha256(wide[order].tobytes()).hexdigest()


def conns(path: Path) -> dict[str, Any]:
    """Run what the command runs; CPU seconds without those of starting Python."""
    said = io.StringIO()
    start = time.process_time()
    with contextlib.redirect_stdout(said):
        listing.conns(path, Settings(), "none")
    return {
        "seconds": time.process_time() - start,
        "start_s": start,
        "records": int(said.getvalue().split()[0]),
        "peak_mb": status_mb("VmHWM"),
    }


def digested(path: Path, cap: int | None) -> dict[str, Any]:
    """Return digest and evictions of the same run, and what the file holds."""
    tables: list[ConnTable] = []

    def made(lan: Lan) -> ConnTable:
        tables.append(ConnTable(lan) if cap is None else ConnTable(lan, cap))
        return tables[0]

    vars(listing)["ConnTable"] = made
    parts = list(listing.records(path, Settings()))
    return {
        "digest": digest(parts),
        "evicted": tables[0].evicted,
        "capacity": tables[0].capacity,
    }


def sampled(path: Path) -> dict[str, Any]:
    """Return CPU seconds and samples by stage of a run."""
    begun = time.process_time()
    with sampling() as samples:
        found = conns(path)
    return {"seconds": time.process_time() - begun, "records": found["records"], "stages": samples}


@contextlib.contextmanager
def sampling() -> Iterator[Counter[str]]:
    """Count at what guardian function the process is, whenever it used some more of the CPU.

    A handler runs once the C call of a moment has returned to the function that made it, so numpy's
    time is that function's; unlike a profiler, it slows nothing.
    """
    samples = Counter[str]()
    signal.signal(signal.SIGPROF, lambda _, frame: samples.update([_stage(frame)]))
    signal.setitimer(signal.ITIMER_PROF, SAMPLE_S, SAMPLE_S)
    try:
        yield samples
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)


def _stage(frame: FrameType | None) -> str:
    while frame is not None:
        module = frame.f_globals.get("__name__", "")
        if module.startswith("guardian."):
            short = module.partition(".")[2]
            name = f"{short}.{frame.f_code.co_name}"
            return _STAGE_OF.get(name) or _STAGE_OF.get(short) or short
        frame = frame.f_back
    return "elsewhere"


def grown(name: Path, cap: int | None) -> dict[str, Any]:
    """Open connections, send data over all, over a few, end them: what each costs."""
    lan = Lan()
    table = ConnTable(lan) if cap is None else ConnTable(lan, cap)
    decoder = Decoder()
    out: dict[str, Any] = {}
    for part in ("open", "all", "few"):
        begun, packets, inside = time.process_time(), 0, 0.0
        with sampling() as samples:
            for frames in capture.read_frames(name.with_stem(f"{name.stem}-{part}")):
                decoded = decoder.decode(frames)
                stepped = time.process_time()
                table.step(decoded)
                inside += time.process_time() - stepped
                packets += len(frames)
        out[part] = {
            "seconds": time.process_time() - begun,
            "connections_s": inside,
            "packets": packets,
            "live": table.live,
            "rss_mb": status_mb("VmRSS"),
            "stages": samples,
        }
    begun = time.process_time()
    ended = len(table.finish().records)
    out["end"] = {"seconds": time.process_time() - begun, "records": ended}
    return out | {"evicted": table.evicted, "peak_mb": status_mb("VmHWM")}


def main() -> None:
    what, path, *more = sys.argv[1:]
    cap = int(more[0]) if more else None
    if what == "conns":
        if cap is not None:
            vars(listing)["ConnTable"] = partial(ConnTable, capacity=cap)
        found = conns(Path(path))
    elif what == "digest":
        found = digested(Path(path), cap)
    elif what == "stages":
        found = sampled(Path(path))
    else:
        found = grown(Path(path), cap)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
