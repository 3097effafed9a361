"""The engine beside others: `python -m tests.bench_engine [--write] [PARTS]`.

Builds captures from a seed (tests/bench_captures.py), lets guardian, nfstream, argus and nfpcapd
read each in turn, and prints the tables of docs/BENCHMARKS.md; with --write it puts them there,
between their marks. All on one core, each in a process of its own; times are CPU seconds, of a few
rounds the cheapest. Guardian runs `guardian conns FILE --format none`, with its default settings
wherever nothing else is said. PARTS: mixed scan burst flood grown
stages.
"""

# This process imports no numpy: a program that it starts counts its memory as its own.
from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests import bench_peers
from tests.bench_peers import ROOT, Peer

PAGE = ROOT / "docs" / "BENCHMARKS.md"
SAID: list[str] = []
"""Lines said since the last table was printed."""
PARTS = ("mixed", "scan", "burst", "flood", "grown", "stages")
ROUNDS = 3
SIZES = (1_000, 10_000, 100_000, 1_000_000)
DATA_PACKETS = 500_000
"""As tests.bench_captures has it."""
SLOW_LIVE = 100_000
"""With more live connections all run once, and nfstream, which would take minutes, not."""
STAGE_RUNS = 3


@dataclass(frozen=True)
class Capture:
    """A file to compare readers on."""

    name: str
    kind: str
    more: tuple[str, ...]
    says: str
    nfstream_rounds: int


CAPTURES = (
    Capture("mixed", "mixed", (), "1,000,000 packets of 20,000 connections in 10 minutes", ROUNDS),
    Capture("scan", "synscan", (), "a SYN scan, 500,000 connections of one packet in 50 s", 1),
    Capture("burst", "synscan", ("--seconds", "5"),
            "the same scan in 5 s, ten times as fast: more at once than the table holds", 0),
    Capture("flood", "flood", (),
            "500,000 packets from as many invented sources in 50 s: TCP of all kinds, UDP", 0),
)  # fmt: skip
AMOUNT = {"mixed": (1_000_000, 20_000), "scan": (500_000, 500_000), "burst": (500_000, 500_000),
          "flood": (500_000, 500_000)}  # fmt: skip
"""Packets and connections that a capture has."""


def build(folder: Path, name: str, kind: str, *more: str) -> Path:
    """Build a capture; return its file."""
    path = folder / f"{name}.pcap"
    _python("tests.bench_captures", kind, "-o", str(path), *more)
    return path


def guardian(what: str, *given: str) -> dict[str, Any]:
    """Run one part of tests.bench_guardian in a process of its own."""
    found: dict[str, Any] = json.loads(_python("tests.bench_guardian", what, *given))
    return found


def _python(module: str, *given: str) -> str:
    command = [sys.executable, "-m", module, *given]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=ROOT)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed:\n{done.stderr[-2000:]}")
    return done.stdout.splitlines()[-1]


def own(path: Path, *cap: str) -> Peer:
    """Return a run of guardian."""
    run = guardian("conns", str(path), *cap)
    name = "guardian" + (f", capacity {int(cap[0]):,}" if cap else "")
    return Peer(name, run["seconds"], 0, run["records"], run["peak_mb"])


def compare(path: Path, one: Capture) -> None:
    """Run all readers in turn, round by round, and print a line each."""
    size = path.stat().st_size / 1e6
    readers: list[tuple[Callable[[Path], Peer | None], int]] = [
        (own, ROUNDS),
        (bench_peers.nfstream, one.nfstream_rounds),
        (bench_peers.argus, ROUNDS),
        (bench_peers.nfpcapd, ROUNDS),
    ]
    if one.name == "burst":
        readers = [(own, ROUNDS), (lambda file: own(file, "600000"), 1)]
    found: dict[int, list[Peer]] = {}
    for turn in range(ROUNDS):
        for number, (reader, rounds) in enumerate(readers):
            run = reader(path) if turn < rounds else None
            if run is not None:
                found.setdefault(number, []).append(run)
    best = [min(runs, key=lambda run: run.seconds) for _, runs in sorted(found.items())]
    peer = next((run for run in best if run.name.startswith("nfstream")), None)
    packets, connections = AMOUNT[one.name]
    say(f"**{one.name}**: {one.says}, {size:.0f} MB.\n")
    row(
        "reader",
        "packets a CPU second",
        "connections a CPU second",
        "x nfstream",
        "peak MB",
        "records",
    )
    row("---", *["---:"] * 5)
    for run in best:
        ratio = f"{peer.seconds / run.seconds:.2f}" if peer else ""
        row(
            run.name, f"{packets / run.seconds:,.0f}", f"{connections / run.seconds:,.0f}",
            ratio, f"{run.peak_mb:.0f}", f"{run.flows:,}",
        )  # fmt: skip
    told = guardian("digest", str(path))
    say(
        f"\nGuardian's records: sha256 `{told['digest'][:32]}`; {told['evicted']:,} evicted "
        f"(the table holds {told['capacity']:,}).\n"
    )


def grow(folder: Path) -> None:
    """Print the cost of a data packet by the number of living connections."""
    default = int(_run("from guardian.const import MAX_CONNS; print(MAX_CONNS)"))
    lines: list[tuple[int, str, dict[str, Any]]] = []
    others: list[tuple[int, dict[str, float]]] = []
    base = folder / "grown.pcap"
    for live in SIZES:
        _python("tests.bench_captures", "grown", "--live", str(live), "--apart", "-o", str(base))
        rounds = 2 if live <= SLOW_LIVE else 1
        fits = [str(live + default)]  # nearly full, it would look for what to evict
        for cap in [[]] if live < default else [[], fits] if live <= SLOW_LIVE else [fits]:
            runs = [guardian("grown", str(base), *cap) for _ in range(rounds)]
            best = min(runs, key=lambda run: float(run["all"]["seconds"]))
            lines.append((live, cap[0] if cap else "default", best))
        others.append((live, _by_difference(base, live)))
    say(
        f"**grown**: connections are opened (TLS, five packets each), then {DATA_PACKETS:,} data "
        "packets go over all of them at random, then as many over 1,000 of them while the others "
        f"are silent. The default table holds {default:,}.\n"
    )
    row(
        "live", "capacity", "us a packet over all", "growth", "us a packet over 1,000", "growth",
        "us to open one", "us to end one", "MB once open", "peak MB", "evicted",
    )  # fmt: skip
    row("---:", "---", *["---:"] * 9)
    first = {part: lines[0][2][part]["seconds"] for part in ("all", "few")}
    for live, table, run in lines:
        cells = []
        for part in ("all", "few"):
            seconds = run[part]["seconds"]
            cells += [f"{seconds / DATA_PACKETS * 1e6:.2f}", f"{seconds / first[part]:.2f}"]
        opened = run["open"]["seconds"] / live * 1e6
        ended = run["end"]["seconds"] / max(run["end"]["records"], 1) * 1e6
        row(
            f"{live:,}", table, *cells, f"{opened:.1f}", f"{ended:.1f}",
            f"{run['open']['rss_mb']:.0f}", f"{run['peak_mb']:.0f}", f"{run['evicted']:,}",
        )  # fmt: skip
    fitting = [(live, run) for live, _, run in lines if not run["evicted"]]
    for part, over in (("all", "all"), ("few", "1,000")):
        say(f"\nWhere it goes, ns a packet over {over}, by live connections:\n")
        row("stage", *(f"{live:,}" for live, _ in fitting))
        row("---", *["---:"] * len(fitting))
        costs = [_costs(run[part]) for _, run in fitting]
        for stage in sorted(set().union(*costs), key=lambda stage: -costs[-1].get(stage, 0)):
            row(stage, *(f"{found.get(stage, 0):.0f}" for found in costs))
    names = sorted({name for _, found in others for name in found})
    say("\nOthers, over all: us a packet (the whole file's CPU less its opening's).\n")
    row("live", *names)
    row("---:", *["---:"] * len(names))
    for live, found in others:
        row(f"{live:,}", *(f"{found[name]:.2f}" if name in found else "" for name in names))
    say("")


def _costs(part: dict[str, Any]) -> dict[str, float]:
    """Return nanoseconds a packet by stage."""
    samples = sum(part["stages"].values())
    each = part["seconds"] / part["packets"] * 1e9 / max(samples, 1)
    return {stage: count * each for stage, count in part["stages"].items()}


def _by_difference(base: Path, live: int) -> dict[str, float]:
    """Return what a data packet costs other readers, in microseconds, where it can be told."""
    opening, data, whole = (base.with_stem(f"grown-{part}") for part in ("open", "all", "whole"))
    shutil.copy(opening, whole)
    with whole.open("ab") as out, data.open("rb") as more:
        more.seek(24)
        shutil.copyfileobj(more, out)
    found: dict[str, float] = {}
    for reader in (bench_peers.nfstream, bench_peers.argus, bench_peers.nfpcapd):
        if reader is bench_peers.nfstream and live > SLOW_LIVE:
            continue
        rounds = 2 if live <= SLOW_LIVE else 1
        both = [[reader(path) for _ in range(rounds)] for path in (whole, opening)]
        costs = [min((run.seconds for run in runs if run), default=0.0) for runs in both]
        if both[0][0] is not None and costs[0] > costs[1]:
            found[both[0][0].name] = (costs[0] - costs[1]) / DATA_PACKETS * 1e6
    whole.unlink()
    return found


def _run(code: str) -> str:
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True,
                          cwd=ROOT)  # fmt: skip
    return done.stdout.strip()


def stages(path: Path, name: str) -> None:
    """Print where guardian's time goes on a capture."""
    runs = [guardian("stages", str(path)) for _ in range(STAGE_RUNS)]
    seconds = min(run["seconds"] for run in runs)
    total: dict[str, int] = {}
    for run in runs:
        for stage, samples in run["stages"].items():
            total[stage] = total.get(stage, 0) + samples
    samples = sum(total.values())
    packets, connections = AMOUNT[name]
    say(f"Where the time goes on **{name}** ({seconds:.2f} s, {samples:,} samples):\n")
    row("stage", "share", "ns a packet", "us a connection")
    row("---", *["---:"] * 3)
    for stage, count in sorted(total.items(), key=lambda item: -item[1]):
        share = count / samples
        row(stage, f"{share:.1%}", f"{share * seconds / packets * 1e9:.0f}",
            f"{share * seconds / connections * 1e6:.2f}")  # fmt: skip
    say("")


def row(*cells: str) -> None:
    say(f"| {' | '.join(cells)} |")


def say(text: str) -> None:
    SAID.extend(text.split("\n"))


def publish(name: str, *, write: bool) -> None:
    """Print what was said since the last time; with write, put it between its marks in the page."""
    text = "\n".join(SAID).strip("\n")
    SAID.clear()
    print(text, end="\n\n", flush=True)
    if not write:
        return
    page = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {name} -->\n", f"\n<!-- end of {name} -->"
    if begin not in page or end not in page:
        raise SystemExit(f"{PAGE.name} has no marks for {name}: write them where it should stand")
    head, _, rest = page.partition(begin)
    PAGE.write_text(head + begin + text + end + rest.partition(end)[2], encoding="utf-8")


def main() -> None:
    given = sys.argv[1:]
    write = "--write" in given
    wanted = [part for part in given if part != "--write"] or list(PARTS)
    if not set(wanted) <= set(PARTS):
        raise SystemExit(f"tests.bench_engine knows {', '.join(PARTS)}, not {' '.join(wanted)}")
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    python, numpy = _run(
        "import numpy, platform; print(platform.python_version(), numpy.__version__)"
    ).split()
    print(f"One core of {os.cpu_count()} (load {os.getloadavg()[0]:.1f}), Python {python}, "
          f"numpy {numpy}.\n")  # fmt: skip
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for one in CAPTURES:
            profiled = "stages" in wanted and one.name in {"mixed", "scan", "flood"}
            if one.name not in wanted and not profiled:
                continue
            path = build(folder, one.name, one.kind, *one.more)
            if one.name in wanted:
                compare(path, one)
                publish(one.name, write=write)
            if profiled:
                stages(path, one.name)
                publish(f"stages of {one.name}", write=write)
            path.unlink()
        if "grown" in wanted:
            grow(folder)
            publish("grown", write=write)


if __name__ == "__main__":
    main()
