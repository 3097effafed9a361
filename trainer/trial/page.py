"""docs/detection.md: blocks that are made, between markers; all other words are a person's."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from trainer.card import table
from trainer.trial import tables
from trainer.trial.bench import GATEWAY
from trainer.trial.goals import ALONE, EVIDENCE
from trainer.trial.subjects import LEFT_OUT

PAGE, JSON = "detection.md", "detection.json"
SHIPPED, WITHOUT, LOG = "shipped bundle", "networks left out", "runs"

LOG_HEAD = (
    "date", "commit", "bundle", "in place: found; records alone, added up: AUC, at 0.1 %",
    "grafted, net", "simulated, net",
    "placebo", "false incidents, device-days", "set-ups", "what for",
)  # fmt: skip

BLANK = """\
# Detection

What Guardian finds in captures that taught it nothing, and what it raises in homes where nothing is
wrong. Everything between two markers is written by `make evaluate DATA=../shared/data`
(`guardian evaluate --data ../shared/data -o docs`); docs/detection.json has it in full.

## How it is judged

* **Infected devices found.** Every capture goes through the gateway's own stages with the bundle.
  An incident counts as soon as it is opened, before the budget of a week, a snooze or the learning
  day holds it back. It must be on the infected device and not before its first malicious packet;
  every other one is false. Seconds and packets are those from the first malicious packet to the
  incident; logs have no packets. "Gateway" has the plain counters beside the models, as shipped.
* **Three kinds of test.** *In place*: as recorded. *Grafted*: the attack's connections (600 slices
  at most) are put into the life of benign devices of other networks at 40 to 80 % of it, each in
  six of them; *simulated*: the same with every infection of the simulator at rates that no
  training home draws, each in four. Beside every graft stands its **placebo**: 100 slices
  of another home's benign device, put into the same life at the same moment. A life in which the
  placebo raises an incident counts as not found ("net"). The simulator's harmless events that look
  like attacks (updates, new apps, guests) are put in the same way, each in four lives.
* **By connection.** A record has the highest score of its slices. AUC, average precision and recall
  are against the benign records of homes of *other* networks, set-ups among them; a capture weighs
  by the square root of its records there. "At 0.1 %" is the share of malicious records that reach
  the line which 0.1 % of those benign records reach. Below 100 records it is k of n. Means are over
  captures, each counting alike.
* **False incidents a device-day** with the exact upper bound of a Poisson mean (95 %, one-sided).
  Set-ups are counted apart: the device is seconds old. Laboratories on public addresses are knocked
  at by strangers; an incident that rests on nothing but their connections is neither found nor
  false.
* **Baselines** stand in the same tables. What must learn was fitted on the recipe's own material,
  never on a capture that is judged. "anomaly" is the bundle's 50-20-20-50 autoencoder with one line
  for all devices.

"""
PROSE = """
## What was learned

## Where it falls short and why

"""
RUNS = """\
## Runs on these captures

Every run of the protocol, by its commit: choices made after looking at it are no longer blind.

"""


def markdown(report: dict[str, Any], *, title: str) -> str:
    """Return the tables of a report."""
    out = [f"## {title}", "", tables.headline(report) + ".", ""]
    out += [tables.goal_table(report), ""]
    part = report.get("in place")
    if part and part["rows"]:
        out += ["### In place", "", tables.in_place(part["rows"]), ""]
        notes = [f"* {r['capture']}: {r['note']}." for r in part["rows"] if r["note"]]
        out += [*notes, ""] if notes else []
        out += [*_by_kind(part), tables.scorers(part["macro"]), ""]
    for name, head in (("grafted", "Grafted"), ("simulated", "Simulated infections")):
        part = report.get(name)
        if part and part["rows"]:
            out += [f"### {head}", "", tables.grafted(part["rows"]), ""]
            out += [*_by_kind(part), tables.scorers(part["macro"]), ""]
            out += [f"{tables.placebo(part['placebo'])} They are: {tables.fired(part['placebo'])}."]
            out += ["", tables.placebos(part["placebo"]), ""]
    if report.get("look-alikes"):
        out += ["### Simulated events that only look like attacks", ""]
        out += [tables.lookalikes(report["look-alikes"]), ""]
    if report["homes"]:
        out += ["### Homes where nothing is wrong", "", tables.homes(report["homes"]), ""]
        out += [tables.rates(report["rates"]), ""]
    if report.get("folds"):
        out += ["### What each fit raises in the homes for evaluation", ""]
        out += [tables.folds(report["folds"]), ""]
    lost = report.get("no device", [])
    if lost:
        out += [
            f"In place nobody is infected in {', '.join(lost)}: they hold what came from outside"
            " alone, and a machine that never sends is no known device. They are grafted.",
            "",
        ]
    if not report.get("folds"):
        out += ["Not judged:", "", *(f"* {text}." for text in LEFT_OUT)]
    return "\n".join(out)


def _by_kind(part: dict[str, Any]) -> list[str]:
    """Return what was found by kind and class, and what of the benign was taken for it."""
    out = [tables.families(part["families"]), "", tables.classes(part["classes"]), ""]
    has = part.get("own", {}).get("records")
    return [*out, tables.own(part["own"]), ""] if has else out


def write(folder: Path, report: dict[str, Any], what_for: str = "", *, whole: bool = True) -> Path:
    """Write the tables into detection.md and detection.json of a folder, and add a line to its log;
    of a run that was not `whole` the line alone.

    What stands outside the markers stays as it is.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page, store = folder / PAGE, folder / JSON
    text = page.read_text(encoding="utf-8") if page.exists() else blank()
    if not whole:
        text = filled(text, LOG, logged(block(text, LOG), entry(report, what_for)))
        page.write_text(text, encoding="utf-8")
        return page
    text = filled(text, SHIPPED, markdown(report, title="The shipped bundle"))
    left = report.get("left out")
    if left:
        body = markdown(left, title="Networks left out in turn")
        text = filled(text, WITHOUT, body)
    text = filled(text, LOG, logged(block(text, LOG), entry(report, what_for)))
    page.write_text(text, encoding="utf-8")
    if not left and store.exists():  # those of an earlier run stand on the page, too
        known = json.loads(store.read_text(encoding="utf-8")).get("left out")
        report = report | ({"left out": known} if known else {})
    store.write_text(json.dumps(report, indent=1, default=float) + "\n", encoding="utf-8")
    return page


def blank() -> str:
    """Return the page before its first run."""
    empty = {name: f"{_marker(name, 'begin')}\n{_marker(name, 'end')}\n" for name in
             (SHIPPED, WITHOUT, LOG)}  # fmt: skip
    return BLANK + empty[SHIPPED] + "\n" + empty[WITHOUT] + PROSE + RUNS + empty[LOG]


def filled(text: str, name: str, body: str) -> str:
    """Return the page with the body between the markers of a block; the block is added at the end
    where the page lacks it."""
    begin, end = _marker(name, "begin"), _marker(name, "end")
    if begin not in text:
        text = f"{text.rstrip()}\n\n{begin}\n{end}\n"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n{body}\n{end}{after}"


def block(text: str, name: str) -> str:
    """Return what stands between the markers of a block."""
    _, _, rest = text.partition(_marker(name, "begin") + "\n")
    body, _, _ = rest.partition(_marker(name, "end"))
    return body.strip("\n")


def logged(body: str, line: tuple[str, ...]) -> str:
    """Return a log with a line more."""
    head = table(LOG_HEAD, [])
    return "\n".join([body or head, f"| {' | '.join(line)} |"])


def entry(report: dict[str, Any], what_for: str = "") -> tuple[str, ...]:
    """Return a report as a line of the log."""
    about, every = report["bundle"], report["rates"].get("all", {})
    setups = report["setups"]
    shams = [report[n]["placebo"] for n in ("grafted", "simulated") if n in report]
    placebo = f"{sum(s[GATEWAY] for s in shams)} of {sum(s['placebos'] for s in shams)}"
    return (
        datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M"), commit(), about["digest"][:12],
        _part(report, "in place"), _part(report, "grafted"), _part(report, "simulated"),
        placebo if shams else "-",
        f"{every.get(GATEWAY, 0)}, {every.get('days', 0.0):.1f}",
        f"{setups[GATEWAY]} of {setups['captures']}", what_for or "-",
    )  # fmt: skip


def _part(report: dict[str, Any], name: str) -> str:
    part = report.get(name)
    if not part or not part["rows"]:
        return "-"
    sums, macro = part["total"], part["macro"]
    text = f"{sums['found']} of {sums['infected']}"
    for scorer in (ALONE, EVIDENCE):
        if scorer in macro:
            text += "; added up" if scorer == EVIDENCE else ","
            text += f" {macro[scorer]['auc']:.3f}, {macro[scorer]['0.1%']:.1%}"
    return text


def commit() -> str:
    """Return the commit that is checked out, with a + where the tree differs from it."""
    try:
        found = [
            subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
            for command in (
                ["git", "rev-parse", "--short", "HEAD"],
                ["git", "status", "--porcelain", "--", "guardian", "trainer", "models"],
            )
        ]
    except (OSError, subprocess.CalledProcessError):
        return "-"
    return found[0] + ("+" if found[1] else "")


def _marker(name: str, what: str) -> str:
    return f"<!-- {name}: {what} -->"
