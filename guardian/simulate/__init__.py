"""A labelled home in a file: eight kinds of devices, quiet or infected. docs/simulator.md.

Nothing is ever sent: a simulation only writes a capture and its label file.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from guardian.errors import GuardianError
from guardian.simulate.build import build
from guardian.simulate.labels import HEADER, Label, csv_row, match, read_labels
from guardian.simulate.scenario import HELP, SCENARIOS, DeviceSpec, Infection, Scenario, home
from guardian.simulate.training import training_homes
from guardian.simulate.write import pcap_header, write_packets

__all__ = [
    "HELP", "SCENARIOS", "DeviceSpec", "Infection", "Label", "Scenario", "Summary", "home",
    "labels_path", "match", "read_labels", "simulate", "training_homes",
]  # fmt: skip

STEP_S = 300.0
"""Simulated seconds that are held in memory at once, besides what sessions run ahead."""


@dataclass(frozen=True)
class Summary:
    """What was written. Times are epoch seconds of the first and last packet."""

    packets: int
    connections: int
    labels: dict[str, int]
    """Connections by label."""
    start: float
    end: float
    bytes: int


def labels_path(path: Path | str) -> Path:
    """Return where the labels of a simulated capture stand."""
    return Path(f"{path}.labels.csv")


def simulate(
    scenario: Scenario, path: Path | str, progress: Callable[[float], None] | None = None
) -> Summary:
    """Write a scenario's capture to path, and its labels beside it (labels_path).

    `progress` is told the share done, 0 to 1. Raises GuardianError where the files cannot be
    written and ConfigError for a scenario that contradicts itself.
    """
    w, _, _ = build(scenario)
    counts: Counter[str] = Counter()
    packets = size = 0
    first = last = scenario.start * 1_000_000
    try:
        with (
            Path(path).open("wb") as pcap,
            labels_path(path).open("w", newline="", encoding="ascii") as labels,
        ):
            size += pcap.write(pcap_header())
            labels.write(",".join(HEADER) + "\n")
            until = 0.0
            while until < w.seconds:
                until = min(until + STEP_S, w.seconds)
                w.run(until)
                batch, rows = w.drain(until)
                if batch:
                    first = first if packets else batch[0][0]
                    last = batch[-1][0]
                packets += len(batch)
                size += write_packets(pcap, batch)
                labels.writelines(",".join(map(str, csv_row(row))) + "\n" for row in rows)
                counts.update(row.label for row in rows)
                if progress is not None:
                    progress(until / w.seconds)
    except OSError as error:
        where = error.filename or path
        raise GuardianError(
            f"cannot write {where}: {error.strerror}; choose a folder that you may write to"
        ) from error
    return Summary(packets, counts.total(), dict(counts), first / 1e6, last / 1e6, size)
