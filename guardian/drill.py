"""`guardian simulate`: labelled traffic in a file."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from guardian.errors import GuardianError

BAR = 30


def simulate(
    scenario: str | None, output: Path | None, seed: int | None, hours: float | None
) -> None:
    """Write a scenario's capture and labels, or list the scenarios."""
    from guardian.simulate import HELP, SCENARIOS, labels_path  # noqa: PLC0415 - loads scapy
    from guardian.simulate import simulate as write  # noqa: PLC0415

    if scenario is None:
        click.echo("scenarios:")
        for name in SCENARIOS:
            click.echo(f"  {name:18}{HELP[name]}")
        return
    if scenario not in SCENARIOS:
        raise GuardianError(f"there is no scenario {scenario!r}: choose {', '.join(SCENARIOS)}")
    if output is None:
        raise GuardianError("say where to write it: -o FILE.pcap")
    given: dict[str, Any] = {"seed": seed, "hours": hours}
    chosen = SCENARIOS[scenario](**{key: v for key, v in given.items() if v is not None})
    with_bar = progress_bar("simulating")
    summary = write(chosen, output, with_bar)
    labels = ", ".join(f"{n:,} {label}" for label, n in sorted(summary.labels.items()))
    click.echo(
        f"{output}: {summary.packets:,} packets, {summary.connections:,} connections ({labels})"
    )
    click.echo(f"{labels_path(output)}: a label for each connection")


def silent(share: float) -> None:
    """Draw nothing: nobody looks."""
    del share


def progress_bar(what: str) -> Callable[[float], None]:
    """Return a function that draws a bar on a terminal's stderr, and is silent elsewhere."""
    if not sys.stderr.isatty():
        return silent

    def draw(share: float) -> None:
        full = round(share * BAR)
        sys.stderr.write(f"\r{what:12}[{'#' * full}{'.' * (BAR - full)}] {share:4.0%}")
        if share >= 1:
            sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    return draw
