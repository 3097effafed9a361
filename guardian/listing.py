"""`guardian conns` and `guardian score`: connections as rows for people and programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import click

from guardian import capture, connlog
from guardian.addresses import Lan, texts
from guardian.config import Settings
from guardian.connlog import guarded
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.errors import InputError
from guardian.pipeline import Pipeline, Step
from guardian.runtime import load_bundle, open_pipeline
from guardian.source import is_log, read_log, warn, warn_of_checksums
from guardian.tables import CONN_STATES, PROTO_NAMES, Conns
from guardian.verdicts import VERDICTS, Verdicts

SCORE_COLUMNS = (
    "ts", "uid", "device", "orig_h", "orig_p", "resp_h", "resp_p", "proto", "service",
    "conn_state", "anomaly", "threat", "label", "verdict",
)  # fmt: skip


def no_lines(records: Conns) -> str:
    """Return nothing: `--format none` only counts."""
    del records
    return ""


FORMS: dict[str, tuple[Callable[[], str], Callable[[Conns], str]]] = {
    "zeek": (connlog.zeek_header, connlog.zeek),
    "json": (str, connlog.json_lines),
    "csv": (connlog.csv_header, connlog.csv_lines),
}
"""Head and lines of each format."""


def conns(path: Path, settings: Settings, form: str) -> None:
    """Print the connection records of an input.

    Raises InputError after printing where the input was damaged.
    """
    head, lines = FORMS.get(form, (str, no_lines))
    out = sys.stdout
    count = 0
    fault: InputError | None = None
    out.write(head())
    try:
        for part in records(path, settings):
            count += len(part)
            out.write(lines(part))
    except InputError as error:
        fault = error
    if form == "none":
        click.echo(f"{count} connections")
    if fault is not None:
        raise fault


def records(path: Path, settings: Settings) -> Iterator[Conns]:
    """Yield the records of a capture or log; all that came before a fault, then InputError."""
    lan = Lan(settings.home.lan)
    if is_log(path):
        log = read_log(path, lan)
        yield log.conns
        if log.fault is not None:
            raise log.fault
        return
    table = ConnTable(lan)
    decoder = Decoder(ignore_checksums=settings.capture.ignore_checksums)
    fault: InputError | None = None
    packets = bad = 0
    frames = capture.read_frames(path)
    while fault is None:
        try:
            batch = next(frames, None)
        except InputError as error:
            fault = error
            break
        if batch is None:
            break
        decoded = decoder.decode(batch)
        packets, bad = packets + len(batch), bad + decoded.bad_checksums
        yield table.step(decoded).records
    yield table.finish().records
    warn_of_checksums(bad, packets)
    if fault is not None:
        raise fault


def score(path: Path, settings: Settings, form: str) -> None:
    """Print one row per connection with its scores.

    Raises InputError after printing where the input was damaged.
    """
    pipeline = open_pipeline(settings, load_bundle(settings))
    if is_log(path):
        log = read_log(path, Lan(settings.home.lan))
        labels = log.labels if any(log.labels) else None
        step = pipeline.step_records(log.conns)
        show(rows(pipeline, step, labels), form, with_label=labels is not None)
        if log.fault is not None:
            raise log.fault
        warn(pipeline.counts)
        return
    fault: list[InputError] = []
    show(capture_rows(path, pipeline, fault), form, with_label=False)
    if fault:
        raise fault[0]
    warn(pipeline.counts)


def capture_rows(
    path: Path, pipeline: Pipeline, fault: list[InputError]
) -> Iterator[dict[str, Any]]:
    """Yield the rows of a capture; a fault is noted in the list, after which the end is told."""
    try:
        for frames in capture.read_frames(path):
            yield from rows(pipeline, pipeline.step(frames))
    except InputError as error:
        fault.append(error)
    yield from rows(pipeline, pipeline.finish())


def rows(
    pipeline: Pipeline, step: Step, labels: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `guardian score` for a step's records."""
    classes = pipeline.bundle.classes
    found: Conns = step.records
    verdicts: Verdicts = step.verdicts
    originators, responders = texts(found.orig), texts(found.resp)
    for i in range(len(found)):
        row = {
            "ts": int(found.ts[i]) / 1e9,
            "uid": found.uid[i].decode("ascii", "replace"),
            "device": verdicts.device[i].decode("ascii", "replace"),
            "orig_h": originators[i],
            "orig_p": int(found.orig_p[i]),
            "resp_h": responders[i],
            "resp_p": int(found.resp_p[i]),
            "proto": PROTO_NAMES.get(int(found.proto[i]), "unknown_transport"),
            "service": found.service[i].decode("ascii", "replace"),
            "conn_state": CONN_STATES[found.conn_state[i]],
            "anomaly": round(float(verdicts.anomaly[i]), 4),
            "threat": round(float(verdicts.threat[i]), 4),
            "label": classes[verdicts.label[i]],
            "verdict": VERDICTS[verdicts.verdict[i]],
        }
        if labels is not None:
            row["true_label"] = labels[i]
        yield row


def show(found: Iterable[dict[str, Any]], form: str, *, with_label: bool) -> None:
    """Write rows as CSV or as JSON lines on stdout."""
    if form == "json":
        for row in found:
            sys.stdout.write(json.dumps(row) + "\n")
        return
    columns = (*SCORE_COLUMNS, "true_label") if with_label else SCORE_COLUMNS
    writer = csv.DictWriter(sys.stdout, columns, lineterminator="\n")
    writer.writeheader()
    for row in found:
        row["ts"] = f"{row['ts']:.6f}"
        writer.writerow({key: guarded(str(value)) for key, value in row.items()})
