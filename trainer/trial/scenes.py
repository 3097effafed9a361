"""`python -m trainer.trial.scenes [BUNDLE]`: every scenario of the simulator through the pipeline.

Time and packets are counted from the first malicious packet to the opening of the first incident
about the device; with --write the table in docs/simulator.md is made anew.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from guardian import addresses, bundle
from guardian.addresses import Lan
from guardian.bundle import Bundle
from guardian.capture import read_frames
from guardian.devices import DeviceTable
from guardian.incidents import Incident
from guardian.pipeline import Pipeline
from guardian.simulate import SCENARIOS, labels_path, read_labels, simulate
from guardian.simulate.scenario import INFECTIONS, LOOKALIKES, MORE_INFECTIONS, Scenario
from trainer.trial.page import filled

HOMES: tuple[tuple[str, dict[str, Any]], ...] = (
    ("demo's home, seed 20260611", {}),
    ("demo's home, seed 7", {"seed": 7}),
    ("tests' home", {"profile": "test"}),
)
BLOCK = "scenes"


def rows(judge: Bundle, names: tuple[str, ...]) -> Iterator[tuple[str, list[str]]]:
    """Yield each scenario with what becomes of it in each home."""
    for name in names:
        cells = []
        for _, given in HOMES:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "home.pcap"
                scenario = SCENARIOS[name](**given)
                simulate(scenario, path)
                cells.append(_cell(judge, scenario, path))
        yield name, cells


def _cell(judge: Bundle, scenario: Scenario, path: Path) -> str:
    lan = Lan((scenario.lan,))
    pipeline = Pipeline(judge, lan, DeviceTable(lan))
    opened: list[Incident] = []
    times = []
    for frames in read_frames(path):
        times.append(frames.ts)
        opened += [e.incident for e in pipeline.step(frames).events if e.change == "opened"]
    opened += [e.incident for e in pipeline.finish().events if e.change == "opened"]
    marks = [m for m in read_labels(labels_path(path)) if m.label != "benign"]
    bad = {addresses.usual(m.device) for m in marks}
    mine = [i for i in opened if i.device.mac in bad]
    if not marks:
        return ", ".join(f"**{i.cause}, {i.severity}**" for i in opened) or "none"
    false = len(opened) - len(mine)
    more = f"; {false} false" if false else ""
    if not mine:
        return f"not found{more}"
    begun = min(m.ts for m in marks)
    first = min(mine, key=lambda i: i.opened)
    if first.opened < begun:
        return f"**{first.cause}** before it began (false){more}"
    ts = np.concatenate(times)
    packets = int(((ts >= begun) & (ts <= first.opened)).sum())
    return f"**{first.cause}** after {_span((first.opened - begun) / 1e9)}, {packets:,}{more}"


def _span(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7_200 else f"{seconds / 3_600:.1f} h"


def table(judge: Bundle) -> str:
    """Return the table, and how many attacks and look-alikes there were."""
    lines = ["| scenario | " + " | ".join(home for home, _ in HOMES) + " |", "|---|---|---|---|"]
    found = runs = false = quiet = 0
    for name, cells in rows(judge, (*INFECTIONS, *MORE_INFECTIONS, *LOOKALIKES, "quiet")):
        sys.stderr.write(f"{name}: {'; '.join(cells)}\n")
        lines.append(f"| {name} | {' | '.join(cells)} |")
        if name in (*LOOKALIKES, "quiet"):
            quiet += len(cells)
            false += sum(cell != "none" for cell in cells)
        else:
            runs += len(cells)
            found += sum(" after " in cell for cell in cells)
            false += sum(" false" in cell for cell in cells)
    lines += ["", f"Bundle {judge.name} {judge.version} ({judge.digest[:12]}): found in {found} of "
              f"{runs} runs; false incidents in {false} of {runs + quiet} runs, of which "
              f"{quiet} have nothing malicious."]  # fmt: skip
    return "\n".join(lines)


def main() -> int:
    """Print the table; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path, nargs="?", default=Path("models/default"))
    parser.add_argument("--write", type=Path, help="put it between the marks of this page")
    given = parser.parse_args()
    made = table(bundle.load(given.bundle))
    print(made)
    if given.write is not None:
        page = given.write.read_text(encoding="utf-8")
        given.write.write_text(filled(page, BLOCK, made), encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
