"""Any INPUT, through one door: captures as frames, logs as records."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

from guardian import capture, zeeklog
from guardian.addresses import Lan
from guardian.errors import InputError
from guardian.pipeline import Counts, Pipeline, Step
from guardian.tables import Conns

PROGRESS_S = 2.0
"""Seconds before work counts as long, and between lines of progress."""
JUDGED = 20
"""Connections for one judged slice from which on the home is probably elsewhere."""


@dataclass(frozen=True)
class Log:
    """A whole connection log, with the labels that stood in it."""

    conns: Conns
    labels: list[str]
    skipped: int
    fault: InputError | None
    """Why its end could not be read; what came before it is here."""


def silent(text: str) -> None:
    """Show nothing: nobody looks."""
    del text


def progress(text: str) -> None:
    """Show a line of progress in place."""
    sys.stderr.write(f"\r\x1b[K{text}")
    sys.stderr.flush()


def teller() -> Callable[[str], None]:
    """Return what shows progress: on a terminal alone."""
    return progress if sys.stderr.isatty() else silent


def read_log(path: Path, lan: Lan) -> Log:
    """Read a connection log of any of the accepted forms.

    Raises InputError where nothing of it can be read.
    """
    batches: list[zeeklog.LogBatch] = []
    fault: InputError | None = None
    try:
        for batch in zeeklog.read(path, lan):
            batches.append(batch)  # noqa: PERF402 - what came before a fault is kept
    except InputError as error:
        if not batches:
            raise
        fault = error
    labels = [
        label if detail in {"", "-"} else detail
        for batch in batches
        for label, detail in zip(batch.label, batch.detailed, strict=True)
    ]
    return Log(
        conns=Conns.concat([batch.conns for batch in batches]),
        labels=labels,
        skipped=sum(batch.skipped for batch in batches),
        fault=fault,
    )


def is_log(path: Path) -> bool:
    """Tell a log from a capture by its first bytes; raises InputError where it is neither."""
    return capture.sniff(path) == "log"


def steps(
    path: Path, pipeline: Pipeline, lan: Lan, progress: Callable[[str], None]
) -> Iterator[Step]:
    """Run one input through a pipeline.

    Raises InputError at the end where the input was damaged; what came before it was yielded.
    """
    if is_log(path):
        log = read_log(path, lan)
        pipeline.counts.malformed += log.skipped
        yield pipeline.step_records(log.conns)
        if log.fault is not None:
            raise log.fault
        return
    begun = told = time.monotonic()
    for frames in capture.read_frames(path):
        yield pipeline.step(frames)
        moment = time.monotonic()
        if moment - told > PROGRESS_S:
            rate = pipeline.counts.packets / (moment - begun)
            progress(f"{path.name}: {pipeline.counts.packets:,} packets, {rate:,.0f} a second")
            told = moment


def warn_of_checksums(bad: int, packets: int) -> bool:
    """Say on stderr that many packets do not count for their checksums, if so; return whether.

    On a host that leaves them to its card it is what the host sent, at most half.
    """
    if bad * 10 <= packets:
        return False
    click.echo(
        f"warning: {bad:,} packets have wrong checksums and do not count; where the capture was "
        "taken on a host that leaves them to its network card, give --ignore-checksums",
        err=True,
    )
    return True


def warn(counts: Counts) -> None:
    """Say on stderr where what was read could hardly be judged, and what to do."""
    if counts.packets and counts.not_understood.get("link type", 0) == counts.packets:
        what = "its link layer is not read: capture on an Ethernet interface or on `any`"
    elif warn_of_checksums(counts.bad_checksums, counts.packets):
        return
    elif counts.connections > JUDGED * counts.sequences:
        what = (
            "hardly a device of the home was seen; where the LAN has public addresses, name it: "
            "--lan CIDR"
        )
    else:
        return
    click.echo(f"warning: {what}", err=True)
