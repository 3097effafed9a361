"""`guardian conns` and `guardian score`: connections as rows for people and programs."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, cast

import click

from guardian import capture, connlog
from guardian.addresses import Lan, texts
from guardian.config import Settings
from guardian.connlog import guarded
from guardian.conns import ConnTable
from guardian.decode import Decoder
from guardian.errors import InputError
from guardian.gathered import Gathering
from guardian.hindsight import Listed, Waiting, listed
from guardian.pipeline import Pipeline
from guardian.runtime import load_bundle, open_pipeline
from guardian.source import is_log, read_log, steps, teller, warn, warn_of_checksums
from guardian.tables import CONN_STATES, PROTO_NAMES, Conns
from guardian.verdicts import VERDICTS

SCORE_COLUMNS = (
    "ts", "uid", "device", "orig_h", "orig_p", "resp_h", "resp_p", "proto", "service",
    "conn_state", "anomaly", "threat", "label", "verdict",
)  # fmt: skip
DECIMALS = 10
"""Of a threat: with fewer, thousands of rows of one large incident would be equal."""


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
    """Print one row per connection with its scores, once nothing more is gathered against it.

    Raises InputError after printing where the input was damaged.
    """
    pipeline = open_pipeline(settings, load_bundle(settings), incidents=Gathering)
    waiting = Waiting(cast("Gathering", pipeline.incidents), pipeline.bundle)
    classes = pipeline.bundle.classes
    if is_log(path):
        log = read_log(path, Lan(settings.home.lan))
        labels = log.labels if any(log.labels) else None
        parts = [*waiting.add(listed(pipeline.step_records(log.conns))), *waiting.rest()]
        show(rows(parts, classes, labels), form, with_label=labels is not None)
        if log.fault is not None:
            raise log.fault
        warn(pipeline.counts)
        return
    fault: list[InputError] = []
    told = capture_rows(path, pipeline, waiting, fault)
    show(rows(told, classes), form, with_label=False)
    if fault:
        raise fault[0]
    warn(pipeline.counts)


def capture_rows(
    path: Path, pipeline: Pipeline, waiting: Waiting, fault: list[InputError]
) -> Iterator[Listed]:
    """Yield the rows of a capture; a fault is noted in the list, after which the end is told."""
    tell = teller()
    try:
        for step in steps(path, pipeline, Lan(), tell):
            for part in waiting.add(listed(step)):
                tell("")
                yield part
    except InputError as error:
        fault.append(error)
    except KeyboardInterrupt:
        # Who has seen enough gets what there is so far.
        tell("")
        yield from waiting.rest()
        raise
    tell("")
    yield from waiting.add(listed(pipeline.finish()))
    yield from waiting.rest()


def rows(
    parts: Iterable[Listed], classes: Sequence[str], labels: Sequence[str] | None = None
) -> Iterator[dict[str, Any]]:
    """Yield the rows of `guardian score`; labels are those of all parts in order."""
    first = 0
    for part in parts:
        originators, responders = texts(part.orig), texts(part.resp)
        for i in range(len(part)):
            row = {
                "ts": int(part.ts[i]) / 1e9,
                "uid": part.uid[i].decode("ascii", "replace"),
                "device": part.device[i].decode("ascii", "replace"),
                "orig_h": originators[i],
                "orig_p": int(part.orig_p[i]),
                "resp_h": responders[i],
                "resp_p": int(part.resp_p[i]),
                "proto": PROTO_NAMES.get(int(part.proto[i]), "unknown_transport"),
                "service": part.service[i].decode("ascii", "replace"),
                "conn_state": CONN_STATES[part.conn_state[i]],
                "anomaly": round(float(part.anomaly[i]), 4),
                "threat": round(float(part.threat[i]), DECIMALS),
                "label": classes[part.label[i]],
                "verdict": VERDICTS[part.verdict[i]],
            }
            if labels is not None:
                row["true_label"] = labels[first + i]
            yield row
        first += len(part)


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
