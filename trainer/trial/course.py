"""The whole course: every subject through a bundle, and the report that comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from guardian import bundle as bundles
from guardian.bundle import Bundle
from guardian.errors import InputError
from trainer.trial import report
from trainer.trial.bench import GATEWAY, MODELS, Bench, BySequence, BySlice
from trainer.trial.figures import Case, family_of, infected_of
from trainer.trial.subjects import ATTACK, SETUP, Subject, subjects
from trainer.trial.taken import Taken, take

Echo = Callable[[str], None]

IN_PLACE, HOMES, GRAFTED, SIMULATED = "in place", "homes", "grafted", "simulated"
PARTS = (IN_PLACE, HOMES, GRAFTED, SIMULATED)


@dataclass
class Course:
    """What was parsed and judged so far; captures are parsed once."""

    bench: Bench
    data: Path
    echo: Echo
    taken: dict[str, list[Taken]] = field(default_factory=dict)
    cases: dict[str, list[Case]] = field(default_factory=dict)
    """By the subject's name."""

    def take(self, subject: Subject) -> list[Taken]:
        """Parse the captures of a subject. Raises InputError where there is none."""
        if subject.name not in self.taken:
            paths = subject.paths(self.data)
            if not paths:
                raise InputError(
                    f"{self.data} lacks {subject.patterns[0]}: give the folder of captures with"
                    " --data"
                )
            mac = "" if subject.infected.startswith("ip:") else subject.infected
            self.taken[subject.name] = [
                take(path, lan=subject.lan, judge=subject.judge, infected=mac) for path in paths
            ]
        return self.taken[subject.name]

    def judge(self, subject: Subject) -> list[Case]:
        """Judge a subject as it was recorded."""
        if subject.name not in self.cases:
            self.cases[subject.name] = [
                self.case(subject, one) for one in self.take(subject) if len(one.stream)
            ]
        return self.cases[subject.name]

    def case(self, subject: Subject, one: Taken) -> Case:
        """Judge one capture of a subject as it was recorded."""
        played = self.bench.play(one.stream, one.devices)
        keys = {device.index: device.key for device in one.devices.devices()}
        infected = infected_of(played, keys)
        if subject.infected:
            moments = one.malice if one.malice is not None else one.stream.slices.ts
            life = played.lives.get(subject.infected)
            first = int(moments.min()) if one.malice is not None or not life else life[0]
            infected = {subject.infected: first}
        classes = {key: subject.class_of(key) for key in (*keys.values(), subject.infected)}
        return Case(
            subject.name, frozenset({subject.group}), played, infected, one.malice,
            family_of(played.label), classes,
        )  # fmt: skip


def judge_bundle(
    folder: Path,
    data: Path,
    *,
    only: Collection[str] = PARTS,
    rivals: Mapping[str, BySequence] | None = None,
    slice_rivals: Mapping[str, BySlice] | None = None,
    echo: Echo = print,
) -> dict[str, Any]:
    """Judge a bundle on all captures for evaluation alone and return the report.

    `only` names the PARTS that are wanted; the benign homes are judged with any of them, since
    all lines rest on them. Raises BundleError and InputError where something cannot be read.
    """
    bundle = bundles.load(folder)
    course = Course(Bench.of(bundle, rivals, slice_rivals), data, echo)
    begun = time.monotonic()
    wanted = [s for s in subjects() if s.kind != ATTACK or IN_PLACE in only]
    for number, subject in enumerate(wanted, 1):
        course.judge(subject)
        spent = time.monotonic() - begun
        left = spent / number * (len(wanted) - number)
        echo(f"{subject.name}; {number} of {len(wanted)}, about {left:.0f} s left")
    return told(course, bundle, wanted)


def told(course: Course, bundle: Bundle, wanted: Sequence[Subject]) -> dict[str, Any]:
    """Return the report of what a course has judged."""
    homes = [case for s in wanted if s.kind != ATTACK for case in course.cases[s.name]]
    rows = [report.home_row(s, course.cases[s.name]) for s in wanted if s.kind != ATTACK]
    attacks = [
        report.attack_row(s, course.cases[s.name], homes) for s in wanted if s.kind == ATTACK
    ]
    # A capture of what came from outside alone has no known device of the home in it.
    judged = [row for row in attacks if row[GATEWAY]["infected"]]
    setups = [row for row in rows if row["kind"] == SETUP]
    return {
        "bundle": {"name": bundle.name, "version": bundle.version, "digest": bundle.digest},
        "in place": judged,
        "no device": [row["capture"] for row in attacks if not row[GATEWAY]["infected"]],
        "homes": rows,
        "rates": report.false_rates(rows),
        "setups": {
            "captures": sum(row["captures"] for row in setups),
            **{w: sum(row[w]["captures_with_one"] for row in setups) for w in (GATEWAY, MODELS)},
        },
        "totals": {IN_PLACE: report.total(judged, GATEWAY)} if judged else {},
        "macro": {IN_PLACE: report.macro(judged)} if judged else {},
        "families": {IN_PLACE: report.families(judged)} if judged else {},
    }
